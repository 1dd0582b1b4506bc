"""What a shell needs to know to talk to a served sandbox."""

from connector.sandbox.sandbox import Sandbox
from connector.sandbox.served import Served


def environment(served: Served, sandbox: Sandbox) -> dict[str, str]:
    """The connector's settings for this sandbox."""
    return {
        "BEAMER_API_KEY": sandbox.api_key,
        "BEAMER_BASE_URL": served.beamer_url,
        "BEAMER_PLAN": sandbox.plan,
        "SEGMENT_WRITE_KEY": sandbox.write_key,
        "SEGMENT_HOST": served.segment_url,
    }

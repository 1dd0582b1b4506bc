"""A refused key suspends its connection: nothing is asked until the key changes or `check` finds it good."""

from datetime import datetime

from connector.errors import ConnectorError, KeyRefused, WriteKeyRefused
from connector.state import refusals
from connector.state.engine import Store
from connector.state.refusals import Door, Refusal, Secrets

# How to come out of it, by the door that refused.
WAY_OUT = {
    "beamer": "Replace its Beamer key. If the same key is right again, `beamer-segment check` lifts this.",
    "segment": "Replace its Segment write key. If the same key is right again, "
    "`beamer-segment check --send-test` lifts this.",
}


class Suspended(KeyRefused):
    """The key was refused in an earlier run and is still the same."""

    default_means = "Nothing was asked or sent: a refused key stays refused, and each try may cost a request."


def refuse_suspended(store: Store, connection: str, secrets: Secrets) -> None:
    """Raise Suspended where a key that is in use was refused before."""
    if found := refusals.standing(store, connection, secrets):
        raise Suspended(said(found), todo=WAY_OUT[found.door])


def said(refusal: Refusal) -> str:
    """The refusal in a sentence."""
    since = f"{refusal.since:%Y-%m-%d %H:%M} UTC"
    return f"Connection '{refusal.connection}' is suspended since {since}: {refusal.what}"


def note(
    store: Store, connection: str, secrets: Secrets, error: ConnectorError | None, now: datetime
) -> None:
    """Suspend the connection if a run ended with a refused key."""
    if isinstance(error, KeyRefused) and not isinstance(error, Suspended):
        door: Door = "segment" if isinstance(error, WriteKeyRefused) else "beamer"
        refusals.remember(store, connection, door, secrets[door], error.what, now)

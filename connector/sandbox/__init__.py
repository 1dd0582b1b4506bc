"""A Beamer API and a Segment API on loopback, with a made-up company behind them."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import RLock
from time import monotonic

from connector.sandbox.account import MONTHLY, Account, Switches
from connector.sandbox.beamer_api import BeamerApi
from connector.sandbox.life import Company
from connector.sandbox.rows import STREAMS, Row, moment
from connector.sandbox.segment_api import SegmentApi
from connector.sandbox.server import Answer, Api, Request, Served
from connector.sandbox.webhooks import Event, Sender, Webhooks, WebhookSwitches
from connector.sandbox.world import World

__all__ = [
    "MONTHLY",
    "START",
    "STREAMS",
    "Answer",
    "Api",
    "Company",
    "Request",
    "Row",
    "Sandbox",
    "Served",
    "Switches",
    "environment",
    "proof_environment",
]

START = datetime(2026, 3, 1, tzinfo=UTC)


class SandboxClock:
    """A clock of `speed` sandbox seconds per real second; it stands still at speed 0."""

    def __init__(self, now: datetime, speed: float) -> None:
        self.speed = speed
        self._base = now.timestamp()
        self._since = monotonic()

    def now(self) -> float:
        """Return the time in epoch seconds."""
        return self._base + (monotonic() - self._since) * self.speed

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._base += seconds


class Sandbox:
    """Both APIs, in front of one world and one clock."""

    world_class: type[World] = World

    def __init__(
        self,
        company: Company | None = None,
        *,
        switches: Switches | None = None,
        plan: str = "pro",
        now: datetime = START,
        speed: float = 0.0,
    ) -> None:
        if plan not in MONTHLY:
            raise ValueError(f"Unknown plan {plan!r}; there are {', '.join(MONTHLY)}")
        self.switches = switches or Switches()
        self.plan = plan
        self.write_key = "sandbox-write-key"
        self.world = self.world_class(company or Company(), now)
        self.segment = SegmentApi(self.write_key)
        self.lock = RLock()
        self.account = Account("sandbox-key", plan, self.switches)
        self._beamer = BeamerApi(self.world, self.switches, plan)
        self.clock = SandboxClock(now, speed)

    @property
    def api_key(self) -> str:
        return self.account.key

    # --- time ---

    def now(self) -> datetime:
        """Return the sandbox's time."""
        return moment(self.clock.now())

    def advance(self, by: timedelta) -> None:
        """Move the sandbox's time forward, and apply what happens until then."""
        with self.lock:
            self.clock.advance(by.total_seconds())
            self.world.advance_to(self.clock.now())

    # --- webhooks ---

    def start_webhooks(self, switches: WebhookSwitches | None = None) -> Webhooks:
        """Create the events of all rows that appear from now on."""
        with self.lock:
            webhooks = Webhooks(self.world.company.seed, switches)
            self.world.on_appearance = webhooks.appeared
        return webhooks

    def send_webhooks(self, url: str, switches: WebhookSwitches | None = None) -> Sender:
        """Send them to an address on this machine, until closed."""
        webhooks = self.start_webhooks(switches)

        def due() -> list[list[Event]]:
            with self.lock:
                self.advance(timedelta(0))
                return webhooks.due(self.clock.now())

        return Sender(due, url)

    # --- requests ---

    def serve(self, port: int = 0) -> Served:
        """Serve both APIs on loopback until closed: Beamer at `port`, Segment at the next (0: any two)."""
        return Served(self.handle, port)

    def handle(self, request: Request) -> Answer:
        """Answer one request."""
        with self.lock:
            now = self.clock.now()
            self.world.advance_to(now)
            answer = self.answer(request)
            answer.headers.setdefault("Date", format_datetime(moment(int(now)), usegmt=True))
        return answer

    def answer(self, request: Request) -> Answer:
        """Return the API's current answer."""
        now, limiter_time = self.clock.now(), self.limiter_time(request)
        if request.api == "segment":
            return self.segment.answer(request, now, limiter_time)
        refusal = self.account.refusal(request, now, limiter_time)
        if refusal:
            return refusal
        answer = self._beamer.answer(request)
        self.account.charge(answer.status, now)
        return answer

    def limiter_time(self, request: Request) -> float | None:
        """Return seconds for the rate limiters; None turns them off."""
        return request.arrived


def proof_environment(served: Served, sandbox: Sandbox) -> dict[str, str]:
    """Return the connector's settings for this sandbox's Public API."""
    return {
        "SEGMENT_PUBLIC_API_TOKEN": sandbox.segment.public_api.token,
        "SEGMENT_PUBLIC_API_URL": served.segment_url,
    }


def environment(served: Served, sandbox: Sandbox) -> dict[str, str]:
    """Return the connector's settings for this sandbox."""
    return {
        "BEAMER_API_KEY": sandbox.api_key,
        "BEAMER_BASE_URL": served.beamer_url,
        "BEAMER_PLAN": sandbox.plan,
        "SEGMENT_WRITE_KEY": sandbox.write_key,
        "SEGMENT_HOST": served.segment_url,
    }

"""The sandbox: a made-up Beamer and a made-up Segment around one world."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import RLock
from time import monotonic
from typing import Any

import httpx

from connector.sandbox import trouble
from connector.sandbox.beamer_api import BeamerApi, trimmed
from connector.sandbox.company import Company
from connector.sandbox.faults import Faults
from connector.sandbox.message import Answer, Request, RequestSeen
from connector.sandbox.row import moment
from connector.sandbox.segment_api import SegmentApi
from connector.sandbox.server import Gate, Served
from connector.sandbox.switches import MONTHLY, Switches
from connector.sandbox.transport import BeamerTransport, Posted, post
from connector.sandbox.world import World


class Timepiece:
    """Stands still, runs with real time, or faster."""

    def __init__(self, now: datetime, speed: float) -> None:
        self.speed = speed
        self._base = now.timestamp()
        self._since = monotonic()

    def now(self) -> float:
        return self._base + (monotonic() - self._since) * self.speed

    def advance(self, seconds: float) -> None:
        self._base += seconds

    def for_limits(self, switches: Switches, arrived: float | None) -> float | None:
        """Seconds for a limiter; None turns it off, as time that stands still would never let go."""
        if switches.limiter_clock:
            return switches.limiter_clock()
        if arrived is not None:
            return arrived
        return self.now() if self.speed > 0 else None


START = datetime(2026, 3, 1, tzinfo=UTC)


class Sandbox:
    """Everything a connector needs to run against."""

    def __init__(
        self,
        company: Company | None = None,
        *,
        switches: Switches | None = None,
        faults: Faults | None = None,
        plan: str = "pro",
        now: datetime = START,
        speed: float = 0.0,
    ) -> None:
        if plan not in MONTHLY:
            raise ValueError(f"Unknown plan {plan!r}; there are {', '.join(MONTHLY)}")
        self.switches = switches or Switches()
        self.faults = faults or Faults()
        self.plan = plan
        self.write_key = "sandbox-write-key"
        self.world = World(company or Company(), now)
        self.requests: list[RequestSeen] = []
        self.segment = SegmentApi(self.write_key, self.switches)
        self.lock = RLock()
        self._gate = Gate("sandbox-key", plan, self.switches)
        self._beamer = BeamerApi(self.world, self.switches, plan)
        self._time = Timepiece(now, speed)

    # --- time ---

    def now(self) -> datetime:
        """The sandbox's own time."""
        return moment(self._time.now())

    def advance(self, by: timedelta) -> None:
        """Let time pass at once."""
        with self.lock:
            self._time.advance(by.total_seconds())
            self.world.advance_to(self._time.now())

    # --- the account ---

    @property
    def api_key(self) -> str:
        return self._gate.key

    @api_key.setter
    def api_key(self, key: str) -> None:
        self._gate.key = key

    @property
    def more_keys(self) -> set[str]:
        """Other keys of the same account."""
        return self._gate.more_keys

    @property
    def spent(self) -> int:
        """Requests that this sandbox has answered and counted this month."""
        return self._gate.spent[self._gate.month(self._time.now())]

    @property
    def monthly_used(self) -> int:
        """What Beamer has counted this month; set it to stand for other tools on the account."""
        return self._gate.used[self._gate.month(self._time.now())]

    @monthly_used.setter
    def monthly_used(self, used: int) -> None:
        self._gate.used[self._gate.month(self._time.now())] = used

    @property
    def monthly_limit(self) -> int | None:
        return self._gate.limit

    @monthly_limit.setter
    def monthly_limit(self, limit: int | None) -> None:
        self._gate.limit = limit

    # --- the ways in ---

    def beamer_transport(self) -> httpx.BaseTransport:
        """Beamer without sockets."""
        return BeamerTransport(self.handle, self.faults)

    def segment_post(
        self, write_key: str, host: str | None = None, gzip: bool = False, timeout: float = 15, **body: Any
    ) -> Posted:
        """Segment without sockets, in place of `segment.analytics.request.post`."""
        return post(self.handle, self.faults, write_key, host, gzip, timeout, body)

    def serve(self, port: int = 0) -> Served:
        """Both APIs on loopback until closed: Beamer at `port`, Segment at the next one (0: any two)."""
        return Served(self.handle, self.faults, port)

    def handle(self, request: Request) -> Answer:
        """Answer one request, whichever way it came."""
        with self.lock:
            now = self._time.now()
            self.world.advance_to(now)
            if request.path.startswith("/elsewhere/"):
                answer = trouble.arrived(request.api)
            else:
                step = self.faults.next(request)
                answer = trouble.act(step, request, self._perform, lambda status: self._fail(request, status))
                answer.delay = answer.delay or self.faults.delay(request)
            answer.headers.setdefault("Date", format_datetime(moment(int(now)), usegmt=True))
            self._log(request, answer, now)
        return answer

    def _perform(self, request: Request) -> Answer:
        now, tick = self._time.now(), self._time.for_limits(self.switches, request.arrived)
        if request.api == "segment":
            return self.segment.answer(request, now, tick)
        return self._gate.refusal(request, now, tick) or self._charged(self._beamer.answer(request), now)

    def _fail(self, request: Request, status: int) -> Answer:
        now, tick = self._time.now(), self._time.for_limits(self.switches, request.arrived)
        answer = trouble.failed(request.api, status)
        if request.api == "segment":
            return answer
        refusal = self._gate.refusal(request, now, tick)
        if refusal or status in (401, 429):
            return refusal or answer
        return self._charged(answer, now)

    def _charged(self, answer: Answer, now: float) -> Answer:
        self._gate.charge(answer.status, now)
        return answer

    def _log(self, request: Request, answer: Answer, now: float) -> None:
        path = trimmed(request.path) if request.api == "beamer" else request.path
        self.requests.append(
            RequestSeen(moment(now), request.api, request.method, path, dict(request.params), answer.status)
        )


def environment(served: Served, sandbox: Sandbox) -> dict[str, str]:
    """The connector's settings for this sandbox."""
    return {
        "BEAMER_API_KEY": sandbox.api_key,
        "BEAMER_BASE_URL": served.beamer_url,
        "BEAMER_PLAN": sandbox.plan,
        "SEGMENT_WRITE_KEY": sandbox.write_key,
        "SEGMENT_HOST": served.segment_url,
    }

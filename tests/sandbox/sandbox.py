"""The sandbox with what only tests need: faults, a log of its requests, and ways in without sockets."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from connector import sandbox as shipped
from connector.sandbox import START, Answer, Api, Company, Request, Switches
from connector.sandbox.beamer_api import api_path
from tests.sandbox.faults import Faults, apply, failure, redirect_target
from tests.sandbox.served import FaultyServed
from tests.sandbox.transport import BeamerTransport, Posted, post
from tests.sandbox.world import EditableWorld


@dataclass(frozen=True)
class RequestSeen:
    """A line of the log; a status of 0 is a connection that broke before any work was done."""

    at: datetime
    api: Api
    method: str
    path: str
    params: dict[str, str]
    status: int


class Sandbox(shipped.Sandbox):
    """The shipped sandbox, and what tests set, break and read."""

    world_class = EditableWorld
    world: EditableWorld

    def __init__(
        self,
        company: Company | None = None,
        *,
        switches: Switches | None = None,
        faults: Faults | None = None,
        plan: str = "pro",
        now: datetime = START,
        speed: float = 0.0,
        limiter_clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(company, switches=switches, plan=plan, now=now, speed=speed)
        self.faults = faults or Faults()
        self.requests: list[RequestSeen] = []
        # Seconds for both rate limiters, where neither the machine's nor the sandbox's time will do.
        self.limiter_clock = limiter_clock
        self._used_by_others: Counter[str] = Counter()

    # --- the ways in ---

    def beamer_transport(self) -> httpx.BaseTransport:
        """Return Beamer without sockets."""
        return BeamerTransport(self.handle, self.faults)

    def segment_post(
        self, write_key: str, host: str | None = None, gzip: bool = False, timeout: float = 15, **body: Any
    ) -> Posted:
        """Send a batch to Segment without sockets, in place of `segment.analytics.request.post`."""
        return post(self.handle, self.faults, write_key, host, gzip, timeout, body)

    def serve(self, port: int = 0) -> FaultyServed:
        """Serve both APIs on loopback until closed, with the faults that are set."""
        return FaultyServed(self.handle, self.faults, port)

    # --- requests ---

    def handle(self, request: Request) -> Answer:
        """Answer one request, and log it."""
        with self.lock:
            now = self.now()
            answer = super().handle(request)
            path = api_path(request.path) if request.api == "beamer" else request.path
            self.requests.append(
                RequestSeen(now, request.api, request.method, path, dict(request.params), answer.status)
            )
        return answer

    def answer(self, request: Request) -> Answer:
        """Return what the API answers, or what the next fault makes of it."""
        if request.path.startswith("/elsewhere/"):
            return redirect_target(request.api)
        step = self.faults.next(request)
        answer = apply(step, request, self.perform, lambda status: self._fail(request, status))
        answer.delay = answer.delay or self.faults.delay(request)
        return answer

    def perform(self, request: Request) -> Answer:
        """Return what the API answers without a fault."""
        return super().answer(request)

    def _fail(self, request: Request, status: int) -> Answer:
        answer = failure(request.api, status)
        if request.api == "segment":
            return answer
        refused = self.account.refusal(request, self.clock.now(), self.limiter_time(request))
        if refused or status in (401, 429):
            return refused or answer
        self.account.charge(status, self.clock.now())
        return answer

    def limiter_time(self, request: Request) -> float | None:
        """Return seconds for rate limiters; None turns them off while the sandbox clock does not move."""
        if self.limiter_clock:
            return self.limiter_clock()
        if request.arrived is not None:
            return request.arrived
        return self.clock.now() if self.clock.speed > 0 else None

    # --- the account ---

    @property
    def api_key(self) -> str:
        return self.account.key

    @api_key.setter
    def api_key(self, key: str) -> None:
        self.account.key = key

    @property
    def more_keys(self) -> set[str]:
        """Other keys of the same account."""
        return self.account.more_keys

    @property
    def spent(self) -> int:
        """How many requests this sandbox has answered and counted this month."""
        return self.monthly_used - self._used_by_others[self._month]

    @property
    def monthly_used(self) -> int:
        """The requests that Beamer counted this month; set it as if other tools had sent some."""
        return self.account.used[self._month]

    @monthly_used.setter
    def monthly_used(self, used: int) -> None:
        self._used_by_others[self._month] += used - self.monthly_used
        self.account.used[self._month] = used

    @property
    def _month(self) -> str:
        return self.account.month(self.clock.now())

    @property
    def monthly_limit(self) -> int | None:
        return self.account.limit

    @monthly_limit.setter
    def monthly_limit(self, limit: int | None) -> None:
        self.account.limit = limit

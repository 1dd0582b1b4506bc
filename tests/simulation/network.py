"""The way to both APIs: what goes wrong there, how long it takes, and what happens meanwhile."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

import httpx

from connector.sandbox import Sandbox
from connector.sandbox.faults import Step
from connector.sandbox.message import Api, Request
from tests.simulation.plan import Plan

TIMEOUT = timedelta(seconds=15)
BEAMER_FAULTS: tuple[Step, ...] = (
    *("status_500", "html_502", "html_200", "truncated", "redirect", "busy"),
    *("reset_before", "reset_after", "hang_before", "hang"),
    *(503, 400, ("answer", 200, b"null", {}), ("answer", 200, b'{"rows": []}', {}), ("answer", 200, b"", {})),
)
SEGMENT_FAULTS: tuple[Step, ...] = (
    *("status_500", "html_502", "html_200", "truncated", "redirect", "busy"),
    *("reset_before", "reset_after", "reset_after", "hang_before", "hang", "hang"),
    *(503, 408, ("answer", 200, b'{"success": false}', {}), ("answer", 200, b"", {})),
)
AWAY: tuple[Step, ...] = ("reset_before", "hang_before", "html_502", 503, "busy")
REFUSED: Step = (
    "answer",
    400,
    b'{"success": false, "code": "invalid", "message": "no"}',
    {},
)
# The steps with which a request arrives, whatever its sender hears of it.
THROUGH = ("ok", "reset_after", "hang", "truncated")
SLOWLY = ("hang", "hang_before")


@dataclass(frozen=True, slots=True)
class Spell:
    """A time in which an API is away, or refuses every message."""

    api: Api
    start: datetime
    end: datetime
    steps: tuple[Step, ...]


@dataclass
class Network:
    """One for all processes of a life. `meddle` may change the world just before a request is answered."""

    plan: Plan
    box: Sandbox
    meddle: Callable[[Request], None]
    spells: list[Spell] = field(default_factory=list)
    calm: bool = False
    faults: int = 0
    poisoned: int = 0

    def __post_init__(self) -> None:
        self._rng = Random(f"{self.plan.seed}/network")
        self.poisoned = self.plan.troubles.poison

    def quiet(self) -> None:
        """From now on everything goes well."""
        self.calm, self.poisoned = True, 0
        self.spells.clear()

    def step(self, api: Api) -> Step:
        """What happens to the next request."""
        if self.calm:
            return "ok"
        now = self.box.now()
        for spell in self.spells:
            if spell.api == api and spell.start <= now < spell.end:
                self.faults += 1
                return self._rng.choice(spell.steps)
        troubles = self.plan.troubles
        if self._rng.random() < (troubles.beamer if api == "beamer" else troubles.segment):
            self.faults += 1
            return self._rng.choice(BEAMER_FAULTS if api == "beamer" else SEGMENT_FAULTS)
        return "ok"

    @contextmanager
    def passing(self, api: Api, *, refused: bool = False) -> Iterator[None]:
        """A request under way: time passes, and the step that was drawn happens to it.

        What is `refused` for its content is so as often as it comes through.
        """
        step = self.step(api)
        if refused and step in THROUGH:
            self.faults += 1
            step = REFUSED
        self.box.advance(timedelta(seconds=round(self._rng.random() * self.plan.troubles.slow, 3)))
        if step != "ok":
            self.box.faults.script(api, [step])
        elif api == "beamer" and not self.calm and self._rng.random() < self.plan.troubles.meddling:
            self.box.faults.script(api, [self._meddled])
        try:
            yield
        finally:
            if step in SLOWLY:
                self.box.advance(TIMEOUT)

    def _meddled(self, request: Request) -> None:
        self.faults += 1
        self.meddle(request)

    def is_poison(self, message_id: str) -> bool:
        if not self.poisoned:
            return False
        digest = hashlib.sha256(message_id.encode()).digest()
        return int.from_bytes(digest[:4], "big") % self.poisoned == 0


class BeamerWay(httpx.BaseTransport):
    """Beamer as one process reaches it; `moment` is told before each request and each answer."""

    def __init__(self, network: Network, moment: Callable[[str], None]) -> None:
        self._network = network
        self._moment = moment
        self._inner = network.box.beamer_transport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._moment("before Beamer's request")
        try:
            with self._network.passing("beamer"):
                return self._ask(request)
        finally:
            self._moment("between Beamer's request and answer")

    def _ask(self, request: httpx.Request) -> httpx.Response:
        return self._inner.handle_request(request)


class SegmentWay:
    """Segment as one process reaches it, in the place of the library's `post`."""

    def __init__(self, network: Network, moment: Callable[[str], None]) -> None:
        self._network = network
        self._moment = moment

    def __call__(self, write_key: str, host: str, **options: Any) -> Any:
        self._moment("before Segment's request")
        network = self._network
        try:
            poison = any(network.is_poison(each["messageId"]) for each in options["batch"])
            with network.passing("segment", refused=poison):
                answer = network.box.segment_post(write_key, host, **options)
        finally:
            self._moment("between Segment's request and answer")
        self._moment("after Segment's answer")
        return answer

"""The way to both APIs: what goes wrong there, how long it takes, and what happens meanwhile."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import partial
from random import Random
from typing import Any

import httpx

from connector.sandbox import Api, Request, Row
from tests.sandbox import Sandbox, Step
from tests.simulation.choices import Choices
from tests.simulation.happenings import Event, Happenings, stream_of
from tests.simulation.plan import Plan

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
IDS = re.compile(rb'"id": "?(\w+)')
HTML = b"<html><body>Access denied</body></html>"
PAGE = {"Content-Type": "text/html"}
JSON = {"Content-Type": "application/json"}
# What a gateway, a firewall or a replica says in Beamer's place, as often as it likes.
FOREIGN: tuple[Step, ...] = (
    *(("answer", status, HTML, PAGE) for status in (401, 403, 403, 404, 429)),
    ("answer", 404, b'{"message": "no Route matched with those values"}', JSON),
    ("answer", 200, b"[]", JSON),
)
# What Beamer itself could have said, and so once in a life only: a second one in a later run is believed.
FOREIGN_ONCE: tuple[Step, ...] = (
    ("answer", 403, b'"Not allowed to access this resource."', JSON),
    ("answer", 401, b'"The API key is invalid."', JSON),
)
# None is off by as much as a plan's clock is ever set: two clocks that agree are believed, rightly or not.
WRONG_DATES: tuple[timedelta | str | None, ...] = (
    *(None, "", "yesterday", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 2099 23:59:59 GMT"),
    *(timedelta(days=days) for days in (-400, -30, -2, 2, 30, 400)),
    *(timedelta(hours=hours) for hours in (-5, -2, 2, 5)),
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
    """One for all processes of a life. The world may change just before a request is answered."""

    plan: Plan
    box: Sandbox
    choices: Choices
    happenings: Happenings
    tell: Callable[[str], None]
    spells: list[Spell] = field(default_factory=list)
    calm: bool = False
    faults: int = 0
    poisoned: int = 0
    bad_row: Row | None = None
    """Every page of its list that holds this row fails."""
    failed_pages: int = 0
    lied: set[str] = field(default_factory=set)
    """Paths that once showed an empty list that was not empty, or no list at all."""
    spoilt: set[str] = field(default_factory=set)
    """Paths of which a page has failed for what stands on it: that part of the list may wait for a week."""
    shown: set[tuple[str, str]] = field(default_factory=set)
    """Streams and ids of all rows that an answer has shown."""
    refused: bool = False
    """Whether a refusal was answered in Beamer's own words."""

    def __post_init__(self) -> None:
        self._rng = Random(f"{self.plan.seed}/network")
        self._strange = Random(f"{self.plan.seed}/strange answers")
        self._once = list(FOREIGN_ONCE)
        self.poisoned = self.plan.troubles.poison

    def quiet(self) -> None:
        """From now on everything goes well."""
        self.calm, self.poisoned, self.bad_row = True, 0, None
        self.spells.clear()

    def step(self, api: Api, request: str) -> Step:
        """What happens to the next request."""
        if self.calm:
            return "ok"
        now = self.box.now()
        away = (spell.steps for spell in self.spells if spell.api == api and spell.start <= now < spell.end)
        steps = next(away, ("ok",))
        step = self.choices.choose(request, steps[0], lambda: self._drawn_step(api, steps))
        self.faults += step != "ok"
        return step

    def _drawn_step(self, api: Api, steps: tuple[Step, ...]) -> Step:
        if steps != ("ok",):
            return self._rng.choice(steps)
        troubles = self.plan.troubles
        if self._rng.random() < (troubles.beamer if api == "beamer" else troubles.segment):
            return self._rng.choice(BEAMER_FAULTS if api == "beamer" else SEGMENT_FAULTS)
        return "ok"

    @contextmanager
    def passing(self, api: Api, request: str, path: str = "", *, refused: bool = False) -> Iterator[None]:
        """A request under way: time passes, and the step that was chosen happens to it.

        What is `refused` for its content is so as often as it comes through.
        """
        step = self.step(api, request)
        if step == "ok" and api == "beamer":
            step = self.foreign(path, request) or "ok"
        if refused and step in THROUGH:
            self.faults += 1
            step = REFUSED
        seconds = self.choices.choose(f"{request} takes", 0.0, self._drawn_duration)
        self.box.advance(timedelta(seconds=seconds))
        if step != "ok":
            self.box.faults.script(api, [step])
        elif api == "beamer" and not self.calm:
            event = self.choices.choose(f"{request} meanwhile", None, lambda: self._drawn_meddling(path))
            if event is not None:
                self.box.faults.script(api, [partial(self._meddle, event)])
        try:
            yield
        finally:
            if step in SLOWLY:
                self.box.advance(self.plan.drawn.timeout)

    def _drawn_duration(self) -> float:
        return round(self._rng.random() * self.plan.troubles.slow, 3)

    def _drawn_meddling(self, path: str) -> Event | None:
        meddles = self._rng.random() < self.plan.troubles.meddling
        return self.happenings.in_the_middle(path) if meddles else None

    def _meddle(self, event: Event, _: Request) -> None:
        self.faults += 1
        self.tell(f"meanwhile {self.happenings.happen(event)}")

    def foreign(self, path: str, request: str) -> Step | None:
        """What somebody else answers in Beamer's place, if so."""
        if self.calm or not self.plan.strange.foreign:
            return None
        step = self.choices.choose(f"{request} is answered by another", None, self._drawn_foreign)
        if step is None:
            return None
        self.faults += 1
        if step in FOREIGN_ONCE:
            self.refused = True
        elif isinstance(step, tuple) and step[1] in (200, 404):
            self.lied.add(path)
        return step

    def _drawn_foreign(self) -> Step | None:
        if self._strange.random() >= self.plan.strange.foreign:
            return None
        if self._once and self._strange.random() < 0.1:
            return self._once.pop(self._strange.randrange(len(self._once)))
        return self._strange.choice(FOREIGN)

    def redated(self, answer: httpx.Response, request: str) -> None:
        """Now and then, `Date` is wrong; or right, of an answer that a cache has kept."""
        if self.calm or not self.plan.strange.dates:
            return
        right: tuple[str, Any] = ("", None)
        kind, wrong = self.choices.choose(f"{request} dated", right, self._drawn_date)
        if kind == "by a cache":
            answer.headers["Age"] = str(wrong)
            answer.headers["Date"] = format_datetime(self.box.now() - timedelta(seconds=wrong), usegmt=True)
        elif kind == "wrongly":
            del answer.headers["Date"]
            if wrong is not None:
                text = wrong if isinstance(wrong, str) else self.box.now() + wrong
                answer.headers["Date"] = text if isinstance(text, str) else format_datetime(text, usegmt=True)

    def _drawn_date(self) -> tuple[str, Any]:
        if self._strange.random() >= self.plan.strange.dates:
            return "", None
        if self._strange.random() < 0.2:
            return "by a cache", self._strange.randrange(1, 7_200)
        wrong = self._strange.choice(WRONG_DATES)
        if isinstance(wrong, timedelta) and self.plan.behind:
            # Two clocks that are both behind cannot be told from a row of the future.
            return "", None
        return "wrongly", wrong

    def fails_for_good(self, path: str, answer: httpx.Response) -> bool:
        """Whether a page holds the row that Beamer cannot show."""
        row = self.bad_row
        if row is None or answer.status_code != 200 or not path.endswith(path_of(row)):
            return False
        return row.id.encode() in IDS.findall(answer.content)

    def is_poison(self, message_id: str) -> bool:
        if not self.poisoned:
            return False
        digest = hashlib.sha256(message_id.encode()).digest()
        return int.from_bytes(digest[:4], "big") % self.poisoned == 0


class BeamerWay(httpx.BaseTransport):
    """Beamer as a process of a name reaches it; `moment` is told before each request and each answer."""

    def __init__(self, network: Network, name: str, moment: Callable[[str], None]) -> None:
        self._network = network
        self._name = name
        self._moment = moment
        self._asked: Counter[str] = Counter()
        self._inner = network.box.beamer_transport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._moment("before Beamer's request")
        path = request.url.path
        self._asked[path] += 1
        name = f"{self._name}, {path.removeprefix('/v0')} {self._asked[path]}"
        try:
            with self._network.passing("beamer", name, path):
                return self._ask(request, name)
        finally:
            self._moment("between Beamer's request and answer")

    def _ask(self, request: httpx.Request, name: str) -> httpx.Response:
        network, path = self._network, request.url.path
        answer = self._inner.handle_request(request)
        if answer.status_code == 200 and (stream := stream_of(path)):
            network.shown.update((stream, row_id.decode()) for row_id in IDS.findall(answer.content))
        network.redated(answer, name)
        if network.fails_for_good(path, answer):
            network.failed_pages += 1
            network.spoilt.add(path)
            status = network.plan.strange.poison_status
            if status < 500:
                network.lied.add(path)
            return httpx.Response(status, json=f"Error {status}.")
        return answer


def path_of(row: Row) -> str:
    """The path of the list that shows a row."""
    return list_path(row.stream, row.parent.id if row.parent else "")


def list_path(stream: str, parent: str) -> str:
    """The path of a stream's list, where it has parents that of one of them."""
    if not parent:
        return {"posts": "/posts", "feature_requests": "/requests", "nps": "/nps"}[stream]
    root = "/requests" if stream.startswith("feature_request") else "/posts"
    return f"{root}/{parent}/{stream.removeprefix('feature_request_')}"


class SegmentWay:
    """Segment as a process of a name reaches it, in the place of the library's `post`."""

    def __init__(self, network: Network, name: str, moment: Callable[[str], None]) -> None:
        self._network = network
        self._name = name
        self._batches = 0
        self._moment = moment

    def __call__(self, write_key: str, host: str, **options: Any) -> Any:
        self._moment("before Segment's request")
        network = self._network
        try:
            poison = any(network.is_poison(each["messageId"]) for each in options["batch"])
            self._batches += 1
            name = f"{self._name}, batch {self._batches}"
            with network.passing("segment", name, refused=poison):
                answer = network.box.segment_post(write_key, host, **options)
        finally:
            self._moment("between Segment's request and answer")
        self._moment("after Segment's answer")
        return answer

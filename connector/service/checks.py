"""`check`, as a doctor: for each thing it looked at, what was found and what to do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from connector.beamer.catalogue import Stream
from connector.beamer.door import Answer, Ask
from connector.beamer.pages import Habits, Place, params_of
from connector.errors import ConnectorError, Forbidden, KeyRefused
from connector.segment.facts import Fact
from connector.segment.messages import Message, build
from connector.segment.shape import shape
from connector.sync.policy import Policy

MOST_REQUESTS = 5
CLOCK_TOLERANCE = 60.0
WRONG_KEY = (
    "A wrong write key, or one of another region, also answers 200: "
    "look for the test event in the Debugger of the source in Segment."
)

Grade = Literal["ok", "warning", "error"]
Get = Callable[[str, Ask], Answer]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    thing: str
    grade: Grade
    found: str
    todo: str = ""
    exit: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {"thing": self.thing, "grade": self.grade, "found": self.found, "todo": self.todo}


def failed(thing: str, error: ConnectorError) -> Finding:
    said = f"{error.what} {error.means}".strip()
    return Finding(thing, "error", said, error.todo, int(error.exit))


class Examination:
    """Asks Beamer, at most five times, what a key may read. `get` charges and sends one request."""

    def __init__(self, roots: tuple[Stream, ...], get: Get, now: Callable[[], datetime]) -> None:
        self._roots = roots
        self._get = get
        self._now = now
        self._ahead: float | None = None
        self.may_ignore_filters: bool | None = None

    def findings(self) -> Iterator[Finding]:
        """Look at the key, the permissions and the clocks; a refused key ends it."""
        forbidden = 0
        for stream in self._roots:
            try:
                yield self._permission(stream)
            except KeyRefused as error:
                yield failed("key", error)
                return
            except Forbidden:
                forbidden += 1
                yield self._forbidden(stream)
            except ConnectorError as error:
                yield failed(stream.name, error)
        if forbidden == len(self._roots):
            yield Finding("key", "error", "The key may read nothing that is listed.", exit=77)
        if self._ahead is not None:
            yield clock_finding(self._ahead)

    def _permission(self, stream: Stream) -> Finding:
        if not stream.filtered:
            self._ask(stream)
            return Finding(stream.name, "ok", "The key may read it.")
        try:
            self._ask(stream, ignoreFilters="true")
        except Forbidden:
            self._ask(stream)
            self.may_ignore_filters = False
            return Finding(
                stream.name,
                "warning",
                "The key may read it, but posts with a segmentation filter are invisible to it.",
                "Give the key the permission 'Read posts (ignore filters)' in Beamer.",
            )
        self.may_ignore_filters = True
        return Finding(stream.name, "ok", "The key may read it, segmented posts too.")

    def _forbidden(self, stream: Stream) -> Finding:
        return Finding(
            stream.name,
            "error",
            "The key may not read it (403), nor what belongs to it.",
            "Give the key the permission in Beamer, or take the stream off BEAMER_STREAMS.",
        )

    def _ask(self, stream: Stream, **more: str) -> None:
        params = {**stream.params, **params_of(Place(), Habits(), 1), **more}
        answer = self._get(stream.name, Ask(stream.path, tuple(params.items())))
        if answer.date:
            self._ahead = (answer.date - self._now()).total_seconds()


def clock_finding(ahead: float) -> Finding:
    if abs(ahead) <= CLOCK_TOLERANCE:
        return Finding("clock", "ok", "This machine's clock and Beamer's agree.")
    return Finding(
        "clock",
        "warning",
        f"Beamer's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's. "
        "Rows are judged by Beamer's, leases and pacing by this one's.",
        "Let this machine keep time with NTP.",
    )


def hello_message(policy: Policy, now: datetime) -> Message:
    """One `Beamer Connector Tested`, to be looked for in Segment's debugger."""
    fact = Fact("test", now.strftime("%Y%m%dT%H%M%S.%f"), "0", now, {})
    return build(shape(fact, policy.naming, policy.privacy, now))

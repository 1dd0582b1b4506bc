"""The checks of `check`: each tries one thing and says what it found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from connector.beamer.pagination import Cursor, Habits, params_of
from connector.beamer.request import Answer, BeamerRequest
from connector.beamer.streams import Stream
from connector.errors import (
    ConnectorError,
    Exit,
    Forbidden,
    Gone,
    KeyRefused,
    NoBudget,
    TooMany,
    Transient,
)
from connector.reporting.health import OF_WORD, health, problems
from connector.reporting.status import Status
from connector.segment.messages import Message, build
from connector.segment.shaping import Fact, shape
from connector.sync.context import APART
from connector.sync.policy import Policy

MOST_REQUESTS = 5
CLOCK_TOLERANCE = 60.0
WRONG_KEY = (
    "Segment also answers 200 to a wrong write key or a key of another region: look for the test event "
    "in the Debugger of the source in Segment."
)

Grade = Literal["ok", "warning", "error"]
Get = Callable[[str, BeamerRequest], Answer]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    thing: str
    grade: Grade
    found: str
    todo: str = ""
    exit: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {"thing": self.thing, "grade": self.grade, "found": self.found, "todo": self.todo}


def failed(thing: str, error: ConnectorError) -> Finding:
    """Return an error as a finding; a missing request budget is not an error."""
    said = f"{error.what} {error.means}".strip()
    code = Exit.UNREACHABLE if error.exit is Exit.UNEXPECTED else error.exit
    todo = error.todo
    # A run tries these again by itself; here somebody waits to be told.
    if not todo and isinstance(error, Transient) and not isinstance(error, TooMany):
        address = "SEGMENT_HOST" if thing == "destination" else "BEAMER_BASE_URL"
        todo = f"Try again in a minute. If it fails again, check network, proxy and {address}."
    return Finding(thing, "error" if code else "warning", said, todo, int(code))


def of_database(status: Status) -> Iterator[Finding]:
    """Yield what the database shows of a connection that has run: its health, and each problem."""
    word, _ = health(status)
    yield Finding("health", "ok" if word.grade == "ok" else "warning", f"{word.word}: {word.means}.")
    for each in problems(status):
        grade = OF_WORD[each.word].grade if each.word else "ok"
        # Errors are what this command itself runs into; what the store remembers may be over.
        yield Finding(each.thing, "ok" if grade == "ok" else "warning", each.found, each.todo)
    for holder in status.holders:
        who = f"process {holder.pid} on {holder.host}"
        if holder.dead:
            found = f"A {holder.work} that was killed ({who}) left its lease."
            yield Finding("lease", "ok", found, "Nothing: the next run takes over the lease at once.")
        else:
            found = f"A {holder.work} is running ({who})."
            todo = (
                "Wait until it finishes; until then another run exits with code 75. If it hangs, its "
                "lease expires by itself."
            )
            yield Finding("lease", "ok", found, todo)


class Examination:
    """Asks Beamer, at most five times, what a key may read. `get` charges and sends one request.

    `settled`: the connection has its start date; if not, a sync refuses a clock that is far off.
    """

    def __init__(
        self, roots: tuple[Stream, ...], get: Get, now: Callable[[], datetime], *, settled: bool = True
    ) -> None:
        self._roots = roots
        self._get = get
        self._now = now
        self._settled = settled
        self._ahead: float | None = None
        self._answered = False

    def findings(self) -> Iterator[Finding]:
        """Check the key, the permissions and the clocks; stop at a refused key or if Beamer does not
        answer.
        """
        forbidden = 0
        for stream in self._roots:
            try:
                yield self._permission(stream)
            except (KeyRefused, NoBudget) as error:
                yield failed("key" if isinstance(error, KeyRefused) else "quota", error)
                return
            except Forbidden:
                forbidden += 1
                yield self._forbidden(stream)
            except Gone:
                yield NOT_THERE
                return
            except ConnectorError as error:
                yield failed(stream.name, error)
                if not self._answered:
                    return
        if forbidden == len(self._roots):
            yield Finding(
                "key", "error", "The key may read none of the configured streams.", exit=int(Exit.REFUSED)
            )
        if self._ahead is not None:
            yield clock_finding(self._ahead, settled=self._settled)

    def _permission(self, stream: Stream) -> Finding:
        if not stream.filtered:
            self._request(stream)
            return Finding(stream.name, "ok", "The key may read it.")
        try:
            self._request(stream, ignoreFilters="true")
        except Forbidden:
            self._request(stream)
            return Finding(
                stream.name,
                "warning",
                "The key may read it, but not posts with a segmentation filter.",
                "Give the key the permission 'Read posts (ignore filters)' in Beamer.",
            )
        return Finding(stream.name, "ok", "The key may read it, including posts with a segmentation filter.")

    def _forbidden(self, stream: Stream) -> Finding:
        return Finding(
            stream.name,
            "warning",
            "The key may not read it (403), nor its child lists; syncs continue without them.",
            "Give the key the permission in Beamer, or remove the stream from BEAMER_STREAMS.",
        )

    def _request(self, stream: Stream, **more: str) -> None:
        params = {**stream.params, **params_of(Cursor(), Habits(), 1), **more}
        try:
            answer = self._get(stream.name, BeamerRequest(stream.path, tuple(params.items())))
        except Forbidden:
            self._answered = True
            raise
        self._answered = True
        if answer.date:
            self._ahead = (answer.date - self._now()).total_seconds()


NOT_THERE = Finding(
    "key",
    "error",
    "Beamer's address answers 404 to its own lists.",
    "Unset BEAMER_BASE_URL, or set it with its version, such as …/v0.",
    int(Exit.CONFIGURATION),
)


def clock_finding(ahead: float, *, settled: bool = True) -> Finding:
    if abs(ahead) <= CLOCK_TOLERANCE:
        return Finding("clock", "ok", "This machine's clock and Beamer's agree.")
    found = f"Beamer's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's. "
    todo = "Synchronise this machine's clock with NTP."
    if not settled and abs(ahead) > APART.total_seconds():
        found += "A first sync refuses that, because it stores the start date for good."
        return Finding("clock", "error", found, todo, int(Exit.CONFIGURATION))
    found += "Beamer's clock decides about rows, this machine's clock about leases and pacing."
    return Finding("clock", "warning", found, todo)


def hello_message(policy: Policy, now: datetime) -> Message:
    """One `Beamer Connector Tested`, to be looked for in Segment's debugger."""
    fact = Fact("test", now.strftime("%Y%m%dT%H%M%S.%f"), "0", now, {})
    return build(shape(fact, policy.naming, policy.privacy, now))

"""Try keys: the checks of `check`, and a refused key, which suspends its connection until it changes."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from connector.beamer.pagination import Answer, BeamerRequest, Cursor, Habits, params_of
from connector.beamer.streams import Stream
from connector.errors import (
    ConnectorError,
    Exit,
    Forbidden,
    Gone,
    KeyRefused,
    NoBudget,
    NothingAllowed,
    Stopped,
    TooMany,
    Transient,
    WriteKeyRefused,
)
from connector.reporting.health import OF_WORD, WAY_OUT, describe_refusal, health, problems, utc_text
from connector.reporting.status import Status
from connector.segment.messages import Message, build
from connector.segment.shaping import Fact, shape
from connector.state import suspensions
from connector.state.engine import Database
from connector.state.suspensions import Api, Refusal, Secrets
from connector.sync.context import APART
from connector.sync.policy import Policy
from connector.text import counted

if TYPE_CHECKING:
    from connector.sync.context import RunContext

MOST_REQUESTS = 5
CLOCK_TOLERANCE = 60.0
WRONG_KEY = (
    "Segment also answers 200 to a wrong write key or a key of another region: look for the test event "
    "in the Debugger of the source in Segment."
)

LIKE_AN_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+").fullmatch

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
    text = f"{error.what} {error.means}".strip()
    code = Exit.UNREACHABLE if error.exit is Exit.UNEXPECTED else error.exit
    todo = error.todo
    # A run tries these again; a person needs advice now.
    if not todo and isinstance(error, Transient) and not isinstance(error, TooMany):
        address = "SEGMENT_HOST" if thing == "destination" else "BEAMER_BASE_URL"
        todo = f"Try again in a minute. If it fails again, check network, proxy and {address}."
    return Finding(thing, "error" if code else "warning", text, todo, int(code))


def of_database(status: Status) -> Iterator[Finding]:
    """Yield what the database shows about a connection that has run: its health, problems and leases."""
    word, _ = health(status)
    yield Finding("health", "ok" if word.grade == "ok" else "warning", f"{word.word}: {word.means}.")
    for problem in problems(status):
        grade = OF_WORD[problem.word].grade if problem.word else "ok"
        # Only a finding of this command itself is an error; a stored problem may be solved.
        yield Finding(problem.thing, "ok" if grade == "ok" else "warning", problem.found, problem.todo)
    for holder in status.holders:
        process = f"process {holder.pid} on {holder.host}"
        text = f"A {holder.work} is running ({process})."
        todo = (
            "Wait until it finishes; until then another run exits with code 75. If it hangs, its "
            "lease expires by itself."
        )
        if holder.dead:
            text = f"A {holder.work} that was killed ({process}) left its lease."
            todo = "Nothing: the next run takes over the lease at once."
        yield Finding("lease", "ok", text, todo)


class Examination:
    """Tests, with at most five requests, what a key may read. `get` charges and sends one request.

    `settled`: the connection has its start date; without one, a sync refuses a clock that is far off.
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
        # Of the rows on the pages: how many users, and how many of their ids look like an address.
        self._users = self._addresses = 0

    def findings(self) -> Iterator[Finding]:
        """Check key, permissions and clocks; stop at a refused key, or if Beamer does not answer."""
        forbidden = 0
        for stream in self._roots:
            try:
                yield self._permission(stream)
            except (KeyRefused, NoBudget) as error:
                yield failed("key" if isinstance(error, KeyRefused) else "quota", error)
                return
            except Forbidden:
                forbidden += 1
                yield Finding(
                    stream.name,
                    "warning",
                    "The key may not read it (403), nor its child lists; syncs continue without them.",
                    "Give the key the permission in Beamer, or remove the stream from BEAMER_STREAMS.",
                )
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
        if self._addresses:
            yield Finding(
                "user ids",
                "warning",
                f"{self._addresses} of {counted(self._users, 'user id')} that were seen look like e-mail "
                "addresses: a person with two of them is two users in Segment, and every event contains one.",
                "Pass the user id of your own database to Beamer, the same that your other sources send.",
            )

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

    def _request(self, stream: Stream, **more: str) -> None:
        params = {**stream.params, **params_of(Cursor(), Habits(), 1), **more}
        try:
            answer = self._get(stream.name, BeamerRequest(stream.path, tuple(params.items())))
        except Forbidden:
            self._answered = True
            raise
        self._answered = True
        self._note_users(answer.body)
        if answer.date:
            self._ahead = (answer.date - self._now()).total_seconds()

    def _note_users(self, body: Any) -> None:
        rows = body if isinstance(body, list) else []
        users = [str(row["userId"]) for row in rows if isinstance(row, dict) and row.get("userId")]
        self._users += len(users)
        self._addresses += sum(LIKE_AN_ADDRESS(user) is not None for user in users)


# What warehouses and destinations may not accept in the name of a trait.
AWKWARD = frozenset('./"')


def attribute_finding(names: Sequence[str]) -> Finding | None:
    """Return a warning about attributes whose names destinations may not keep."""
    if not (awkward := [name for name in names if AWKWARD & {*name}]):
        return None
    what = f"Names in BEAMER_TRAIT_ATTRIBUTES with '.', '/' or '\"': {', '.join(awkward)}."
    todo = "Give these attributes other names in Beamer: destinations may rename or drop such traits."
    return Finding("trait attributes", "warning", what, todo)


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
    text = f"Beamer's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's. "
    todo = "Synchronise this machine's clock with NTP."
    if not settled and abs(ahead) > APART.total_seconds():
        text += "A first sync refuses that, because it stores the start date for good."
        return Finding("clock", "error", text, todo, int(Exit.CONFIGURATION))
    text += "Beamer's clock decides about rows, this machine's clock about leases and pacing."
    return Finding("clock", "warning", text, todo)


def hello_message(policy: Policy, now: datetime) -> Message:
    """Return a `Beamer Connector Tested` event, which people look for in Segment's debugger."""
    fact = Fact("test", now.strftime("%Y%m%dT%H%M%S.%f"), "0", now, {})
    return build(shape(fact, policy.naming, policy.privacy, now))


# --- a refused key, remembered until it changes ---

UNTRIED = (
    "the Beamer key was never used, because no request was available: it is unknown whether it is right "
    "(`beamer-segment check` tries it with a request that is left this month)"
)


class Suspended(KeyRefused):
    """Raised when a key was refused in an earlier run and is still the same."""

    default_means = "Nothing was read or sent: each try with a refused key may cost a request."


def refuse_suspended(
    database: Database,
    connection: str,
    secrets: Secrets,
    now: datetime | None = None,
    *,
    unproved: bool = False,
) -> Refusal | None:
    """Raise Suspended if a key in use was refused before; return the refusal if the key is to be tried again.

    Without `now` no key is tried. `unproved`: a changed key may be another account's; nothing is written.
    """
    refusal = suspensions.current_refusal(database, connection, secrets, unproved=unproved)
    if refusal and (now is None or refusal.in_backoff(now)):
        what = f"{describe_refusal(refusal)} Next try: {utc_text(refusal.again)}."
        raise Suspended(what, todo=WAY_OUT[refusal.api])
    return refusal


def try_again(context: "RunContext", refusal: Refusal, secrets: Secrets) -> None:
    """Send one request with a suspended key, to another list each time; raise Suspended after a refusal."""
    roots: Sequence[Stream] = [stream for stream in context.catalogue.values() if stream.parent is None]
    stream = roots[refusal.refused % len(roots)]
    params = {**stream.params, **params_of(Cursor(), Habits(), 1)}
    try:
        with context.ledger.taken(stream.name, context.clock.now()) as at:
            context.beamer.get(BeamerRequest(stream.path, tuple(params.items())), at)
    except (KeyRefused, Forbidden) as error:
        now, key = context.clock.now(), secrets["beamer"]
        what = error.what if isinstance(error, KeyRefused) else refusal.what
        suspensions.remember(context.database, refusal.connection, "beamer", key, what, now)
        what = f"{describe_refusal(refusal)} The key was tried again with one request."
        raise Suspended(what, todo=WAY_OUT[refusal.api]) from None
    except Stopped:
        raise
    except ConnectorError as error:
        what = f"{describe_refusal(refusal)} The key could not be tried again: {error.what}"
        raise Suspended(what, todo=WAY_OUT[refusal.api]) from None
    suspensions.accept(context.database, refusal.connection, "beamer", secrets["beamer"], context.clock.now())


def note(
    database: Database,
    connection: str,
    secrets: Secrets,
    error: ConnectorError | None,
    now: datetime,
    *,
    answered: bool = False,
    delivered: bool = False,
) -> None:
    """Store what a run showed about the keys: Beamer `answered`, Segment accepted what was `delivered`."""
    refused: Api | None = None
    if isinstance(error, KeyRefused) and not isinstance(error, Suspended):
        refused = "segment" if isinstance(error, WriteKeyRefused) else "beamer"
    worked: dict[Api, bool] = {"beamer": answered, "segment": delivered}
    for api, works in worked.items():
        key = secrets[api]
        if error and api == refused:
            sure = isinstance(error, NothingAllowed)
            suspensions.remember(database, connection, api, key, error.what, now, answered=works, sure=sure)
        elif works:
            suspensions.accept(database, connection, api, key, now)

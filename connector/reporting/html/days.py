"""The figures of the report, day by day, gathered from the database."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from connector.beamer.streams import CATALOGUE
from connector.domain.period import EPOCH
from connector.reporting.status_text import work_of
from connector.reporting.summary import WHY_HELD
from connector.state import outbox
from connector.state.queries import RunSummary
from connector.sync.report import Lateness

DAY = timedelta(days=1)
BACKFILL = "backfill"
UNDER_WAY, KILLED = "under way", "killed"
STREAMS = tuple(CATALOGUE)


@dataclass(slots=True)
class Audited:
    """What audits of a stream did: lists and counts read again, rows that were missing, and the last day."""

    checks: int = 0
    missing: int = 0
    last: date | None = None


@dataclass(slots=True)
class Days:
    """Past runs by the day of their start, without backfills; `first`: the oldest complete day."""

    first: date
    last: date
    rows: defaultdict[str, Counter[date]] = field(default_factory=lambda: defaultdict(Counter))
    late: defaultdict[date, Lateness] = field(default_factory=lambda: defaultdict(Lateness))
    outcomes: defaultdict[str, Counter[date]] = field(default_factory=lambda: defaultdict(Counter))
    audits: defaultdict[str, Audited] = field(default_factory=lambda: defaultdict(Audited))

    @property
    def all(self) -> list[date]:
        return span(self.first, self.last)

    def begin_on(self, first: date) -> None:
        """Leave out the days before."""
        self.first = first
        counted: list[dict[date, Any]] = [*self.rows.values(), *self.outcomes.values(), self.late]
        for each in counted:
            for day in [day for day in each if day < first]:
                del each[day]

    @property
    def lateness(self) -> Lateness:
        """Of all days together."""
        whole = Lateness()
        for each in self.late.values():
            whole.add(each.as_dict())
        return whole


def span(first: date, last: date) -> list[date]:
    """Each day from the first to the last."""
    return [first + each * DAY for each in range((last - first).days + 1)]


def added_up(
    past: Iterable[RunSummary], since: datetime, now: datetime, most: int, at_work: Iterable[str] = ()
) -> Days:
    """Add up runs, given newest first; with `most` runs the oldest day is incomplete and left out.

    `at_work`: the kinds of work in progress. Only the newest run of a kind can be in progress; others without
    an end were killed.
    """
    found, count, begun, working = Days(since.date(), now.date()), 0, now, set(at_work)
    for run in past:
        count, begun = count + 1, run.started_at
        kind = work_of(run.command)
        unended = UNDER_WAY if kind in working else KILLED
        working.discard(kind)
        _add(found, run, (run.outcome or "failed") if run.finished_at else unended)
    if count >= most:
        found.begin_on(min(begun.date() + DAY, found.last))
    return found


def _add(found: Days, run: RunSummary, outcome: str) -> None:
    # A clock may have been set back since.
    day = min(run.started_at.date(), found.last)
    found.outcomes[outcome][day] += 1
    if run.command == BACKFILL:
        return
    for stream, rows in run.did.get("rows_new", {}).items():
        found.rows[stream][day] += rows
    if late := run.did.get("late"):
        found.late[day].add(late)
    for stream, checks in run.did.get("audited", {}).items():
        audited = found.audits[stream]
        audited.checks += checks
        audited.missing += run.did.get("missing_found", {}).get(stream, 0)
        audited.last = max(filter(None, (audited.last, day)))


@dataclass(frozen=True, slots=True)
class Spending:
    """Requests of an account by purpose and day, from `first` to `last`."""

    first: date
    last: date
    by_purpose: dict[str, Counter[date]]

    @property
    def totals(self) -> dict[str, int]:
        """The most first."""
        sums = {purpose: days.total() for purpose, days in self.by_purpose.items()}
        return dict(sorted(sums.items(), key=lambda pair: (-pair[1], pair[0])))

    def on(self, day: date) -> int:
        return sum(days[day] for days in self.by_purpose.values())


def spending(spends: Iterable[tuple[int, str, int]], first: date, now: datetime) -> Spending:
    """By day; what a clock ahead of ours wrote down for days to come counts for today."""
    found: defaultdict[str, Counter[date]] = defaultdict(Counter)
    for number, purpose, requests in spends:
        if requests:
            day = min((EPOCH + timedelta(days=number)).date(), now.date())
            found[purpose][day] += requests
    return Spending(first, now.date(), found)


Status = Mapping[str, Any]
NOTHING = "–"


def health(status: Status) -> tuple[str, str, str]:
    """One word, how bad it is (ok, warning, error), and why, empty where there is nothing to say."""
    return str(status["health"]), str(status["grade"]), str(status["why"] or "")


def tiles(status: Status) -> Iterator[tuple[str, str, str]]:
    """Name, words and value of each figure; none before the first run."""
    if status["account"] is None:
        return
    box = status["outbox"]
    yield "newest", "newest row", _when(status["newest"])
    yield "last_success", "last success", _when(status["last_success"])
    yield "requests_used", "requests used", _number(status["requests_used"])
    yield "requests_left", "requests left", _number(status["requests_left"], "no limit")
    if status["requests_left"] is not None:
        yield "requests_available", "available now", _number(int(status["requests_available"]))
    yield "waiting", "messages waiting", _number(box.get(outbox.WAITING, 0) + box.get(outbox.FLIGHT, 0))
    yield "dead", "refused by Segment", _number(box.get(outbox.DEAD, 0))
    for why, count in status["held_back"].items():
        yield f"held_{why}", f"excluded: {WHY_HELD.get(why, why)}", _number(count)


COLUMNS = (
    "stream",
    "complete through",
    "newest row",
    "rows",
    "sent",
    "lists waiting",
    "quarantined",
    "counters",
    "trouble",
)
TRUST = {True: "trusted", False: "untrusted", None: NOTHING}


def streams(status: Status) -> tuple[tuple[str, ...], list[list[str]]]:
    """The table of streams: its columns and its rows."""
    return COLUMNS, [list(_stream(each)) for each in status["streams"]]


def _stream(stream: Status) -> Iterator[str]:
    yield stream["stream"]
    yield _when(stream["complete_through"])
    yield _when(stream["newest"])
    yield _number(stream["counts"].get("rows", 0))
    yield _number(stream["counts"].get("sent", 0))
    yield _number(stream["lists_waiting"])
    yield _number(sum(stream["quarantined"].values()))
    yield TRUST[stream["counters_trusted"]]
    yield stream["trouble"] or ""


def _when(moment: str | None) -> str:
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M}" if moment else "never"


def _number(count: int | None, nothing: str = NOTHING) -> str:
    return nothing if count is None else f"{count:,}"

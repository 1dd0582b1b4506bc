"""The charts of the report: figures by day from the database, and each chart with its caption and legend."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from connector.beamer.streams import CATALOGUE
from connector.domain.period import EPOCH, PERIOD_DAYS
from connector.reporting.rendering import span, work_of
from connector.reporting.status import DAY
from connector.state.runs import RunSummary
from connector.sync import report
from connector.sync.report import Lateness
from connector.text import counted

BACKFILL = "backfill"
UNDER_WAY, KILLED = "under way", "killed"
STREAMS = tuple(CATALOGUE)


# --- figures by day ---


@dataclass(slots=True)
class Audited:
    """The audits of a stream: lists and counts read again, rows that were missing, and the last day."""

    checks: int = 0
    missing: int = 0
    last: date | None = None


@dataclass(slots=True)
class Days:
    """Past runs by the day of their start; `first`: the oldest complete day with a run, if there is one."""

    first: date
    last: date
    rows: defaultdict[str, Counter[date]] = field(default_factory=lambda: defaultdict(Counter))
    late: defaultdict[date, Lateness] = field(default_factory=lambda: defaultdict(Lateness))
    outcomes: defaultdict[str, Counter[date]] = field(default_factory=lambda: defaultdict(Counter))
    audits: defaultdict[str, Audited] = field(default_factory=lambda: defaultdict(Audited))
    # Of the runs for hints (True), and of all others.
    late_by_hints: defaultdict[bool, Lateness] = field(default_factory=lambda: defaultdict(Lateness))

    @property
    def all(self) -> list[date]:
        return each_day(self.first, self.last)

    def begin_on(self, first: date) -> None:
        """Leave out the days before."""
        self.first = first
        by_day: list[dict[date, Any]] = [*self.rows.values(), *self.outcomes.values(), self.late]
        for figures in by_day:
            for day in [day for day in figures if day < first]:
                del figures[day]

    @property
    def lateness(self) -> Lateness:
        """Return the lateness of all days together."""
        whole = Lateness()
        for day in self.late.values():
            whole.add(day.as_dict())
        return whole


def each_day(first: date, last: date) -> list[date]:
    """Return each day from the first to the last."""
    return [first + number * DAY for number in range((last - first).days + 1)]


def added_up(past: Iterable[RunSummary], now: datetime, most: int, at_work: Iterable[str] = ()) -> Days:
    """Add up runs, newest first; with `most` runs the oldest day is incomplete and left out.

    `at_work`: the kinds of work in progress. Only the newest run of a kind can be in progress; others without
    an end were killed.
    """
    days, count, oldest, working = Days(now.date(), now.date()), 0, now, set(at_work)
    for run in past:
        count, oldest = count + 1, run.started_at
        kind = work_of(run.command)
        unended = UNDER_WAY if kind in working else KILLED
        working.discard(kind)
        _add(days, run, (run.outcome or "failed") if run.finished_at else unended)
    complete = oldest + DAY if count >= most else oldest
    days.begin_on(min(complete.date(), days.last))
    return days


def _add(days: Days, run: RunSummary, outcome: str) -> None:
    # The clock may have been set back since.
    day = min(run.started_at.date(), days.last)
    days.outcomes[outcome][day] += 1
    if run.command == BACKFILL:
        return
    for stream, rows in run.did.get("rows_new", {}).items():
        days.rows[stream][day] += rows
    if late := run.did.get("late"):
        days.late[day].add(late)
        days.late_by_hints[run.command == "hints"].add(late)
    for stream, checks in run.did.get("audited", {}).items():
        audited = days.audits[stream]
        audited.checks += checks
        audited.missing += run.did.get("missing_found", {}).get(stream, 0)
        audited.last = max(filter(None, (audited.last, day)))


@dataclass(frozen=True, slots=True)
class Spending:
    """Requests of an account by purpose and day; `first`: the oldest day with one, `last`: today."""

    last: date
    by_purpose: dict[str, Counter[date]]

    @property
    def first(self) -> date:
        return min((day for counts in self.by_purpose.values() for day in counts), default=self.last)

    def on(self, day: date) -> int:
        return sum(days[day] for days in self.by_purpose.values())


def spending(spends: Iterable[tuple[int, str, int]], now: datetime) -> Spending:
    """Add up spends by purpose and day; a day in the future, of a clock that is ahead, counts as today."""
    by_purpose: defaultdict[str, Counter[date]] = defaultdict(Counter)
    for number, purpose, requests in spends:
        if requests:
            day = min((EPOCH + timedelta(days=number)).date(), now.date())
            by_purpose[purpose][day] += requests
    return Spending(now.date(), by_purpose)


# --- charts ---

Value = float | None


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or the bars of one colour, which is a class of the style; a value of None is not drawn."""

    name: str
    values: Sequence[Value]
    colour: str = "main"


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart, as stacked bars or as lines, with a value of each series for each of its days."""

    name: str
    title: str
    caption: str
    days: Sequence[date]
    series: Sequence[Series]
    stacked: bool = True
    digits: int = 0

    @property
    def empty(self) -> bool:
        """Return whether there is nothing to draw; the caption says why."""
        return not any(value for series in self.series for value in series.values)

    @property
    def highest(self) -> float:
        """Return the highest point of a line, or of the bars of one day."""
        by_day = zip(*(series.values for series in self.series), strict=True)
        of_a_day = sum if self.stacked else max
        return max((of_a_day(value or 0 for value in values) for values in by_day), default=0)

    @property
    def columns(self) -> list[str]:
        return ["day", *(series.name for series in self.series)]

    @property
    def rows(self) -> list[list[str]]:
        """Return the table's cells, without days on which every value is 0 or unknown."""
        by_day = zip(self.days, *(series.values for series in self.series), strict=True)
        return [
            [day.isoformat(), *("–" if value is None else f"{value:,.{self.digits}f}" for value in values)]
            for day, *values in by_day
            if any(values)
        ]


# A stream has one colour in all charts; other purposes are grey.
COLOURS = {stream: f"stream-{number}" for number, stream in enumerate(STREAMS)}
OTHER_PURPOSES = {
    "audit": "grey-1",
    BACKFILL: "grey-2",
    "check": "grey-3",
    "elsewhere": "grey-4",
}
OUTCOMES = {
    "done": "ok",
    "stopped": "ok-less",
    "interrupted": "warning-less",
    "incomplete": "warning",
    "failed": "error",
    KILLED: "error-more",
    UNDER_WAY: "main",
}
DASHED = "dashed"
MEANS = {"stopped": "stopped early", "interrupted": "interrupted by a signal"}


def label(stream: str) -> str:
    """Return a stream's name for people."""
    return "NPS" if stream == "nps" else stream.replace("_", " ")


def burn_down(status: Mapping[str, Any], spent: Spending, began: datetime | None) -> Chart:
    """Return the requests left at the end of each day, and those left at an even pace."""
    title, name = "Requests left", "quota"
    left, usable = status["requests_left"], status["requests_usable"]
    if left is None or usable is None:
        days = each_day(spent.first, spent.last)
        caption = (
            f"There is no monthly limit; {counted(status['requests_used'], 'request')} since {spent.first}."
        )
        return Chart(name, title, caption, days, [Series("used", [*map(spent.on, days)])])
    start, end, first = _period(status, spent, began)
    days, known = each_day(first, end), each_day(first, spent.last)
    # The number left now is known; those of the days before are calculated from it.
    back = [float(left)]
    for day in reversed(known[1:]):
        back.append(back[-1] + spent.on(day))
    lefts: list[Value] = [*reversed(back), *[None] * (len(days) - len(known))]
    length = (end - start).days + 1
    even = [usable * (1 - ((day - start).days + 1) / length) for day in days]
    now = usable - (status["requests_even"] or 0)
    ahead = left - now
    whole = f"until {end + DAY}" if status["requests_until"] else "of 31 days in a row"
    caption = (
        f"{left:,} of the {counted(usable, 'request')} {whole} are left. At an even pace {now:,.0f} would be "
        f"left: {abs(ahead):,.0f} {'fewer' if ahead >= 0 else 'more'}."
    )
    series = [Series("left", lefts), Series("even pace", even, DASHED)]
    return Chart(name, title, caption, days, series, stacked=False)


def _period(status: Mapping[str, Any], spent: Spending, began: datetime | None) -> tuple[date, date, date]:
    """Return the month's first and last day, and the account's first day in it.

    Without a period day these are the 32 days that 31 days touch, and begin with the account at the earliest.
    """
    since = datetime.fromisoformat(status["requests_since"])
    first = min(max(since, began or since).date(), spent.last)
    if status["requests_until"]:
        return since.date(), datetime.fromisoformat(status["requests_until"]).date() - DAY, first
    return first, max(first + timedelta(days=PERIOD_DAYS - 1), spent.last), first


def rows(days: Days) -> Chart:
    """Return new rows by stream."""
    streams = [stream for stream in STREAMS if stream in days.rows and days.rows[stream].total()]
    total = sum(days.rows[stream].total() for stream in streams)
    caption = (
        f"{counted(total, 'new row')} since {days.first}, without backfills." if total else "No new rows yet."
    )
    series = [_counted(label(stream), days.rows[stream], days.all, COLOURS[stream]) for stream in streams]
    return Chart("rows", "New rows by stream", caption, days.all, series)


def delay(days: Days) -> Chart:
    """Return how late rows were read: mean and 95th percentile of each day."""
    title, name, whole = "How late rows were read", "delay", days.lateness
    mean, most = whole.mean, whole.within(0.95)
    if mean is None or most is None:
        return Chart(name, title, "No row with a known delay yet.", (), ())
    means = [late.mean if (late := days.late.get(day)) else None for day in days.all]
    within = [late.within(0.95) if (late := days.late.get(day)) else None for day in days.all]
    unit, seconds = _unit(max(value for value in (*means, *within) if value is not None))
    title = f"{title}, in {unit}"
    caption = (
        f"{span(mean)} after their date on average, 95 of 100 rows within {span(most)}, the slowest "
        f"after {span(whole.longest)}. Rows from before the connection was created are not counted."
    )
    series = [
        Series("mean", [value and value / seconds for value in means]),
        Series("95th percentile", [value and value / seconds for value in within], DASHED),
    ]
    return Chart(name, title, caption, days.all, series, stacked=False, digits=2)


def runs(days: Days) -> Chart:
    """Return runs by outcome."""
    outcomes = [outcome for outcome in OUTCOMES if outcome in days.outcomes]
    total = sum(days.outcomes[outcome].total() for outcome in outcomes)
    caption = f"{counted(total, 'run')} since {days.first}." if total else "No run yet."
    series = [
        _counted(MEANS.get(outcome, outcome), days.outcomes[outcome], days.all, OUTCOMES[outcome])
        for outcome in outcomes
    ]
    return Chart("runs", "Runs and how they ended", caption, days.all, series)


def purposes(spent: Spending) -> Chart:
    """Return the account's requests by purpose: a stream, or another one."""
    days, by_name = each_day(spent.first, spent.last), defaultdict[str, Counter[date]](Counter)
    for purpose, counts in spent.by_purpose.items():
        by_name[purpose.partition(" ")[0]].update(counts)
    colours = COLOURS | OTHER_PURPOSES
    names = sorted(by_name, key=lambda name: [*colours, name].index(name))
    total = sum(counts.total() for counts in by_name.values())
    caption = f"{counted(total, 'request')} since {spent.first}." if total else "No request yet."
    series = [_counted(label(name), by_name[name], days, colours.get(name, "grey-4")) for name in names]
    return Chart("purposes", "Requests by purpose", caption, days, series)


def _counted(name: str, counts: Counter[date], days: Sequence[date], colour: str) -> Series:
    return Series(name, [counts[day] for day in days], colour)


def _unit(most: float) -> tuple[str, float]:
    if most < 2 * report.HOUR:
        return "minutes", report.MINUTE
    return ("hours", report.HOUR) if most < 3 * report.DAY else ("days", report.DAY)

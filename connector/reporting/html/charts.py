"""The charts of the report: which there are, their figures and captions."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from connector.domain.period import PERIOD_DAYS
from connector.reporting.html.chart import Chart, Series, Value
from connector.reporting.html.days import DAY, STREAMS, Days, Spending, span
from connector.sync import report

# With the page's colours: blue, grey, ochre, red, violet, green.
OUTCOMES = {
    "done": 0,
    "stopped": 6,
    "interrupted": 1,
    "incomplete": 4,
    "failed": 7,
    "killed": 3,
    "under way": 2,
}
MEANS = {"stopped": "stopped early", "interrupted": "interrupted by a signal"}
# More purposes than colours can be told apart; the table has all of them.
MOST_PURPOSES = 7
OTHERS = "others"


def burn_down(status: Mapping[str, Any], spent: Spending, began: datetime | None) -> Chart:
    """What was left of the quota at the end of each day, beside what an even pace leaves."""
    title, name = "Requests left, day by day", "quota"
    left, usable = status["requests_left"], status["requests_usable"]
    if left is None or usable is None:
        days = span(spent.first, spent.last)
        caption = f"Without a monthly limit; {status['requests_used']:,} requests in this period."
        return _by_day(name, title, caption, "bar", days, {"requests": [spent.on(day) for day in days]})
    first, last = _period(status, spent, began)
    days, known = span(first, last), span(first, spent.last)
    # What is left now is known; what was left before is reckoned back from it.
    back: list[Value] = [float(left)]
    for day in reversed(known[1:]):
        back.append((back[-1] or 0) + spent.on(day))
    lefts: list[Value] = [*reversed(back), *[None] * (len(days) - len(known))]
    even = [usable * (1 - each / len(days)) for each in range(1, len(days) + 1)]
    now = usable - (status["requests_even"] or 0)
    ahead = left - now
    whole = f"until {last + DAY}" if status["requests_until"] else "of 31 days in a row"
    caption = (
        f"{left:,} of the {usable:,} requests {whole} are left. At an even pace {now:,.0f} would be "
        f"left: {abs(ahead):,.0f} {'fewer' if ahead >= 0 else 'more'}."
    )
    series = [Series("left", lefts), Series("even pace", even, dashed=True)]
    return Chart(name, title, caption, "line", _labels(days), series, "requests")


def _period(status: Mapping[str, Any], spent: Spending, began: datetime | None) -> tuple[date, date]:
    """Its first day and its last one; until Beamer's month is told, the 32 that 31 days touch."""
    since = datetime.fromisoformat(status["requests_since"])
    if status["requests_until"]:
        return since.date(), datetime.fromisoformat(status["requests_until"]).date() - DAY
    first = min(max(since, began or since).date(), spent.last)
    return first, max(first + timedelta(days=PERIOD_DAYS - 1), spent.last)


def rows(days: Days) -> Chart:
    """New rows by stream."""
    totals = {stream: days.rows[stream].total() for stream in STREAMS if stream in days.rows}
    said = ", ".join(f"{stream} {total:,}" for stream, total in totals.items() if total)
    since = f"since {days.first}"
    caption = (
        f"{sum(totals.values()):,} new rows were read {since}: {said}. Backfills are not counted here."
        if said
        else f"No new rows were read {since}."
    )
    values = {
        stream: [days.rows[stream][day] for day in days.all] for stream, total in totals.items() if total
    }
    return _by_day("rows", "New rows by stream and day", caption, "stack", days.all, values, "rows")


def delay(days: Days) -> Chart:
    """How late rows were read: mean and 95th percentile of each day."""
    title, name, whole = "How late rows were read", "delay", days.lateness
    mean, most = whole.mean, whole.within(0.95)
    if mean is None or most is None:
        caption = f"No row with a known delay was read since {days.first}."
        return _by_day(name, title, caption, "line", (), {})
    means = [late.mean if (late := days.late.get(day)) else None for day in days.all]
    within = [late.within(0.95) if (late := days.late.get(day)) else None for day in days.all]
    unit, seconds = _unit(max(each for each in (*means, *within) if each is not None))
    caption = (
        f"Rows were read {lasting(mean)} after their date on average, 95 of 100 rows within "
        f"{lasting(most)}, the slowest after {lasting(whole.longest)}. {whole.rows:,} rows since "
        f"{days.first}; rows from before the connection was created are not counted."
    )
    series = [
        Series("mean", [None if each is None else each / seconds for each in means]),
        Series("95th percentile", [None if each is None else each / seconds for each in within], dashed=True),
    ]
    return Chart(name, title, caption, "line", _labels(days.all), series, unit, digits=2)


def runs(days: Days) -> Chart:
    """Runs by how they ended."""
    totals = {each: days.outcomes[each].total() for each in OUTCOMES if each in days.outcomes}
    said = ", ".join(f"{count:,} {MEANS.get(each, each)}" for each, count in totals.items())
    caption = f"{sum(totals.values()):,} runs since {days.first}: {said}." if said else "No run yet."
    series = [
        Series(each, [days.outcomes[each][day] for day in days.all], colour=OUTCOMES[each]) for each in totals
    ]
    return Chart("runs", "Runs and how they ended", caption, "stack", _labels(days.all), series, "runs")


def purposes(spent: Spending) -> Chart:
    """What the account's requests were for."""
    totals, days = spent.totals, span(spent.first, spent.last)
    whole = sum(totals.values())
    named = list(totals) if len(totals) <= MOST_PURPOSES else list(totals)[: MOST_PURPOSES - 1]
    said = ", ".join(f"{each} {totals[each]:,} ({totals[each] / whole:.0%})" for each in totals)
    caption = (
        f"{whole:,} requests since {spent.first}, by purpose: {said}."
        if whole
        else f"No request since {spent.first}."
    )
    values: dict[str, Sequence[Value]] = {
        each: [spent.by_purpose[each][day] for day in days] for each in named
    }
    if rest := [each for each in totals if each not in named]:
        values[OTHERS] = [sum(spent.by_purpose[each][day] for each in rest) for day in days]
    return _by_day("purposes", "Requests by purpose", caption, "stack", days, values, "requests")


def completeness(status: Mapping[str, Any], days: Days) -> Chart:
    """Of the rows held, those that were there before an audit looked."""
    names, shares, said = [], list[Value](), []
    for stream in status["streams"]:
        name, held = stream["stream"], stream["counts"].get("rows", 0)
        audited = days.audits.get(name)
        if audited is None or not held:
            continue
        names.append(name)
        shares.append(100 * max(0.0, 1 - audited.missing / held))
        checks = f"{audited.checks:,} lists and counts, last on {audited.last}"
        said.append(f"{name}: {audited.missing:,} missing in {checks}")
    caption = (
        "This share of the stored rows was complete before an audit read the lists again (since "
        f"{days.first}). The audit sent the missing rows. {'; '.join(said)}."
        if said
        else f"No audit since {days.first}; `beamer-segment audit` runs one now."
    )
    title = "Completeness, measured by audits"
    return Chart(
        "completeness", title, caption, "share", names, [Series("complete", shares)], "%", "stream", 2
    )


def lasting(seconds: float) -> str:
    """A time in the unit that fits."""
    unit, each = _unit(seconds)
    return f"{seconds / each:,.1f} {unit}"


def _unit(most: float) -> tuple[str, float]:
    if most < 2 * report.HOUR:
        return "minutes", report.MINUTE
    return ("hours", report.HOUR) if most < 3 * report.DAY else ("days", report.DAY)


def _by_day(
    name: str,
    title: str,
    caption: str,
    kind: str,
    days: Iterable[date],
    values: Mapping[str, Sequence[Value]],
    unit: str = "requests",
) -> Chart:
    series = [Series(each, of) for each, of in values.items()]
    return Chart(name, title, caption, kind, _labels(days), series, unit)


def _labels(days: Iterable[date]) -> list[str]:
    return [day.isoformat() for day in days]

"""The report as one HTML file that needs neither the network nor a script: a verdict, figures, charts."""

import base64
import hashlib
import html
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any

from connector import __version__
from connector.domain.period import EPOCH, day_of
from connector.errors import StateDamaged
from connector.reporting import report_charts
from connector.reporting.health import OF_WORD, WHY_EXCLUDED, of_damage, verdict
from connector.reporting.rendering import span
from connector.reporting.report_charts import (
    COLOURS,
    DASHED,
    Audited,
    Chart,
    Series,
    added_up,
    label,
    spending,
)
from connector.state import outbox, runs
from connector.state.engine import Database
from connector.state.spending import account_began, spends_after
from connector.text import counted, one_line

Status = Mapping[str, Any]

# --- from the database ---


@dataclass(frozen=True, slots=True)
class Subject:
    """One connection: its status as in `status --output json`, its charts and audits, none before a run.

    `delays`: the mean delay in seconds of rows read by runs for hints (True), and by others.
    """

    status: Status
    charts: Sequence[Chart] = ()
    audits: Mapping[str, Audited] | None = None
    delays: Mapping[bool, float | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.status["connection"])


def report_data_of(database: Database | None, statuses: Iterable[Status], now: datetime) -> list[Subject]:
    """Return the page's data of connections; `statuses` are theirs as JSON."""
    return [_subject(database, status, now) for status in statuses]


def _subject(database: Database | None, status: Status, now: datetime) -> Subject:
    if database is None or status["account"] is None:
        return Subject(status)
    try:
        return _with_charts(database, status, now)
    except StateDamaged as error:
        # The charts read more of the connection's state than the status.
        problem = of_damage(error)
        problems = [asdict(problem), *status["problems"]]
        return Subject({**status, **verdict(OF_WORD["damaged"], problem), "problems": problems})


def _with_charts(database: Database, status: Status, now: datetime) -> Subject:
    # Older runs may be deleted already.
    since = EPOCH + timedelta(days=day_of(now - runs.KEPT) + 1)
    past = runs.runs_since(database, status["connection"], since)
    at_work = [holder["work"] for holder in status["at_work"] if not holder["dead"]]
    days = added_up(past, now, runs.MOST_RUNS, at_work)
    first = day_of(datetime.fromisoformat(status["requests_since"]))
    spent = spending(spends_after(database, status["account"], first - 1), now)
    charts = (
        report_charts.burn_down(status, spent, account_began(database, status["account"])),
        report_charts.rows(days),
        report_charts.delay(days),
        report_charts.runs(days),
        report_charts.purposes(spent),
    )
    delays = {by_hints: late.mean for by_hints, late in days.late_by_hints.items()}
    return Subject(status, charts, days.audits, delays)


# --- the whole page ---

STYLE = "report.css"
# Up to this number, all connections are unfolded, and those with problems are named in the banner.
MOST_OPEN = 3


@cache
def _style() -> str:
    return files(__package__).joinpath("assets", STYLE).read_text(encoding="utf-8")


@cache
def policy() -> str:
    """Return what a browser may do with a page: use this style, run no script, contact nobody."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def page(subjects: Sequence[Subject], now: datetime, links: Iterable[tuple[str, str]] = ()) -> str:
    """Return the report of one connection, or of several with an overview."""
    if len(subjects) == 1:
        (subject,) = subjects
        title = f"{subject.name}: {subject.status['health']}"
        return document(title, subject.name, _body(subject, now), now, links)
    is_open = len(subjects) <= MOST_OPEN
    sections = "".join(_section(subject, now, is_open) for subject in subjects)
    lines = [_line(subject.status, now) for subject in subjects]
    return document("connections", "", overview(COLUMNS, lines) + sections, now, links)


def document(title: str, name: str, body: str, now: datetime, links: Iterable[tuple[str, str]] = ()) -> str:
    """Return a whole page; `links` are pairs of a text and an address, if it is served."""
    nav = "".join(f'<a href="{escape(address)}">{escape(text)}</a>' for text, address in links)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy())}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(title)} – beamer-segment</title>\n<style>{_style()}</style>\n</head>\n<body>\n"
        f"<header><h1>beamer-segment{f' <span>{escape(name)}</span>' if name else ''}</h1>"
        f'{nav and f"<nav>{nav}</nav>"}<time datetime="{now.isoformat()}">{now:%Y-%m-%d %H:%M} UTC</time>'
        f"</header>\n<main>\n{body}</main>\n<footer>beamer-segment {escape(__version__)}. "
        "It shows the database at the time above. Days are UTC days.</footer>\n</body>\n</html>\n"
    )


# --- several connections ---

NOTHING = "–"
COLUMNS = ("newest row", "last success", "requests left", "available now", "messages waiting")


def _line(status: Status, now: datetime) -> tuple[str, ...]:
    values = [value for _, _, value, _ in _figures(status, now)] or [NOTHING] * len(COLUMNS)
    return status["connection"], f"#{status['connection']}", status["health"], status["grade"], *values


def overview(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a verdict on several connections and a table: name, address, state, its grade, other cells."""
    bad = {name: state for name, _, state, grade, *_ in lines if grade != "ok"}
    grades = {grade for _, _, _, grade, *_ in lines}
    worst = next((grade for grade in ("error", "warning") if grade in grades), "ok")
    count = counted(len(lines), "connection")
    needs = "needs" if len(bad) == 1 else "need"
    headline = f"{len(bad)} of {count} {needs} attention." if bad else f"{count}: none needs attention."
    named = ", ".join(f"{name}: {state}" for name, state in list(bad.items())[:MOST_OPEN])
    rows = [
        (Html(f'<a href="{escape(address)}">{escape(name)}</a>'), _state(state, grade), *cells)
        for name, address, state, grade, *cells in lines
    ]
    said = f"<strong>{headline}</strong> {escape(named)}"
    return banner(worst, said) + table("", ("connection", "state", *columns), rows, words=2)


# --- one connection ---


def _section(subject: Subject, now: datetime, is_open: bool) -> str:
    name, health = escape(subject.name), _state(subject.status["health"], subject.status["grade"])
    return (
        f'<details class="connection"{" open" if is_open else ""}><summary><h2>{name}</h2> {health}</summary>'
        f'<div id="{name}">{_body(subject, now)}</div></details>\n'
    )


def _body(subject: Subject, now: datetime) -> str:
    status = subject.status
    cards = [*map(_chart, subject.charts)]
    if subject.audits is not None:
        cards.append(f"<div>{_missing(subject.audits)}{_excluded(status)}{_hints(subject)}</div>")
    return (
        f"{_banner(status, now)}{_tiles(status, now)}{_streams(status, now)}"
        f'<div class="cards">\n{"".join(cards)}</div>\n<p class="note">{_prose(status["limit"])}</p>\n'
    )


def _banner(status: Status, now: datetime) -> str:
    why, todo, complete = status["why"], status["todo"], completeness(status, now)
    first, *more = [
        f'<span data-figure="{name}">{_prose(text)}</span>'
        for name, text in (("why", why), ("todo", todo), ("complete", complete))
        if text
    ]
    others = [f"{problem['found']} {problem['todo']}" for problem in status["problems"][bool(why) :]]
    health = f'<strong data-figure="health">{escape(status["health"].capitalize())}.</strong>'
    grade = status["grade"] if why or status["account"] else "main"
    return banner(grade, f"{health} {first}", more, others)


def banner(grade: str, headline: str, lines: Iterable[str] = (), others: Iterable[str] = ()) -> str:
    """Return the verdict; `lines` are HTML, `others` further problems as text."""
    more = "".join(f"<li>{_prose(text)}</li>" for text in others)
    said = "".join(f"<p>{line}</p>\n" for line in (headline, *lines))
    return f'<div class="banner {escape(grade)}">{said}{more and f"<ul>{more}</ul>"}</div>\n'


def completeness(status: Status, now: datetime) -> str:
    """Return in a sentence up to when the streams are complete; an empty one if that cannot be read."""
    streams = [stream for stream in status["streams"] if stream["listed"]]
    dates = [date for stream in streams if (date := date_of(stream["complete_through"]))]
    if not status["streams"]:
        return "" if status["why"] else "Start with `beamer-segment sync`."
    if not dates:
        return "No stream is complete yet."
    which = f"{len(dates)} of {counted(len(streams), 'stream')} are"
    if len(dates) == len(streams):
        only = label(streams[0]["stream"])
        which = "NPS is" if only == "NPS" else f"{only.capitalize()} are"
        which = f"All {counted(len(streams), 'stream')} are" if len(streams) > 1 else which
    return f"{which} complete up to {moment_text(min(dates), now)} UTC, {ago(min(dates), now)}."


def _tiles(status: Status, now: datetime) -> str:
    cells = "".join(
        f'<div><dt>{title}</dt><dd data-figure="{name}">{value}</dd><dd class="note">{note}</dd></div>\n'
        for name, title, value, note in _figures(status, now)
    )
    return cells and f'<dl class="tiles">{cells}</dl>\n'


def _figures(status: Status, now: datetime) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, title, value and note of each tile, as HTML; none before the first run."""
    if status["account"] is None:
        return
    newest, success = date_of(status["newest"]), date_of(status["last_success"])
    delay, pause = status["newest_delay_seconds"], status["seconds_between_syncs"]
    note = f"{label(status['newest_stream'])}, {moment_text(newest, now)}" if newest else ""
    note += "" if delay is None else f", read {span(delay)} later"
    yield "newest", "Newest row", ago(newest, now), escape(note)
    note = f", usually every {span(pause)}" if pause else ""
    yield "last_success", "Last success", ago(success, now), moment_text(success, now) + note
    used = f'<span data-figure="requests_used">{status["requests_used"]:,}</span> used'
    note = f"{used} since {escape(status['requests_since'][:10])}"
    yield "requests_left", "Requests left", number(status["requests_left"], "no limit"), note
    level, again = status["requests_available"], date_of(status["requests_again_at"])
    note = "" if level is None else f"about {status['requests_per_day'] or 0:,.0f} more per day"
    if again and again > now:
        note = f"the next at {moment_text(again, now)}"
    available = number(None if level is None else int(level), "no limit")
    yield "requests_available", "Available now", available, note
    box, oldest = status["outbox"], min((waiting["oldest"] for waiting in status["waiting"]), default=None)
    note = f'<span data-figure="dead">{number(box.get(outbox.DEAD, 0))}</span> refused by Segment'
    note += f", the oldest from {ago(date_of(oldest), now)}" if oldest else ""
    waiting = number(box.get(outbox.WAITING, 0) + box.get(outbox.FLIGHT, 0))
    yield "waiting", "Messages waiting", waiting, note


TRUST = {True: "trusted", False: "untrusted", None: NOTHING}
STREAM = (
    "stream",
    "complete up to",
    "newest row",
    "rows",
    "sent",
    "lists waiting",
    "quarantined",
    "counters",
)


def _streams(status: Status, now: datetime) -> str:
    rows = [_stream_cells(stream, now) for stream in status["streams"]]
    return table("Streams", STREAM, rows) if rows else ""


def _stream_cells(stream: Status, now: datetime) -> Iterator[str]:
    name, trouble = stream["stream"], stream["trouble"]
    problem = f'<span class="trouble">{escape(trouble)}</span>' if trouble else ""
    yield Html(f'<span class="key {COLOURS.get(name, "main")}">{escape(label(name))}</span>{problem}')
    yield aged(date_of(stream["complete_through"]), now)
    yield aged(date_of(stream["newest"]), now)
    yield number(stream["counts"].get("rows", 0))
    yield number(stream["counts"].get("sent", 0))
    yield number(stream["lists_waiting"])
    yield number(sum(stream["quarantined"].values()))
    yield TRUST[stream["counters_trusted"]]


def _missing(audits: Mapping[str, Audited]) -> str:
    """Return the table of the rows that were missing until an audit found them."""
    caption = "Audits read lists and counts again. The missing rows that they found were sent."
    if not audits:
        caption = "No audit in the last 30 days; `beamer-segment audit` runs one now."
    rows = [
        (label(stream), number(audited.missing), number(audited.checks), str(audited.last))
        for stream, audited in audits.items()
    ]
    columns = ("stream", "missing rows", "read again", "last audit")
    return _card("missing", "Missing rows", caption, table("", columns, rows) if rows else "")


def _excluded(status: Status) -> str:
    """Return the table of the rows that a setting excludes."""
    rows = [
        (WHY_EXCLUDED.get(why, why), Html(f'<span data-figure="excluded_{escape(why)}">{count:,}</span>'))
        for why, count in status["excluded"].items()
    ]
    caption = "Rows that were read, but not sent." if rows else "No row is excluded."
    return _card("excluded", "Excluded rows", caption, table("", ("reason", "rows"), rows) if rows else "")


def _hints(subject: Subject) -> str:
    """Return the table of what webhooks announced; nothing without any."""
    rows = [
        (label(stream), *(number(hints[name]) for name in ("received", "confirmed", "waiting")))
        for stream, hints in subject.status.get("hints", {}).items()
    ]
    if not rows:
        return ""
    with_hints, without = (
        "no row" if (mean := subject.delays.get(by_hints)) is None else f"rows after {span(mean)} on average"
        for by_hints in (True, False)
    )
    caption = f"Runs for webhooks read {with_hints}; other runs, {without}."
    columns = ("stream", "announced", "found", "not read yet")
    return _card("hints", "Webhooks", caption, table("", columns, rows))


# --- pieces ---


class Html(str):
    """A text that is HTML already."""

    __slots__ = ()


def escape(text: str) -> str:
    """Return a text for HTML, without characters that reverse or hide the text beside it."""
    return text if isinstance(text, Html) else html.escape(one_line(text))


def _prose(text: str) -> str:
    """Return sentences as HTML; text between backticks becomes code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def date_of(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def moment_text(moment: datetime | None, now: datetime) -> str:
    """Return the time of a moment, with its date unless that is today."""
    if moment is None:
        return "never"
    return f"{moment:%H:%M}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M}"


def ago(moment: datetime | None, now: datetime) -> str:
    """Return how far a moment is away, in the largest unit of which there are at least two."""
    if moment is None:
        return "never"
    seconds = (now - moment).total_seconds()
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1)):
        if (count := abs(seconds) // size) >= 2:
            return f"{count:,.0f} {unit} ago" if seconds > 0 else f"in {count:,.0f} {unit}"
    return "just now"


def aged(moment: datetime | None, now: datetime) -> str:
    """Return how far a moment is away, and its date, for a cell."""
    date = f' <span class="note">{moment_text(moment, now)}</span>' if moment else ""
    return Html(f"{ago(moment, now)}{date}")


def number(count: int | None, nothing: str = NOTHING) -> str:
    return nothing if count is None else f"{count:,}"


def _state(word: str, grade: str) -> Html:
    """Return a state in the colour of its grade."""
    return Html(f'<span class="state {escape(grade)}">{escape(word)}</span>')


def table(caption: str, columns: Sequence[str], rows: Iterable[Iterable[str]], words: int = 1) -> str:
    """Return a table whose first column names its rows; `words`: so many columns are left-aligned."""
    first, *others = map(escape, columns)
    title, head, body = (
        caption and f"<h3>{escape(caption)}</h3>",
        "".join(f"<th>{name}</th>" for name in others),
        "",
    )
    for name, *cells in (map(escape, row) for row in rows):
        pairs = zip(others, cells, strict=True)
        data = "".join(f'<td data-column="{column}">{cell}</td>' for column, cell in pairs)
        body += f'<tr><th scope="row">{name}</th>{data}</tr>\n'
    head = f"<thead><tr><th>{first}</th>{head}</tr></thead>"
    return (
        f'{title}<div class="scroll"><table class="words-{words}">{head}<tbody>{body}</tbody></table></div>\n'
    )


def _card(name: str, title: str, caption: str, content: str = "") -> str:
    kind = "" if content else ' class="empty"'
    return (
        f'<figure data-picture="{escape(name)}"{kind}><h3>{escape(title)}</h3>'
        f"<figcaption>{_prose(caption)}</figcaption>{content}</figure>\n"
    )


# --- charts as SVG: positions are shares of the width, so that one drawing fits every screen ---

# A chart of fewer days has room for the days to come.
LEAST_DAYS = 7
# The usual number of dates and values beside a chart.
MOST_DATES, MOST_VALUES = 5, 5
WIDTH_OF_BARS = 0.7


def _chart(chart: Chart) -> str:
    if chart.empty:
        return _card(chart.name, chart.title, chart.caption)
    keys = ""
    for series in chart.series:
        total = f" <b>{sum(value or 0 for value in series.values):,.0f}</b>" if chart.stacked else ""
        kind = series.colour if chart.stacked else f"line {series.colour}"
        keys += f'<li class="key {kind}">{escape(series.name)}{total}</li>'
    content = (
        f'<svg class="plot" role="img" aria-label="{escape(f"{chart.title}: {chart.caption}")}">\n'
        f'{"".join(_plot(chart))}</svg>\n<ul class="keys">{keys}</ul>'
        f"<details><summary>The figures</summary>{table('', chart.columns, chart.rows)}</details>"
    )
    return _card(chart.name, chart.title, chart.caption, content)


def _plot(chart: Chart) -> Iterator[str]:
    slots, (top, step) = max(len(chart.days), LEAST_DAYS), scale(chart.highest, whole=chart.stacked)
    for index in range(round(top / step) + 1):
        y = _percent(1 - index * step / top)
        yield f'<line x2="100%" y1="{y}" y2="{y}"/>'
        yield f'<text class="value" x="-8" y="{y}">{_short(index * step)}</text>'
    for index in range(slots - 1, -1, -math.ceil(slots / MOST_DATES)):
        day = chart.days[0] + timedelta(days=index)
        yield f'<text class="date" x="{_percent((index + 0.5) / slots)}" y="100%">{day.day} {day:%b}</text>'
    if not chart.stacked:
        yield from _lines(chart, slots, top)
    for index, day in enumerate(chart.days):
        values = [(series, value) for series in chart.series if (value := series.values[index])]
        listed = ", ".join(f"{series.name} {value:,.{chart.digits}f}" for series, value in values)
        yield f"<g><title>{day.day} {day:%B}: {escape(listed or 'nothing')}</title>"
        yield f'<rect class="day" x="{_percent(index / slots)}" width="{_percent(1 / slots)}" height="100%"/>'
        yield from _bars(values, index, slots, top) if chart.stacked else ()
        yield "</g>\n"


def _bars(values: Iterable[tuple[Series, float]], index: int, slots: int, top: float) -> Iterator[str]:
    left, width, total = (index + (1 - WIDTH_OF_BARS) / 2) / slots, WIDTH_OF_BARS / slots, 0.0
    for series, value in values:
        total += value
        yield (
            f'<rect class="{series.colour}" x="{_percent(left)}" width="{_percent(width)}" '
            f'y="{_percent(1 - total / top)}" height="{_percent(value / top)}"/>'
        )


def _lines(chart: Chart, slots: int, top: float) -> Iterator[str]:
    for series in chart.series:
        known = [(index, value) for index, value in enumerate(series.values) if value is not None]
        points = [((index + 0.5) / slots, 1 - value / top) for index, value in known]
        path = " ".join(f"{100 * x:.5g},{100 * y:.5g}" for x, y in points)
        yield '<svg viewBox="0 0 100 100" preserveAspectRatio="none">'
        yield f'<polyline class="{series.colour}" points="{path}"/></svg>'
        if points and series.colour != DASHED:
            x, y = map(_percent, points[-1])
            yield f'<circle class="{series.colour}" cx="{x}" cy="{y}" r="3.5"/>'


def scale(highest: float, *, whole: bool) -> tuple[float, float]:
    """Return where an axis ends, and the step between its values; `whole`: without fractions."""
    least = highest / MOST_VALUES
    size = 10.0 ** math.floor(math.log10(least))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= least)
    step = math.ceil(step) if whole else step
    return math.ceil(highest / step) * step, step


def _short(value: float) -> str:
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if value >= 10 * size:
            return f"{value / size:g}{unit}"
    return f"{value:,g}"


def _percent(share: float) -> str:
    return f"{100 * share:.5g}%"

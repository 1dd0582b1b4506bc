"""The status and a run's summary as text, with small charts; the summary as JSON, too."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from connector.clock import plain
from connector.domain.budget import Balance
from connector.reporting.health import WHY_EXCLUDED, excluded, health, problems
from connector.reporting.status import Status, StreamStatus
from connector.state.hints import total
from connector.state.runs import PastRun
from connector.sync.forecast import FirstReads
from connector.text import Painted, counted, one_line, wrapped

if TYPE_CHECKING:
    from connector.sync.report import Difference
    from connector.sync.run import Outcome


@dataclass(frozen=True, slots=True)
class Signs:
    """What a terminal can show."""

    full: str
    empty: str
    line: str
    dash: str
    arrow: str
    dots: str


PLAIN = Signs("#", ".", "|", "-", "->", "...")
FINE = Signs("█", "░", "│", "–", "→", "…")


def bar(share: float, line: float | None, width: int, signs: Signs) -> str:
    """Return `[#####|....]` with `width` signs inside: filled up to `share`, a line at `line` (0 to 1)."""
    filled = _cell_of(share, width + 1)
    # At least one cell for the spent requests, and for the left ones.
    filled = min(max(filled, share > 0), width - (share < 1))
    cells = [signs.full] * filled + [signs.empty] * (width - filled)
    if line is not None:
        cells[_cell_of(line, width)] = signs.line
    return f"[{''.join(cells)}]"


def _cell_of(share: float, cells: int) -> int:
    return min(int(max(share, 0.0) * cells), cells - 1)


OUTCOMES = {
    "done": (".", "done"),
    "stopped": ("s", "stopped early"),
    "interrupted": ("^", "interrupted by a signal"),
    "incomplete": ("i", "incomplete"),
    "failed": ("!", "failed"),
}
UNDER_WAY, KILLED = (">", "under way"), ("x", "killed")


def sign_of(run: PastRun, *, under_way: bool) -> tuple[str, str]:
    """Return a letter for how a run ended, and its meaning."""
    if run.finished_at is None:
        return UNDER_WAY if under_way else KILLED
    return OUTCOMES.get(run.outcome or "", OUTCOMES["failed"])


def work_of(command: str) -> str:
    """Return the kind of work (see `leases`) that a run of this command does."""
    return "backfill" if command == "backfill" else "sync"


def strip(runs: Sequence[PastRun], under_way: Iterable[str]) -> tuple[str, str]:
    """Return the runs (newest first) as one letter each, oldest first, and what the letters mean."""
    left, signs = set(under_way), []
    for run in runs:
        work = work_of(run.command)
        signs.append(sign_of(run, under_way=work in left))
        left.discard(work)
    letters = "".join(letter for letter, _ in reversed(signs))
    known = [*OUTCOMES.values(), UNDER_WAY, KILLED]
    return letters, ", ".join(f"{letter} {means}" for letter, means in known if (letter, means) in signs)


MINUTE, HOUR, DAY = 60, 3_600, 86_400


def span(length: timedelta | float) -> str:
    """Return a length of time in one unit: 40 s, 12 min, 26 h, 3 d."""
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    if seconds < 2 * MINUTE:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.0f} h" if seconds < 3 * DAY else f"{seconds / DAY:,.0f} d"


# On a narrower terminal, the lines of the table of streams would be wrapped.
NARROW = 72
BAR = 40
COLOURS = {"ok": "32", "warning": "33", "error": "31"}


@dataclass(frozen=True, slots=True)
class Screen:
    """What a terminal can show; without one, `width` is None and lines are not wrapped."""

    width: int | None = None
    fine: bool = False
    colour: bool = False

    @property
    def signs(self) -> Signs:
        return FINE if self.fine else PLAIN

    @property
    def narrow(self) -> bool:
        return self.width is not None and self.width < NARROW


def status_lines(status: Status, screen: Screen) -> list[str]:
    """Return the status on one screen, wrapped to the terminal's width."""
    lines = list(_head(status, screen))
    if status.damaged:
        lines += [status.damaged.what, f"  → {status.damaged.todo}"]
    if status.identity is not None and status.balance is not None:
        lines += [*_problems(status), *_newest(status), *_budget(status, status.balance, screen)]
        lines += [*_runs(status, screen), *_waiting(status)]
        lines += _blocks(status) if screen.narrow else _table(status)
    return [part for line in lines for part in fitted(line, screen)]


def finding_lines(grade: str, text: str, todo: str, screen: Screen) -> list[str]:
    """Return the lines of one finding of `check`: how bad it is, what it is, and what to do."""
    lines = fitted(f"{grade:8}{text}", screen, indent=8)
    if screen.colour:
        lines[0] = Painted(f"\033[{COLOURS[grade]}m{lines[0][:8]}\033[0m{lines[0][8:]}")
    return lines + (fitted(f"        → {todo}", screen, indent=10) if todo else [])


def _head(status: Status, screen: Screen) -> Iterator[str]:
    word, _ = health(status)
    text, kind = word.word.upper() if word.grade == "error" else word.word, str
    if screen.colour:
        text, kind = f"\033[1;{COLOURS[word.grade]}m{text}\033[0m", Painted
    name = one_line(status.name)
    if status.identity is None:
        yield f"Connection '{name}' – {status.limit_text}"
        yield kind(f"  {text}")
        yield "  Run `beamer-segment sync`. Has one run? `beamer-segment check --offline` names the database."
    else:
        yield kind(f"Connection '{name}': {text}")
        yield f"  {status.limit_text}"


def _problems(status: Status) -> Iterator[str]:
    worst_first = problems(status)
    for index, problem in enumerate(worst_first):
        yield f"  {'!' if problem.word else '-'} {problem.found}"
        if not index and problem.word:
            yield f"    → {problem.todo}"
    if len(worst_first) > 1:
        yield "  What to do about each problem: `beamer-segment check` (--offline sends no request)."


def _newest(status: Status) -> Iterator[str]:
    newest = status.newest
    if newest and newest.newest:
        late = f", read {span(newest.delay)} after it appeared" if newest.delay is not None else ""
        where = "delivered" if not status.messages_waiting else "read"
        yield f"  newest row {where}: {_when(newest.newest)} UTC ({newest.name}){late}"


def _budget(status: Status, balance: Balance, screen: Screen) -> Iterator[str]:
    if status.usable:
        used = balance.used + balance.assumed
        width = BAR if screen.width is None else max(10, min(BAR, screen.width - 12))
        picture = bar(used / status.usable, status.even, width, screen.signs)
        even = round((status.even or 0.0) * status.usable)
        yield f"  quota {picture}"
        yield (
            f"        {used:,} of {counted(status.usable, 'request')} used ({used / status.usable:.0%}) "
            f"since {balance.since:%Y-%m-%d}; even pace: {even:,} ({screen.signs.line})"
        )
    first, *more = spending_lines(balance)
    for line in more if status.usable else (first, *more):
        yield f"  {line}"


def _runs(status: Status, screen: Screen) -> Iterator[str]:
    runs = status.runs if screen.width is None else status.runs[: max(10, screen.width - 10)]
    if runs:
        letters, legend = strip(runs, status.under_way)
        yield f"  runs  {letters}"
        yield f"        {legend}; last run: {_when(runs[0].started_at)} UTC"


def _waiting(status: Status) -> Iterator[str]:
    waiting = counted(status.messages_waiting, "message")
    yield f"  outbox: {waiting} waiting, {status.dead:,} refused by Segment"
    yield from _hints(status)
    for why, count in excluded(status).items():
        yield f"  {excluded_text(why, count)}"
    if status.identity and status.identity.ignore_filters is False:
        yield f"  {SEGMENTED}"
    for line in unread_lines(status.unread, status.read_by):
        yield f"  {line}"


def _hints(status: Status) -> Iterator[str]:
    if status.hints:
        hints = total(status.hints.values())
        last = _ago(hints.received_at, status.now)
        yield f"  hints: {hints.confirmed:,} of {hints.received:,} confirmed; the last one {last} ago"


def excluded_text(why: str, rows: int) -> str:
    """Return how many rows are excluded, and why."""
    return f"{counted(rows, 'row')} excluded: {WHY_EXCLUDED.get(why, why)}"


# --- the budget and what was not read, also for `quota` ---


def spending_lines(balance: Balance) -> Iterator[str]:
    """Yield the requests used, left this month and available now."""
    left = "no limit" if balance.left is None else f"{balance.left:,} left"
    yield f"requests used since {balance.since:%Y-%m-%d}: {balance.used:,}, {left}"
    if balance.level is not None and balance.per_day is not None:
        yield available_text(balance.level, balance.per_day)
    if balance.closed_until:
        yield f"requests are paused until {_when(balance.closed_until)} UTC after repeated 429 answers"
    elif balance.refused:
        yield "Beamer's last answer was 429: the next sync tries one request"


def available_text(level: float, per_day: float, *, reserved: bool = False) -> str:
    """Return the requests available now, whether they are `reserved`, and how many more come in a day."""
    why = ", kept for rows that wait longer" if reserved and level >= 1 else ""
    return f"Available now: {counted(max(0, int(level)), 'request')}{why}. About {per_day:,.0f} more per day."


def unread_lines(unread: FirstReads | None, by: datetime | None) -> Iterator[str]:
    """Yield the lists of the first checks that are not read yet, and when they will be."""
    if unread and unread.lists:
        lists = ", ".join(f"{name} {count:,}" for name, count in unread.lists.items())
        until = f"expected by {by:%Y-%m-%d}" if by else "date unknown"
        yield f"not yet read: {counted(sum(unread.lists.values()), 'list')} ({lists}); {until}"
    if unread and unread.discovering:
        yield f"not yet read to the end: {', '.join(unread.discovering)}; more lists may follow"


# --- the streams ---

COLUMNS = ("stream", "checked", "newest", "delay", "rows", "events", "waits", "bad")


def _cells(stream: StreamStatus, now: datetime) -> tuple[str, ...]:
    # Both are known when the stream's own list was read to its end.
    unknown = "–" if stream.counts.get("rows") else "never"
    return (
        stream.name,
        _ago(stream.checked_at, now) or unknown,
        _ago(stream.newest, now) or unknown,
        "" if stream.delay is None else span(stream.delay),
        f"{stream.counts.get('rows', 0):,}",
        f"{stream.counts.get('events', 0):,}",
        f"{stream.lists_waiting:,}",
        f"{sum(stream.quarantined.values()):,}",
    )


def _table(status: Status) -> Iterator[str]:
    rows: Sequence[tuple[str, ...]] = [COLUMNS, *(_cells(stream, status.now) for stream in status.streams)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(COLUMNS))]
    for row in rows:
        first, *rest = (
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join((first, *rest))


def _blocks(status: Status) -> Iterator[str]:
    for stream in status.streams:
        name, *cells = _cells(stream, status.now)
        text = ", ".join(f"{column} {cell}" for column, cell in zip(COLUMNS[1:], cells, strict=True) if cell)
        yield f"  {name}: {text}"


def _ago(moment: datetime | None, now: datetime) -> str:
    return span(now - moment) if moment else ""


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


# --- the width ---


def fitted(line: str, screen: Screen, indent: int | None = None) -> list[str]:
    """Wrap a line to the terminal's width; further lines are indented, by default two columns more."""
    if isinstance(line, Painted):
        return [line]
    line = one_line(line)
    if screen.width is None:
        return [line.rstrip()]
    if not screen.fine:
        line = line.replace("–", PLAIN.dash).replace("→", PLAIN.arrow).replace("…", PLAIN.dots)
    return [part.rstrip() for part in wrapped(line, screen.width, indent)]


# --- the summary of a run ---

MOST_DIFFERENCES = 20
SEGMENTED = (
    "Posts with a segmentation filter are invisible to this key: "
    "give it the permission 'Read posts (ignore filters)' in Beamer."
)


def summary_dict(name: str, outcome: "Outcome", balance: Balance, limit_text: str) -> dict[str, Any]:
    """Return one connection's part of the JSON summary of a run."""
    error = outcome.error
    return {
        "connection": name,
        "run": outcome.run,
        "exit": int(outcome.exit),
        **outcome.report.as_dict(),
        "requests_used": balance.used,
        "requests_left": balance.left,
        "limit": limit_text,
        "requests_again_at": plain(balance.again),
        "closed_until": plain(balance.closed_until),
        "error": error and error.as_dict(),
    }


def summary_lines(name: str, outcome: "Outcome", balance: Balance, limit_text: str) -> list[str]:
    """Return a run's summary for people: one line, and one more for each thing worth mentioning."""
    report, left = outcome.report, "no limit" if balance.left is None else f"{balance.left:,} left"
    summary = [
        f"{name}: {counted(report.new.total(), 'new row')}, {report.sent:,} sent, "
        f"{report.waiting:,} waiting; {counted(report.requests_spent, 'request')}, {left}",
        f"  {limit_text}",
    ]
    if balance.level is not None and balance.per_day is not None:
        reserved = report.price is not None and not report.stopped
        summary.append(f"  {available_text(balance.level, balance.per_day, reserved=reserved)}")
    if report.new:
        summary.append("  new: " + listed(report.new))
    if report.audited:
        missing = (
            f"{counted(report.missing.total(), 'missing row')}, sent now"
            if report.missing
            else "none missing"
        )
        summary.append(f"  audited: {listed(report.audited)} – {missing}")
    summary += [f"  {excluded_text(why, count)}" for why, count in report.excluded.items()]
    if report.quarantined:
        summary.append(f"  quarantined: {listed(report.quarantined)} (kept for 30 days)")
    if report.refused:
        summary.append(f"  refused by Segment: {report.refused:,} – see `beamer-segment outbox list --dead`")
    if report.possible_doubles:
        summary.append(
            f"  possible duplicates: {counted(report.possible_doubles, 'message')} sent again over 20 hours "
            "after the first try; Segment may not drop duplicates that late"
        )
    if report.segmented_hidden:
        summary.append(f"  {SEGMENTED}")
    if report.skipped_parents:
        summary.append(
            f"  skipped: {counted(report.skipped_parents, 'list')} of deleted posts or feature requests"
        )
    summary += [f"  not read: {trouble}" for trouble in report.troubles]
    summary += [f"  {_differs(difference)}" for difference in report.differences[:MOST_DIFFERENCES]]
    if (more := len(report.differences) - MOST_DIFFERENCES) > 0:
        summary.append(f"  and {counted(more, 'more list')} with a difference; --output json lists all")
    if report.stopped:
        again = f" – again from {report.next_try:%Y-%m-%d %H:%M} UTC" if report.next_try else ""
        summary.append(f"  stopped early: {report.stopped.rstrip('.')}{again}")
    return summary


def _differs(difference: "Difference") -> str:
    where = f"{difference.stream} of {difference.parent}" if difference.parent else difference.stream
    due = "rows" if difference.expected is None else f"{difference.expected:,}"
    text = f"differs: {where}: {due} expected"
    if difference.found is None:
        return f"{text}; Beamer shows the parent, but answers 404 to the list"
    later = "; the same number an hour later, so the others count as deleted" if difference.settled else ""
    return f"{text}, {difference.found:,} found{later}"


def listed(counts: Mapping[str, int]) -> str:
    """Return counts by name, such as `posts 3, nps 12`."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())

"""The status as text, with small charts."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from connector.reporting.health import health, problems
from connector.reporting.status import Status, StreamStatus
from connector.reporting.summary import SEGMENTED, WHY_HELD
from connector.state.ledger import Balance
from connector.state.queries import PastRun
from connector.sync.forecast import FirstReads
from connector.terminal import Painted, one_line


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
    """`[#####|....]`, `width` signs inside: filled as far as `share`, a line at `line`; both from 0 to 1."""
    filled = _cell_of(share, width + 1)
    # Whatever is spent shows, and so does whatever is left.
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
    """One letter for how a run ended, and what it means."""
    if run.finished_at is None:
        return UNDER_WAY if under_way else KILLED
    return OUTCOMES.get(run.outcome or "", OUTCOMES["failed"])


def work_of(command: str) -> str:
    """The kind of work (see `leases`) that a run of this command does."""
    return "backfill" if command == "backfill" else "sync"


def strip(runs: Sequence[PastRun], under_way: Iterable[str]) -> tuple[str, str]:
    """Return the runs, given newest first, as one letter each, oldest first, and what the letters mean."""
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
    """How long, in one unit: 40 s, 12 min, 26 h, 3 d."""
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    if seconds < 2 * MINUTE:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.0f} h" if seconds < 3 * DAY else f"{seconds / DAY:,.0f} d"


# Narrower than this, a table of streams would be torn.
NARROW = 72
BAR = 40
COLOURS = {"ok": "32", "warning": "33", "error": "31"}


@dataclass(frozen=True, slots=True)
class Screen:
    """What a terminal can show; `width` is None where there is none: lines are as long as they are."""

    width: int | None = None
    fine: bool = False
    colour: bool = False

    @property
    def signs(self) -> Signs:
        return FINE if self.fine else PLAIN

    @property
    def narrow(self) -> bool:
        return self.width is not None and self.width < NARROW


def lines(status: Status, screen: Screen) -> list[str]:
    """All of it, wrapped to the terminal's width."""
    found = list(_head(status, screen))
    if status.damaged:
        found += [status.damaged.what, f"  → {status.damaged.todo}"]
    if status.identity is not None and status.balance is not None:
        found += [*_troubles(status), *_delivered(status), *_budget(status, status.balance, screen)]
        found += [*_runs(status, screen), *_waiting(status)]
        found += _blocks(status) if screen.narrow else _table(status)
    return [line for each in found for line in fitted(each, screen)]


def finding_lines(grade: str, found: str, todo: str, screen: Screen) -> list[str]:
    """One finding of `check`: how bad it is, what it is, and what to do."""
    shown = fitted(f"{grade:8}{found}", screen, indent=8)
    if screen.colour:
        shown[0] = Painted(f"\033[{COLOURS[grade]}m{shown[0][:8]}\033[0m{shown[0][8:]}")
    return shown + (fitted(f"        → {todo}", screen, indent=10) if todo else [])


def _head(status: Status, screen: Screen) -> Iterator[str]:
    word, _ = health(status)
    shown, kind = word.word.upper() if word.grade == "error" else word.word, str
    if screen.colour:
        shown, kind = f"\033[1;{COLOURS[word.grade]}m{shown}\033[0m", Painted
    name = one_line(status.name)
    if status.identity is None:
        # Before the first run there is nothing else to say.
        yield f"Connection '{name}' – {status.limit_text}"
        yield kind(f"  {shown}")
    else:
        yield kind(f"Connection '{name}': {shown}")
        yield f"  {status.limit_text}"


def _troubles(status: Status) -> Iterator[str]:
    found = problems(status)
    for index, each in enumerate(found):
        yield f"  {'!' if each.word else '-'} {each.found}"
        if not index and each.word:
            yield f"    → {each.todo}"
    if len(found) > 1:
        yield "  What to do about each problem: `beamer-segment check` (--offline sends no request)."


def _delivered(status: Status) -> Iterator[str]:
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
            f"        {used:,} of {status.usable:,} requests used ({used / status.usable:.0%}) since "
            f"{balance.since:%Y-%m-%d}; even pace: {even:,} ({screen.signs.line})"
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
    yield f"  outbox: {status.messages_waiting:,} messages waiting, {status.dead:,} refused by Segment"
    for why, count in status.held.items():
        yield f"  excluded: {count:,} rows – {WHY_HELD[why]}"
    if status.identity and status.identity.ignore_filters is False:
        yield f"  {SEGMENTED}"
    for line in unread_lines(status.unread, status.read_by):
        yield f"  {line}"


# --- the budget and what was not read, which `quota` says, too ----------------------------------------------


def spending_lines(balance: Balance) -> Iterator[str]:
    """Yield the requests used, left this month and available now."""
    left = "no limit" if balance.left is None else f"{balance.left:,} left"
    yield f"requests used since {balance.since:%Y-%m-%d}: {balance.used:,}, {left}"
    if balance.level is not None and balance.per_day is not None:
        yield f"available now: {int(balance.level):,} requests, about {balance.per_day:,.0f} more per day"
    if balance.closed_until:
        yield f"requests are paused until {_when(balance.closed_until)} UTC after repeated 429 answers"
    elif balance.refused:
        yield "Beamer's last answer was 429: the next sync tries one request"


def unread_lines(unread: FirstReads | None, by: datetime | None) -> Iterator[str]:
    """Yield the lists of the first checks that are not read yet, and when they will be."""
    if unread and unread.lists:
        lists = ", ".join(f"{name} {count:,}" for name, count in unread.lists.items())
        until = f"expected by {by:%Y-%m-%d}" if by else "date unknown"
        yield f"not yet read: {sum(unread.lists.values()):,} lists ({lists}); {until}"
    if unread and unread.discovering:
        yield f"not yet read to the end: {', '.join(unread.discovering)}; more lists may follow"


# --- the streams --------------------------------------------------------------------------------------------

COLUMNS = ("stream", "checked", "newest", "delay", "rows", "events", "waits", "bad")


def _cells(stream: StreamStatus, now: datetime) -> tuple[str, ...]:
    """Ages, so that they can be read at a glance; the dates are in the JSON."""
    return (
        stream.name,
        _ago(stream.checked_at, now),
        _ago(stream.newest, now),
        "" if stream.delay is None else span(stream.delay),
        f"{stream.counts.get('rows', 0):,}",
        f"{stream.counts.get('events', 0):,}",
        f"{stream.lists_waiting:,}",
        f"{sum(stream.quarantined.values()):,}",
    )


def _table(status: Status) -> Iterator[str]:
    rows: Sequence[tuple[str, ...]] = [COLUMNS, *(_cells(each, status.now) for each in status.streams)]
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
        text = ", ".join(f"{what} {cell}" for what, cell in zip(COLUMNS[1:], cells, strict=True) if cell)
        yield f"  {name}: {text}"


def _ago(moment: datetime | None, now: datetime) -> str:
    return span(now - moment) if moment else "never"


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


# --- what fits ----------------------------------------------------------------------------------------------


def fitted(line: str, screen: Screen, indent: int | None = None) -> list[str]:
    """A line cut to the terminal's width; what goes on is indented, by default a little deeper."""
    if isinstance(line, Painted):
        return [line]
    line = one_line(line)
    if screen.width is None:
        return [line.rstrip()]
    if not screen.fine:
        line = line.replace("–", PLAIN.dash).replace("→", PLAIN.arrow).replace("…", PLAIN.dots)
    if len(line) <= screen.width:
        return [line.rstrip()]
    body = line.lstrip(" ")
    margin = len(line) - len(body)
    deeper = " " * min(margin + 2 if indent is None else indent, screen.width // 3)
    return textwrap.wrap(
        body,
        screen.width,
        initial_indent=" " * margin,
        subsequent_indent=deeper,
        break_on_hyphens=False,
        drop_whitespace=True,
    )

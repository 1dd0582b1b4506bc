"""Blocks of parents, and the requests that check their counters; the parts of a list that failed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from operator import itemgetter

from connector.beamer.pagination import CLEAR, Cursor, Habits, Order, PageRows, PageRules, next_page
from connector.domain.period import SECOND, within

# The first failure may be chance; from the second on, the part is cut in two by date.
CUT_FROM = 2
# Under a monthly limit, a part that lasts no longer is made smaller ever more rarely.
SMALL, MOST_WHILE_LARGE = timedelta(minutes=20), 6
FIRST_WAIT, LONGEST_WAIT = timedelta(hours=1), timedelta(days=7)
# Nothing is gained by cutting less than this: bounds are to the second, and each is asked a second wider.
NARROW = timedelta(seconds=6)
# How far below the newest row of a part it is cut first, where the pages before it tell nothing.
FIRST_STEP = timedelta(hours=1)
STEP_GROWS = 4
# More parts than that are not kept: neighbours become one again.
MOST_PARTS = 40


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a list that is still to be read.

    `low`: rows older than this are not looked for. `failures` in a row, the last one at `failed_at`. `step`:
    the next cut is made so many seconds below the newest row, or in the middle without it.
    """

    cursor: Cursor
    low: datetime | None = None
    failures: int = 0
    failed_at: datetime | None = None
    step: float | None = None

    def ready(self, now: datetime) -> bool:
        """Return whether it is not left alone for now."""
        # A clock that was set back must not make anything rest for longer.
        at = self.failed_at
        return at is None or not at <= now < at + wait_after(self.failures)


def wait_after(failures: int) -> timedelta:
    """Return how long to leave alone a part that has failed so many times in a row."""
    if failures < CUT_FROM:
        return timedelta(0)
    return min(LONGEST_WAIT, FIRST_WAIT * (1 << min(failures - CUT_FROM, 10)))


def in_order(parts: Iterable[Part], now: datetime) -> tuple[Part, ...]:
    """Return the parts in the order in which they are read: those left alone last, then the least failed."""
    return tuple(sorted(parts, key=lambda part: (not part.ready(now), part.failures, _newest_first(part))))


def _newest_first(part: Part) -> float:
    return -part.cursor.until.timestamp() if part.cursor.until else float("-inf")


def edge(parts: Iterable[Part]) -> datetime | None:
    """Return the newest date that lies in one of the parts."""
    return max((part.cursor.until for part in parts if part.cursor.until), default=None)


def failed(part: Part, now: datetime, floor: datetime, *, patient: bool) -> tuple[Part, ...]:
    """Return what takes the place of a part that failed once more.

    `floor`: nothing older is of interest. `patient`: requests are limited, so that the newer half, which most
    likely fails, too, is left alone for a while.
    """
    until = part.cursor.until or now + SECOND
    part = replace(part, failures=part.failures + 1, failed_at=now, cursor=replace(part.cursor, until=until))
    if part.failures < CUT_FROM or part.cursor.behind_short:
        return (part,)
    since = part.cursor.since or min(floor, until - 2 * FIRST_STEP)
    if until - since <= NARROW:
        return (part,)
    middle = since + (until - since) / 2
    # It grows without end, and dates do not.
    step = None if part.step is None else min(part.step, (until - since).total_seconds())
    if step is not None:
        middle = max(middle, until - timedelta(seconds=step))
    middle = middle.replace(microsecond=0)
    # Under a limit the waits grow from cut to cut, up to a day's while a part may hold many rows.
    failures = CUT_FROM - 1
    if patient:
        failures = min(part.failures, MOST_WHILE_LARGE) if until - since > SMALL else part.failures
    newer = Part(Cursor(middle - SECOND, until), middle, failures, now if patient else None)
    older = replace(
        part,
        failures=failures,
        cursor=Cursor(part.cursor.since, middle + SECOND),
        failed_at=None,
        step=None if step is None else step * STEP_GROWS,
    )
    return newer, older


def grown(part: Part, now: datetime) -> Part:
    """Return a part with the newest rows, which fail like those in it.

    Most likely all of the list does. It is not cut for that: nothing tells where it fails, and each half
    would cost a request when the list is back. Nor does it wait long then.
    """
    cursor = Cursor(part.cursor.since, now + SECOND)
    return replace(part, cursor=cursor, failures=min(part.failures, CUT_FROM), failed_at=now)


def joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return the parts, neighbours made one where there are too many: outages must not pile them up."""
    newest_first = sorted(parts, key=_newest_first)
    while len(newest_first) > MOST_PARTS:
        newer, older = newest_first[-2], newest_first[-1]
        cursor = Cursor(older.cursor.since, newer.cursor.until)
        newest_first[-2:] = [replace(newer, cursor=cursor, low=older.low, step=None)]
    return tuple(newest_first)


SIZE = 10
# Far enough below a block's oldest row that a window asked a second wider does not show it.
MARGIN = 2 * SECOND


@dataclass(frozen=True, slots=True)
class Block:
    """A half-open window of dates, open towards the past or the future where one is None.

    `members` are the parents known in it, oldest first; `also` are members of the next block, which this one
    shows, too, because a page has room for them.
    """

    since: datetime | None
    until: datetime | None
    members: tuple[str, ...]
    also: tuple[str, ...] = ()

    def covers(self, date: datetime) -> bool:
        return within(date, self.since, self.until)


def cut(parents: Iterable[tuple[datetime, str]], size: int = SIZE) -> list[Block]:
    """Cut parents into blocks, newest block first.

    Cut from the oldest, so that a new parent falls into a block that is not full and costs no page of
    its own. Parents of one second are never parted: no date lies between them.
    """
    groups: list[list[tuple[datetime, str]]] = [[]]
    ties = [list(tied) for _, tied in groupby(sorted(parents), key=itemgetter(0))]
    for together in ties:
        if groups[-1] and len(groups[-1]) + len(together) > size:
            groups.append([])
        groups[-1].extend(together)
    bounds: list[datetime | None] = [None, *(_bound(a, b) for a, b in pairwise(groups)), None]
    blocks = [
        Block(bounds[i], bounds[i + 1], tuple(name for _, name in group)) for i, group in enumerate(groups)
    ]
    if len(blocks) > 1:
        blocks[-1] = _filled(blocks[-1], ties, size)
    return blocks[::-1]


def _filled(newest: Block, ties: Sequence[Sequence[tuple[datetime, str]]], size: int) -> Block:
    """Return the newest block with as many older parents as its page has room for, but for the oldest."""
    first, shown = len(ties), 0
    while first > 1 and shown + len(ties[first - 1]) <= max(size, len(newest.members)):
        first -= 1
        shown += len(ties[first])
    names = [name for tied in ties[first:] for _, name in tied]
    also = tuple(names[: -len(newest.members)])
    return replace(newest, since=_bound(ties[first - 1], ties[first]), also=also)


def _bound(older: Sequence[tuple[datetime, str]], newer: Sequence[tuple[datetime, str]]) -> datetime:
    """As close below the newer block's oldest row as it may be.

    On a full page, newest first, only what is as old as its last row can be hidden: whatever lies in
    the gap between two blocks must therefore fall into the older one, where it comes first.
    """
    older_date, newer_date = older[-1][0], newer[0][0]
    return max(older_date + SECOND, newer_date - MARGIN)


# Where a new row need not come before those that are known.
UNORDERED = (Order.NONE, Order.OLDEST)


@dataclass(frozen=True, slots=True)
class BlockCheck:
    """Where a check stands; `seen_ids` are the ids that its pages showed.

    `proving` reads the window to its end whatever the first page shows: when the list was never read to
    its far end, and from time to time to make sure. `part`: it reads again what failed before.
    `spans`: how many seconds lie between the first row of its last page and the last.
    """

    block: Block
    cursor: Cursor
    proving: bool
    seen_ids: frozenset[str] = frozenset()
    part: Part | None = None
    spans: float | None = None


@dataclass(frozen=True, slots=True)
class CheckStep:
    """What follows from a page: the check goes on, or is done (`next` is None)."""

    habits: Habits
    next: BlockCheck | None
    missing: frozenset[str] = frozenset()


def begin(block: Block, proving: bool) -> BlockCheck:
    return BlockCheck(block, Cursor.around(block.since, block.until), proving)


def again(part: Part, members: Iterable[tuple[datetime, str]]) -> BlockCheck:
    """Return the check at a part of the list that failed before; `members` are all parents that are known."""
    cursor = part.cursor
    inside = sorted(member for member in members if within(member[0], cursor.since, cursor.until))
    block = Block(cursor.since, cursor.until, tuple(name for _, name in inside))
    return BlockCheck(block, Cursor(cursor.since, cursor.until), proving=True, part=part)


def left_of(check: BlockCheck) -> Part:
    """Return what of a check's window its next page was to show, or the whole of it."""
    if check.part and not check.seen_ids:
        return check.part
    block, cursor = check.block, check.cursor
    shown = cursor.last_ids and not cursor.page
    since = cursor.since if shown and cursor.since else block.since
    until = cursor.until if shown and cursor.until else block.until
    return Part(Cursor(since, until), failures=check.part.failures if check.part else 0, step=check.spans)


def after_page(check: BlockCheck, page: PageRows, habits: Habits, cap: int) -> CheckStep:
    """Judge a page of parents.

    A page with more behind it proves its window only newest first with every member on it, and only down to
    its last row, which has to be known: what could hide behind it is older. A page that is not full proves it
    where such pages were seen to be the last, unless a known id is missing, or what is new may stand behind
    it: where rows are filtered after the page was cut, nine of ten known ones make a short page, too.
    """
    turned = next_page(check.cursor, page, habits, PageRules(cap, by_date=True))
    cap = turned.habits.full(cap)
    if turned.next is not None and turned.repeat:
        return CheckStep(turned.habits, replace(check, cursor=turned.next))
    spans = abs((page.dates[0] - page.dates[-1]).total_seconds()) if page.dates else 0.0
    check = replace(check, seen_ids=check.seen_ids | set(page.ids), spans=spans or check.spans)
    missing = frozenset(check.block.members) - check.seen_ids
    first = check.cursor.page == 0 and not check.cursor.last_ids
    more = page.count == cap or habits.short_ends is False
    if first and more and not check.proving and not missing and _proves(check, page, habits, cap):
        return CheckStep(turned.habits, None)
    # Of a window that was empty no known row can be missing.
    behind = check.proving or not check.block.members or turned.habits.order in UNORDERED
    if turned.next is None and first and (missing or (page.count and behind)):
        cursor = replace(check.cursor, page=1, last_ids=page.ids, behind_short=True)
        return CheckStep(turned.habits, replace(check, cursor=cursor))
    if turned.next is None:
        return CheckStep(turned.habits, None, missing)
    return CheckStep(turned.habits, replace(check, cursor=turned.next))


def may_be_over(check: BlockCheck) -> bool:
    """Return whether the page that is asked next may lie behind the last one, by its number."""
    if not check.cursor.page or check.cursor.behind_short:
        return check.cursor.page > 0
    return check.seen_ids.issuperset(check.block.members)


def _proves(check: BlockCheck, page: PageRows, habits: Habits, cap: int) -> bool:
    alone = page.count < min(2, cap)
    known = habits.order is Order.NEWEST
    # Elsewhere a few rows may be in order by chance.
    clear = known or len(set(page.dates)) >= CLEAR
    ordered = (page.order is Order.NEWEST and clear) or (alone and known)
    shown = {*check.block.members, *check.block.also}
    return ordered and bool(page.ids) and page.ids[-1] in shown

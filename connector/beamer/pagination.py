"""Paging through a list: where a page ends, what its order shows, whether it is the last one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise

from connector.clock import SECOND
from connector.errors import BadAnswer

# So many different dates on a page of ten stand in order by chance once in 720 pages, or less often.
CLEAR = 4


class Order(StrEnum):
    """The order of dates on a page; UNKNOWN where it shows fewer than two."""

    UNKNOWN = "unknown"
    NEWEST = "newest"
    OLDEST = "oldest"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Habits:
    """How this account's lists were seen to answer; None where it was not seen yet.

    `page_rows`: how many rows a full page holds, where that was seen to be fewer than the reference says.
    """

    order: Order = Order.UNKNOWN
    first_page: int | None = None
    short_ends: bool | None = None
    page_rows: int | None = None

    def full(self, cap: int) -> int:
        """Return how many rows a full page holds, of `cap` by the reference."""
        return min(cap, self.page_rows or cap)

    @property
    def second_page(self) -> int:
        """The number of the page behind the first; 1 until it was seen to be the first once more."""
        return 2 if self.first_page == 1 else 1


def order_of(dates: Sequence[datetime]) -> Order:
    if len(set(dates)) < 2:
        return Order.UNKNOWN
    pairs = list(pairwise(dates))
    if all(a >= b for a, b in pairs):
        return Order.NEWEST
    if all(a <= b for a, b in pairs):
        return Order.OLDEST
    return Order.NONE


def clear_order(dates: Sequence[datetime]) -> Order:
    """The order of dates where chance can hardly have made it, else UNKNOWN."""
    return order_of(dates) if len(set(dates)) >= CLEAR else Order.UNKNOWN


def with_order(habits: Habits, seen: Order) -> Habits:
    """Two rows stand in some order by chance, so one page out of order outweighs all that were in order."""
    if seen in (Order.UNKNOWN, habits.order) or habits.order is Order.NONE:
        return habits
    return replace(habits, order=seen if habits.order is Order.UNKNOWN else Order.NONE)


def with_short_end(habits: Habits, *, ended: bool) -> Habits:
    """One row behind a short page outweighs all short pages that had nothing behind them."""
    return habits if habits.short_ends is False else replace(habits, short_ends=ended)


def with_page_rows(habits: Habits, count: int, before: int | None, cap: int) -> Habits:
    """Learn how many rows a page holds; `before` is how many a short page held that others stood behind.

    A larger page than the largest one lately seen outweighs that.
    """
    if before and count <= before < habits.full(cap):
        return replace(habits, page_rows=before)
    if habits.page_rows is not None and count > habits.page_rows:
        return replace(habits, page_rows=count if count < cap else None)
    return habits


def with_first_page(habits: Habits, first: int) -> Habits:
    return replace(habits, first_page=first) if habits.first_page is None else habits


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reading stands: the next request's window and page, and what the page before held.

    `page` is the number that is asked for; 0 is asked without one. `behind_short` marks a request that
    only looks behind a page that was not full. `again` counts how often the page before was shown again.
    """

    since: datetime | None = None
    until: datetime | None = None
    page: int = 0
    last: tuple[str, ...] = ()
    behind_short: bool = False
    empty: int = 0
    again: int = 0

    @classmethod
    def around(cls, since: datetime | None, until: datetime | None = None) -> "Cursor":
        """The first page of a range, asked a second wider: `dateFrom` and `dateTo` may be exclusive."""
        return cls(since and since - SECOND, until and until + SECOND)


def numbered(cursor: Cursor, habits: Habits) -> Cursor:
    """A cursor kept from before it was known that page 1 is the first goes on behind it."""
    return replace(cursor, page=habits.second_page) if cursor.page == 1 else cursor


def params_of(cursor: Cursor, habits: Habits, cap: int) -> dict[str, str]:
    """The query parameters that ask for a cursor; `page` is left out for the first page."""
    params = {"maxResults": str(cap)}
    if cursor.since:
        params["dateFrom"] = iso(cursor.since)
    if cursor.until:
        params["dateTo"] = iso(cursor.until)
    if cursor.page:
        params["page"] = str(numbered(cursor, habits).page)
    return params


def iso(moment: datetime) -> str:
    """A date as the reference writes it, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# Where rows are filtered after a page is cut, an empty page may stand in the middle of a list.
EMPTY_PAGES_THAT_END = 3
# So often a page may come again before the list counts as one that has no other.
MOST_REPEATS = 3


@dataclass(frozen=True, slots=True)
class PageRows:
    """A page as paging sees it: one entry per raw row, usable or not."""

    ids: tuple[str, ...]
    dates: tuple[datetime, ...]
    count: int

    @property
    def order(self) -> Order:
        return order_of(self.dates)


@dataclass(frozen=True, slots=True)
class PageRules:
    """How to read on: `cap` rows a page; by date each page overlaps the one before by a known row."""

    cap: int
    by_date: bool


@dataclass(frozen=True, slots=True)
class NextPage:
    """What follows from a page: the next cursor, or None at the end of the list.

    `repeat` says that the page was the one before it once more and that its rows do not count.
    """

    habits: Habits
    next: Cursor | None
    repeat: bool = False


def next_page(cursor: Cursor, page: PageRows, habits: Habits, rules: PageRules) -> NextPage:
    """Judge one page on its raw rows.

    Raises BadAnswer when the list keeps showing one page.
    """
    cursor = numbered(cursor, habits)
    if page.count and page.ids == cursor.last:
        return NextPage(habits, _past_repeat(cursor, page, habits, rules), repeat=True)
    learnt = _learnt(cursor, page, habits, rules.cap)
    if page.count >= learnt.full(rules.cap):
        return NextPage(
            learnt, _by_date(cursor, page, learnt) if rules.by_date else _next_number(cursor, page, learnt)
        )
    return _after_short(cursor, page, learnt)


def _past_repeat(cursor: Cursor, page: PageRows, habits: Habits, rules: PageRules) -> Cursor:
    """Go past a page that comes twice: counting starts at 1, or a whole page of rows came in between.

    Which of the two, the first page tells when it is asked once more. It matters: a wrong 1 would skip
    the second page of every list without a sign.
    """
    if cursor.page == 0 and cursor.again == 1:
        return replace(cursor, page=2, again=2)
    if cursor.page == 0 or cursor.again >= MOST_REPEATS:
        raise BadAnswer("a page repeats the page before it")
    if cursor.page == 1 and habits.first_page is None and page.count >= rules.cap:
        return replace(cursor, page=0, again=1)
    return replace(cursor, page=cursor.page + 1, again=cursor.again + 1)


def _learnt(cursor: Cursor, page: PageRows, habits: Habits, cap: int) -> Habits:
    learnt = with_order(habits, page.order)
    behind = cursor.behind_short and page.count and not cursor.empty
    learnt = with_page_rows(learnt, page.count, len(cursor.last) if behind else None, cap)
    if cursor.behind_short:
        learnt = with_short_end(learnt, ended=page.count == 0)
    if cursor.page == 1 and cursor.last and not set(page.ids) & set(cursor.last):
        return with_first_page(learnt, 0)
    if cursor.page == 2 and cursor.again == 2 and page.count:
        return with_first_page(learnt, 1)
    return learnt


def _after_short(cursor: Cursor, page: PageRows, habits: Habits) -> NextPage:
    empty = cursor.empty + 1 if page.count == 0 else 0
    if habits.short_ends is True or empty >= EMPTY_PAGES_THAT_END:
        return NextPage(habits, None)
    return NextPage(habits, replace(_next_number(cursor, page, habits), behind_short=True, empty=empty))


def _next_number(cursor: Cursor, page: PageRows, habits: Habits) -> Cursor:
    number = cursor.page + 1 if cursor.page else habits.second_page
    return Cursor(cursor.since, cursor.until, number, page.ids)


def _by_date(cursor: Cursor, page: PageRows, habits: Habits) -> Cursor:
    """Go on by date, a second wider than the last row, as far as that gets anywhere.

    Deletions shift pages but not dates, so a row cannot slip past. Where a whole page shares a second, or
    the list may have no order, there is no way on by date, and the next page is asked for by number.
    """
    order = Order.NONE if habits.order is Order.NONE else clear_order(page.dates)
    if order is Order.NEWEST and (bound := page.dates[-1] + SECOND) < page.dates[0]:
        return Cursor(cursor.since, bound, last=page.ids)
    if order is Order.OLDEST and (bound := page.dates[-1] - SECOND) > page.dates[0]:
        return Cursor(bound, cursor.until, last=page.ids)
    return _next_number(cursor, page, habits)

"""Paging through a list: a page's request, the order of its rows, and whether it is the last page.

It loads no HTTP library, because planning, and commands such as `status`, do not need one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Any

from connector.domain.period import SECOND
from connector.errors import BadAnswer


@dataclass(frozen=True, slots=True)
class BeamerRequest:
    """One GET request: a path below the API's base, and its query."""

    path: str
    params: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """Parsed JSON, and the time of Beamer's clock (the Date header), if known."""

    body: Any = field(repr=False)
    date: datetime | None


# So many different dates on a page of ten are in order by chance once in 720 pages, or less often.
CLEAR = 4


class Order(StrEnum):
    """The order of dates on a page; UNKNOWN with fewer than two different dates."""

    UNKNOWN = "unknown"
    NEWEST = "newest"
    OLDEST = "oldest"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Habits:
    """What was learned about an account's lists; None if it was not seen yet.

    `page_rows`: the number of rows of a full page, if that is fewer than the reference says.
    """

    order: Order = Order.UNKNOWN
    first_page: int | None = None
    short_ends: bool | None = None
    page_rows: int | None = None

    def full(self, cap: int) -> int:
        """Return the number of rows of a full page; `cap` is the reference's."""
        return min(cap, self.page_rows or cap)

    @property
    def second_page(self) -> int:
        """Return the number of the page after the first: 1, unless that was seen to be the first again."""
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


def with_order(habits: Habits, seen: Order) -> Habits:
    """Learn the order; one page out of order outweighs all others: two rows are in order by chance."""
    if seen in (Order.UNKNOWN, habits.order) or habits.order is Order.NONE:
        return habits
    return replace(habits, order=seen if habits.order is Order.UNKNOWN else Order.NONE)


def with_page_rows(habits: Habits, count: int, before: int | None, cap: int) -> Habits:
    """Learn the number of rows of a page; `before` is that of a short page with others after it.

    A page larger than the largest recent one outweighs that.
    """
    if before and count <= before < habits.full(cap):
        return replace(habits, page_rows=before)
    if habits.page_rows is not None and count > habits.page_rows:
        return replace(habits, page_rows=count if count < cap else None)
    return habits


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where reading continues: the next request's dates and page, and the ids of the page before.

    `page` is the requested number; 0 is requested without a number. `behind_short` marks a request after a
    page that was not full. `repeated` counts how often the page before was shown again.
    """

    since: datetime | None = None
    until: datetime | None = None
    page: int = 0
    last_ids: tuple[str, ...] = ()
    behind_short: bool = False
    empty_pages: int = 0
    repeated: int = 0

    @classmethod
    def around(cls, since: datetime | None, until: datetime | None = None) -> "Cursor":
        """Return the first page of a range, a second wider: `dateFrom` and `dateTo` may be exclusive."""
        return cls(since and since - SECOND, until and until + SECOND)


def numbered(cursor: Cursor, habits: Habits) -> Cursor:
    """Correct a cursor stored before it was known that page 1 is the first page."""
    return replace(cursor, page=habits.second_page) if cursor.page == 1 else cursor


def params_of(cursor: Cursor, habits: Habits, cap: int) -> dict[str, str]:
    """Return the query parameters of a cursor; `page` is left out for the first page."""
    params = {"maxResults": str(cap)}
    if cursor.since:
        params["dateFrom"] = iso(cursor.since)
    if cursor.until:
        params["dateTo"] = iso(cursor.until)
    if cursor.page:
        params["page"] = str(numbered(cursor, habits).page)
    return params


def iso(moment: datetime) -> str:
    """Format a date as in the API reference, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# If rows are filtered after a page is cut, an empty page may be in the middle of a list.
EMPTY_PAGES_THAT_END = 3
# How often a page may be repeated before the list counts as a list without other pages.
MOST_REPEATS = 3


@dataclass(frozen=True, slots=True)
class PageRows:
    """A page with one entry per raw row, usable or not."""

    ids: tuple[str, ...]
    dates: tuple[datetime, ...]
    count: int

    @property
    def order(self) -> Order:
        return order_of(self.dates)


@dataclass(frozen=True, slots=True)
class PageRules:
    """How to continue: `cap` rows a page; by date, each page overlaps the page before by a known row."""

    cap: int
    by_date: bool


@dataclass(frozen=True, slots=True)
class NextPage:
    """What follows from a page: the next cursor, or None at the end of the list.

    `repeat`: the page was the page before it again; its rows do not count.
    """

    habits: Habits
    next: Cursor | None
    repeat: bool = False


def next_page(cursor: Cursor, page: PageRows, habits: Habits, rules: PageRules) -> NextPage:
    """Return what follows from one page of raw rows; raise BadAnswer if the list keeps repeating a page."""
    cursor = numbered(cursor, habits)
    if page.count and page.ids == cursor.last_ids:
        return NextPage(habits, _past_repeat(cursor, page, habits, rules), repeat=True)
    learnt = _learnt(cursor, page, habits, rules.cap)
    if page.count >= learnt.full(rules.cap):
        following = _by_date if rules.by_date else _next_number
        return NextPage(learnt, following(cursor, page, learnt))
    return _after_short(cursor, page, learnt)


def _past_repeat(cursor: Cursor, page: PageRows, habits: Habits, rules: PageRules) -> Cursor:
    """Continue after a repeated page: counting starts at 1, or a whole page of new rows came meanwhile.

    The first page, requested again, shows which. It matters: a wrong 1 would silently skip the second page
    of every list.
    """
    if cursor.page == 0 and cursor.repeated == 1:
        return replace(cursor, page=2, repeated=2)
    if cursor.page == 0 or cursor.repeated >= MOST_REPEATS:
        raise BadAnswer("a page repeats the page before it")
    if cursor.page == 1 and habits.first_page is None and page.count >= rules.cap:
        return replace(cursor, page=0, repeated=1)
    return replace(cursor, page=cursor.page + 1, repeated=cursor.repeated + 1)


def _learnt(cursor: Cursor, page: PageRows, habits: Habits, cap: int) -> Habits:
    learnt = with_order(habits, page.order)
    behind = cursor.behind_short and page.count and not cursor.empty_pages
    learnt = with_page_rows(learnt, page.count, len(cursor.last_ids) if behind else None, cap)
    if cursor.behind_short and learnt.short_ends is not False:
        # One row after a short page outweighs all short pages without one.
        learnt = replace(learnt, short_ends=page.count == 0)
    if learnt.first_page is not None:
        return learnt
    if cursor.page == 1 and cursor.last_ids and not set(page.ids) & set(cursor.last_ids):
        return replace(learnt, first_page=0)
    if cursor.page == 2 and cursor.repeated == 2 and page.count:
        return replace(learnt, first_page=1)
    return learnt


def _after_short(cursor: Cursor, page: PageRows, habits: Habits) -> NextPage:
    empty = cursor.empty_pages + 1 if page.count == 0 else 0
    if habits.short_ends is True or empty >= EMPTY_PAGES_THAT_END:
        return NextPage(habits, None)
    return NextPage(habits, replace(_next_number(cursor, page, habits), behind_short=True, empty_pages=empty))


def _next_number(cursor: Cursor, page: PageRows, habits: Habits) -> Cursor:
    number = cursor.page + 1 if cursor.page else habits.second_page
    return Cursor(cursor.since, cursor.until, number, page.ids)


def _by_date(cursor: Cursor, page: PageRows, habits: Habits) -> Cursor:
    """Continue by date, a second wider than the last row, or else by number.

    Deletions shift pages but not dates, so no row is skipped. By number, if a whole page shares a second, or
    if the list may have no order.
    """
    clear = habits.order is not Order.NONE and len(set(page.dates)) >= CLEAR
    order = order_of(page.dates) if clear else Order.UNKNOWN
    if order is Order.NEWEST and (bound := page.dates[-1] + SECOND) < page.dates[0]:
        return Cursor(cursor.since, bound, last_ids=page.ids)
    if order is Order.OLDEST and (bound := page.dates[-1] - SECOND) > page.dates[0]:
        return Cursor(bound, cursor.until, last_ids=page.ids)
    return _next_number(cursor, page, habits)

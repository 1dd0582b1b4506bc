"""Paging without I/O: where a reading of a list stands, and what one page says about its end.

What is unknown about the API (observed-facts.md) is learnt here as habits: the index of the first
page, the order of a list, and whether a page that is not full is the last. Until a habit was seen, the
dearer assumption holds, so that no answer costs a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

from connector.clock import SECOND
from connector.errors import BadAnswer

# Where rows are filtered after a page is cut, an empty page may stand in the middle of a list.
EMPTY_PAGES_THAT_END = 3


class Order(StrEnum):
    """The order of dates on a page; UNKNOWN where it shows fewer than two."""

    UNKNOWN = "unknown"
    NEWEST = "newest"
    OLDEST = "oldest"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Habits:
    """How this account's lists were seen to answer; None where it was not seen yet."""

    order: Order = Order.UNKNOWN
    first_page: int | None = None
    short_ends: bool | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A page as paging sees it: one entry per raw row, usable or not."""

    ids: tuple[str, ...]
    dates: tuple[datetime, ...]
    count: int

    @property
    def order(self) -> Order:
        return order_of(self.dates)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reading stands: the next request's window and page, and what the page before held.

    `page` counts from 0, which is asked without a `page` parameter. `behind_short` marks a request that
    only looks behind a page that was not full.
    """

    since: datetime | None = None
    until: datetime | None = None
    page: int = 0
    last: tuple[str, ...] = ()
    behind_short: bool = False
    empty: int = 0


@dataclass(frozen=True, slots=True)
class Way:
    """How to read on: `cap` rows a page; by date each page overlaps the one before by a known row."""

    cap: int
    by_date: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """What follows from a page: the next place, or None at the end of the list.

    `repeat` says that the page taught how pages are counted, and that its place is to be asked again.
    """

    habits: Habits
    next: Place | None
    repeat: bool = False


def order_of(dates: Sequence[datetime]) -> Order:
    if len(set(dates)) < 2:
        return Order.UNKNOWN
    pairs = list(pairwise(dates))
    if all(a >= b for a, b in pairs):
        return Order.NEWEST
    if all(a <= b for a, b in pairs):
        return Order.OLDEST
    return Order.NONE


def turn(place: Place, page: Seen, habits: Habits, way: Way) -> Turn:
    """Judge one page on its raw rows.

    Raises BadAnswer when the page is the one before it once more.
    """
    if page.count and page.ids == place.last:
        return Turn(_from_one(place, habits), place, repeat=True)
    learnt = _behind_short(place, page, _from_zero(place, habits))
    if page.order is not Order.UNKNOWN:
        learnt = replace(learnt, order=page.order)
    if page.count >= way.cap:
        return Turn(learnt, _by_date(place, page) if way.by_date else _next_page(place, page))
    return _after_short(place, page, learnt)


def _from_one(place: Place, habits: Habits) -> Habits:
    """Where counting starts at 1, `page=1` shows the first page again; any other repeat leads nowhere."""
    if place.page != 1 or habits.first_page == 1:
        raise BadAnswer("a page repeats the one before it")
    return replace(habits, first_page=1)


def _from_zero(place: Place, habits: Habits) -> Habits:
    # Wrongly believed, 0 costs a page that comes twice; 1 would skip the second page without a sign.
    unseen = place.page == 1 and habits.first_page is None and place.last
    return replace(habits, first_page=0) if unseen else habits


def _behind_short(place: Place, page: Seen, habits: Habits) -> Habits:
    if not place.behind_short or habits.short_ends is False:
        return habits
    return replace(habits, short_ends=page.count == 0)


def _after_short(place: Place, page: Seen, habits: Habits) -> Turn:
    empty = place.empty + 1 if page.count == 0 else 0
    if habits.short_ends is False:
        ended = empty >= EMPTY_PAGES_THAT_END
    elif page.count == 0 and (place.page > 0 or place.last):
        ended = True
    else:
        ended = habits.short_ends is True
    if ended:
        return Turn(habits, None)
    behind = replace(_next_page(place, page), behind_short=True, empty=empty)
    return Turn(habits, behind)


def _next_page(place: Place, page: Seen) -> Place:
    return replace(place, page=place.page + 1, last=page.ids, behind_short=False, empty=0)


def _by_date(place: Place, page: Seen) -> Place:
    """Go on by date, a second wider than the last row, as far as that gets anywhere.

    Deletions shift pages but not dates, so a row cannot slip past. Where a whole page shares a second
    there is no way on by date, and the next page is asked for by number.
    """
    if page.order is Order.NEWEST and (bound := page.dates[-1] + SECOND) < page.dates[0]:
        return Place(place.since, bound, last=page.ids)
    if page.order is Order.OLDEST and (bound := page.dates[-1] - SECOND) > page.dates[0]:
        return Place(bound, place.until, last=page.ids)
    return _next_page(place, page)


def params_of(place: Place, habits: Habits, cap: int) -> dict[str, str]:
    """The query parameters that ask for a place; `page` is left out for the first page."""
    params = {"maxResults": str(cap)}
    if place.since:
        params["dateFrom"] = iso(place.since)
    if place.until:
        params["dateTo"] = iso(place.until)
    if place.page:
        params["page"] = str(place.page + (habits.first_page or 0))
    return params


def iso(moment: datetime) -> str:
    """A date as the reference writes it, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

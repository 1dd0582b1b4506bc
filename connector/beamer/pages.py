"""Paging without I/O: where a reading of a list stands, and what one page says about its end.

What is unknown about the API (observed-facts.md) is learnt as habits: the index of the first page, the
order of a list, and whether a page that is not full is the last. Until a habit was seen, the dearer
assumption holds, so that no answer costs a row.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from connector.beamer.habits import (
    Habits,
    Order,
    clear_order,
    order_of,
    with_first_page,
    with_order,
    with_short_end,
)
from connector.beamer.places import Place, asked, iso, params_of
from connector.clock import SECOND
from connector.errors import BadAnswer

__all__ = ["Habits", "Order", "Place", "Seen", "Turn", "Way", "iso", "order_of", "params_of", "turn"]

# Where rows are filtered after a page is cut, an empty page may stand in the middle of a list.
EMPTY_PAGES_THAT_END = 3
# So often a page may come again before the list counts as one that has no other.
MOST_REPEATS = 3


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
class Way:
    """How to read on: `cap` rows a page; by date each page overlaps the one before by a known row."""

    cap: int
    by_date: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """What follows from a page: the next place, or None at the end of the list.

    `repeat` says that the page was the one before it once more and that its rows do not count.
    """

    habits: Habits
    next: Place | None
    repeat: bool = False


def turn(place: Place, page: Seen, habits: Habits, way: Way) -> Turn:
    """Judge one page on its raw rows.

    Raises BadAnswer when the list keeps showing one page.
    """
    place = asked(place, habits)
    if page.count and page.ids == place.last:
        return Turn(habits, _past_repeat(place, page, habits, way), repeat=True)
    learnt = _learnt(place, page, habits)
    if page.count >= way.cap:
        return Turn(learnt, _by_date(place, page, learnt) if way.by_date else _next_page(place, page, learnt))
    return _after_short(place, page, learnt)


def _past_repeat(place: Place, page: Seen, habits: Habits, way: Way) -> Place:
    """Go past a page that comes twice: counting starts at 1, or a whole page of rows came in between.

    Which of the two, the first page tells when it is asked once more. It matters: a wrong 1 would skip
    the second page of every list without a sign.
    """
    if place.page == 0 and place.again == 1:
        return replace(place, page=2, again=2)
    if place.page == 0 or place.again >= MOST_REPEATS:
        raise BadAnswer("a page repeats the one before it")
    if place.page == 1 and habits.first_page is None and page.count >= way.cap:
        return replace(place, page=0, again=1)
    return replace(place, page=place.page + 1, again=place.again + 1)


def _learnt(place: Place, page: Seen, habits: Habits) -> Habits:
    learnt = with_order(habits, page.order)
    if place.behind_short:
        learnt = with_short_end(learnt, ended=page.count == 0)
    if place.page == 1 and place.last and not set(page.ids) & set(place.last):
        return with_first_page(learnt, 0)
    if place.page == 2 and place.again == 2 and page.count:
        return with_first_page(learnt, 1)
    return learnt


def _after_short(place: Place, page: Seen, habits: Habits) -> Turn:
    empty = place.empty + 1 if page.count == 0 else 0
    if habits.short_ends is True or empty >= EMPTY_PAGES_THAT_END:
        return Turn(habits, None)
    return Turn(habits, replace(_next_page(place, page, habits), behind_short=True, empty=empty))


def _next_page(place: Place, page: Seen, habits: Habits) -> Place:
    number = place.page + 1 if place.page else habits.second_page
    return Place(place.since, place.until, number, page.ids)


def _by_date(place: Place, page: Seen, habits: Habits) -> Place:
    """Go on by date, a second wider than the last row, as far as that gets anywhere.

    Deletions shift pages but not dates, so a row cannot slip past. Where a whole page shares a second, or
    the list may have no order, there is no way on by date, and the next page is asked for by number.
    """
    order = Order.NONE if habits.order is Order.NONE else clear_order(page.dates)
    if order is Order.NEWEST and (bound := page.dates[-1] + SECOND) < page.dates[0]:
        return Place(place.since, bound, last=page.ids)
    if order is Order.OLDEST and (bound := page.dates[-1] - SECOND) > page.dates[0]:
        return Place(bound, place.until, last=page.ids)
    return _next_page(place, page, habits)

"""How an account's lists were seen to answer, learnt page by page and believed no more than it was seen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

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
    """How this account's lists were seen to answer; None where it was not seen yet."""

    order: Order = Order.UNKNOWN
    first_page: int | None = None
    short_ends: bool | None = None

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


def with_first_page(habits: Habits, first: int) -> Habits:
    return replace(habits, first_page=first) if habits.first_page is None else habits

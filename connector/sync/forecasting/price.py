"""What the planner comes to ask, where the account's life and its budget stay as they are; without I/O.

It asks whatever is worth a price, in row-hours per request. The price settles where what is asked for it is
what the budget brings; it is found by halving. Times are in hours.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from functools import cache, partial
from math import exp, sqrt

from connector.sync.forecasting.activity import Lists, Survey, Watched

# The price lies between these, and so many halvings find it well enough.
CHEAPEST, DEAREST, HALVINGS = 1e-5, 1e9, 11
# What would take longer than this takes for ever.
AGES = 1e6


class Asked:
    """What is asked for a price: requests an hour, and how long the rows that are sent wait for it."""

    def __init__(
        self, survey: Survey, price: float, longest: float, interval: Callable[[Watched], float]
    ) -> None:
        self.looks = self.reads = 0.0
        self.rows: dict[str, float] = defaultdict(float)
        self.waited: dict[str, float] = defaultdict(float)
        self.lists: list[tuple[int, float]] = []
        ready = cache(partial(batch, price=price, longest=longest))
        for watched in survey.watched:
            every, own = interval(watched), watched.own
            self.looks += max(1 / every, own.per_hour / own.stream.cap)
            self._wait(own, every / 2)
            for lists in watched.below:
                self._read(lists, every, ready(lists.per_hour, lists.stream.cap, lists.sent))

    def _read(self, lists: Lists, every: float, ready: float) -> None:
        """A look finds a list ready to be read once it shows as many rows as are worth a request."""
        stream, rate, number, pages, overlap, _ = lists
        often = 0.0
        if rate:
            unready = exp(-rate * every / ready)
            often = (1 - unready) / every
            self._wait(lists, (every + unready * (ready - 1) / rate) / 2)
            # Pages overlap by a row, and the one that reaches back far enough is half full.
            read = overlap * often + number * rate
            last = number * often / 2 if overlap else 0.0
            self.reads += max(number * often, read / (stream.cap - 1) + last)
        self.lists.append((pages, often))

    def _wait(self, lists: Lists, hours: float) -> None:
        rows = lists.number * lists.per_hour * lists.sent
        self.rows[lists.stream.name] += rows
        self.waited[lists.stream.name] += rows * hours

    @property
    def requests(self) -> float:
        return self.looks + self.reads


def batch(rate: float, cap: int, sent: float, price: float, longest: float) -> float:
    """How many rows a list shows before a page of them is worth the price: n(n+1)/2λ, while one page holds n.

    Of these a share is `sent`, and only they are worth anything.
    On average, as the price goes up and down with the budget at hand: half a row above where it is met.
    """
    price /= sent
    met = (sqrt(1 + 8 * rate * price) - 1) / 2
    met = met if met <= cap else max(cap, 2 * rate * price / cap - 1)
    return max(1.0, min(met + 0.5, 2 * met - 1, rate * longest + 1))


def settled(survey: Survey, budget: float, overdue: float) -> Asked:
    """What is asked for the price that the budget, in requests an hour, can pay."""
    longest = _longest(survey, overdue)

    def at(price: float) -> Asked:
        return Asked(survey, price, longest, lambda watched: _interval(survey, watched, price, longest))

    found = at(0.0)
    low, high = CHEAPEST, DEAREST
    for _ in range(HALVINGS if found.requests > budget else 0):
        price = sqrt(low * high)
        found = at(price)
        low, high = (price, high) if found.requests > budget else (low, price)
    return found


def _longest(survey: Survey, overdue: float) -> float:
    """How long anything goes unasked: `max_age`, or longer where that takes more than is kept for it."""

    def enough(hours: float) -> bool:
        return Asked(survey, DEAREST, hours, lambda _: hours).requests <= overdue

    low, high = survey.max_age, AGES
    if enough(low):
        return low
    for _ in range(HALVINGS):
        hours = sqrt(low * high)
        low, high = (low, hours) if enough(hours) else (hours, high)
    return high


def _interval(survey: Survey, watched: Watched, price: float, longest: float) -> float:
    """How long after a look the next one is worth the price."""
    worths, times = watched.worths, survey.times
    after = bisect_left(worths, price)
    if after == 0:
        return survey.shortest
    # Worth grows as the square of the time, or nearly so.
    if after == len(worths):
        return min(longest, times[-1] * sqrt(price / worths[-1])) if worths[-1] else longest
    below, above = sqrt(worths[after - 1]), sqrt(worths[after])
    share = (sqrt(price) - below) / (above - below)
    return min(longest, times[after - 1] + (times[after] - times[after - 1]) * share)

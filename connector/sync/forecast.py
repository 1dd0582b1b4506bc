"""How late rows will be at a budget, and what the budget then goes to; without I/O.

The planner asks whatever is worth a price, in row-hours per request. If the account's life goes on as it is
today, the price settles where what is asked for it is what the budget brings; it is found here by halving.
Times are in hours.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import ceil, exp, inf, sqrt

from connector.sync import candidates
from connector.sync.activity import MONTH, Lists, Survey, Watched
from connector.sync.agenda import TURNS
from connector.sync.planner import AUDIT_AFTER, AUDIT_SHARE, AUDITS, PROOF_LASTS, PROOF_SHARE
from connector.sync.probes import Turn
from connector.sync.rates import HOUR

DAY = 24.0
# The price lies between these, and so many halvings find it well enough.
CHEAPEST, DEAREST, HALVINGS = 1e-5, 1e9, 11
# What would take longer than this takes for ever.
AGES = 1e6
# Halving ends beside the budget, not on it.
NEARLY = 1.02


@dataclass(frozen=True, slots=True)
class Forecast:
    """How late rows will be on average, in hours, by stream and in all; nothing where none will come.

    `keeps_up` is False where more rows come than the budget can read: they will be ever later. `requests`
    a day by what they are for. `audit_round`: hours in which every list is read once, whether or not its
    counter moves; None where there is none to read.
    """

    per_day: float | None
    keeps_up: bool
    delays: Mapping[str, float]
    mean: float | None
    requests: Mapping[str, float]
    audit_round: float | None


class Asked:
    """What is asked for a price: requests an hour, and how long rows wait for it."""

    def __init__(
        self, survey: Survey, price: float, longest: float, interval: Callable[[Watched], float]
    ) -> None:
        self.looks = self.reads = 0.0
        self.rows: dict[str, float] = defaultdict(float)
        self.waited: dict[str, float] = defaultdict(float)
        self.lists: list[tuple[int, float]] = []
        ready = cache(partial(batch, price=price, longest=longest))
        for watched in survey.watched:
            every, (own, rate, _, _) = interval(watched), watched.own
            self.looks += max(1 / every, rate / own.cap)
            self.rows[own.name] += rate
            self.waited[own.name] += rate * every / 2
            for lists in watched.below:
                self._read(lists, every, ready(lists.per_hour))

    def _read(self, lists: Lists, every: float, ready: float) -> None:
        """A look finds a list ready to be read once it shows as many rows as are worth a request."""
        stream, rate, number, pages = lists
        often = 0.0
        if rate:
            unready = exp(-rate * every / ready)
            often = max((1 - unready) / every, rate / stream.cap)
            self.rows[stream.name] += number * rate
            self.waited[stream.name] += number * (rate * every + unready * (ready - 1)) / 2
        self.reads += number * often
        self.lists.append((pages, often))

    @property
    def requests(self) -> float:
        return self.looks + self.reads


def batch(rate: float, price: float, longest: float) -> float:
    """How many rows a list shows before they are worth a request: n(n+1)/2λ ≥ price.

    On average, as the price goes up and down with the budget at hand: half a row above where it is met.
    """
    met = (sqrt(1 + 8 * rate * price) - 1) / 2
    return max(1.0, min(met + 0.5, 2 * met - 1, rate * longest + 1))


def forecast(survey: Survey, per_day: float | None) -> Forecast:
    """What a budget of so many requests a day leads to; None: no limit but the runs."""
    pages = sum(lists.pages for watched in survey.watched for lists in watched.below)
    weekly = pages / (AUDIT_AFTER / HOUR)
    budget = inf
    if per_day is None:
        asked = Asked(survey, 0.0, AGES, lambda _: survey.shortest)
        proofs = survey.blocks / (candidates.PROOF_LASTS / HOUR)
        audit = min(weekly, min(AUDITS, ceil(len(survey.watched) * AUDIT_SHARE)) / survey.shortest)
    else:
        per_hour = per_day / DAY
        proofs = min(survey.blocks / (PROOF_LASTS / HOUR), PROOF_SHARE * per_hour)
        audit = min(weekly, per_hour / TURNS[Turn.AUDIT])
        budget = per_hour - proofs - audit
        asked = _settled(survey, budget, per_hour / TURNS[Turn.OVERDUE])
        audit = min(weekly, max(audit, per_hour - proofs - asked.requests))
    hourly = {"looks": asked.looks, "lists": asked.reads, "proofs": proofs, "audit": audit}
    keeps_up = asked.requests <= budget * NEARLY
    rows = sum(asked.rows.values()) if keeps_up else 0.0
    return Forecast(
        per_day,
        keeps_up,
        {name: asked.waited[name] / n for name, n in asked.rows.items() if n and rows},
        sum(asked.waited.values()) / rows if rows else None,
        {what: often * DAY for what, often in hourly.items()} if keeps_up else {},
        _round(asked.lists, audit) if pages and audit and keeps_up else None,
    )


def _settled(survey: Survey, budget: float, overdue: float) -> Asked:
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


def _round(lists: Sequence[tuple[int, float]], audit: float) -> float | None:
    """In how many hours the audit has read whatever was not read in them anyway."""
    low, high = AUDIT_AFTER / HOUR, AGES
    for _ in range(HALVINGS):
        hours = sqrt(low * high)
        left = sum(pages * exp(-often * hours) for pages, often in lists)
        low, high = (hours, high) if left > audit * hours else (low, hours)
    return high if high < AGES else None


def everywhere(survey: Survey, hours: float) -> float:
    """Requests a month to look everywhere so often, and to read the lists that have moved."""
    asked = Asked(survey, 0.0, AGES, lambda _: hours)
    return asked.requests * MONTH

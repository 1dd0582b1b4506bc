"""What an account may spend: plans, limits, and the bucket that releases a month's requests day by day.

The bucket fills evenly over the month. Each request takes one from it; what exceeds its size is lost.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import ceil, floor
from types import MappingProxyType

from connector.domain.period import ROLLING, month_at


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account may spend: requests a month (None: no limit) less a reserve; a rate.

    `period_day` is the day on which Beamer's month begins; if it is None, any 31 days are a month.
    `startup` is the share of the month's remaining requests that a new account may spend at once.
    """

    requests: int | None
    reserve: int
    per_second: float
    period_day: int | None = None
    startup: float = 0.1

    @property
    def usable(self) -> int | None:
        return None if self.requests is None else max(0, self.requests - self.reserve)


_REFERENCE = "Beamer API reference"
_VENDOR_2026 = "vendor's page, 2026-09"


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan of Beamer: its monthly limit (None: no limit) and its rate."""

    name: str
    monthly_requests: int | None
    requests_per_second: int
    source: str
    overage_billed: bool


_ALL = (
    Plan("free", 1_000, 30, _REFERENCE, overage_billed=False),
    Plan("starter", 20_000, 30, _REFERENCE, overage_billed=False),
    Plan("pro", None, 30, _REFERENCE, overage_billed=False),
    Plan("scale", None, 30, _REFERENCE, overage_billed=False),
    Plan("starter-2026", 2_000, 30, _VENDOR_2026, overage_billed=True),
    Plan("pro-2026", 20_000, 30, _VENDOR_2026, overage_billed=True),
    Plan("scale-2026", 100_000, 30, _VENDOR_2026, overage_billed=True),
)

PLANS: Mapping[str, Plan] = MappingProxyType({plan.name: plan for plan in _ALL})

ASSUMED = PLANS["free"]

CLOSED = "Beamer refuses requests at the moment (429)."
SPENT = "The monthly limit is used up."
NOT_AVAILABLE = "No request is available now."
REOPENING = (timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2), timedelta(hours=6))


def reopens(refusals: int, now: datetime, first_day: int | None) -> datetime:
    """Return until when 429 closes an account that it has closed `refusals` times in a row before.

    It opens at the latest with the next month, if the first day is known.
    """
    return _within(now + REOPENING[min(refusals, len(REOPENING) - 1)], now, first_day)


def closed(until: datetime | None, now: datetime, first_day: int | None) -> datetime | None:
    """Return until when an account is closed, None if it is open.

    A closing that would last too long was stored before a clock was set back, and does not count.
    """
    return _within(until, now, first_day) if until and now < until <= now + REOPENING[-1] else None


def in_a_row(refusals: int, until: datetime | None, now: datetime, first_day: int | None) -> int:
    """Return how many closings in a row count: not those before the present month."""
    past_month = first_day is not None and until is not None and until <= month_at(now, first_day)[0]
    return 0 if past_month else refusals


def _within(until: datetime, now: datetime, first_day: int | None) -> datetime:
    return until if first_day is None else min(until, month_at(now, first_day)[1])


# The size of the bucket in time, enough for one run a week; requests beyond it are lost.
GATHERS = timedelta(days=8)
# Clocks of machines differ by less: up to here the bucket waits for a clock that is behind. A clock that is
# further behind was set back, and the bucket fills by its new time.
SKEW = timedelta(hours=1)
FOR_GOOD = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Month:
    """A month whose first day is known: its remaining usable requests are released until its end.

    `assumed` of them count as spent before the account began.
    """

    start: datetime
    end: datetime
    usable: int
    used: int = 0
    assumed: int = 0

    @property
    def cap(self) -> float:
        return _cap(self.usable, self.end - self.start)

    def rate(self, level: float, at: datetime) -> float:
        """Return requests per second, while `level` of the remaining ones are in the bucket already."""
        return max(0.0, self.usable - self.used - self.assumed - level) / (self.end - at).total_seconds()

    def carried(self, level: float) -> float:
        """Return how much of the level remains in the next month."""
        return min(self.cap, level)


@dataclass(frozen=True, slots=True)
class Steady:
    """A time until `end` in which the bucket fills at one rate, in requests per second."""

    end: datetime
    cap: float
    per_second: float

    def rate(self, level: float, at: datetime) -> float:  # noqa: ARG002
        return self.per_second

    def carried(self, level: float) -> float:
        return level


Stretch = Month | Steady


def rolling(usable: int, startup: float, began: datetime) -> tuple[Steady, Steady]:
    """Return how an account with an unknown month fills: slower while the start-up grant counts."""
    cap, seconds = _cap(usable, ROLLING), ROLLING.total_seconds()
    first = Steady(began + ROLLING, cap, (usable - grant(usable, startup)) / seconds)
    return first, Steady(FOR_GOOD, cap, usable / seconds)


def grant(left: int, startup: float) -> float:
    """Return the first level of a new account's bucket.

    At least one request: a refused one writes nothing, so a new account would never begin.
    """
    return min(left, max(1.0, left * startup))


def assumed(usable: int, start: datetime, end: datetime, began: datetime) -> int:
    """Return what counts as spent if an account began in the middle of a month: that share of it."""
    return ceil(usable * ((began - start) / (end - start))) if start <= began < end else 0


def _cap(usable: int, length: timedelta) -> float:
    return max(1.0, usable * (GATHERS / length))


@dataclass(frozen=True, slots=True)
class Bucket:
    """`level` requests may be spent, as of the moment `at`."""

    level: float
    at: datetime

    def filled(self, now: datetime, stretches: Iterable[Stretch]) -> "Bucket":
        """Return the bucket as of now. The stretches are in order, and begin at `at` or before."""
        if now <= self.at:
            return self if self.at <= now + SKEW else Bucket(self.level, now)
        level, at = self.level, self.at
        for stretch in stretches:
            if at >= stretch.end:
                continue
            until = min(now, stretch.end)
            gained = stretch.rate(level, at) * (until - at).total_seconds()
            level, at = max(level, min(stretch.cap, level + gained)), until
            if at < stretch.end:
                break
            level = stretch.carried(level)
        return Bucket(level, now)

    def at_most(self, left: int) -> "Bucket":
        """Return it with at most what is left of the month."""
        return replace(self, level=min(self.level, float(left)))

    def drawn(self) -> "Bucket":
        """Return it with one request less; a request beyond the bucket leaves it empty."""
        return replace(self, level=max(0.0, self.level - 1))

    def holds_one(self, stretches: Iterable[Stretch]) -> datetime | None:
        """Return when it will hold a request, to the second; None if never."""
        level, at = self.level, self.at
        if level >= 1:
            return at
        for stretch in stretches:
            if at >= stretch.end:
                continue
            rate = stretch.rate(level, at)
            gained = rate * (stretch.end - at).total_seconds()
            if level + gained >= 1:
                return at + timedelta(seconds=floor((1 - level) / rate) + 1)
            level, at = level + gained, stretch.end
        return None


@dataclass(frozen=True, slots=True)
class BudgetState:
    """What is left of the month, how much of that is available now, and how more is released.

    `used` includes the `assumed` requests, which count as spent before the account began.
    """

    usable: int
    used: int
    assumed: int
    bucket: Bucket
    stretches: Sequence[Stretch]

    @property
    def left(self) -> int:
        return max(0, self.usable - self.used)

    @property
    def rate(self) -> float:
        """Return how many requests are released per second."""
        at = self.bucket.at
        present = next(stretch for stretch in self.stretches if at < stretch.end)
        return present.rate(self.bucket.level, at)


@dataclass(frozen=True, slots=True)
class Balance:
    """What was spent in the month (see `Limits`), what may still be spent, and until when 429 closed it.

    `used` is the known spending, also elsewhere; `assumed` counts as spent before the account began; `left`
    is the limit less both, and `over` is by how much both exceed the limit. Of what is left, `level` requests
    are available now, and `per_day` are released a day; all three are None without a limit. The month lasts
    from `since`, at midnight UTC, to `until`, if its first day is known. `refused` holds until a request is
    answered again, also after `closed_until`. `again` is when the next request may be sent, None if never.
    `drawn` counts every request ever.
    """

    used: int
    left: int | None
    closed_until: datetime | None
    refused: bool
    by_purpose: Mapping[str, int]
    since: datetime
    until: datetime | None = None
    level: float | None = None
    per_day: float | None = None
    assumed: int = 0
    again: datetime | None = None
    drawn: int = 0
    over: int = 0

    @property
    def refusal(self) -> str | None:
        """Return why no request can be sent now; None if one can."""
        if self.closed_until:
            return CLOSED
        if self.left == 0:
            return SPENT
        return NOT_AVAILABLE if self.level is not None and self.level < 1 else None

"""The budget of an account: what is released day by day, what is available now, and when 429 closes it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import ceil, floor
from typing import Any

from sqlalchemy import Connection, Row

from connector.domain.period import EPOCH, MICROSECOND, ROLLING, counted_after, day_of, turns
from connector.domain.plans import Limits
from connector.state import spending

REOPENING = (timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2), timedelta(hours=6))


def reopens(refusals: int, now: datetime, first_day: int | None) -> datetime:
    """Until when it is closed after so many closings in a row; where the month is told, not beyond it."""
    return _within(now + REOPENING[min(refusals, len(REOPENING) - 1)], now, first_day)


def closed(until: datetime | None, now: datetime, first_day: int | None) -> datetime | None:
    """Until when it is closed; no closing lasts so long that one from before a clock was set back would."""
    return _within(until, now, first_day) if until and now < until <= now + REOPENING[-1] else None


def in_a_row(refusals: int, until: datetime | None, now: datetime, first_day: int | None) -> int:
    """How many closings count: a month that has begun since forgets those before."""
    forgotten = first_day is not None and until is not None and until <= turns(now, first_day)[0]
    return 0 if forgotten else refusals


def _within(until: datetime, now: datetime, first_day: int | None) -> datetime:
    return until if first_day is None else min(until, turns(now, first_day)[1])


# So much even filling gathers, for whoever runs once a week; what would come in beyond it is forfeited.
GATHERS = timedelta(days=8)
# Machines' clocks differ by less: up to here the bucket waits for the one that is behind. A clock that is
# further behind was set back, and the bucket goes on filling from what it says now.
SKEW = timedelta(hours=1)
FOR_GOOD = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Month:
    """A told period: what is left of its usable requests comes in until its end.

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
        """Requests per second, while `level` of what is left are in the bucket already."""
        return max(0.0, self.usable - self.used - self.assumed - level) / (self.end - at).total_seconds()

    def carried(self, level: float) -> float:
        """What of the level outlasts the end."""
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
    """How an account fills whose period is unknown: slower while the start-up grant counts in its month."""
    cap, seconds = _cap(usable, ROLLING), ROLLING.total_seconds()
    first = Steady(began + ROLLING, cap, (usable - grant(usable, startup)) / seconds)
    return first, Steady(FOR_GOOD, cap, usable / seconds)


def grant(left: int, startup: float) -> float:
    """What a new account finds in its bucket.

    At least one request: a refused one writes nothing, so an account never charged would never begin.
    """
    return min(left, max(1.0, left * startup))


def assumed(usable: int, start: datetime, end: datetime, began: datetime) -> int:
    """What counts as spent before an account began in the middle of a period: that share of it."""
    return ceil(usable * ((began - start) / (end - start))) if start <= began < end else 0


def _cap(usable: int, length: timedelta) -> float:
    return max(1.0, usable * (GATHERS / length))


@dataclass(frozen=True, slots=True)
class Bucket:
    """`level` requests may be spent, as it stood at the moment `at`."""

    level: float
    at: datetime

    def filled(self, now: datetime, stretches: Iterable[Stretch]) -> "Bucket":
        """The bucket as it stands now. The stretches follow each other, from `at` at the latest on."""
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
        """Never more than what is left of the month."""
        return replace(self, level=min(self.level, float(left)))

    def drawn(self) -> "Bucket":
        """One request less; who may go beyond the bucket leaves it empty."""
        return replace(self, level=max(0.0, self.level - 1))

    def holds_one(self, stretches: Iterable[Stretch]) -> datetime | None:
        """When it will hold a request, to the second; None if never."""
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
    """What is left of the month, what of that is at hand, and how more comes in.

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
        """Requests that come in per second."""
        at = self.bucket.at
        return next(each for each in self.stretches if at < each.end).rate(self.bucket.level, at)


def budget_state(
    db: Connection, name: str, limits: Limits, account: Row[Any] | None, now: datetime
) -> BudgetState:
    """How it stands now; `account` is its row, where there is one."""
    usable = limits.usable or 0
    began = min(account.began_at, now) if account else now
    bucket = None
    if account and account.level_at is not None:
        bucket = Bucket(account.level, EPOCH + account.level_at * MICROSECOND)
    guess = 0
    stretches: Sequence[Stretch]
    if limits.period_day is None:
        found = spending.spent(db, name, counted_after(now, None), over=spending.over_by(now))
        used = found.requests
        stretches = rolling(max(0, usable - found.aside), limits.startup, began)
    else:
        months = _Calendar(db, name, usable, limits.period_day, began)
        this = months.holding(now)
        used, guess = this.used + this.assumed, this.assumed
        stretches = [*months.between(bucket.at if bucket else now, this), this, months.behind(this)]
    left = max(0, usable - used)
    bucket = bucket.filled(now, stretches) if bucket else Bucket(grant(left, limits.startup), now)
    return BudgetState(usable, used, guess, bucket.at_most(left), stretches)


@dataclass(frozen=True, slots=True)
class _Calendar:
    """The told months of an account, with what was spent in them."""

    db: Connection
    name: str
    usable: int
    first_day: int
    began: datetime

    def holding(self, moment: datetime, *, past: bool = False) -> Month:
        """The month of a moment; days to come count towards this one, not towards a past one."""
        start, end = turns(moment, self.first_day)
        until = day_of(end) - 1 if past else spending.FOR_GOOD
        found = spending.spent(self.db, self.name, day_of(start) - 1, until)
        # What Beamer's dashboard said takes the place of a guess.
        guess = assumed(self.usable, start, end, self.began) if found.elsewhere is None else 0
        return Month(start, end, self.usable, found.requests, guess)

    def between(self, since: datetime, this: Month) -> list[Month]:
        """The months from `since` up to this one; of those in which nothing was spent the last will do."""
        if since >= this.start:
            return []
        first = self.holding(since, past=True)
        idle = Month(*turns(this.start - MICROSECOND, self.first_day), self.usable)
        return [first] if first.end == this.start else [first, idle]

    def behind(self, this: Month) -> Month:
        return Month(*turns(this.end, self.first_day), self.usable)

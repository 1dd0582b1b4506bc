"""The budget's bucket: requests that have gathered and may be spent at once. Data in, data out.

A month's quota comes in evenly, so that it is not burnt in its first days. Where Beamer's month is told,
what is left of it comes in until its end, whatever was spent, forfeited or told meanwhile; until it is
told, the quota comes in at one rate, and the ledger's hard limit for any 31 days stays above it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import ceil, floor

from connector.state.period import ROLLING

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

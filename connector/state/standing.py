"""How an account with a limit stands: read from the store, reckoned by the bucket; nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from connector.state import spending
from connector.state.bucket import Bucket, Month, Stretch, assumed, grant, rolling
from connector.state.limits import Limits
from connector.state.period import EPOCH, MICROSECOND, counted_after, day_of, turns


@dataclass(frozen=True, slots=True)
class Standing:
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


def standing(db: Connection, name: str, limits: Limits, account: Row[Any] | None, now: datetime) -> Standing:
    """How it stands now; `account` is its row, where there is one."""
    usable = limits.usable or 0
    began = min(account.began_at, now) if account else now
    bucket = None
    if account and account.level_at is not None:
        bucket = Bucket(account.level, EPOCH + account.level_at * MICROSECOND)
    guess = 0
    stretches: Sequence[Stretch]
    if limits.period_day is None:
        found = spending.spent(db, name, counted_after(now, None))
        used = found.requests
        stretches = rolling(max(0, usable - found.aside), limits.startup, began)
    else:
        months = _Calendar(db, name, usable, limits.period_day, began)
        this = months.holding(now)
        used, guess = this.used + this.assumed, this.assumed
        stretches = [*months.between(bucket.at if bucket else now, this), this, months.behind(this)]
    left = max(0, usable - used)
    bucket = bucket.filled(now, stretches) if bucket else Bucket(grant(left, limits.startup), now)
    return Standing(usable, used, guess, bucket.at_most(left), stretches)


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

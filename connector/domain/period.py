"""The months of an account: from the day on which they begin, or any 31 days while that is unknown."""

from calendar import monthrange
from datetime import UTC, datetime, timedelta

# The vendor does not say when its month begins: until it is told, no 31 days in a row exceed the quota.
# Begun at any hour, 31 days touch 32 of UTC.
PERIOD_DAYS = 32
ROLLING = timedelta(days=PERIOD_DAYS)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def day_of(moment: datetime) -> int:
    """Whole UTC days since the epoch."""
    return (moment - EPOCH).days


def micros(moment: datetime) -> int:
    """Microseconds since the epoch."""
    return (moment - EPOCH) // MICROSECOND


def counted_after(now: datetime, first_day: int | None) -> int:
    """The last day, in days since the epoch, that does not count towards the month of `now` any more."""
    return day_of(now - ROLLING if first_day is None else turns(now, first_day)[0] - MICROSECOND)


def turns(now: datetime, first_day: int) -> tuple[datetime, datetime]:
    """The start of the period that `now` lies in and the start of the next one, at midnight UTC.

    A month that does not have the day turns on its last one.
    """
    this = _turn(now.year, now.month, first_day)
    if now >= this:
        return this, _turn(*_month(now, 1), first_day)
    return _turn(*_month(now, -1), first_day), this


def _month(now: datetime, further: int) -> tuple[int, int]:
    years, month = divmod(now.month - 1 + further, 12)
    return now.year + years, month + 1


def _turn(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, min(day, monthrange(year, month)[1]), tzinfo=UTC)

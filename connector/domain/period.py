"""Moments and days; the months of an account: from the day on which they begin, or any 31 days."""

from calendar import monthrange
from datetime import UTC, datetime, timedelta

# Beamer does not say when its month begins: until it is set, no 31 days in a row exceed the quota.
# Starting at any hour, 31 days touch 32 days of UTC.
PERIOD_DAYS = 32
ROLLING = timedelta(days=PERIOD_DAYS)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND, MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)


def within(moment: datetime, since: datetime | None, until: datetime | None) -> bool:
    """Return whether a moment is in a half-open range; None is open towards past or future."""
    return (since is None or since <= moment) and (until is None or moment < until)


def day_of(moment: datetime) -> int:
    """Return whole UTC days since the epoch."""
    return (moment - EPOCH).days


def micros(moment: datetime) -> int:
    """Return microseconds since the epoch."""
    return (moment - EPOCH) // MICROSECOND


def moment_of(micros: int) -> datetime:
    """Return the moment so many microseconds after the epoch."""
    return EPOCH + micros * MICROSECOND


def counted_after(now: datetime, first_day: int | None) -> int:
    """Return the last day, in days since the epoch, that does not count towards the month of `now`."""
    return day_of(now - ROLLING if first_day is None else month_at(now, first_day)[0] - MICROSECOND)


def month_at(now: datetime, first_day: int) -> tuple[datetime, datetime]:
    """Return the start of the month that `now` lies in and the start of the next one, at midnight UTC.

    In a month without that day, it is the last day.
    """
    this = _month_start(now, 0, first_day)
    if now >= this:
        return this, _month_start(now, 1, first_day)
    return _month_start(now, -1, first_day), this


def _month_start(now: datetime, months: int, day: int) -> datetime:
    years, month = divmod(now.month - 1 + months, 12)
    year, month = now.year + years, month + 1
    return datetime(year, month, min(day, monthrange(year, month)[1]), tzinfo=UTC)

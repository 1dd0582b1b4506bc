"""An account that 429 has closed: until when, and for how long the next time. Data in, data out."""

from datetime import datetime, timedelta

from connector.state.period import turns

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

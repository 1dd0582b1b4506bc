"""Beamer's month: a told first day gives periods; until it is told, any 31 days in a row count as one."""

from calendar import monthrange
from datetime import UTC, datetime


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

"""How fast an account's requests are used, and how often it is synced, from the database."""

from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from connector.domain.period import EPOCH, PERIOD_DAYS, day_of
from connector.state import runs, spending
from connector.state.engine import Database
from connector.state.ledger import Balance, Limits

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
# Today's pace is that of so many days; the time between runs is that of so many runs.
PACE_DAYS, RUNS = 7, 50


def between_runs(database: Database, name: str) -> timedelta | None:
    """The usual time between two syncs; None where there were too few to say."""
    starts = [run["started_at"] for run in runs.recent(database, name, RUNS) if run["command"] == "sync"]
    gaps = [(later - earlier) / HOUR for later, earlier in pairwise(starts)]
    return max(median(gaps) * HOUR, MINUTE) if gaps else None


def pace(database: Database, account: str, balance: Balance, now: datetime) -> float:
    """Return requests a day: the connector's in the last days, and entered ones of others in this month."""
    elsewhere = balance.by_purpose.get(spending.ELSEWHERE, 0)
    first, today = day_of(now) - PACE_DAYS + 1, day_of(now)
    with database.read() as db:
        if not spending.spent(db, account, 0, first - 1).requests:
            # It has begun since.
            days = range(first, today)
            first = next((day for day in days if spending.spent(db, account, day - 1, day).requests), today)
        found = spending.spent(db, account, first - 1)
    own = found.requests - (found.elsewhere or 0)
    lasted = (now - EPOCH) / DAY - first
    return own / max(1.0, lasted) + elsewhere / max(1.0, (now - balance.since) / DAY)


def runs_out(limits: Limits, balance: Balance, per_day: float, now: datetime) -> datetime | None:
    """Return when the rest is used up at a pace; None if not before the month ends."""
    if balance.left is None or not per_day:
        return None
    # Any 31 days are a period until it is told: a pace that they allow can be kept for ever.
    if balance.until is None and per_day * PERIOD_DAYS <= (limits.usable or 0):
        return None
    lasts = balance.left / per_day
    ends = balance.until or now + PERIOD_DAYS * DAY
    return now + lasts * DAY if lasts < (ends - now) / DAY else None

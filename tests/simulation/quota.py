"""Whether the quota was kept: by what Beamer saw, not by what the ledger says."""

from bisect import bisect_left
from calendar import monthrange
from collections import Counter
from datetime import datetime, timedelta

from connector.domain.period import month_at
from tests.simulation.universe import Universe
from tests.simulation.wrong import Wrong

MONTH = timedelta(days=31)


def judge_quota(universe: Universe) -> None:
    """Raise Wrong where any 31 days, or any period that was told, saw more than may be spent."""
    usable = universe.limits.usable
    if usable is None:
        return
    usable += universe.storage.unentered
    asked = sorted(seen.at for seen in universe.box.requests if seen.api == "beamer")
    if universe.limits.period_day is None:
        for index, start in enumerate(asked):
            number = bisect_left(asked, start + MONTH) - index
            if number > usable:
                raise Wrong(f"{number} requests in 31 days from {start}, and {usable} may be spent")
        _judge_entered(universe, asked, usable)
        return
    periods = Counter(_period(at, universe.limits.period_day) for at in asked)
    for period, number in periods.items():
        if number > usable:
            raise Wrong(f"{number} requests in the month from {period}, and {usable} may be spent")


def _judge_entered(universe: Universe, asked: list[datetime], usable: int) -> None:
    """Of the month whose use was entered, what the database lacked does not come on top."""
    if universe.storage.entered is None:
        return
    since, lacked = universe.storage.entered
    number = sum(since <= at < month_at(since, since.day)[1] for at in asked)
    if number > usable - lacked:
        raise Wrong(f"{number} requests from {since}, {usable - lacked} may be spent, and all were entered")


def _period(at: datetime, day: int) -> str:
    turn = min(day, monthrange(at.year, at.month)[1])
    year, month = (at.year, at.month) if at.day >= turn else (at.year, at.month - 1)
    return f"{year if month else year - 1}-{month or 12:02d}"

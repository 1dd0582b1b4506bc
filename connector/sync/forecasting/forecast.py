"""How late rows will be at a budget, and what the budget then goes to; without I/O.

A forecast for an account whose life goes on as it is today. Times are in hours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, exp, inf, sqrt

from connector.sync.forecasting.activity import MONTH, Survey
from connector.sync.forecasting.price import AGES, HALVINGS, Asked, settled
from connector.sync.planning import candidates
from connector.sync.planning.agenda import TURNS
from connector.sync.planning.auditing import AUDIT_AFTER, AUDITS
from connector.sync.planning.curves import HOUR
from connector.sync.planning.everywhere import AUDIT_SHARE
from connector.sync.planning.planner import PROOF_LASTS_LIMITED, PROOF_SHARE
from connector.sync.planning.probes import Turn

DAY = 24.0
# Halving ends beside the budget, not on it.
NEARLY = 1.02


@dataclass(frozen=True, slots=True)
class Forecast:
    """How late rows will be on average, in hours, by stream and in all; nothing where none will come.

    `keeps_up` is False where more rows come than the budget can read: they will be ever later. `requests`
    a day by what they are for. `audit_round`: hours in which every list is read once, whether or not its
    counter moves; None where there is none to read.
    """

    per_day: float | None
    keeps_up: bool
    delays: Mapping[str, float]
    mean: float | None
    requests: Mapping[str, float]
    audit_round: float | None


def share(turn: Turn) -> float:
    """The share of all requests that is kept for what has this turn."""
    every, _ = TURNS[turn]
    return 1 / every


def forecast(survey: Survey, per_day: float | None, unread: int = 0) -> Forecast:
    """What a budget of so many requests a day leads to in a month; None: no limit but the runs.

    `unread`: requests to read what was there at first sight.
    """
    pages = sum(lists.pages for watched in survey.watched for lists in watched.below)
    weekly = pages / (AUDIT_AFTER / HOUR)
    budget, history = inf, 0.0
    if per_day is None:
        asked = Asked(survey, 0.0, AGES, lambda _: survey.shortest)
        proofs = survey.blocks / (candidates.PROOF_LASTS / HOUR)
        audit = min(weekly, min(AUDITS, ceil(len(survey.watched) * AUDIT_SHARE)) / survey.shortest)
    else:
        per_hour = per_day / DAY
        proofs = min(survey.blocks / (PROOF_LASTS_LIMITED / HOUR), PROOF_SHARE * per_hour)
        audit = min(weekly, per_hour * share(Turn.AUDIT))
        history = min(unread / MONTH, per_hour * share(Turn.HISTORY))
        budget = per_hour - proofs - audit - history
        asked = settled(survey, budget, per_hour * share(Turn.OVERDUE))
        audit = min(weekly, max(audit, per_hour - proofs - history - asked.requests))
    hourly = {
        "looks": asked.looks,
        "lists": asked.reads,
        "proofs": proofs,
        "audit": audit,
        "history": history,
    }
    keeps_up = asked.requests <= budget * NEARLY
    rows = sum(asked.rows.values()) if keeps_up else 0.0
    return Forecast(
        per_day,
        keeps_up,
        {name: asked.waited[name] / n for name, n in asked.rows.items() if n and rows},
        sum(asked.waited.values()) / rows if rows else None,
        {what: often * DAY for what, often in hourly.items()} if keeps_up else {},
        _round(asked.lists, audit) if pages and audit and keeps_up else None,
    )


def _round(lists: Sequence[tuple[int, float]], audit: float) -> float | None:
    """In how many hours the audit has read whatever was not read in them anyway."""
    low, high = AUDIT_AFTER / HOUR, AGES
    for _ in range(HALVINGS):
        hours = sqrt(low * high)
        left = sum(pages * exp(-often * hours) for pages, often in lists)
        low, high = (hours, high) if left > audit * hours else (low, hours)
    return high if high < AGES else None


def everywhere(survey: Survey, hours: float) -> float:
    """Requests a month to look everywhere so often, and to read the lists that have moved."""
    asked = Asked(survey, 0.0, AGES, lambda _: hours)
    return asked.requests * MONTH

"""The quota: the requests used and left in a month, and how late rows will be."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from connector.beamer.streams import CATALOGUE
from connector.clock import plain
from connector.domain.period import PERIOD_DAYS
from connector.reporting.spend_rate import DAY, HOUR, between_runs, pace, runs_out
from connector.state import progress
from connector.state.engine import Database
from connector.state.ledger import Balance, Ledger, Limits
from connector.sync.fetch import stored
from connector.sync.forecast import MONTH, FirstReads, Forecast, activity, first_reads, forecast, read_by
from connector.sync.planning.probes import Picture
from connector.sync.policy import Policy


@dataclass(frozen=True, slots=True)
class Offer:
    """The monthly limit of some plans; `usable` is the limit less the reserve. None: no limit."""

    plans: Sequence[str]
    monthly: int | None
    usable: int | None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What an account needs and how late its rows will be, if its activity stays the same.

    `every`: time between runs, None if unknown. `rows`: a month, by stream. `a_pass`: requests that check
    everything once; `daily` and `hourly`: requests a month for that, with the lists that change.
    """

    every: timedelta | None
    rows: Mapping[str, float]
    a_pass: int
    daily: float
    hourly: float
    unread: FirstReads
    read_by: datetime | None
    today: Forecast
    offers: Sequence[tuple[Offer, Forecast]]

    def as_dict(self) -> dict[str, Any]:
        return {
            "hours_between_runs": self.every and self.every / HOUR,
            "rows_a_month": dict(self.rows),
            "check_everything": {
                "requests": self.a_pass,
                "daily_a_month": self.daily,
                "hourly_a_month": self.hourly,
            },
            "lists_never_read": dict(self.unread.lists),
            "still_discovering": list(self.unread.discovering),
            "read_by": plain(self.read_by) if self.unread.lists else None,
            "audit_round_days": self.today.audit_round and self.today.audit_round * HOUR / DAY,
            "today": _forecast_dict(self.today),
            "plans": [
                {
                    "plans": list(offer.plans),
                    "monthly_requests": offer.monthly,
                    **_forecast_dict(found),
                }
                for offer, found in self.offers
            ],
        }


@dataclass(frozen=True, slots=True)
class Quota:
    """One Beamer account; `outlook` is None before its first run; `pace`: requests a day."""

    account: str | None
    connections: Sequence[str]
    limits: Limits
    limit_text: str
    balance: Balance | None = None
    pace: float = 0.0
    runs_out: datetime | None = None
    outlook: Outlook | None = None

    def as_dict(self) -> dict[str, Any]:
        balance = self.balance
        return {
            "account": self.account,
            "connections": list(self.connections),
            "limit": self.limit_text,
            "monthly_requests": self.limits.requests,
            "reserve": self.limits.reserve,
            "period_day": self.limits.period_day,
            "since": plain(balance.since if balance else None),
            "until": plain(balance.until if balance else None),
            "used": balance and balance.used,
            "by_purpose": dict(balance.by_purpose) if balance else {},
            "assumed": balance and balance.assumed,
            "left": balance and balance.left,
            "available": balance and balance.level,
            "per_day": balance and balance.per_day,
            "closed_until": plain(balance.closed_until if balance else None),
            "pace_per_day": balance and self.pace,
            "runs_out": plain(self.runs_out),
            "outlook": self.outlook and self.outlook.as_dict(),
        }


def quota(
    database: Database, of: Quota, policies: Mapping[str, Policy], offers: Iterable[Offer], now: datetime
) -> Quota:
    """Look an account up; `policies` are those of its connections that have run."""
    if of.account is None:
        return of
    balance = Ledger(database, of.account, of.connections[0], of.limits).balance(now)
    per_day = pace(database, of.account, balance, now)
    return replace(
        of,
        balance=balance,
        pace=per_day,
        runs_out=runs_out(of.limits, balance, per_day, now),
        outlook=_outlook(database, policies, balance, offers, now) if policies else None,
    )


def _outlook(
    database: Database,
    policies: Mapping[str, Policy],
    balance: Balance,
    offers: Iterable[Offer],
    now: datetime,
) -> Outlook:
    every = min(filter(None, (between_runs(database, name) for name in policies)), default=None)
    pictures = [
        Picture(
            CATALOGUE, policy, stored.readable(progress.load_readonly(database, name), policy.start), None
        )
        for name, policy in policies.items()
    ]
    found, unread = activity(pictures, now), first_reads(pictures)
    shortest = (every or HOUR) / HOUR
    days = (balance.until - balance.since) / DAY if balance.until else PERIOD_DAYS
    return Outlook(
        every,
        found.rows,
        found.checks,
        found.requests(24) * MONTH,
        found.requests(1) * MONTH,
        unread,
        read_by(unread, now, balance),
        forecast(found, shortest, balance.per_day, unread.requests),
        [
            (offer, forecast(found, shortest, offer.usable and offer.usable / days, unread.requests))
            for offer in offers
        ],
    )


def _forecast_dict(found: Forecast) -> dict[str, Any]:
    return {
        "requests_per_day": found.per_day,
        "keeps_up": found.keeps_up,
        "mean_delay_hours": found.mean,
    }

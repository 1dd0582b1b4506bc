"""The quota: the requests used and left in a month, and how late rows will be."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from connector.beamer.streams import CATALOGUE, USERS
from connector.clock import plain
from connector.domain.budget import Balance, Limits
from connector.domain.period import EPOCH, PERIOD_DAYS, day_of
from connector.reporting.status import DAY, HOUR, between_runs
from connector.segment.events import EVENTS, IDENTIFY
from connector.state import deliveries, progress, spending
from connector.state.engine import Database
from connector.state.ledger import Ledger
from connector.sync.fetch import stored
from connector.sync.forecast import MONTH, FirstReads, Forecast, activity, first_reads, forecast, read_by
from connector.sync.planning.probes import PlanInputs
from connector.sync.policy import Policy

# The present pace is that of so many days, without the account's first one: its first sync reads everything.
PACE_DAYS = 7
EVENTS_SINCE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Offer:
    """The monthly limit of some plans; `usable` is the limit less the reserve. None: no limit."""

    plans: Sequence[str]
    monthly: int | None
    usable: int | None


@dataclass(frozen=True, slots=True)
class Outlook:
    """An account's needs, and how late its rows will be if its activity stays the same.

    `every`: time between runs, None if unknown. `rows`: a month, by stream. `a_pass`: the requests for
    checking everything once; `daily` and `hourly`: requests a month for that, with the lists that change.
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
                {"plans": list(offer.plans), "monthly_requests": offer.monthly, **_forecast_dict(at_budget)}
                for offer, at_budget in self.offers
            ],
        }


@dataclass(frozen=True, slots=True)
class Quota:
    """One Beamer account; `outlook` is None before its first run; `pace`: requests a day, if known.

    `events`: what was sent to Segment in the last 30 days, by stream.
    """

    account: str | None
    connections: Sequence[str]
    limits: Limits
    limit_text: str
    balance: Balance | None = None
    pace: float | None = None
    runs_out: datetime | None = None
    outlook: Outlook | None = None
    events: Mapping[str, int] = field(default_factory=dict)

    @property
    def most_users(self) -> int:
        """Return the highest possible number of different users of these events."""
        return sum(
            count for stream, count in self.events.items() if stream == USERS or CATALOGUE[stream].by_user
        )

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
            "pace_per_day": self.pace,
            "runs_out": plain(self.runs_out),
            "outlook": self.outlook and self.outlook.as_dict(),
            "segment_events": dict(self.events),
            "segment_most_users": self.most_users,
        }


def events_by_stream(database: Database, connections: Sequence[str], now: datetime) -> dict[str, int]:
    """Return how many events of each stream's rows went to Segment in the last 30 days."""
    counts: Counter[str] = Counter()
    stream_of = {event.name: event.stream for event in (*EVENTS.values(), IDENTIFY)}
    for event, count in deliveries.by_event(database, connections, now - EVENTS_SINCE).items():
        if (stream := stream_of.get(event)) in (*CATALOGUE, USERS):
            counts[str(stream)] += count
    return {stream: counts[stream] for stream in (*CATALOGUE, USERS) if counts[stream]}


def quota(
    database: Database, account: Quota, policies: Mapping[str, Policy], offers: Iterable[Offer], now: datetime
) -> Quota:
    """Return an account with its figures; `policies` are those of its connections that have run."""
    if account.account is None:
        return account
    balance = Ledger(database, account.account, account.connections[0], account.limits).balance(now)
    per_day = pace(database, account.account, balance, now)
    return replace(
        account,
        balance=balance,
        pace=per_day,
        runs_out=runs_out(account.limits, balance, per_day, now),
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
    all_inputs = []
    for name, policy in policies.items():
        state = stored.readable(progress.load_readonly(database, name), policy.start)
        all_inputs.append(PlanInputs(CATALOGUE, policy, state, None))
    expected, unread = activity(all_inputs, now), first_reads(all_inputs)
    shortest = (every or HOUR) / HOUR
    days = (balance.until - balance.since) / DAY if balance.until else PERIOD_DAYS

    def at_budget(per_day: float | None) -> Forecast:
        return forecast(expected, shortest, per_day, unread.requests)

    return Outlook(
        every,
        expected.rows,
        expected.checks.total(),
        expected.requests(24) * MONTH,
        expected.requests(1) * MONTH,
        unread,
        read_by(unread, now, balance),
        at_budget(balance.per_day),
        [(offer, at_budget(offer.usable and offer.usable / days)) for offer in offers],
    )


def _forecast_dict(at_budget: Forecast) -> dict[str, Any]:
    return {
        "requests_per_day": at_budget.per_day,
        "keeps_up": at_budget.keeps_up,
        "mean_delay_hours": at_budget.mean,
    }


def pace(database: Database, account: str, balance: Balance, now: datetime) -> float | None:
    """Return requests a day: the connector's in the last days, and those entered for others in this month.

    None on the account's first day.
    """
    elsewhere = balance.by_purpose.get(spending.ELSEWHERE, 0)
    first, today = day_of(now) - PACE_DAYS + 1, day_of(now)
    with database.read() as db:
        if not spending.spent(db, account, 0, first - 1).requests:
            # The account began during these days.
            days = range(first, today)
            began = next((day for day in days if spending.spent(db, account, day - 1, day).requests), today)
            first = began + 1
        if first > today:
            return None
        spent = spending.spent(db, account, first - 1)
    sent, days_spent = spent.requests - (spent.elsewhere or 0), (now - EPOCH) / DAY - first
    return sent / max(1.0, days_spent) + elsewhere / max(1.0, (now - balance.since) / DAY)


def runs_out(limits: Limits, balance: Balance, per_day: float | None, now: datetime) -> datetime | None:
    """Return when the rest is used up at this pace; None if not before the month ends."""
    if balance.left is None or not per_day:
        return None
    # Without a period day, any 31 days are a period: a pace that they permit can continue for ever.
    if balance.until is None and per_day * PERIOD_DAYS <= (limits.usable or 0):
        return None
    lasts = balance.left / per_day
    ends = balance.until or now + PERIOD_DAYS * DAY
    return now + lasts * DAY if lasts < (ends - now) / DAY else None

"""The quota ledger: a request is taken out of the budget before it is sent, or it is not sent.

A crash between the two costs a request, never the limit. The same transaction hands out the moment at
which the request may go, so that all processes on one account keep to one rate together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Connection, and_, bindparam, case, func, select, update

from connector.errors import NoBudget
from connector.state.engine import Store
from connector.state.leases import Fence, hold
from connector.state.period import turns
from connector.state.tables import accounts, spends
from connector.state.writing import add, add_up, insert_into

# The vendor does not say when its month begins: until it is told, no 31 days in a row exceed the quota.
# Begun at any hour, 31 days touch 32 of UTC.
PERIOD_DAYS = 32
# A share of the rate is left unused, so that jitter on the way bunches no 31st request into a second.
USED_SHARE_OF_RATE = 0.98
REOPENING = (timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2), timedelta(hours=6))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND, MINUTE = 1_000_000, 60_000_000
# A short run need not wait for each of its moments: after an idle second so many go at once, and the
# next one when it would have been due anyway. No second holds more requests for it.
BURST = 10

# A clock set back must not hide what was already spent: days to come count too.
_IN_PERIOD = and_(spends.c.account == bindparam("who"), spends.c.day > bindparam("after"))
_USED = select(func.coalesce(func.sum(spends.c.requests), 0)).where(_IN_PERIOD)
_BY_DAY = (
    select(spends.c.day, func.sum(spends.c.requests))
    .where(_IN_PERIOD)
    .group_by(spends.c.day)
    .order_by(spends.c.day)
)
_BY_PURPOSE = (
    select(spends.c.purpose, func.sum(spends.c.requests)).where(_IN_PERIOD).group_by(spends.c.purpose)
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account may spend: requests a month (None: no limit) less a reserve; a rate.

    `period_day` is the day on which Beamer's month begins; while it is None, any 31 days are a month.
    """

    requests: int | None
    reserve: int
    per_second: float
    period_day: int | None = None

    @property
    def usable(self) -> int | None:
        return None if self.requests is None else max(0, self.requests - self.reserve)


@dataclass(frozen=True, slots=True)
class Balance:
    """What was spent in the month (see `Limits`), what may still be spent, and until when 429 closed it.

    `since` is where that month begins, at midnight UTC; `refused` holds until a request is answered
    again, also past `closed_until`.
    """

    used: int
    left: int | None
    closed_until: datetime | None
    refused: bool
    by_purpose: Mapping[str, int]
    since: datetime


class Ledger:
    """The budget of one Beamer account, as one connection draws on it."""

    def __init__(self, store: Store, account: str, connection: str, limits: Limits) -> None:
        self._store = store
        self.account = account
        self._connection = connection
        self.limits = limits

    def take(self, purpose: str, now: datetime, fence: Fence | None = None) -> datetime:
        """Take one request out of the budget and give the moment at which it may be sent.

        Raises NoBudget when none is left, or while the account is closed; nothing is charged then.
        """
        with self._store.write() as db:
            if fence:
                hold(db, fence, now)
            moment = self._paced(db, now)
            self._check_left(db, now)
            charge = {"account": self.account, "day": day_of(now), "connection": self._connection}
            add_up(db, spends, [{**charge, "purpose": purpose, "requests": 1}], "requests")
            return moment

    def _paced(self, db: Connection, now: datetime) -> datetime:
        """The next moment that is free; from here on the account's row is locked until the commit."""
        gap = int(1_000_000 / (self.limits.per_second * USED_SHARE_OF_RATE))
        values = {"who": self.account, "at": micros(now), "gap": gap}
        after, burst, closed_until = db.execute(_pacing(db.dialect.name), values).one()
        if until := _closed(closed_until, now):
            raise NoBudget("Beamer refuses requests for now (429).", until=until)
        slot = EPOCH + (int(after) - gap) * MICROSECOND
        return min(slot, now) if burst >= 0 else slot

    def _check_left(self, db: Connection, now: datetime) -> None:
        usable = self.limits.usable
        if usable is None:
            return
        used = int(db.execute(_USED, self._period(now)).scalar_one())
        if used >= usable:
            raise NoBudget("The quota is spent.", until=self._frees(db, now, used + 1 - usable))

    def _period(self, now: datetime) -> dict[str, Any]:
        day = self.limits.period_day
        after = day_of(now) - PERIOD_DAYS if day is None else day_of(turns(now, day)[0]) - 1
        return {"who": self.account, "after": after}

    def _frees(self, db: Connection, now: datetime, wanted: int) -> datetime | None:
        """When so many requests will have fallen out of the month, or the next one begins."""
        if self.limits.period_day is not None:
            return turns(now, self.limits.period_day)[1]
        for day, requests in db.execute(_BY_DAY, self._period(now)):
            wanted -= requests
            if wanted <= 0:
                return EPOCH + timedelta(days=day + PERIOD_DAYS)
        return None

    def close(self, now: datetime) -> datetime:
        """429 kept coming: ask nothing until the moment given, at growing intervals.

        Refusals of requests that were under way together close it once.
        """
        with self._store.write() as db:
            add(db, accounts, [{"name": self.account, "next_at": micros(now), "refusals": 0}])
            mine = accounts.c.name == self.account
            row = db.execute(select(accounts).where(mine).with_for_update()).one()
            if already := _closed(row.closed_until, now):
                return already
            until = now + REOPENING[min(row.refusals, len(REOPENING) - 1)]
            db.execute(update(accounts).where(mine).values(closed_until=until, refusals=row.refusals + 1))
            return until

    def opened(self) -> None:
        """A request was answered: the account is open."""
        with self._store.write() as db:
            mine = (accounts.c.name == self.account) & (accounts.c.refusals > 0)
            db.execute(update(accounts).where(mine).values(closed_until=None, refusals=0))

    def balance(self, now: datetime) -> Balance:
        """What the account has spent and may still spend."""
        mine = select(accounts.c.closed_until, accounts.c.refusals).where(accounts.c.name == self.account)
        with self._store.read() as db:
            purposes = {purpose: int(count) for purpose, count in db.execute(_BY_PURPOSE, self._period(now))}
            until, refusals = next(iter(db.execute(mine)), (None, 0))
        used = sum(purposes.values())
        usable = self.limits.usable
        left = None if usable is None else max(0, usable - used)
        since = EPOCH + timedelta(days=self._period(now)["after"] + 1)
        return Balance(used, left, _closed(until, now), refusals > 0, purposes, since)


def _closed(until: datetime | None, now: datetime) -> datetime | None:
    """Until when it is closed; no closing lasts so long that one from before a clock was set back would."""
    return until if until and now < until <= now + REOPENING[-1] else None


@cache
def _pacing(dialect: str) -> Any:
    at, gap = bindparam("at", type_=BigInteger), bindparam("gap", type_=BigInteger)
    # A clock set back must not make everybody wait until it has caught up.
    due = case((accounts.c.next_at.between(at, at + MINUTE), accounts.c.next_at), else_=at)
    busy = accounts.c.next_at.between(at - SECOND, at + MINUTE)
    left = case((and_(busy, accounts.c.burst < 0), -1), (busy, accounts.c.burst - 1), else_=BURST - 1)
    new = insert_into(dialect, accounts).values(
        name=bindparam("who"), next_at=at + gap, burst=BURST - 1, refusals=0
    )
    paced = new.on_conflict_do_update(
        index_elements=[accounts.c.name], set_={"next_at": due + gap, "burst": left}
    )
    return paced.returning(accounts.c.next_at, accounts.c.burst, accounts.c.closed_until)


def day_of(moment: datetime) -> int:
    """Whole UTC days since the epoch."""
    return (moment - EPOCH).days


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND

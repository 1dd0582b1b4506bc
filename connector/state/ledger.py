"""The quota ledger: a request is taken out of the budget before it is sent, or it is not sent.

A crash between the two costs a request, never the limit. The same transaction hands out the moment at
which the request may go, so that all processes on one account keep to one rate together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, ColumnElement, Connection, case, func, literal, select, update

from connector.errors import NoBudget
from connector.state.engine import Store
from connector.state.leases import Fence, hold
from connector.state.tables import accounts, spends

# The vendor does not say when its month begins: until it is told, no 31 days in a row exceed the quota.
PERIOD_DAYS = 31
# A share of the rate is left unused, so that jitter on the way bunches no 31st request into a second.
USED_SHARE_OF_RATE = 0.98
REOPENING = (timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2), timedelta(hours=6))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account may spend: requests in any 31 days (None: no limit) less a reserve; a rate."""

    requests: int | None
    reserve: int
    per_second: float

    @property
    def usable(self) -> int | None:
        return None if self.requests is None else max(0, self.requests - self.reserve)


@dataclass(frozen=True, slots=True)
class Balance:
    """What was spent in the last 31 days, what may still be spent, and until when 429 closed it.

    `refused` holds until a request is answered again, also past `closed_until`.
    """

    used: int
    left: int | None
    closed_until: datetime | None
    refused: bool
    by_purpose: Mapping[str, int]


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
            self._check_open(self._locked(db, now), now)
            self._check_left(db, now)
            self._charge(db, purpose, now)
            return self._next_moment(db, now)

    def _locked(self, db: Connection, now: datetime) -> datetime | None:
        """Lock the account's row, so that what follows sees everything spent so far."""
        new = self._store.insert(accounts).values(name=self.account, next_at=micros(now), refusals=0)
        db.execute(new.on_conflict_do_nothing())
        mine = select(accounts.c.closed_until).where(accounts.c.name == self.account)
        closed: datetime | None = db.execute(mine.with_for_update()).scalar_one()
        return closed

    def _check_open(self, closed_until: datetime | None, now: datetime) -> None:
        if closed_until and closed_until > now:
            raise NoBudget("Beamer refuses requests for now (429).", until=closed_until)

    def _check_left(self, db: Connection, now: datetime) -> None:
        usable = self.limits.usable
        if usable is not None and self._used(db, now) >= usable:
            raise NoBudget("The quota is spent.", until=self._frees(db, now))

    def _used(self, db: Connection, now: datetime) -> int:
        total = select(func.coalesce(func.sum(spends.c.requests), 0))
        return int(db.execute(total.where(self._in_period(now))).scalar_one())

    def _in_period(self, now: datetime) -> ColumnElement[bool]:
        # A clock set back must not hide what was already spent: days to come count too.
        return (spends.c.account == self.account) & (spends.c.day > day_of(now) - PERIOD_DAYS)

    def _frees(self, db: Connection, now: datetime) -> datetime | None:
        oldest = db.execute(select(func.min(spends.c.day)).where(self._in_period(now))).scalar()
        return None if oldest is None else EPOCH + timedelta(days=oldest + PERIOD_DAYS)

    def _charge(self, db: Connection, purpose: str, now: datetime) -> None:
        new = self._store.insert(spends).values(
            account=self.account, day=day_of(now), connection=self._connection, purpose=purpose, requests=1
        )
        db.execute(
            new.on_conflict_do_update(
                index_elements=list(spends.primary_key.columns), set_={"requests": spends.c.requests + 1}
            )
        )

    def _next_moment(self, db: Connection, now: datetime) -> datetime:
        gap = int(1_000_000 / (self.limits.per_second * USED_SHARE_OF_RATE))
        at = literal(micros(now), BigInteger)
        # A clock set back must not make everybody wait until it has caught up.
        due = case((accounts.c.next_at.between(at, at + 60_000_000), accounts.c.next_at), else_=at)
        statement = update(accounts).where(accounts.c.name == self.account).values(next_at=due + gap)
        after = int(db.execute(statement.returning(accounts.c.next_at)).scalar_one())
        return EPOCH + (after - gap) * MICROSECOND

    def close(self, now: datetime) -> datetime:
        """429 kept coming: ask nothing until the moment given, at growing intervals."""
        with self._store.write() as db:
            mine = accounts.c.name == self.account
            count = int(db.execute(select(accounts.c.refusals).where(mine).with_for_update()).scalar_one())
            until = now + REOPENING[min(count, len(REOPENING) - 1)]
            db.execute(update(accounts).where(mine).values(closed_until=until, refusals=count + 1))
            return until

    def opened(self) -> None:
        """A request was answered: the account is open."""
        with self._store.write() as db:
            mine = (accounts.c.name == self.account) & (accounts.c.refusals > 0)
            db.execute(update(accounts).where(mine).values(closed_until=None, refusals=0))

    def balance(self, now: datetime) -> Balance:
        """What the account has spent and may still spend."""
        by = select(spends.c.purpose, func.sum(spends.c.requests)).where(self._in_period(now))
        mine = select(accounts.c.closed_until, accounts.c.refusals).where(accounts.c.name == self.account)
        with self._store.read() as db:
            purposes = {row[0]: int(row[1]) for row in db.execute(by.group_by(spends.c.purpose))}
            until, refusals = next(iter(db.execute(mine)), (None, 0))
        used = sum(purposes.values())
        usable = self.limits.usable
        left = None if usable is None else max(0, usable - used)
        return Balance(used, left, until if until and until > now else None, refusals > 0, purposes)


def day_of(moment: datetime) -> int:
    """Whole UTC days since the epoch."""
    return (moment - EPOCH).days


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND

"""The quota ledger: a request is taken out of the budget before it is sent, or it is not sent.

A crash between the two costs a request, never the limit. Two things hold a request back: the month's
limit, which nothing exceeds, and the bucket, out of which the month is spent evenly. The same transaction
hands out the moment at which the request may go, so that all processes on one account keep to one rate
together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from connector.errors import ConfigurationError, NoBudget
from connector.state import closing, spending
from connector.state.bucket import Bucket
from connector.state.engine import Store
from connector.state.leases import Fence, hold
from connector.state.limits import Limits
from connector.state.pacing import gap, pacing
from connector.state.period import EPOCH, MICROSECOND, counted_after, day_of, micros, turns
from connector.state.standing import Standing, standing
from connector.state.tables import accounts, spends
from connector.state.writing import add, add_up

__all__ = ["Balance", "Ledger", "Limits"]

SECONDS_A_DAY = 86_400
CLOSED = "Beamer refuses requests for now (429)."
SPENT = "The quota is spent."
NOTHING_NOTED = "Nothing was written down."
NOT_AT_HAND = "The budget at hand is spent."

_MINE = accounts.c.name == bindparam("who")
_ACCOUNT = select(accounts).where(_MINE)
_SETTLE = update(accounts).where(_MINE).values(level=bindparam("held"), level_at=bindparam("as_of"))
_CLOSE = update(accounts).where(_MINE).values(closed_until=bindparam("until"), refusals=bindparam("count"))
_OPEN = update(accounts).where(_MINE, accounts.c.refusals > 0).values(closed_until=None, refusals=0)


@dataclass(frozen=True, slots=True)
class Balance:
    """What was spent in the month (see `Limits`), what may still be spent, and until when 429 closed it.

    `used` is what is known, told spending elsewhere included; `assumed` is what counts as spent before the
    account began; `left` is the limit less both, and `over` by how much both are more than the limit. Of
    what is left, `level` requests are at hand, and `per_day` come in; all three are None without a limit.
    The month lasts from `since`, at midnight UTC, to `until`, where its first day was told. `refused` holds
    until a request is answered again, also past `closed_until`. `again` is when the next request may be
    sent, None if never. `drawn` counts every request ever.
    """

    used: int
    left: int | None
    closed_until: datetime | None
    refused: bool
    by_purpose: Mapping[str, int]
    since: datetime
    until: datetime | None = None
    level: float | None = None
    per_day: float | None = None
    assumed: int = 0
    again: datetime | None = None
    drawn: int = 0
    over: int = 0

    @property
    def refusal(self) -> str | None:
        """Why not one request can be sent now; None if one can."""
        if self.closed_until:
            return CLOSED
        if self.left == 0:
            return SPENT
        return NOT_AT_HAND if self.level is not None and self.level < 1 else None


class Ledger:
    """The budget of one Beamer account, as one connection draws on it."""

    def __init__(self, store: Store, account: str, connection: str, limits: Limits) -> None:
        self._store = store
        self.account = account
        self._connection = connection
        self.limits = limits

    def take(
        self, purpose: str, now: datetime, fence: Fence | None = None, *, beyond_bucket: bool = False
    ) -> datetime:
        """Take one request out of the budget and give the moment at which it may be sent.

        Raises NoBudget when none is left or at hand, or while the account is closed; nothing is charged
        then. `beyond_bucket`: a person's own command is held by the month's limit alone. So is what is
        taken for a backfill, which leaves the bucket as it is; less comes in for a month.
        """
        with self._store.write() as db:
            if fence:
                hold(db, fence, now)
            pause = gap(self.limits.per_second)
            # From here on the account's row is locked until the commit.
            values = {"who": self.account, "now": now, "at": micros(now), "gap": pause}
            account = db.execute(pacing(db.dialect.name), values).one()
            if until := closing.closed(account.closed_until, now, self.limits.period_day):
                raise NoBudget(CLOSED, until=until)
            if self.limits.usable is not None:
                spared = purpose == spending.ALLOWANCE
                self._draw(db, account, now, beyond_bucket=beyond_bucket or spared, spared=spared)
            charge = {"account": self.account, "day": day_of(now), "connection": self._connection}
            add_up(db, spends, [{**charge, "purpose": purpose, "requests": 1}], "requests")
            slot = EPOCH + (int(account.next_at) - pause) * MICROSECOND
            return min(slot, now) if account.burst >= 0 else slot

    def _draw(
        self, db: Connection, account: Row[Any], now: datetime, *, beyond_bucket: bool, spared: bool
    ) -> None:
        stands = standing(db, self.account, self.limits, account, now)
        if not stands.left or (not beyond_bucket and stands.bucket.level < 1):
            raise NoBudget(
                NOT_AT_HAND if stands.left else SPENT,
                until=self._again(db, stands, now, beyond_bucket=beyond_bucket),
            )
        self._settle(db, stands.bucket if spared else stands.bucket.drawn())

    def _again(
        self, db: Connection, stands: Standing, now: datetime, *, beyond_bucket: bool
    ) -> datetime | None:
        """When both limit and bucket let a request through again; None if never."""
        at_hand = now if beyond_bucket else stands.bucket.holds_one(stands.stretches)
        frees = now if stands.left else self._frees(db, stands, now)
        return max(frees, at_hand) if frees and at_hand else None

    def _frees(self, db: Connection, stands: Standing, now: datetime) -> datetime | None:
        day = self.limits.period_day
        if day is not None:
            return turns(now, day)[1] if stands.usable else None
        wanted = stands.used + 1 - stands.usable
        return spending.falls_out(db, self.account, counted_after(now, None), wanted)

    def _settle(self, db: Connection, bucket: Bucket) -> None:
        db.execute(_SETTLE, {"who": self.account, "held": bucket.level, "as_of": micros(bucket.at)})

    def set_used(self, total: int, now: datetime, since: datetime | None = None) -> int:
        """Beamer's dashboard shows that so many requests were used this month: ours, and others' elsewhere.

        `since` is the first day of what it counts, where no day of the month was told. What was told before
        in the same month is replaced, and nothing is assumed any more. Gives how many of our own were sent
        in that time. Raises ConfigurationError where it cannot be known which of them are among the others.
        """
        self._judge_since(since, now)
        with self._store.write() as db:
            account = db.execute(_ACCOUNT.with_for_update(), {"who": self.account}).one_or_none()
            before = standing(db, self.account, self.limits, account, now)
            after = counted_after(now, self.limits.period_day) if since is None else day_of(since) - 1
            if since is None and self.limits.period_day is None:
                self._refuse_ambiguous(spending.ours(db, self.account, after, day_of(now) - 1))
            own = spending.ours(db, self.account, after, day_of(now))
            spending.tell(db, self.account, after, day_of(now), total)
            if account and account.level_at is not None and self.limits.usable is not None:
                # What came in until now did so by the old figures.
                left = standing(db, self.account, self.limits, account, now).left
                self._settle(db, before.bucket.at_most(left))
        return own

    def _judge_since(self, since: datetime | None, now: datetime) -> None:
        if since is None:
            return
        day = self.limits.period_day
        if day is not None and day_of(since) != day_of(turns(now, day)[0]):
            raise ConfigurationError(
                f"By BEAMER_PERIOD_DAY the month began on {turns(now, day)[0]:%Y-%m-%d}, not on "
                f"{since:%Y-%m-%d}.",
                means=NOTHING_NOTED,
                todo="Correct BEAMER_PERIOD_DAY, or leave out --since.",
            )
        if not counted_after(now, None) < day_of(since) <= day_of(now):
            raise ConfigurationError(
                f"No month that counts today began on {since:%Y-%m-%d}.",
                means=NOTHING_NOTED,
                todo="Give the first day that Beamer's dashboard counts: today, or one of the 31 before.",
            )

    def _refuse_ambiguous(self, ours: int) -> None:
        if not ours:
            return
        raise ConfigurationError(
            f"Requests were sent from here on earlier days ({ours:,}), and it is not known which of them "
            "Beamer's number holds: the day on which its count begins anew was not told.",
            means=NOTHING_NOTED,
            todo="Set BEAMER_PERIOD_DAY to that day of the month, and say it again; or give the first day of "
            "what is counted: --since YYYY-MM-DD.",
        )

    def close(self, now: datetime) -> datetime:
        """429 kept coming: ask nothing until the moment given, at growing intervals up to the month's turn.

        Refusals of requests that were under way together close it once.
        """
        day = self.limits.period_day
        with self._store.write() as db:
            new = {"name": self.account, "next_at": micros(now), "refusals": 0, "began_at": now}
            add(db, accounts, [new])
            account = db.execute(_ACCOUNT.with_for_update(), {"who": self.account}).one()
            if already := closing.closed(account.closed_until, now, day):
                return already
            refusals = closing.in_a_row(account.refusals, account.closed_until, now, day)
            until = closing.reopens(refusals, now, day)
            values = {"who": self.account, "until": until, "count": refusals + 1}
            db.execute(_CLOSE, values)
            return until

    def opened(self) -> None:
        """A request was answered: the account is open."""
        with self._store.write() as db:
            db.execute(_OPEN, {"who": self.account})

    def balance(self, now: datetime) -> Balance:
        """What the account has spent and may still spend."""
        day = self.limits.period_day
        after = counted_after(now, day)
        with self._store.read() as db:
            account = db.execute(_ACCOUNT, {"who": self.account}).one_or_none()
            stands = standing(db, self.account, self.limits, account, now)
            purposes = spending.by_purpose(db, self.account, after)
            limited = self.limits.usable is not None
            again = self._again(db, stands, now, beyond_bucket=False) if limited else now
        until, refusals = (account.closed_until, account.refusals) if account else (None, 0)
        closed = closing.closed(until, now, day)
        return Balance(
            used=stands.used - stands.assumed,
            left=stands.left if limited else None,
            closed_until=closed,
            refused=closing.in_a_row(refusals, until, now, day) > 0,
            by_purpose=purposes,
            since=EPOCH + timedelta(days=after + 1),
            until=None if day is None else turns(now, day)[1],
            level=stands.bucket.level if limited else None,
            per_day=stands.rate * SECONDS_A_DAY if limited else None,
            assumed=stands.assumed,
            again=max(again, closed) if again and closed else again,
            drawn=account.drawn if account else 0,
            over=max(0, stands.used - stands.usable) if limited else 0,
        )

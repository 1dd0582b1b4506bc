"""The quota ledger: a request is charged to the budget before it is sent, or it is not sent.

A crash between the two costs a request, but never exceeds the limit. Only a request that never left this
machine is refunded. Two things limit requests: the month's limit, which is never exceeded, and the bucket,
which spreads the month evenly. The same transaction sets the moment at which the request may be sent, so
that all processes on one account keep to one rate together.

Beamer counts by its own clock, and so does the ledger: by the dates of Beamer's answers, and by this
machine's clock since the last one. Where that clock may have been set since, a request also has to fit
into the month of the last answer, until an answer shows the time.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, select, update

from connector.domain import budget
from connector.domain.beamer_time import ANSWERS, NEAR, BeamerTime
from connector.domain.budget import CLOSED, NOT_AVAILABLE, SPENT, Balance, Bucket, Limits
from connector.domain.period import EPOCH, counted_after, day_of, micros, moment_of, month_at
from connector.errors import ConfigurationError, NoBudget, NotSent, Stopped
from connector.state import spending
from connector.state.columns import Moment
from connector.state.dialects import add, add_up
from connector.state.engine import Database
from connector.state.leases import Lease, check_lease
from connector.state.spending import budget_state, next_request
from connector.state.tables import accounts, spends
from connector.text import counted

DAY = timedelta(days=1)
NOTHING_STORED = "Nothing was stored."
# How often a run stores Beamer's time.
WRITTEN_EVERY = timedelta(minutes=10)
# A process counts as active for this time after a request; then the others may use the whole rate.
STILL_THERE = timedelta(seconds=10)
# The number of days whose requests give the share of hints.
LATELY_DAYS = 7
# While this machine's clock is surely behind, the bucket does not fill: one request may fetch the time.
MOST_OWED = -1.0

_MINE = accounts.c.name == bindparam("who")
_ACCOUNT = select(accounts).where(_MINE)
_LOCKED = _ACCOUNT.with_for_update()
_SETTLE = update(accounts).where(_MINE).values(level=bindparam("held"), level_at=bindparam("as_of"))
_CLOSE = update(accounts).where(_MINE).values(closed_until=bindparam("until"), refusals=bindparam("count"))
_GIVE_BACK = (
    update(spends)
    .where(
        spends.c.account == bindparam("who"),
        spends.c.day == bindparam("on"),
        spends.c.connection == bindparam("mine"),
        spends.c.purpose == bindparam("of"),
        spends.c.requests > 0,
    )
    .values(requests=spends.c.requests - 1)
)
_REFILL = update(accounts).where(_MINE).values(level=accounts.c.level + bindparam("refill"))
_BEAMER = bindparam("beamer", type_=Moment)
_WRITE_TIME = (
    update(accounts)
    .where(_MINE)
    .values(
        beamer_time=_BEAMER,
        local_time=bindparam("here", type_=Moment),
        doubted=bindparam("seconds"),
        began_at=case((accounts.c.began_at > _BEAMER, _BEAMER), else_=accounts.c.began_at),
    )
)
_OPEN = update(accounts).where(_MINE, accounts.c.refusals > 0).values(closed_until=None, refusals=0)


@dataclass(frozen=True, slots=True)
class Charge:
    """One request that was charged to the budget.

    It may be sent at the moment `at`. It counts on `day` (UTC, in days since the epoch) under `purpose`, and
    took `drawn` from the bucket.
    """

    at: datetime
    day: int
    purpose: str
    drawn: float = 0.0


class Ledger:
    """The budget of one Beamer account, as one connection uses it."""

    def __init__(self, database: Database, account: str, connection: str, limits: Limits) -> None:
        self._database = database
        self.account = account
        self._connection = connection
        self.limits = limits
        # Beamer's time, from the first answer to this process on; before that the database has it.
        self._time: BeamerTime | None = None
        self._written_at: datetime | None = None
        self._new_month_tried = False
        # What was charged since the last answer, by day and purpose, and for which lease.
        self._charged: Counter[tuple[int, str]] = Counter()
        self._lease: Lease | None = None
        # The account's number of requests at the last one of this process; when another's was last noticed.
        self._drawn: int | None = None
        self._others_at: datetime | None = None

    # --- one request -----------------------------------------------------------------------------------

    def take(
        self, purpose: str, now: datetime, lease: Lease | None = None, *, beyond_bucket: bool = False
    ) -> Charge:
        """Charge one request to the budget; the charge says when it may be sent.

        Raises NoBudget, and charges nothing, when none is left or available, or while the account is
        closed. `beyond_bucket`: a person's own command is limited by the month alone. So is a backfill's
        request, which leaves the bucket as it is; the bucket then fills more slowly for a month.
        """
        with self._database.write() as db:
            if lease:
                check_lease(db, lease, now)
            others = self._others_at is not None and abs(now - self._others_at) < STILL_THERE
            pause = spending.gap(self.limits.per_second, shared=others)
            # From this statement on the account's row is locked until the commit.
            values = {"who": self.account, "now": now, "at": micros(now), "gap": pause}
            account = db.execute(spending.pacing(db.dialect.name), values).one()
            beamer_now = self._time_of(account).at(now)
            if until := budget.closed(account.closed_until, beamer_now, self.limits.period_day):
                raise NoBudget(CLOSED, until=until - (beamer_now - now))
            drawn = 0.0
            if self.limits.usable is not None:
                spared = purpose == spending.ALLOWANCE
                drawn = self._draw(db, account, now, beyond_bucket=beyond_bucket or spared, spared=spared)
            day = day_of(beamer_now)
            spend = {"account": self.account, "day": day, "connection": self._connection}
            add_up(db, spends, [{**spend, "purpose": purpose, "requests": 1}], "requests")
            slot = moment_of(int(account.next_at) - pause)
            at = min(slot, now) if account.burst >= 0 else slot
            self._note_others(int(account.drawn), now)
        self._charged[day, purpose] += 1
        self._lease = lease
        return Charge(at, day, purpose, drawn)

    def _note_others(self, drawn: int, now: datetime) -> None:
        """Note another process if the account's number of requests has grown by more than this one's."""
        if self._drawn is not None and drawn > self._drawn + 1:
            self._others_at = now
        self._drawn = drawn

    @contextmanager
    def taken(
        self, purpose: str, now: datetime, *, lease: Lease | None = None, beyond_bucket: bool = False
    ) -> Iterator[datetime]:
        """Charge one request for the block; yield the moment at which it may be sent.

        The charge is refunded if the block reports that the request was never sent.
        """
        charge = self.take(purpose, now, lease, beyond_bucket=beyond_bucket)
        try:
            yield charge.at
        except (NotSent, Stopped):
            self.give_back(charge)
            raise

    def give_back(self, charge: Charge) -> None:
        """Refund a charge whose request never left this machine; call it once for each.

        A charge that does not exist any more, such as after the account got its first name, stays.
        """
        mine = {"who": self.account}
        with self._database.write() as db:
            # Locked in the same order as in `take`.
            if db.execute(_LOCKED, mine).one_or_none() is None:
                return
            spend = {**mine, "on": charge.day, "mine": self._connection, "of": charge.purpose}
            if db.execute(_GIVE_BACK, spend).rowcount and charge.drawn:
                db.execute(_REFILL, {**mine, "refill": charge.drawn})
        self._charged[charge.day, charge.purpose] -= self._charged[charge.day, charge.purpose] > 0

    def _draw(
        self, db: Connection, account: Row[Any], now: datetime, *, beyond_bucket: bool, spared: bool
    ) -> float:
        """Charge the month and, unless `spared`, the bucket; return what was taken from the bucket."""
        time = self._time_of(account)
        beamer_now = time.at(now)
        state = budget_state(db, self.account, self.limits, account, beamer_now)
        time_request = time.set_back(now) and state.bucket.level > MOST_OWED
        if not state.left or not (beyond_bucket or time_request or state.bucket.level >= 1):
            until = next_request(
                db, self.account, self.limits, state, beamer_now, beyond_bucket=beyond_bucket
            )
            raise NoBudget(NOT_AVAILABLE if state.left else SPENT, until=until and until - (beamer_now - now))
        before = state.bucket
        after = before if spared else before.drawn()
        if time_request and before.level < 1:
            after = replace(before, level=before.level - 1)
        if not time.sure(now):
            self._fit_before(db, account, time.beamer)
            if account.level_at is not None:
                # What the bucket has gained since is added when the time is known.
                before = Bucket(account.level, moment_of(account.level_at))
                lowest = min(0.0, before.level) if beyond_bucket else before.level - 1
                after = before if spared else replace(before, level=max(lowest, before.level - 1))
        self._settle(db, after)
        return before.level - after.level

    def _fit_before(self, db: Connection, account: Row[Any], last: datetime | None) -> None:
        """Raise NoBudget where a request does not fit into the month of the `last` answer.

        A changed clock starts no new month: until an answer shows the time, the one before counts, too. In
        a month that is fully spent, one request may test whether the next one has begun.
        """
        if last is None or budget_state(db, self.account, self.limits, account, last).left:
            return
        if self._new_month_tried:
            raise NoBudget(SPENT)
        self._new_month_tried = True

    def _settle(self, db: Connection, bucket: Bucket) -> None:
        db.execute(_SETTLE, {"who": self.account, "held": bucket.level, "as_of": micros(bucket.at)})

    # --- Beamer's time ---------------------------------------------------------------------------------

    @property
    def ahead(self) -> timedelta:
        """Return how far Beamer's clock is ahead of this machine's, by its answers to this process."""
        return self._time.ahead if self._time else timedelta(0)

    @property
    def furthest(self) -> timedelta | None:
        """Return how far ahead of this machine's clock Beamer's may be; None before a dated answer."""
        return self._time.furthest if self._time and self._time.answered else None

    def beamer_now(self, now: datetime) -> datetime:
        """Return Beamer's time when this machine's clock shows `now`."""
        return self._known_time().at(now)

    def latest(self, now: datetime) -> datetime:
        """Return the latest possible time, whichever clock is behind; data kept for days is deleted by it."""
        return max(now, now + self.ahead, self.beamer_now(now))

    def earliest(self, now: datetime) -> datetime | None:
        """Return the earliest possible time, whichever clock is ahead; None without a recent answer."""
        time = self._known_time()
        if time.answered:
            return now + time.earliest
        return time.at(now) if time.beamer and time.sure(now) else None

    def note_beamer_time(self, date: datetime | None, now: datetime) -> None:
        """Set Beamer's time by the date of an answer to this account; None if it had no date."""
        time = self._known_time()
        expected, doubted = time.at(now), time.doubted
        self._time = time
        answered = time.note(date, now)
        was_off = answered and abs(time.at(now) - expected) > NEAR
        due = self._written_at is None or not timedelta(0) <= now - self._written_at < WRITTEN_EVERY
        if was_off or time.doubted != doubted or (answered and due):
            self._write_time(time, day_of(time.at(now)) if was_off else None, now)
            self._written_at = now
        if answered:
            self._new_month_tried = False
            self._charged.clear()

    def _write_time(self, time: BeamerTime, day: int | None, now: datetime) -> None:
        """Store Beamer's time; what was just charged to other days was sent on this `day`."""
        moved = {key: count for key, count in self._charged.items() if day not in (None, key[0])}
        mine = {"account": self.account, "connection": self._connection}
        with self._database.write() as db:
            if moved and self._lease:
                check_lease(db, self._lease, now)
            seconds = None if time.doubted is None else round(time.doubted.total_seconds())
            times = {"beamer": time.beamer, "here": time.local, "seconds": seconds}
            db.execute(_WRITE_TIME, {"who": self.account, **times})
            rows = [
                {**mine, "day": on, "purpose": purpose, "requests": count}
                for (was_on, purpose), number in moved.items()
                for on, count in ((was_on, -number), (day, number))
            ]
            add_up(db, spends, rows, "requests")

    def _known_time(self) -> BeamerTime:
        """Return Beamer's time as this process knows it; before its first answer, as the database has it."""
        if self._time:
            return self._time
        with self._database.read() as db:
            return self._time_of(db.execute(_ACCOUNT, {"who": self.account}).one_or_none())

    def _time_of(self, account: Row[Any] | None) -> BeamerTime:
        """Return Beamer's time as this process knows it, or as another one stored it in the account's row."""
        if self._time or account is None:
            return self._time or BeamerTime()
        # One more answer with the same difference, in a later run, confirms it.
        doubted = None if account.doubted is None else timedelta(seconds=account.doubted)
        return BeamerTime(account.beamer_time, account.local_time, doubted, ANSWERS - 1)

    def spent_lately(self, purpose: str, now: datetime) -> tuple[int, int]:
        """Return how many requests of the last seven days had a purpose, and how many there were."""
        after = day_of(self.beamer_now(now)) - LATELY_DAYS
        mine = Counter[str]()
        for _, of, requests in spending.spends_after(self._database, self.account, after):
            mine[of] += requests if of not in (spending.ELSEWHERE, spending.ALLOWANCE) else 0
        return mine[purpose], mine.total()

    # --- the whole account -----------------------------------------------------------------------------

    def set_used(self, total: int, now: datetime, since: datetime | None = None) -> int:
        """Store that Beamer's dashboard shows so many requests used this month, ours and others'.

        `since` is the first day of what it counts, if no day of the month is set: what others spent
        counts until that month is over. It replaces what was entered before in the same month, and every
        assumption. Returns how many of our own were sent in that time. Raises ConfigurationError if it is
        unknown which of them are among the others.
        """
        now = self.beamer_now(now)
        self._check_since(since, now)
        with self._database.write() as db:
            account = db.execute(_LOCKED, {"who": self.account}).one_or_none()
            before = budget_state(db, self.account, self.limits, account, now)
            after = counted_after(now, self.limits.period_day) if since is None else day_of(since) - 1
            if since is None and self.limits.period_day is None:
                _refuse_ambiguous(spending.spent(db, self.account, after, day_of(now) - 1).own)
            requests = spending.spent(db, self.account, after, day_of(now)).own
            rolling = since is not None and self.limits.period_day is None
            day = day_of(since) if since and rolling else day_of(now)
            spending.set_elsewhere(db, self.account, after, day, total, of_a_month=rolling)
            if account and account.level_at is not None and self.limits.usable is not None:
                # The bucket gained by the old figures until now.
                left = budget_state(db, self.account, self.limits, account, now).left
                self._settle(db, before.bucket.at_most(left))
        return requests

    def _check_since(self, since: datetime | None, now: datetime) -> None:
        if since is None:
            return
        day = self.limits.period_day
        if day is not None and day_of(since) != day_of(month_at(now, day)[0]):
            raise ConfigurationError(
                f"According to BEAMER_PERIOD_DAY, the month began on {month_at(now, day)[0]:%Y-%m-%d}, not "
                f"on {since:%Y-%m-%d}.",
                means=NOTHING_STORED,
                todo="Correct BEAMER_PERIOD_DAY, or leave out --since.",
            )
        if day_of(since) > day_of(now) or spending.month_end(day_of(since)) <= now:
            raise ConfigurationError(
                f"The current month of the account cannot have begun on {since:%Y-%m-%d}.",
                means=NOTHING_STORED,
                todo="Give the first day that Beamer's dashboard counts. It is less than a month ago.",
            )

    def close(self, now: datetime) -> datetime:
        """Close the account after repeated 429, at growing intervals up to the month's end; return when it
        opens.

        Refusals of requests that were sent together close it once.
        """
        day = self.limits.period_day
        with self._database.write() as db:
            new = {"name": self.account, "next_at": micros(now), "refusals": 0, "began_at": now}
            add(db, accounts, [new])
            account = db.execute(_LOCKED, {"who": self.account}).one()
            beamer_now = self._time_of(account).at(now)
            until = budget.closed(account.closed_until, beamer_now, day)
            if until is None:
                refusals = budget.in_a_row(account.refusals, account.closed_until, beamer_now, day)
                until = budget.reopens(refusals, beamer_now, day)
                db.execute(_CLOSE, {"who": self.account, "until": until, "count": refusals + 1})
            return until - (beamer_now - now)

    def opened(self) -> None:
        """Store that a request was answered: the account is open again."""
        with self._database.write() as db:
            db.execute(_OPEN, {"who": self.account})

    def balance(self, now: datetime) -> Balance:
        """Return what the account has spent and may still spend."""
        day, limited = self.limits.period_day, self.limits.usable is not None
        with self._database.read() as db:
            account = db.execute(_ACCOUNT, {"who": self.account}).one_or_none()
            time = self._time_of(account)
            beamer_now = time.at(now)
            after = counted_after(beamer_now, day)
            state = budget_state(db, self.account, self.limits, account, beamer_now)
            over = spending.over_by(beamer_now) if day is None else None
            purposes = spending.by_purpose(db, self.account, after, over=over)
            again: datetime | None = beamer_now
            if limited:
                again = next_request(db, self.account, self.limits, state, beamer_now, beyond_bucket=False)
        time_request = time.set_back(now) and state.left > 0 and state.bucket.level > MOST_OWED
        until, refusals = (account.closed_until, account.refusals) if account else (None, 0)
        closed, ahead = budget.closed(until, beamer_now, day), beamer_now - now
        return Balance(
            used=state.used - state.assumed,
            left=state.left if limited else None,
            closed_until=closed and closed - ahead,
            refused=budget.in_a_row(refusals, until, beamer_now, day) > 0,
            by_purpose=purposes,
            since=EPOCH + (after + 1) * DAY,
            until=None if day is None else month_at(beamer_now, day)[1],
            level=max(1.0 if time_request else 0.0, state.bucket.level) if limited else None,
            per_day=state.rate * DAY.total_seconds() if limited else None,
            assumed=state.assumed,
            again=again and max(again, closed or again) - ahead,
            drawn=account.drawn if account else 0,
            over=max(0, state.used - state.usable) if limited else 0,
        )


def _refuse_ambiguous(sent: int) -> None:
    if sent:
        raise ConfigurationError(
            f"This connector sent {counted(sent, 'request')} on earlier days, and it is unknown which of "
            "them Beamer's number includes: the first day of Beamer's month is not set.",
            means=NOTHING_STORED,
            todo="Set BEAMER_PERIOD_DAY to that day and run the command again, or give the first counted "
            "day: --since YYYY-MM-DD.",
        )

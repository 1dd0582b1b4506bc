"""What an account has spent, what that leaves of its budget, and when its next request may be sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
)

from connector.domain.budget import Bucket, BudgetState, Limits, Month, Stretch, assumed, grant, rolling
from connector.domain.period import (
    EPOCH,
    MICROSECOND,
    PERIOD_DAYS,
    ROLLING,
    counted_after,
    day_of,
    moment_of,
    month_at,
)
from connector.state.columns import Moment
from connector.state.dialects import insert_into
from connector.state.engine import Database
from connector.state.tables import accounts, spends

# The requests of other tools and people, by Beamer's dashboard; no connection or stream has these names.
NOBODY, ELSEWHERE = "", "elsewhere"
# Requests that were entered for a month that began on a known day, while no day of the month is set: they
# are stored on that day, and count until that month is over.
OF_A_MONTH = "(month)"
# The purpose of requests that a backfill takes from the month by its own allowance, outside the bucket.
ALLOWANCE = "backfill"
FOR_GOOD = 10_000_000

# A clock that was set back must not hide what was spent: later days count too.
_BEHIND = and_(spends.c.account == bindparam("who"), spends.c.day > bindparam("after"))
# `over`: the last day whose month is over, where that is later than `after`.
_IN_PERIOD = and_(_BEHIND, or_(spends.c.connection != OF_A_MONTH, spends.c.day > bindparam("over")))
_ELSEWHERE = spends.c.purpose == ELSEWHERE
_ALLOWED = spends.c.purpose == ALLOWANCE
_SPENT = select(
    func.coalesce(func.sum(spends.c.requests), 0),
    func.sum(case((_ELSEWHERE, spends.c.requests))),
    func.coalesce(func.sum(case((_ALLOWED, spends.c.requests))), 0),
).where(_IN_PERIOD, spends.c.day <= bindparam("until"))
_BY_DAY = (
    select(spends.c.day, spends.c.connection, func.sum(spends.c.requests))
    .where(_IN_PERIOD)
    .group_by(spends.c.day, spends.c.connection)
)
_BY_PURPOSE = (
    select(spends.c.purpose, func.sum(spends.c.requests)).where(_IN_PERIOD).group_by(spends.c.purpose)
)
_DELETE_ELSEWHERE = delete(spends).where(_BEHIND, _ELSEWHERE)


@dataclass(frozen=True, slots=True)
class Spent:
    """All requests of some days; how many of them were spent elsewhere (None: unknown) and by backfills."""

    requests: int
    elsewhere: int | None
    allowed: int = 0

    @property
    def aside(self) -> int:
        """Return the requests that were never taken from the bucket."""
        return (self.elsewhere or 0) + self.allowed

    @property
    def own(self) -> int:
        """Return the requests of this connector."""
        return self.requests - (self.elsewhere or 0)


def spent(
    db: Connection, account: str, after: int, until: int = FOR_GOOD, *, over: int | None = None
) -> Spent:
    """Return what was spent on the days after `after`, up to `until`, in days since the epoch.

    Requests entered for a month that began on the day `over` or before are left out.
    """
    totals = db.execute(_SPENT, _days(account, after, over) | {"until": until})
    requests, elsewhere, allowed = totals.one()
    return Spent(int(requests), None if elsewhere is None else int(elsewhere), int(allowed))


def by_purpose(db: Connection, account: str, after: int, *, over: int | None = None) -> dict[str, int]:
    totals = db.execute(_BY_PURPOSE, _days(account, after, over))
    return {purpose: int(requests) for purpose, requests in totals if requests}


def _days(account: str, after: int, over: int | None) -> dict[str, str | int]:
    return {"who": account, "after": after, "over": after if over is None else over}


def account_began(database: Database, account: str) -> datetime | None:
    """Return when an account was first charged."""
    with database.read() as db:
        began: datetime | None = db.scalar(select(accounts.c.began_at).where(accounts.c.name == account))
    return began


def spends_after(database: Database, account: str, after: int) -> list[tuple[int, str, int]]:
    """Return days (since the epoch), purposes and requests of all connections of an account."""
    columns = (spends.c.day, spends.c.purpose, spends.c.requests)
    with database.read() as db:
        totals = db.execute(select(*columns).where(_BEHIND), {"who": account, "after": after})
        return [(int(day), purpose, int(requests)) for day, purpose, requests in totals]


def over_by(now: datetime) -> int:
    """Return the last day, in days since the epoch, on which a month began that is over by now."""
    today = day_of(now)
    return next(day for day in range(today - 1, today - PERIOD_DAYS - 1, -1) if month_end(day) <= now)


def month_end(day: int) -> datetime:
    """Return the end of a month that began on a day."""
    began = EPOCH + timedelta(days=day)
    return month_at(began, began.day)[1]


def set_elsewhere(
    db: Connection, account: str, after: int, day: int, total: int, *, of_a_month: bool = False
) -> None:
    """Store that of `total` requests after `after`, those that are not our own were spent elsewhere.

    They count on `day`. They replace what was entered before for these days, not for earlier ones.
    """
    db.execute(_DELETE_ELSEWHERE, {"who": account, "after": after})
    rest = max(0, total - spent(db, account, after).requests)
    who = OF_A_MONTH if of_a_month else NOBODY
    row = {"account": account, "day": day, "connection": who, "purpose": ELSEWHERE, "requests": rest}
    db.execute(insert(spends), [row])


def budget_state(
    db: Connection, name: str, limits: Limits, account: Row[Any] | None, now: datetime
) -> BudgetState:
    """Return an account's budget as of now; `account` is its row, where there is one."""
    usable = limits.usable or 0
    began = min(account.began_at, now) if account else now
    bucket = None
    if account and account.level_at is not None:
        bucket = Bucket(account.level, moment_of(account.level_at))
    guess = 0
    stretches: Sequence[Stretch]
    if limits.period_day is None:
        recent = spent(db, name, counted_after(now, None), over=over_by(now))
        used = recent.requests
        stretches = rolling(max(0, usable - recent.aside), limits.startup, began)
    else:
        months = _Calendar(db, name, usable, limits.period_day, began)
        this = months.holding(now)
        used, guess = this.used + this.assumed, this.assumed
        stretches = [*months.between(bucket.at if bucket else now, this), this, months.behind(this)]
    left = max(0, usable - used)
    bucket = bucket.filled(now, stretches) if bucket else Bucket(grant(left, limits.startup), now)
    return BudgetState(usable, used, guess, bucket.at_most(left), stretches)


@dataclass(frozen=True, slots=True)
class _Calendar:
    """The months of an account whose first day is known, with what was spent in them."""

    db: Connection
    name: str
    usable: int
    first_day: int
    began: datetime

    def holding(self, moment: datetime, *, past: bool = False) -> Month:
        """Return a moment's month; later days count towards the current month, not towards a past one."""
        start, end = month_at(moment, self.first_day)
        until = day_of(end) - 1 if past else FOR_GOOD
        totals = spent(self.db, self.name, day_of(start) - 1, until)
        # The figure of Beamer's dashboard replaces an assumption.
        guess = assumed(self.usable, start, end, self.began) if totals.elsewhere is None else 0
        return Month(start, end, self.usable, totals.requests, guess)

    def between(self, since: datetime, this: Month) -> list[Month]:
        """Return the months from `since` up to this one; of months without requests only the last."""
        if since >= this.start:
            return []
        first = self.holding(since, past=True)
        idle = Month(*month_at(this.start - MICROSECOND, self.first_day), self.usable)
        return [first] if first.end == this.start else [first, idle]

    def behind(self, this: Month) -> Month:
        return Month(*month_at(this.end, self.first_day), self.usable)


def next_request(
    db: Connection, name: str, limits: Limits, state: BudgetState, now: datetime, *, beyond_bucket: bool
) -> datetime | None:
    """Return when both the month and the bucket allow a request again; None if never."""
    available = now if beyond_bucket else state.bucket.holds_one(state.stretches)
    if state.left:
        frees: datetime | None = now
    elif limits.period_day is not None:
        frees = month_at(now, limits.period_day)[1] if state.usable else None
    else:
        frees = _falls_out(db, name, now, state.used + 1 - state.usable)
    return max(frees, available) if frees and available else None


def _falls_out(db: Connection, account: str, now: datetime, wanted: int) -> datetime | None:
    """Return when `wanted` requests will be older than 31 days; None if there are fewer."""
    by_day = db.execute(_BY_DAY, _days(account, counted_after(now, None), over_by(now)))
    ends = [
        (month_end(day) if who == OF_A_MONTH else EPOCH + timedelta(days=day) + ROLLING, requests)
        for day, who, requests in by_day
    ]
    for moment, requests in sorted(ends):
        wanted -= requests
        if wanted <= 0:
            return moment
    return None


# A share of the rate is left unused, so that jitter never puts a 31st request into one second. A single
# process keeps the rate by what it sent; several know only when each other's requests were due.
USED_SHARE_OF_RATE = 0.98
SHARED_SHARE_OF_RATE = 0.8
SECOND, MINUTE = 1_000_000, 60_000_000
# A short run need not wait between its requests: after an idle second so many are sent at once, and the
# next one when it would have been due anyway. No second holds more requests than without this.
BURST = 10


def gap(per_second: float, *, shared: bool = False) -> int:
    """Return microseconds between two requests; `shared`: another process is making requests, too."""
    return int(SECOND / (per_second * (SHARED_SHARE_OF_RATE if shared else USED_SHARE_OF_RATE)))


def next_free(stored: ColumnElement[int], at: ColumnElement[int]) -> ColumnElement[int]:
    """Return the next moment that is not reserved, from the stored one; microseconds."""
    # A clock that was set back must not make all processes wait until it has caught up.
    return case((stored.between(at, at + MINUTE), stored), else_=at)


@cache
def pacing(dialect: str) -> Any:
    """Return the statement that reserves an account's next moment, and returns its row afterwards.

    It takes `who`, `now`, `at` (the same in microseconds) and `gap`, and creates a missing row.
    """
    at, between = bindparam("at", type_=BigInteger), bindparam("gap", type_=BigInteger)
    now = bindparam("now", type_=Moment)
    due = next_free(accounts.c.next_at, at)
    busy = accounts.c.next_at.between(at - SECOND, at + MINUTE)
    left = case((and_(busy, accounts.c.burst < 0), -1), (busy, accounts.c.burst - 1), else_=BURST - 1)
    # A beginning must not lie in the future: the month before it would count as spent when it comes.
    began = case(
        (and_(accounts.c.began_at > now, accounts.c.beamer_time.is_(None)), now), else_=accounts.c.began_at
    )
    new = insert_into(dialect, accounts).values(
        name=bindparam("who"),
        next_at=at + between,
        burst=BURST - 1,
        refusals=0,
        began_at=now,
        level=0,
        drawn=1,
    )
    paced = new.on_conflict_do_update(
        index_elements=[accounts.c.name],
        set_={"next_at": due + between, "burst": left, "began_at": began, "drawn": accounts.c.drawn + 1},
    )
    return paced.returning(*accounts.c)

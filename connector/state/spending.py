"""What an account has spent, and the statement that hands out the moments at which requests may go."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Connection, and_, bindparam, case, delete, func, insert, or_, select

from connector.domain.period import EPOCH, PERIOD_DAYS, ROLLING, day_of, turns
from connector.state.columns import Moment
from connector.state.tables import accounts, spends
from connector.state.upserts import insert_into

# What other tools and people spent, as Beamer's dashboard told; no connection and no stream is called so.
NOBODY, ELSEWHERE = "", "elsewhere"
# So is what was told of a month that began on a day, while no day of the month is set: it stands on its first
# day, and counts until that month is over.
OF_A_MONTH = "(month)"
# What a backfill draws out of the month by an allowance of its own, past the bucket.
ALLOWANCE = "backfill"
FOR_GOOD = 10_000_000

# A clock set back must not hide what was already spent: days to come count too.
_BEHIND = and_(spends.c.account == bindparam("who"), spends.c.day > bindparam("after"))
# Of `after`, the last day whose month is over, where that is later.
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
    """All requests of some days; of them, those spent elsewhere (None: nobody told) and by backfills."""

    requests: int
    elsewhere: int | None
    allowed: int = 0

    @property
    def aside(self) -> int:
        """What never went through the bucket."""
        return (self.elsewhere or 0) + self.allowed


def spent(
    db: Connection, account: str, after: int, until: int = FOR_GOOD, *, over: int | None = None
) -> Spent:
    """What was spent on the days behind `after`, up to `until`, in days since the epoch.

    What was told of a month that began up to the day `over` is left out.
    """
    found = db.execute(_SPENT, _days(account, after, over) | {"until": until})
    every, elsewhere, allowed = found.one()
    return Spent(int(every), None if elsewhere is None else int(elsewhere), int(allowed))


def by_purpose(db: Connection, account: str, after: int, *, over: int | None = None) -> dict[str, int]:
    found = db.execute(_BY_PURPOSE, _days(account, after, over))
    return {purpose: int(requests) for purpose, requests in found if requests}


def _days(account: str, after: int, over: int | None) -> dict[str, str | int]:
    return {"who": account, "after": after, "over": after if over is None else over}


def over_by(now: datetime) -> int:
    """The last day, in days since the epoch, on which a month began that is over by now."""
    today = day_of(now)
    return next(day for day in range(today - 1, today - PERIOD_DAYS - 1, -1) if month_end(day) <= now)


def month_end(day: int) -> datetime:
    """When a month is over that began on a day."""
    began = EPOCH + timedelta(days=day)
    return turns(began, began.day)[1]


def falls_out(db: Connection, account: str, after: int, wanted: int, *, over: int) -> datetime | None:
    """When so many requests will have fallen out of 31 days in a row; None where there are fewer."""
    found = db.execute(_BY_DAY, _days(account, after, over))
    out = [
        (month_end(day) if who == OF_A_MONTH else EPOCH + timedelta(days=day) + ROLLING, requests)
        for day, who, requests in found
    ]
    for moment, requests in sorted(out):
        wanted -= requests
        if wanted <= 0:
            return moment
    return None


def ours(db: Connection, account: str, after: int, until: int) -> int:
    """Of these days' requests, those that were counted here."""
    found = spent(db, account, after, until)
    return found.requests - (found.elsewhere or 0)


def set_elsewhere(
    db: Connection, account: str, after: int, day: int, total: int, *, of_a_month: bool = False
) -> None:
    """Of `total` requests behind `after`, those that are not our own were spent elsewhere: as of a day.

    What was told before for these days is over; what was told for earlier ones stays.
    """
    db.execute(_DELETE_ELSEWHERE, {"who": account, "after": after})
    rest = max(0, total - spent(db, account, after).requests)
    who = OF_A_MONTH if of_a_month else NOBODY
    row = {"account": account, "day": day, "connection": who, "purpose": ELSEWHERE, "requests": rest}
    db.execute(insert(spends), [row])


# A share of the rate is left unused, so that jitter on the way bunches no 31st request into a second. One
# process keeps the rate by what it sent; several know of each other's requests only when they were due.
USED_SHARE_OF_RATE = 0.98
SHARED_SHARE_OF_RATE = 0.8
SECOND, MINUTE = 1_000_000, 60_000_000
# A short run need not wait for each of its moments: after an idle second so many go at once, and the
# next one when it would have been due anyway. No second holds more requests for it.
BURST = 10


def gap(per_second: float, *, shared: bool = False) -> int:
    """Microseconds between two requests; `shared`: another process is making requests, too."""
    return int(SECOND / (per_second * (SHARED_SHARE_OF_RATE if shared else USED_SHARE_OF_RATE)))


@cache
def pacing(dialect: str) -> Any:
    """Takes `who`, `now`, `at` (the same in microseconds) and `gap`; makes the account's row where there
    is none, and gives it.
    """
    at, between = bindparam("at", type_=BigInteger), bindparam("gap", type_=BigInteger)
    now = bindparam("now", type_=Moment)
    # A clock set back must not make everybody wait until it has caught up.
    due = case((accounts.c.next_at.between(at, at + MINUTE), accounts.c.next_at), else_=at)
    busy = accounts.c.next_at.between(at - SECOND, at + MINUTE)
    left = case((and_(busy, accounts.c.burst < 0), -1), (busy, accounts.c.burst - 1), else_=BURST - 1)
    # Nor may a beginning lie in the future: the month before it would count as spent when it comes.
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

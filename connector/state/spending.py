"""What an account has spent: requests by UTC day, connection and purpose."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, bindparam, case, delete, func, insert, select

from connector.state.period import EPOCH, ROLLING
from connector.state.tables import spends

# What other tools and people spent, as Beamer's dashboard told; no connection and no stream is called so.
NOBODY, ELSEWHERE = "", "elsewhere"
# What a backfill draws out of the month by an allowance of its own, past the bucket.
ALLOWANCE = "backfill"
FOR_GOOD = 10_000_000

# A clock set back must not hide what was already spent: days to come count too.
_IN_PERIOD = and_(spends.c.account == bindparam("who"), spends.c.day > bindparam("after"))
_TOLD = spends.c.purpose == ELSEWHERE
_ALLOWED = spends.c.purpose == ALLOWANCE
_SPENT = select(
    func.coalesce(func.sum(spends.c.requests), 0),
    func.sum(case((_TOLD, spends.c.requests))),
    func.coalesce(func.sum(case((_ALLOWED, spends.c.requests))), 0),
).where(_IN_PERIOD, spends.c.day <= bindparam("until"))
_BY_DAY = (
    select(spends.c.day, func.sum(spends.c.requests))
    .where(_IN_PERIOD)
    .group_by(spends.c.day)
    .order_by(spends.c.day)
)
_BY_PURPOSE = (
    select(spends.c.purpose, func.sum(spends.c.requests)).where(_IN_PERIOD).group_by(spends.c.purpose)
)
_FORGET_TOLD = delete(spends).where(_IN_PERIOD, _TOLD)


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


def spent(db: Connection, account: str, after: int, until: int = FOR_GOOD) -> Spent:
    """What was spent on the days behind `after`, up to `until`, in days since the epoch."""
    found = db.execute(_SPENT, {"who": account, "after": after, "until": until})
    every, elsewhere, allowed = found.one()
    return Spent(int(every), None if elsewhere is None else int(elsewhere), int(allowed))


def by_purpose(db: Connection, account: str, after: int) -> dict[str, int]:
    found = db.execute(_BY_PURPOSE, {"who": account, "after": after})
    return {purpose: int(requests) for purpose, requests in found if requests}


def falls_out(db: Connection, account: str, after: int, wanted: int) -> datetime | None:
    """When so many requests will have fallen out of 31 days in a row; None where there are fewer."""
    for day, requests in db.execute(_BY_DAY, {"who": account, "after": after}):
        wanted -= requests
        if wanted <= 0:
            return EPOCH + timedelta(days=day) + ROLLING
    return None


def ours(db: Connection, account: str, after: int, until: int) -> int:
    """Of these days' requests, those that were counted here."""
    found = spent(db, account, after, until)
    return found.requests - (found.elsewhere or 0)


def tell(db: Connection, account: str, after: int, today: int, total: int) -> None:
    """Of `total` requests behind `after`, those that are not our own were spent elsewhere: as of today.

    What was told before for these days is over; what was told for earlier ones stays.
    """
    db.execute(_FORGET_TOLD, {"who": account, "after": after})
    rest = max(0, total - spent(db, account, after).requests)
    row = {"account": account, "day": today, "connection": NOBODY, "purpose": ELSEWHERE, "requests": rest}
    db.execute(insert(spends), [row])

"""The pace of an account: the one statement that hands out the moments at which requests may go."""

from functools import cache
from typing import Any

from sqlalchemy import BigInteger, and_, bindparam, case

from connector.state.tables import Moment, accounts
from connector.state.writing import insert_into

# A share of the rate is left unused, so that jitter on the way bunches no 31st request into a second.
USED_SHARE_OF_RATE = 0.98
SECOND, MINUTE = 1_000_000, 60_000_000
# A short run need not wait for each of its moments: after an idle second so many go at once, and the
# next one when it would have been due anyway. No second holds more requests for it.
BURST = 10


def gap(per_second: float) -> int:
    """Microseconds between two requests."""
    return int(SECOND / (per_second * USED_SHARE_OF_RATE))


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
    began = case((accounts.c.began_at > now, now), else_=accounts.c.began_at)
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

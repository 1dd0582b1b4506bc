"""Leases: one run at a time per connection, and no write by a run that has lost its lease."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from connector.errors import Busy
from connector.state.engine import Store
from connector.state.owner import Owner, is_dead
from connector.state.tables import leases
from connector.state.writing import add_new

LASTS = timedelta(seconds=60)
# Clocks are hardly further apart: a lease that ends later is left from before a clock was set back.
SKEW = timedelta(hours=1)

_MINE = (leases.c.connection == bindparam("mine"), leases.c.token == bindparam("held"))
_RENEW = update(leases).where(*_MINE).values(expires_at=bindparam("until"))
_GIVE_BACK = _RENEW.values(token=leases.c.token + 1)


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to write for a connection; good only while its token is the newest."""

    connection: str
    token: int


def acquire(store: Store, connection: str, owner: Owner, now: datetime) -> Fence:
    """Take the lease, if it is free, expired, or its owner is dead; raise Busy otherwise."""
    values = {"expires_at": now + LASTS, **asdict(owner)}
    with store.write() as db:
        first = {"connection": connection, "token": 1, **values}
        if add_new(db, leases, [first], leases.c.token):
            return Fence(connection, 1)
        mine = leases.c.connection == connection
        held = db.execute(select(leases).where(mine).with_for_update()).one()
        _check_free(held, owner, now)
        db.execute(update(leases).where(mine).values(token=held.token + 1, **values))
        return Fence(connection, held.token + 1)


def _check_free(held: Row[Any], me: Owner, now: datetime) -> None:
    owner = Owner(held.host, held.machine, held.boot, held.space, held.pid, held.started)
    lasting = now < held.expires_at <= now + LASTS + SKEW
    if not lasting or is_dead(owner, me):
        return
    left = (held.expires_at - now).total_seconds()
    raise Busy(
        f"Another run is working on connection '{held.connection}' (process {owner.pid} on {owner.host}).",
        means="Nothing was read or sent by this one.",
        todo=f"Let it finish. Should it have died, its lease ends by itself in {left:.0f} s.",
    )


def hold(db: Connection, fence: Fence, now: datetime) -> None:
    """Renew the lease inside the caller's transaction; a run that has lost it writes nothing."""
    mine = {"mine": fence.connection, "held": fence.token, "until": now + LASTS}
    if db.execute(_RENEW, mine).rowcount != 1:
        raise Busy(
            f"This run lost its lease on connection '{fence.connection}' to another one.",
            means="What it had read but not written is read again by the other; nothing is lost.",
        )


def release(store: Store, fence: Fence, now: datetime) -> None:
    """Give the lease back: over by everybody's clock, and its fence is good for nothing any more."""
    with store.write() as db:
        db.execute(_GIVE_BACK, {"mine": fence.connection, "held": fence.token, "until": now - SKEW})

"""Leases: one run at a time per connection, and no write by a run that has lost its lease."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select, update

from connector.errors import Busy
from connector.state.engine import Store
from connector.state.owner import Owner, is_dead
from connector.state.tables import leases

LASTS = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to write for a connection; good only while its token is the newest."""

    connection: str
    token: int


def acquire(store: Store, connection: str, owner: Owner, now: datetime) -> Fence:
    """Take the lease, if it is free, expired, or its owner is dead; raise Busy otherwise."""
    with store.write() as db:
        insert = store.insert(leases).values(
            connection=connection, token=1, expires_at=now + LASTS, **asdict(owner)
        )
        if db.execute(insert.on_conflict_do_nothing().returning(leases.c.token)).scalar():
            return Fence(connection, 1)
        held = db.execute(select(leases).where(leases.c.connection == connection).with_for_update()).one()
        _check_free(held, now)
        values = {"token": held.token + 1, "expires_at": now + LASTS, **asdict(owner)}
        db.execute(update(leases).where(leases.c.connection == connection).values(values))
        return Fence(connection, held.token + 1)


def _check_free(held: Row[Any], now: datetime) -> None:
    owner = Owner(held.host, held.boot, held.pid, held.started)
    if held.expires_at <= now or is_dead(owner):
        return
    left = (held.expires_at - now).total_seconds()
    raise Busy(
        f"Another run is working on connection '{held.connection}' (process {owner.pid} on {owner.host}).",
        means="Nothing was read or sent by this one.",
        todo=f"Let it finish. Should it have died, its lease ends by itself in {left:.0f} s.",
    )


def hold(db: Connection, fence: Fence, now: datetime) -> None:
    """Renew the lease inside the caller's transaction; a run that has lost it writes nothing."""
    mine = (leases.c.connection == fence.connection) & (leases.c.token == fence.token)
    if db.execute(update(leases).where(mine).values(expires_at=now + LASTS)).rowcount != 1:
        raise Busy(
            f"This run lost its lease on connection '{fence.connection}' to another one.",
            means="What it had read but not written is read again by the other; nothing is lost.",
        )


def release(store: Store, fence: Fence, now: datetime) -> None:
    """Give the lease back; the token stays, so that it only ever grows."""
    mine = (leases.c.connection == fence.connection) & (leases.c.token == fence.token)
    with store.write() as db:
        db.execute(update(leases).where(mine).values(expires_at=now))

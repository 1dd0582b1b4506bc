"""What a connection is called and since when it sends: fixed at first sight, kept when a key rotates."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select, update

from connector.state.engine import Store
from connector.state.tables import connections
from connector.state.writing import add


@dataclass(frozen=True, slots=True)
class Identity:
    """The names in every messageId, the start date, and what was learnt about the account as a whole."""

    name: str
    account: str
    destination: str
    start_date: datetime
    first_page: int | None = None
    ignore_filters: bool | None = None
    filters_at: datetime | None = None
    # When it was first seen here: no part of what it is called.
    created_at: datetime | None = field(default=None, compare=False)


def settle(store: Store, first_sight: Identity, now: datetime) -> Identity:
    """Store what a connection is called, unless it is known already; give what is stored."""
    values = {
        "name": first_sight.name,
        "account": first_sight.account,
        "destination": first_sight.destination,
        "start_date": first_sight.start_date,
        "created_at": now,
    }
    with store.write() as db:
        add(db, connections, [values])
    found = known(store, first_sight.name)
    assert found is not None  # noqa: S101 - written in the lines above
    return found


def known(store: Store, name: str) -> Identity | None:
    """The identity of a connection that has run before."""
    with store.read() as db:
        row = db.execute(select(connections).where(connections.c.name == name)).one_or_none()
    if row is None:
        return None
    return Identity(
        row.name,
        row.account,
        row.destination,
        row.start_date,
        row.first_page,
        row.ignore_filters,
        row.filters_at,
        row.created_at,
    )


def rename(store: Store, name: str, *, account: str, destination: str) -> None:
    """Follow names that were set by hand after the first run; rows that wait keep the names they have."""
    with store.write() as db:
        mine = connections.c.name == name
        db.execute(update(connections).where(mine).values(account=account, destination=destination))

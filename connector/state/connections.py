"""What a connection is called and since when it sends: fixed at first sight, kept when a key rotates."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select, update

from connector.errors import Busy
from connector.state import forgetting, leases
from connector.state.carrying import carry, shared
from connector.state.engine import Store
from connector.state.owner import this_process
from connector.state.tables import connections
from connector.state.writing import add_new


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


def settle(
    store: Store,
    first_sight: Identity,
    now: datetime,
    *,
    unnamed: str | None = None,
    beside: str | None = None,
) -> Identity:
    """Store what a connection is called, unless it is known already; give what is stored.

    `unnamed` is what its account was called while nothing was settled: what was spent or told by that name
    comes along, unless it is another connection's. `beside` is the account of another one with the same
    key, which is one at Beamer: what was spent there counts here, too.
    """
    values = {
        "name": first_sight.name,
        "account": first_sight.account,
        "destination": first_sight.destination,
        "start_date": first_sight.start_date,
        "created_at": now,
    }
    with store.write() as db:
        is_new = bool(add_new(db, connections, [values], connections.c.name))
        before = beside or unnamed or first_sight.account
        if is_new and before != first_sight.account and (beside or not shared(db, first_sight.name, before)):
            carry(db, first_sight.name, before, first_sight.account)
        if is_new:
            forgetting.inherit(db, first_sight.name, {first_sight.account, before})
    found = known(store, first_sight.name)
    assert found is not None  # noqa: S101 - written in the lines above
    return found


def check_names(store: Store, identity: Identity) -> None:
    """Make sure that a run that has just got its lease knows what its connection is called.

    Its ledger may have been carried to another name while it waited; raises Busy then.
    """
    found = known(store, identity.name)
    if found and (found.account, found.destination) != (identity.account, identity.destination):
        raise Busy(
            f"Connection '{identity.name}' was given other names while this run began.",
            means="Nothing was read or sent by this one.",
            todo="Run it again.",
        )


def alike(store: Store, identity: Identity) -> list[str]:
    """The other connections that send what they read of the same account to the same destination."""
    same = (connections.c.account == identity.account) & (connections.c.destination == identity.destination)
    query = select(connections.c.name).where(same & (connections.c.name != identity.name))
    with store.read() as db:
        return sorted(db.execute(query).scalars())


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


def rename(store: Store, name: str, *, account: str, destination: str, now: datetime) -> Identity:
    """Follow names that were set by hand after the first run, and give what is stored then.

    Rows that wait keep the names they have. The account's ledger comes along: while a run of this
    connection is at work, which draws on the ledger that it began with, the account keeps its name.
    """
    mine = connections.c.name == name
    with store.write() as db:
        # The leases come first, as in a run, which may write to the connection under its own.
        busy = leases.at_work(db, name, this_process(), now)
        query = select(connections.c.account).where(mine).with_for_update()
        before: str = db.execute(query).scalar_one()
        if busy:
            account = before
        db.execute(update(connections).where(mine).values(account=account, destination=destination))
        if before != account:
            carry(db, name, before, account)
    found = known(store, name)
    assert found is not None  # noqa: S101 - updated in the lines above
    return found

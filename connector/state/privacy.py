"""Erasure: what the database holds of a person is deleted, and later rows of theirs are excluded."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select

from connector.state.engine import Database
from connector.state.leases import Lease, check_lease
from connector.state.tables import connections, forgotten, outbox, quarantine
from connector.state.upserts import IN_QUARANTINE, add, digest, key, made

KEY = "forgotten"
AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The people that a connection has forgotten; `user in forgotten` tells whether one of them."""

    key: bytes = field(default=b"", repr=False)
    digests: frozenset[str] = frozenset()

    def __contains__(self, user: object) -> bool:
        return bool(self.digests) and isinstance(user, str) and digest(self.key, user) in self.digests


@dataclass(frozen=True, slots=True)
class Erased:
    """How many rows were deleted."""

    waiting: int
    refused: int
    quarantined: int


def load(database: Database, connection: str) -> Forgotten:
    """Whom a connection has forgotten."""
    with database.read() as db:
        mine = key(db, KEY)
        found = db.execute(select(forgotten.c.digest).where(forgotten.c.connection == connection)).scalars()
        return Forgotten(mine, frozenset(found)) if mine else Forgotten()


def erase(
    database: Database, lease: Lease, user: str, theirs: Callable[[Any], bool], now: datetime
) -> Erased:
    """Delete what waits, was refused or is in quarantine of a user, and remember to send nothing more.

    `theirs` tells whether a raw row in quarantine is theirs. The caller holds the leases of all kinds of
    work, so that no run is under way that began before it could know of this.
    """
    with database.write() as db:
        check_lease(db, lease, now)
        known_by = digest(made(db, KEY), user)
        add(db, forgotten, [{"connection": lease.connection, "digest": known_by, "since": now}])
        messages = _messages_of(db, lease.connection, user)
        bodies = _bodies_of(db, lease.connection, theirs)
        _delete(db, outbox, [message.id for message in messages])
        _delete(db, quarantine, bodies)
    dead = sum(message.state == "dead" for message in messages)
    return Erased(len(messages) - dead, dead, len(bodies))


def inherit(db: Connection, connection: str, accounts: Collection[str]) -> None:
    """A new connection forgets whom all others of its account have forgotten, in the caller's transaction.

    It may be one of them under another name.
    """
    of_account = connections.c.account.in_(accounts) & (connections.c.name != connection)
    others = db.execute(select(connections.c.name).where(of_account)).scalars().all()
    found = (
        select(forgotten.c.digest, func.max(forgotten.c.since))
        .where(forgotten.c.connection.in_(others))
        .group_by(forgotten.c.digest)
        .having(func.count() == len(others))
    )
    new = [{"connection": connection, "digest": d, "since": since} for d, since in db.execute(found)]
    add(db, forgotten, new)


def names(database: Database) -> Sequence[str]:
    """Every connection that the database knows, configured still or not."""
    with database.read() as db:
        return list(db.execute(select(connections.c.name).order_by(connections.c.name)).scalars())


def _messages_of(db: Connection, connection: str, user: str) -> list[Row[Any, Any, Any]]:
    # The database narrows the search (it may ignore case); the decision is made on the message itself.
    # However the message around it is written.
    fragment = json.dumps(user)
    where = (outbox.c.connection == connection) & outbox.c.message.contains(fragment, autoescape=True)
    found = db.execute(select(outbox.c.id, outbox.c.state, outbox.c.message).where(where))
    return [row for row in found if _user_of(row.message) in (user, UNREADABLE)]


UNREADABLE = object()


def _user_of(message: str) -> object:
    """Whose a message is; one that cannot be read may be anybody's, and can be sent to nobody."""
    try:
        return json.loads(message).get("userId")
    except (ValueError, AttributeError, RecursionError):
        return UNREADABLE


def _bodies_of(db: Connection, connection: str, theirs: Callable[[Any], bool]) -> list[int]:
    mine = (quarantine.c.connection == connection) & IN_QUARANTINE
    found = db.execute(select(quarantine.c.id, quarantine.c.body).where(mine))
    return [row.id for row in found if _may_be(theirs, row.body)]


def _may_be(theirs: Callable[[Any], bool], body: str) -> bool:
    """Whether a raw row is theirs; one that cannot be read may be."""
    try:
        return theirs(json.loads(body))
    except (ValueError, RecursionError):
        return True


def _delete(db: Connection, table: Any, ids: Sequence[int]) -> None:
    for start in range(0, len(ids), AT_ONCE):
        db.execute(delete(table).where(table.c.id.in_(ids[start : start + AT_ONCE])))

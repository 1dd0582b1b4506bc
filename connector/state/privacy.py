"""Erasure: delete what the database holds of a person, and exclude their later rows.

People and keys are stored as digests that are made with random keys of this database.
"""

import hashlib
import hmac
import json
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select

from connector.state.dialects import add
from connector.state.engine import Database
from connector.state.leases import Lease, check_lease
from connector.state.tables import IN_QUARANTINE, connections, forgotten, keys, outbox, quarantine, users

KEY = "forgotten"
KEY_BYTES = 32
AT_ONCE = 500


def stored_key(db: Connection, name: str) -> bytes:
    """Return the database's key of that name; empty before it was made."""
    return bytes.fromhex(db.execute(select(keys.c.value).where(keys.c.name == name)).scalar() or "")


def made_key(db: Connection, name: str) -> bytes:
    """Return the database's key of that name; create it at its first use."""
    add(db, keys, [{"name": name, "value": secrets.token_hex(KEY_BYTES)}])
    return stored_key(db, name)


def keyed_digest(key: bytes, text: str) -> str:
    """Return a text's digest; without the key nobody can guess the text from it."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The people that a connection has forgotten; `user in forgotten` tests one of them."""

    key: bytes = field(default=b"", repr=False)
    digests: frozenset[str] = frozenset()

    def __contains__(self, user: object) -> bool:
        return bool(self.digests) and isinstance(user, str) and keyed_digest(self.key, user) in self.digests


@dataclass(frozen=True, slots=True)
class Erased:
    """How many rows were deleted."""

    waiting: int
    refused: int
    quarantined: int


def load(database: Database, connection: str) -> Forgotten:
    """Return whom a connection has forgotten."""
    with database.read() as db:
        key = stored_key(db, KEY)
        digests = db.scalars(select(forgotten.c.digest).where(forgotten.c.connection == connection))
        return Forgotten(key, frozenset(digests)) if key else Forgotten()


def erase(
    database: Database, lease: Lease, user: str, theirs: Callable[[Any], bool], now: datetime
) -> Erased:
    """Delete a user's waiting, refused and quarantined rows, and store that nothing more is sent.

    `theirs` decides whether a raw row in quarantine is the user's. The caller holds the leases of all
    kinds of work, so that no run is in progress that has not read this.
    """
    with database.write() as db:
        check_lease(db, lease, now)
        digest = keyed_digest(made_key(db, KEY), user)
        add(db, forgotten, [{"connection": lease.connection, "digest": digest, "since": now}])
        messages = _messages_of(db, lease.connection, user)
        bodies = _bodies_of(db, lease.connection, theirs)
        _delete(db, outbox, [message.id for message in messages])
        _delete(db, quarantine, bodies)
        db.execute(delete(users).where(users.c.connection == lease.connection, users.c.digest == digest))
    dead = sum(message.state == "dead" for message in messages)
    return Erased(len(messages) - dead, dead, len(bodies))


@dataclass(frozen=True, slots=True)
class Traces:
    """What the database holds of a user: by event, messages that wait or were refused; rows in quarantine.

    `identified`: digests show that `identify` was sent, and whether the traits have changed since.
    """

    waiting: Counter[str]
    refused: Counter[str]
    quarantined: int
    forgotten: bool
    identified: bool = False

    def __bool__(self) -> bool:
        held = self.waiting or self.refused or self.quarantined
        return bool(held or self.forgotten or self.identified)


def traces(database: Database, connection: str, user: str, theirs: Callable[[Any], bool]) -> Traces:
    """Return what the database holds of a user; delivered messages are not stored."""
    with database.read() as db:
        messages = [row for row in _messages_of(db, connection, user) if _user_of(row.message) == user]
        bodies = _bodies_of(db, connection, theirs)
        digest = keyed_digest(stored_key(db, KEY), user)
        mine = (users.c.connection == connection) & (users.c.digest == digest)
        identified = db.scalar(select(users.c.digest).where(mine)) is not None
    dead = Counter(row.event for row in messages if row.state == "dead")
    waiting = Counter(row.event for row in messages if row.state != "dead")
    return Traces(waiting, dead, len(bodies), user in load(database, connection), identified)


def inherit(db: Connection, connection: str, accounts: Collection[str]) -> None:
    """Add the people whom all others of the account have forgotten to a new connection's.

    It may be one of those connections under another name. Uses the caller's transaction.
    """
    of_account = connections.c.account.in_(accounts) & (connections.c.name != connection)
    others = db.scalars(select(connections.c.name).where(of_account)).all()
    query = (
        select(forgotten.c.digest, func.max(forgotten.c.since))
        .where(forgotten.c.connection.in_(others))
        .group_by(forgotten.c.digest)
        .having(func.count() == len(others))
    )
    new = [{"connection": connection, "digest": d, "since": since} for d, since in db.execute(query)]
    add(db, forgotten, new)


def names(database: Database) -> Sequence[str]:
    """Return every connection that has state in the database, also if it is not configured any more."""
    with database.read() as db:
        return list(db.scalars(select(connections.c.name).order_by(connections.c.name)))


def _messages_of(db: Connection, connection: str, user: str) -> list[Row[Any, Any, Any, Any]]:
    # The database narrows the search (it may ignore case); the message itself decides, whatever the
    # form of its JSON.
    fragment = json.dumps(user)
    where = (outbox.c.connection == connection) & outbox.c.message.contains(fragment, autoescape=True)
    messages = db.execute(select(outbox.c.id, outbox.c.state, outbox.c.event, outbox.c.message).where(where))
    return [row for row in messages if _user_of(row.message) in (user, UNREADABLE)]


UNREADABLE = object()


def _user_of(message: str) -> object:
    """Return the user of a message; an unreadable one may be anybody's, and cannot be sent."""
    try:
        return json.loads(message).get("userId")
    except (ValueError, AttributeError, RecursionError):
        return UNREADABLE


def _bodies_of(db: Connection, connection: str, theirs: Callable[[Any], bool]) -> list[int]:
    mine = (quarantine.c.connection == connection) & IN_QUARANTINE
    bodies = db.execute(select(quarantine.c.id, quarantine.c.body).where(mine))
    return [row.id for row in bodies if _may_be(theirs, row.body)]


def _may_be(theirs: Callable[[Any], bool], body: str) -> bool:
    """Return whether a raw row is the user's; an unreadable one may be."""
    try:
        return theirs(json.loads(body))
    except (ValueError, RecursionError):
        return True


def _delete(db: Connection, table: Any, ids: Sequence[int]) -> None:
    for start in range(0, len(ids), AT_ONCE):
        db.execute(delete(table).where(table.c.id.in_(ids[start : start + AT_ONCE])))

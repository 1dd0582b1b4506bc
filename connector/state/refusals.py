"""Keys that were refused: their connection asks nothing until they change, or are seen to be taken again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import delete, select

from connector.state.digests import digest, key, made
from connector.state.engine import Store
from connector.state.tables import refusals
from connector.state.writing import put

KEY = "refused"

Door = Literal["beamer", "segment"]
Secrets = Mapping[Door, str]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which door refused a connection's key, what it said, and since when."""

    connection: str
    door: str
    what: str
    since: datetime


def remember(store: Store, connection: str, door: Door, secret: str, what: str, now: datetime) -> None:
    """A key was refused; only a digest of it is kept, made with this store's own random key."""
    with store.write() as db:
        row = {"connection": connection, "door": door, "what": what, "since": now}
        put(db, refusals, [{**row, "digest": digest(made(db, KEY), secret)}])


def lift(store: Store, connection: str, door: Door) -> bool:
    """The key was seen to be taken; tells whether it had been refused."""
    mine = (refusals.c.connection == connection) & (refusals.c.door == door)
    with store.write() as db:
        return bool(db.execute(delete(refusals).where(mine)).rowcount)


def standing(store: Store, connection: str, given: Secrets) -> Refusal | None:
    """The refusal of a key that is still in use; those of keys that have changed are forgotten."""
    with store.read() as db:
        found = db.execute(select(refusals).where(refusals.c.connection == connection)).all()
        mine = key(db, KEY)
        same = {row.door for row in found if row.digest == digest(mine, given.get(row.door, ""))}
    for row in found:
        if row.door not in same:
            lift(store, connection, row.door)
    return next((_refusal(row) for row in found if row.door in same), None)


def listed(store: Store) -> Mapping[str, Refusal]:
    """The suspended connections, as of their last runs."""
    with store.read() as db:
        return {row.connection: _refusal(row) for row in db.execute(select(refusals))}


def _refusal(row: object) -> Refusal:
    return Refusal(*(getattr(row, name) for name in ("connection", "door", "what", "since")))

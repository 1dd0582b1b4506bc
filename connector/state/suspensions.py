"""Suspended connections: a key that was refused, when it is tried again, and who was notified."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, delete, select, update

from connector.errors import Forbidden
from connector.state.engine import Database
from connector.state.tables import mentions, refusals, streams
from connector.state.upserts import add, digest, key, made, put

KEY = "refused"

# In how many runs a key was refused. One that worked before may be refused once without being suspended:
# the next run just tries it. One that never worked is suspended at its first refusal.
UNTRIED, ACCEPTED, REFUSED_ONCE, SUSPENDED = -1, 0, 1, 2
# A suspended key is tried again after this, and each time after twice as long.
FIRST_WAIT, LONGEST_WAIT = timedelta(hours=1), timedelta(days=1)

Api = Literal["beamer", "segment"]
Secrets = Mapping[Api, str]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which API refused a connection's key, what it said, and since when.

    `refused` counts the runs in which it was, the last one at `tried_at`.
    """

    connection: str
    api: Api
    what: str
    since: datetime
    refused: int = SUSPENDED
    tried_at: datetime | None = None

    @property
    def again(self) -> datetime:
        """When the key is to be tried again."""
        doubled = min(max(self.refused - SUSPENDED, 0), 10)
        waits: timedelta = min(LONGEST_WAIT, FIRST_WAIT * 2**doubled)
        return (self.tried_at or self.since) + waits

    def in_backoff(self, now: datetime) -> bool:
        """Whether the key is not to be tried yet; a clock that was set back must not make it longer."""
        return (self.tried_at or self.since) <= now < self.again


def remember(
    database: Database,
    connection: str,
    api: Api,
    secret: str,
    what: str,
    now: datetime,
    *,
    answered: bool = False,
    sure: bool = False,
) -> None:
    """A key was refused in a run; `answered`: after it had been accepted in the same run.

    `sure`: no second run has to confirm it.
    """
    with database.write() as db:
        mine = digest(made(db, KEY), secret)
        found = _row(db, connection, api)
        known = found is not None and found.digest == mine and found.refused >= ACCEPTED
        refused = found.refused + 1 if known else SUSPENDED
        if answered or sure:
            refused = REFUSED_ONCE if answered else max(refused, SUSPENDED)
        since = found.since if known and refused > REFUSED_ONCE else now
        values = {"what": what, "since": since, "refused": refused, "tried_at": now}
        put(db, refusals, [{"connection": connection, "api": api, "digest": mine, **values}])


def accept(database: Database, connection: str, api: Api, secret: str, now: datetime) -> bool:
    """The key was seen to be taken; tells whether it had been refused."""
    with database.read() as db:
        found, mine = _row(db, connection, api), key(db, KEY)
    if found is not None and found.refused == ACCEPTED and found.digest == digest(mine, secret):
        return False
    with database.write() as db:
        mine = made(db, KEY)
        values = {"digest": digest(mine, secret), "what": "", "since": now, "tried_at": now}
        put(db, refusals, [{"connection": connection, "api": api, "refused": ACCEPTED, **values}])
        if api == "beamer":
            # What it was not allowed to read while it was refused says nothing of what it may read now.
            untroubled = {"trouble": None, "trouble_code": None, "trouble_at": None}
            whose = (streams.c.connection == connection) & (streams.c.trouble_code == Forbidden.trouble_code)
            if found is not None and found.refused >= SUSPENDED:
                db.execute(update(streams).where(whose).values(**untroubled))
    return found is not None and found.refused >= REFUSED_ONCE


def lift(database: Database, connection: str, api: Api) -> bool:
    """Forget what is known of a key; tells whether it had been refused."""
    mine = (refusals.c.connection == connection) & (refusals.c.api == api)
    with database.write() as db:
        found = _row(db, connection, api)
        db.execute(delete(refusals).where(mine))
    return found is not None and found.refused >= REFUSED_ONCE


def current_refusal(
    database: Database, connection: str, given: Secrets, *, unproved: bool = False
) -> Refusal | None:
    """The refusal of a key that is still in use; of keys that have changed nothing is known.

    `unproved`: they may be those of another account, and nothing is written.
    """
    with database.read() as db:
        found = db.execute(select(refusals).where(refusals.c.connection == connection)).all()
        mine = key(db, KEY)
    changed = {row.api: digest(mine, given.get(row.api, "")) for row in found}
    changed = {row.api: changed[row.api] for row in found if changed[row.api] != row.digest}
    if changed and not unproved:
        untried = {"refused": UNTRIED, "what": ""}
        with database.write() as db:
            for api, its in changed.items():
                here = (refusals.c.connection == connection) & (refusals.c.api == api)
                db.execute(update(refusals).where(here).values(digest=its, **untried))
    same = (row for row in found if row.api not in changed and row.refused >= SUSPENDED)
    return next((_refusal(row) for row in same), None)


def tried(database: Database, connection: str) -> bool | None:
    """Whether the Beamer key was accepted or refused since it is in use; None where nothing is known."""
    with database.read() as db:
        found = _row(db, connection, "beamer")
    return None if found is None else found.refused != UNTRIED


def listed(database: Database) -> Mapping[str, Refusal]:
    """The suspended connections, as of their last runs."""
    query = select(refusals).where(refusals.c.refused >= SUSPENDED)
    with database.read() as db:
        return {row.connection: _refusal(row) for row in db.execute(query)}


def _row(db: Connection, connection: str, api: str) -> Any:
    mine = (refusals.c.connection == connection) & (refusals.c.api == api)
    return db.execute(select(refusals).where(mine)).one_or_none()


def _refusal(row: Any) -> Refusal:
    return Refusal(row.connection, row.api, row.what, row.since, row.refused, row.tried_at)


def unmentioned(database: Database, connection: str, whats: Collection[str]) -> set[str]:
    """Those that were not spoken of yet. What is over is forgotten, and is news when it comes again."""
    mine = mentions.c.connection == connection
    with database.read() as db:
        known = set(db.execute(select(mentions.c.what).where(mine)).scalars())
    if over := known.difference(whats):
        with database.write() as db:
            db.execute(delete(mentions).where(mine, mentions.c.what.in_(sorted(over))))
    return set(whats) - known


def mention(database: Database, connection: str, whats: Collection[str], now: datetime) -> None:
    """They have been spoken of."""
    with database.write() as db:
        add(db, mentions, [{"connection": connection, "what": each, "since": now} for each in sorted(whats)])

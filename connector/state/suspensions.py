"""Suspended connections: a key that was refused, when it is tried again, and who was notified."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, delete, select, update

from connector.errors import Forbidden
from connector.state.dialects import add, put
from connector.state.engine import Database
from connector.state.privacy import keyed_digest, made_key, stored_key
from connector.state.tables import mentions, refusals, streams

KEY = "refused"

# In how many runs a key was refused. A key that worked before is not suspended by one refusal: the next
# run tries it again. A key that never worked is suspended at its first refusal.
UNTRIED, ACCEPTED, REFUSED_ONCE, SUSPENDED = -1, 0, 1, 2
# A suspended key is tried again after this time, which doubles with each refusal.
FIRST_WAIT, LONGEST_WAIT = timedelta(hours=1), timedelta(days=1)

Api = Literal["beamer", "segment"]
Secrets = Mapping[Api, str]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which API refused a connection's key, its answer, and since when.

    `refused` counts the runs with a refusal, the last one at `tried_at`.
    """

    connection: str
    api: Api
    what: str
    since: datetime
    refused: int = SUSPENDED
    tried_at: datetime | None = None

    @property
    def again(self) -> datetime:
        """Return when the key is to be tried again."""
        doubled = min(max(self.refused - SUSPENDED, 0), 10)
        waits: timedelta = min(LONGEST_WAIT, FIRST_WAIT * 2**doubled)
        return (self.tried_at or self.since) + waits

    def in_backoff(self, now: datetime) -> bool:
        """Return whether it is too early to try the key; a clock that is set back does not prolong that."""
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
    """Store that a key was refused in a run; `answered`: it had been accepted in the same run.

    `sure`: no second run needs to confirm it.
    """
    with database.write() as db:
        digest = keyed_digest(made_key(db, KEY), secret)
        stored = _row(db, connection, api)
        known = stored is not None and stored.digest == digest and stored.refused >= ACCEPTED
        refused = stored.refused + 1 if known else SUSPENDED
        if answered or sure:
            refused = REFUSED_ONCE if answered else max(refused, SUSPENDED)
        since = stored.since if known and refused > REFUSED_ONCE else now
        values = {"what": what, "since": since, "refused": refused, "tried_at": now}
        put(db, refusals, [{"connection": connection, "api": api, "digest": digest, **values}])


def accept(database: Database, connection: str, api: Api, secret: str, now: datetime) -> bool:
    """Store that a key was accepted; return whether it had been refused."""
    with database.read() as db:
        stored, key = _row(db, connection, api), stored_key(db, KEY)
    before = stored.refused if stored is not None else UNTRIED
    if before == ACCEPTED and stored.digest == keyed_digest(key, secret):
        return False
    with database.write() as db:
        digest = keyed_digest(made_key(db, KEY), secret)
        values = {"digest": digest, "what": "", "since": now, "tried_at": now, "refused": ACCEPTED}
        put(db, refusals, [{"connection": connection, "api": api, **values}])
        if api == "beamer" and before >= SUSPENDED:
            # The key may be allowed now to read what was forbidden while it was refused.
            forbidden = streams.c.trouble_code == Forbidden.trouble_code
            mine = update(streams).where(streams.c.connection == connection, forbidden)
            db.execute(mine.values(trouble=None, trouble_code=None, trouble_at=None))
    return before >= REFUSED_ONCE


def current_refusal(
    database: Database, connection: str, secrets: Secrets, *, unproved: bool = False
) -> Refusal | None:
    """Return the refusal of a key that is still in use; a changed key counts as never tried.

    `unproved`: the keys may be another account's, so nothing is written.
    """
    with database.read() as db:
        stored = db.execute(select(refusals).where(refusals.c.connection == connection)).all()
        key = stored_key(db, KEY)
    digests = {row.api: keyed_digest(key, secrets.get(row.api, "")) for row in stored}
    changed = [row.api for row in stored if digests[row.api] != row.digest]
    if changed and not unproved:
        with database.write() as db:
            for api in changed:
                values = {"digest": digests[api], "refused": UNTRIED, "what": ""}
                db.execute(update(refusals).where(_mine(connection, api)).values(values))
    same = (row for row in stored if row.api not in changed and row.refused >= SUSPENDED)
    return next((_refusal(row) for row in same), None)


def tried(database: Database, connection: str) -> bool | None:
    """Return whether the Beamer key in use was last accepted; None if it was not tried."""
    with database.read() as db:
        stored = _row(db, connection, "beamer")
    return None if stored is None else stored.refused != UNTRIED


def listed(database: Database) -> Mapping[str, Refusal]:
    """Return the suspended connections, as of their last runs."""
    query = select(refusals).where(refusals.c.refused >= SUSPENDED)
    with database.read() as db:
        return {row.connection: _refusal(row) for row in db.execute(query)}


def _mine(connection: str, api: str) -> Any:
    return (refusals.c.connection == connection) & (refusals.c.api == api)


def _row(db: Connection, connection: str, api: str) -> Any:
    return db.execute(select(refusals).where(_mine(connection, api))).one_or_none()


def _refusal(row: Any) -> Refusal:
    return Refusal(row.connection, row.api, row.what, row.since, row.refused, row.tried_at)


def unmentioned(database: Database, connection: str, whats: Collection[str]) -> set[str]:
    """Return the problems not mentioned yet. Solved ones are deleted, and count as new when they return."""
    mine = mentions.c.connection == connection
    with database.read() as db:
        known = set(db.execute(select(mentions.c.what).where(mine)).scalars())
    if over := known.difference(whats):
        with database.write() as db:
            db.execute(delete(mentions).where(mine, mentions.c.what.in_(sorted(over))))
    return set(whats) - known


def mention(database: Database, connection: str, whats: Collection[str], now: datetime) -> None:
    """Store that the problems were mentioned."""
    with database.write() as db:
        add(db, mentions, [{"connection": connection, "what": what, "since": now} for what in sorted(whats)])

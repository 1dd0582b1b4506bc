"""The users for whom `identify` was sent, as digests, and how far the list of users was read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import select

from connector.domain.state import Outgoing
from connector.state.dialects import put
from connector.state.engine import Database
from connector.state.leases import Lease, check_lease
from connector.state.outbox import enqueue
from connector.state.privacy import KEY, keyed_digest, made_key, stored_key
from connector.state.tables import user_readings, users


@dataclass(frozen=True, slots=True)
class Reading:
    """How far the users were read; Beamer lists them by their last visit, the latest first.

    The last reading ended or failed at `tried_at`. The last complete one read everybody whose last visit
    was before `through`. An unfinished one continues at `page`, and began with a visit at `newest`.
    """

    tried_at: datetime | None = None
    through: datetime | None = None
    newest: datetime | None = None
    page: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A user, and a text that is the same as long as nothing has to be sent."""

    user: str
    same: str


def reading(database: Database, connection: str) -> Reading:
    """Return how far the users of a connection were read."""
    columns = [user_readings.c[name] for name in Reading.__dataclass_fields__]
    with database.read() as db:
        row = db.execute(select(*columns).where(user_readings.c.connection == connection)).one_or_none()
    return Reading(*row) if row else Reading()


def changed(database: Database, connection: str, page: Sequence[Seen]) -> list[Seen]:
    """Return the users of a page who are new or have changed since `identify` was sent."""
    with database.read() as db:
        digests = _digests(stored_key(db, KEY), page)
        where = (users.c.connection == connection) & users.c.digest.in_([who for who, _ in digests.values()])
        sent = {(row.digest, row.traits) for row in db.execute(select(users).where(where))}
    return [seen for seen in page if digests[seen] not in sent]


def write(
    database: Database,
    lease: Lease,
    destination: str,
    messages: Mapping[Seen, Outgoing],
    after: Reading,
    now: datetime,
    *,
    write_key: str = "",
) -> None:
    """Write a page: the messages and digests of its changed users, and how far the users were read."""
    connection = lease.connection
    with database.write() as db:
        check_lease(db, lease, now)
        digests = _digests(made_key(db, KEY), list(messages))
        values = [
            {"connection": connection, "digest": who, "traits": traits} for who, traits in digests.values()
        ]
        put(db, users, values)
        enqueue(db, lease, destination, messages.values(), now, write_key=write_key)
        put(db, user_readings, [{"connection": connection, **asdict(after)}])


def _digests(key: bytes, page: Sequence[Seen]) -> dict[Seen, tuple[str, str]]:
    """Return the digests stored for each user: of the user, and of what was sent, which nobody can guess."""
    return {
        seen: (keyed_digest(key, seen.user), keyed_digest(key, json.dumps([seen.user, seen.same])))
        for seen in page
    }

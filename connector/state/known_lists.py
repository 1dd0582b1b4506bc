"""What is known of an account's lists: a key of the same account must show it, too."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, exists, select

from connector.state.engine import Database
from connector.state.tables import parents, rows, streams

# So many of the newest parents are looked for.
MOST_PARENTS = 10
# As sync/planning/probes.py has it.
NO_PARENT = "0"


@dataclass(frozen=True, slots=True)
class KnownList:
    """What is known of a list that Beamer shows by itself, and between which dates it is to be found."""

    stream: str
    scope: int
    since: datetime | None
    until: datetime | None


def known_lists(database: Database, connection: str) -> list[KnownList]:
    """Where rows are known that a key of the same account must show."""
    with database.read() as db:
        found = db.execute(
            select(streams).where(streams.c.connection == connection).order_by(streams.c.scope)
        )
        each = [_known_list(db, row) for row in found.all()]
    return [known_list for known_list in each if known_list]


def _known_list(db: Connection, stream: Any) -> KnownList | None:
    newest = (
        select(parents.c.date)
        .where(parents.c.scope == stream.scope, ~parents.c.gone)
        .order_by(parents.c.date.desc())
        .limit(MOST_PARENTS)
    )
    if dates := db.execute(newest).scalars().all():
        return KnownList(stream.name, stream.scope, dates[-1], dates[0])
    alone = exists().where(rows.c.scope == stream.scope, rows.c.parent == NO_PARENT)
    has_parents = exists().where(parents.c.scope == stream.scope)
    if db.execute(select(alone & ~has_parents)).scalar():
        return KnownList(stream.name, stream.scope, None, stream.newest)
    return None


def shows_known_row(database: Database, known_list: KnownList, shown: Mapping[str, datetime]) -> bool:
    """Whether one of the rows that Beamer shows, by id, is known here with that date.

    Of rows that are no parents only the ids are kept.
    """
    with database.read() as db:
        if known_list.since is None:
            mine = (rows.c.scope == known_list.scope) & (rows.c.parent == NO_PARENT) & rows.c.id.in_(shown)
            return db.execute(select(rows.c.id).where(mine).limit(1)).scalar() is not None
        same = (parents.c.scope == known_list.scope) & parents.c.id.in_(shown)
        found = db.execute(select(parents.c.id, parents.c.date).where(same)).all()
    return any(abs((shown[row.id] - row.date).total_seconds()) <= 1 for row in found)

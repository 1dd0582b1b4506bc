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
class Landmark:
    """What is known of a list that Beamer shows by itself, and between which dates it is to be found."""

    stream: str
    scope: int
    since: datetime | None
    until: datetime | None


def landmarks(database: Database, connection: str) -> list[Landmark]:
    """Where rows are known that a key of the same account must show."""
    with database.read() as db:
        found = db.execute(
            select(streams).where(streams.c.connection == connection).order_by(streams.c.scope)
        )
        each = [_landmark(db, row) for row in found.all()]
    return [landmark for landmark in each if landmark]


def _landmark(db: Connection, stream: Any) -> Landmark | None:
    newest = (
        select(parents.c.date)
        .where(parents.c.scope == stream.scope, ~parents.c.gone)
        .order_by(parents.c.date.desc())
        .limit(MOST_PARENTS)
    )
    if dates := db.execute(newest).scalars().all():
        return Landmark(stream.name, stream.scope, dates[-1], dates[0])
    alone = exists().where(rows.c.scope == stream.scope, rows.c.parent == NO_PARENT)
    has_parents = exists().where(parents.c.scope == stream.scope)
    if db.execute(select(alone & ~has_parents)).scalar():
        return Landmark(stream.name, stream.scope, None, stream.newest)
    return None


def recognized(database: Database, landmark: Landmark, shown: Mapping[str, datetime]) -> bool:
    """Whether one of the rows that Beamer shows, by id, is known here with that date.

    Of rows that are no parents only the ids are kept.
    """
    with database.read() as db:
        if landmark.since is None:
            mine = (rows.c.scope == landmark.scope) & (rows.c.parent == NO_PARENT) & rows.c.id.in_(shown)
            return db.execute(select(rows.c.id).where(mine).limit(1)).scalar() is not None
        same = (parents.c.scope == landmark.scope) & parents.c.id.in_(shown)
        found = db.execute(select(parents.c.id, parents.c.date).where(same)).all()
    return any(abs((shown[row.id] - row.date).total_seconds()) <= 1 for row in found)

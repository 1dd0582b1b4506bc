"""What is held about one row, wherever it is: for those who ask what became of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from connector.state.engine import Store
from connector.state.tables import outbox, quarantine, rows, runs, streams
from connector.state.verdicts import Verdict

# So many later runs are looked at for the one with which nothing waited any more.
LATER_RUNS = 500


@dataclass(frozen=True, slots=True)
class Sighting:
    """A row that was judged: where it belongs, its verdict, and the run that saw it first."""

    connection: str
    stream: str
    parent: str
    id: str
    verdict: Verdict
    run: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that could not be used."""

    connection: str
    stream: str
    parent: str
    id: str | None
    reason: str
    seen_at: datetime


def sightings(
    store: Store, connection: str | None, row: str, *, stream: str | None = None, parent: str | None = None
) -> list[Sighting]:
    """Every row of this id; without its parent all ids are gone through, which takes a moment."""
    where = rows.c.id == row
    if connection:
        where &= streams.c.connection == connection
    if stream:
        where &= streams.c.name == stream
    if parent:
        where &= rows.c.parent == parent
    columns = (streams.c.connection, streams.c.name, rows.c.parent, rows.c.id, rows.c.verdict, rows.c.run)
    query = select(*columns).join(streams, streams.c.scope == rows.c.scope).where(where)
    with store.read() as db:
        found = db.execute(query.order_by(streams.c.connection, streams.c.name, rows.c.parent))
        return [Sighting(*row[:4], Verdict(row[4]), row[5]) for row in found]


def quarantined(store: Store, connection: str | None, row: str) -> list[Quarantined]:
    """Rows of this id that were quarantined, with their reason; only their texts go after 30 days."""
    where = quarantine.c.row == row
    if connection:
        where &= quarantine.c.connection == connection
    names = ("connection", "stream", "parent", "row", "reason", "seen_at")
    query = select(*(quarantine.c[name] for name in names)).where(where).order_by(quarantine.c.id)
    with store.read() as db:
        return [Quarantined(*found) for found in db.execute(query)]


def message(store: Store, message_id: str) -> Mapping[str, Any] | None:
    """A message that is still here, without its text."""
    columns = [column for column in outbox.c if column.name != "message"]
    with store.read() as db:
        found = db.execute(select(*columns).where(outbox.c.message_id == message_id)).first()
        return dict(found._mapping) if found else None


def run(store: Store, number: int) -> Mapping[str, Any] | None:
    """A run, unless it is too long ago."""
    with store.read() as db:
        found = db.execute(select(runs).where(runs.c.id == number)).first()
        return dict(found._mapping) if found else None


def emptied(store: Store, connection: str, since: int) -> Mapping[str, Any] | None:
    """The first run of a connection, from number `since` on, after which nothing waited for Segment."""
    query = (
        select(runs.c.id, runs.c.command, runs.c.finished_at, runs.c.summary)
        .where(runs.c.connection == connection, runs.c.id >= since, runs.c.finished_at.is_not(None))
        .order_by(runs.c.id)
        .limit(LATER_RUNS)
    )
    with store.read() as db:
        found: Sequence[Any] = db.execute(query).all()
    for each in found:
        if each.summary and json.loads(each.summary).get("waiting") == 0:
            return {"run": each.id, "command": each.command, "finished_at": each.finished_at}
    return None

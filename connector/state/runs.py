"""Runs: what was started, how it ended, and what it did."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, select, update

from connector.state.engine import Store
from connector.state.tables import DEAD, outbox, quarantine, runs

KEPT = timedelta(days=30)


def begin(store: Store, connection: str, command: str, now: datetime) -> int:
    """Write down that a run has started; give its number."""
    new = insert(runs).values(connection=connection, command=command, started_at=now)
    with store.write() as db:
        return int(db.execute(new.returning(runs.c.id)).scalar_one())


def finish(
    store: Store, run: int, now: datetime, outcome: str, exit_code: int, summary: Mapping[str, Any]
) -> None:
    """Write down how a run ended."""
    values = {"finished_at": now, "outcome": outcome, "exit": exit_code, "summary": json.dumps(summary)}
    with store.write() as db:
        db.execute(update(runs).where(runs.c.id == run).values(values))


def tidy(store: Store, now: datetime) -> None:
    """Delete what is kept for 30 days only: runs, quarantined rows, and the dead letters' messages."""
    old = now - KEPT
    with store.write() as db:
        db.execute(delete(runs).where(runs.c.started_at < old))
        db.execute(delete(quarantine).where(quarantine.c.seen_at < old))
        db.execute(delete(outbox).where(DEAD & (outbox.c.answered_at < old)))


def recent(store: Store, connection: str | None, most: int) -> Sequence[Mapping[str, Any]]:
    """The last runs, newest first."""
    query = select(runs).order_by(runs.c.id.desc()).limit(most)
    if connection:
        query = query.where(runs.c.connection == connection)
    with store.read() as db:
        found = [dict(row._mapping) for row in db.execute(query)]
    for row in found:
        row["summary"] = json.loads(row["summary"]) if row["summary"] else None
    return found

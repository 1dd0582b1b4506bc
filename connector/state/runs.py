"""Runs: what was started, how it ended, and what it did."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from connector.state.engine import Store
from connector.state.tables import DEAD, outbox, quarantine, runs

KEPT = timedelta(days=30)


_BEGIN = insert(runs).returning(runs.c.id)
_LAST = (
    select(runs.c.started_at)
    .where(runs.c.connection == bindparam("whose"))
    .order_by(runs.c.id.desc())
    .limit(1)
)
_FINISH = update(runs).where(runs.c.id == bindparam("number"))
_TIDY = (
    delete(runs).where(runs.c.started_at < bindparam("old")),
    delete(quarantine).where(quarantine.c.seen_at < bindparam("old")),
    delete(outbox).where(DEAD & (outbox.c.answered_at < bindparam("old"))),
)


def begin(store: Store, connection: str, command: str, now: datetime) -> int:
    """Write down that a run has started; give its number."""
    with store.write() as db:
        new = {"connection": connection, "command": command, "started_at": now}
        return int(db.execute(_BEGIN, new).scalar_one())


def last_begun(store: Store, connection: str) -> datetime | None:
    """When the connection's last run was started."""
    with store.read() as db:
        found: datetime | None = db.execute(_LAST, {"whose": connection}).scalar_one_or_none()
    return found


def finish(
    store: Store, run: int, now: datetime, outcome: str, exit_code: int, summary: Mapping[str, Any]
) -> None:
    """Write down how a run ended, and delete what is kept for 30 days only.

    That is runs, quarantined rows, and the dead letters' messages.
    """
    values = {"finished_at": now, "outcome": outcome, "exit": exit_code, "summary": json.dumps(summary)}
    with store.write() as db:
        db.execute(_FINISH, {**values, "number": run})
        for statement in _TIDY:
            db.execute(statement, {"old": now - KEPT})


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

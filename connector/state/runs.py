"""Runs: what was started, how it ended, and what it did."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, bindparam, delete, insert, select, update

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
_LAST_BUT_HISTORY = _LAST.where(runs.c.command != "backfill", runs.c.id < bindparam("before"))
_LAST_OF = _LAST.where(runs.c.command == bindparam("of"))
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


def last_begun(store: Store, connection: str, *, before: int) -> datetime | None:
    """When the last run before run number `before` was begun; a backfill is none, it goes on beside them."""
    return _begun(store, _LAST_BUT_HISTORY, {"whose": connection, "before": before})


def last_of(store: Store, connection: str, command: str) -> datetime | None:
    """When a command was last begun on a connection, as far as runs are kept."""
    return _begun(store, _LAST_OF, {"whose": connection, "of": command})


def _begun(store: Store, query: Select[Any], which: Mapping[str, Any]) -> datetime | None:
    with store.read() as db:
        found: datetime | None = db.execute(query, which).scalar_one_or_none()
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

"""Runs: what was started, how it ended, and what it did."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, insert, select, update

from connector.state.engine import Database
from connector.state.leases import Lease, check_lease
from connector.state.tables import DEAD, connections, outbox, quarantine, runs
from connector.state.upserts import EMPTIED, IN_QUARANTINE

KEPT = timedelta(days=30)
# The number of a run that has not begun: above all there are.
NEXT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Last:
    """A connection's last run: when it began, and how many requests it was waiting for since when."""

    started_at: datetime
    saving: float = 0.0
    saving_since: datetime | None = None


# What goes on beside the runs that ask what is new, and waits for no request of theirs.
BESIDE = ("backfill", "deliver")

_BEGIN = insert(runs).returning(runs.c.id)
_LAST = (
    select(runs.c.started_at)
    .where(runs.c.connection == bindparam("whose"))
    .order_by(runs.c.id.desc())
    .limit(1)
)
_LAST_WITH_REQUESTS = _LAST.add_columns(runs.c.summary).where(
    runs.c.command.not_in(BESIDE), runs.c.id < bindparam("before")
)
_LAST_ENDED = _LAST_WITH_REQUESTS.where(runs.c.finished_at.is_not(None))
_OTHERS = select(connections.c.name).where(
    connections.c.account == bindparam("account"), connections.c.name != bindparam("whose")
)
_LAST_OF = _LAST.where(runs.c.command == bindparam("of"))
_FINISH = update(runs).where(runs.c.id == bindparam("number"))
_DELETE_OLD = (
    delete(runs).where(runs.c.started_at < bindparam("old")),
    # The row stays, by its digest and without its text: seen again, it is nothing new.
    update(quarantine).where(IN_QUARANTINE & (quarantine.c.seen_at < bindparam("old"))).values(body=EMPTIED),
    delete(outbox).where(DEAD & (outbox.c.answered_at < bindparam("old"))),
)


def begin(database: Database, connection: str, command: str, now: datetime) -> int:
    """Write down that a run has started; give its number."""
    with database.write() as db:
        new = {"connection": connection, "command": command, "started_at": now}
        return int(db.execute(_BEGIN, new).scalar_one())


def last(database: Database, connection: str, *, before: int = NEXT) -> Last | None:
    """The last run before run number `before` that asked what is new."""
    with database.read() as db:
        return _last(db, _LAST_WITH_REQUESTS, connection, before)


def _last(db: Connection, query: Select[Any], connection: str, before: int) -> Last | None:
    row = db.execute(query, {"whose": connection, "before": before}).one_or_none()
    if row is None:
        return None
    summary = summary_of(row.summary) or {}
    since = summary.get("saving_since")
    return Last(
        row.started_at, summary.get("saving") or 0.0, datetime.fromisoformat(since) if since else None
    )


# What a summary holds beside texts: numbers, numbers by name, moments.
_NUMBERS = ("sent", "refused", "possible_doubles", "waiting", "requests_spent", "skipped_parents", "saving")
_BY_NAME = ("rows_new", "events", "held_back", "quarantined", "audited", "missing_found", "requests")
_MOMENTS = ("saving_since", "next_try")
_TEXTS, _WORDS = ("forbidden", "troubles"), ("stopped", "error")


def summary_of(text: str | None) -> dict[str, Any] | None:
    """What a run did, as it was written down, without what is of another shape than it is written in."""
    if not text:
        return None
    return {name: value for name, value in json.loads(text).items() if _is_sound(name, value)}


def _is_sound(name: str, value: Any) -> bool:
    if name in _NUMBERS:
        return _is_number(value)
    if name in _BY_NAME:
        return isinstance(value, dict) and all(map(_is_number, value.values()))
    if name in _TEXTS:
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if name in _MOMENTS:
        return value is None or _is_moment(value)
    if name == "late":
        return isinstance(value, dict) and _is_late(value)
    return name not in _WORDS or value is None or isinstance(value, str)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 2**53


def _is_late(value: Mapping[str, Any]) -> bool:
    """As `Lateness` writes it: sums, and rows by bound."""
    by_bound = value.get("up_to")
    if not isinstance(by_bound, dict) or not all(bound.isdecimal() for bound in by_bound):
        return False
    sums = [value.get(name) for name in ("rows", "seconds", "longest")]
    return all(map(_is_number, [*sums, *by_bound.values()]))


def _is_moment(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (ValueError, TypeError):
        return False


def waiting_others(database: Database, connection: str, account: str, *, before: int = NEXT) -> list[Last]:
    """The last runs of the account's other connections that wait for requests."""
    with database.read() as db:
        names = db.execute(_OTHERS, {"account": account, "whose": connection}).scalars().all()
        lasts = [_last(db, _LAST_ENDED, name, before) for name in names]
    return [found for found in lasts if found and found.saving]


def last_of(database: Database, connection: str, command: str) -> datetime | None:
    """When a command was last begun on a connection, as far as runs are kept."""
    with database.read() as db:
        found: datetime | None = db.execute(
            _LAST_OF, {"whose": connection, "of": command}
        ).scalar_one_or_none()
    return found


def finish(
    database: Database,
    run: int,
    now: datetime,
    outcome: str,
    exit_code: int,
    summary: Mapping[str, Any],
) -> None:
    """Write down how a run ended."""
    values = {"finished_at": now, "outcome": outcome, "exit": exit_code, "summary": json.dumps(summary)}
    with database.write() as db:
        db.execute(_FINISH, {**values, "number": run})


def delete_old(database: Database, lease: Lease, now: datetime, old: datetime) -> None:
    """Delete what is kept for 30 days only and is from before `old`; raises Busy where the lease is lost.

    That is runs, the texts of quarantined rows, and the dead letters' messages.
    """
    with database.write() as db:
        check_lease(db, lease, now)
        for statement in _DELETE_OLD:
            db.execute(statement, {"old": old})


def recent(database: Database, connection: str | None, most: int) -> Sequence[Mapping[str, Any]]:
    """The last runs, newest first."""
    query = select(runs).order_by(runs.c.id.desc()).limit(most)
    if connection:
        query = query.where(runs.c.connection == connection)
    with database.read() as db:
        found = [dict(row._mapping) for row in db.execute(query)]
    for row in found:
        row["summary"] = summary_of(row["summary"])
    return found

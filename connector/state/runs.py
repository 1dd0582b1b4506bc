"""Runs: what was started, how it ended, and what it did; when the next one is due."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select, update

from connector.state import deliveries, hints
from connector.state.dialects import add_new, put
from connector.state.engine import Database
from connector.state.leases import Lease, check_lease
from connector.state.tables import (
    EMPTIED,
    IN_QUARANTINE,
    IS_DEAD,
    accounts,
    connections,
    dues,
    outbox,
    quarantine,
    runs,
    streams,
    tallies,
)

KEPT = timedelta(days=30)
# A number above that of every run, for a run that has not begun.
NEXT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Last:
    """A connection's last run: when it began, and how many requests it was waiting for since when."""

    started_at: datetime
    saving: float = 0.0
    saving_since: datetime | None = None
    price: float | None = None


# These run beside the runs that read new rows, and do not wait for their requests.
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
    # The row stays, by its digest and without its text: seen again, it is not new.
    update(quarantine).where(IN_QUARANTINE & (quarantine.c.seen_at < bindparam("old"))).values(body=EMPTIED),
    delete(outbox).where(IS_DEAD & (outbox.c.answered_at < bindparam("old"))),
    hints.DELETE_OLD,
)


def begin(database: Database, connection: str, command: str, now: datetime) -> int:
    """Store that a run has started; return its number."""
    with database.write() as db:
        new = {"connection": connection, "command": command, "started_at": now}
        return int(db.execute(_BEGIN, new).scalar_one())


def last(database: Database, connection: str, *, before: int = NEXT) -> Last | None:
    """Return the last run before run number `before` that read new rows."""
    with database.read() as db:
        return _last(db, _LAST_WITH_REQUESTS, connection, before)


def _last(db: Connection, query: Select[Any], connection: str, before: int) -> Last | None:
    row = db.execute(query, {"whose": connection, "before": before}).one_or_none()
    if row is None:
        return None
    summary = summary_of(row.summary) or {}
    since = summary.get("saving_since")
    return Last(
        row.started_at,
        summary.get("saving") or 0.0,
        datetime.fromisoformat(since) if since else None,
        summary.get("price"),
    )


# What a summary holds besides texts: numbers, numbers by name, moments.
_NUMBERS = ("sent", "refused", "possible_doubles", "waiting", "requests_spent", "skipped_parents", "saving")
_BY_NAME = ("rows_new", "events", "excluded", "quarantined", "audited", "missing_found", "requests")
_MOMENTS = ("saving_since", "next_try")
_TEXTS, _WORDS = ("forbidden", "troubles"), ("stopped", "error")


def summary_of(text: str | None) -> dict[str, Any] | None:
    """Return a run's stored summary, without values of an unexpected type."""
    if not text:
        return None
    return {name: value for name, value in json.loads(text).items() if _is_sound(name, value)}


def _is_sound(name: str, value: Any) -> bool:
    if name in _NUMBERS:
        return _is_number(value)
    if name in _BY_NAME:
        return isinstance(value, dict) and all(map(_is_number, value.values()))
    if name in _TEXTS:
        return isinstance(value, list) and all(isinstance(text, str) for text in value)
    if name == "price":
        return value is None or _is_number(value)
    if name in _MOMENTS:
        return value is None or _is_moment(value)
    if name == "late":
        return isinstance(value, dict) and _is_late(value)
    return name not in _WORDS or value is None or isinstance(value, str)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 2**53


def _is_late(value: Mapping[str, Any]) -> bool:
    """Return whether a value has the form that `Lateness` writes: sums, and rows by bound."""
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
    """Return the last runs of the account's other connections that wait for requests."""
    with database.read() as db:
        names = db.execute(_OTHERS, {"account": account, "whose": connection}).scalars().all()
        lasts = [_last(db, _LAST_ENDED, name, before) for name in names]
    return [run for run in lasts if run and run.saving]


def last_of(database: Database, connection: str, command: str) -> datetime | None:
    """Return when a command last began on a connection, as far back as runs are kept."""
    with database.read() as db:
        started: datetime | None = db.scalar(_LAST_OF, {"whose": connection, "of": command})
    return started


def last_begun(database: Database, connection: str) -> datetime | None:
    """Return when the last run that reads new rows began."""
    with database.read() as db:
        row = db.execute(_LAST_WITH_REQUESTS, {"whose": connection, "before": NEXT}).one_or_none()
    return row.started_at if row else None


def finish(
    database: Database,
    run: int,
    now: datetime,
    outcome: str,
    exit_code: int,
    summary: Mapping[str, Any],
) -> None:
    """Store how a run ended."""
    values = {"finished_at": now, "outcome": outcome, "exit": exit_code, "summary": json.dumps(summary)}
    with database.write() as db:
        db.execute(_FINISH, {**values, "number": run})


def delete_old(database: Database, lease: Lease, now: datetime, old: datetime) -> None:
    """Delete what is kept for 30 days only and is older than `old`; raise Busy if the lease is lost.

    That is runs, texts of quarantined rows, and the messages of dead letters. Counts of deliveries are
    kept for 60 days.
    """
    with database.write() as db:
        check_lease(db, lease, now)
        for statement in _DELETE_OLD:
            db.execute(statement, {"old": old})
        deliveries.delete_old(db, old + KEPT)


@dataclass(frozen=True, slots=True)
class PastRun:
    """One run, in short; `finished_at` is None while it runs, and for ever if it was killed."""

    id: int
    command: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    exit: int | None


def last_runs(database: Database, connection: str, most: int) -> Sequence[PastRun]:
    """Return the last runs, newest first, without their summaries."""
    columns = (runs.c.id, runs.c.command, runs.c.started_at, runs.c.finished_at, runs.c.outcome, runs.c.exit)
    query = select(*columns).where(runs.c.connection == connection).order_by(runs.c.id.desc()).limit(most)
    with database.read() as db:
        return [PastRun(*row) for row in db.execute(query)]


def recent(database: Database, connection: str | None, most: int) -> Sequence[Mapping[str, Any]]:
    """Return the last runs, newest first, with their summaries."""
    query = select(runs).order_by(runs.c.id.desc()).limit(most)
    if connection:
        query = query.where(runs.c.connection == connection)
    with database.read() as db:
        return [{**row, "summary": summary_of(row["summary"])} for row in db.execute(query).mappings()]


# A run every minute for the 30 days that runs are kept.
MOST_RUNS = 43_200
CHUNK = 1_000

_SINCE = (
    select(runs.c.command, runs.c.started_at, runs.c.finished_at, runs.c.outcome, runs.c.summary)
    .where(runs.c.connection == bindparam("whose"), runs.c.started_at >= bindparam("since"))
    .order_by(runs.c.id.desc())
    .limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run; `did` is its summary, empty while it runs and if it was killed."""

    command: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    did: Mapping[str, Any]


def runs_since(
    database: Database, connection: str, since: datetime, most: int = MOST_RUNS
) -> Iterator[RunSummary]:
    """Yield the runs that began since then, newest first; they are never all in memory at once."""
    with database.read() as db:
        wanted = {"whose": connection, "since": since, "most": most}
        for row in db.execution_options(yield_per=CHUNK).execute(_SINCE, wanted):
            yield RunSummary(*row[:4], summary_of(row.summary) or {})


def last_success(database: Database, connection: str) -> datetime | None:
    """Return when a run last exited with code 0."""
    succeeded = (runs.c.connection == connection) & (runs.c.exit == 0)
    query = select(runs.c.finished_at).where(succeeded).order_by(runs.c.id.desc()).limit(1)
    with database.read() as db:
        finished: datetime | None = db.scalar(query)
    return finished


def run(database: Database, number: int) -> Mapping[str, Any] | None:
    """Return a run, unless it is too old."""
    with database.read() as db:
        row = db.execute(select(runs).where(runs.c.id == number)).mappings().first()
    return dict(row) if row else None


# How many later runs are searched for the first one without waiting messages.
LATER_RUNS = 500


def emptied(database: Database, connection: str, since: int) -> Mapping[str, Any] | None:
    """Return the first run from number `since` on that left nothing waiting for Segment."""
    query = (
        select(runs.c.id, runs.c.command, runs.c.finished_at, runs.c.summary)
        .where(runs.c.connection == connection, runs.c.id >= since, runs.c.finished_at.is_not(None))
        .order_by(runs.c.id)
        .limit(LATER_RUNS)
    )
    with database.read() as db:
        later = db.execute(query).all()
    for row in later:
        if (summary_of(row.summary) or {}).get("waiting") == 0:
            return {"run": row.id, "command": row.command, "finished_at": row.finished_at}
    return None


# --- all connections at once -------------------------------------------------------------------------------

OF_STREAMS = ("newest", "delay", "complete_through", "distrusted", "trouble")

_later = runs.alias("later")
# Each reads the end of an index, however many runs a connection has.
_NEWEST_FIRST = select(_later.c.id, _later.c.finished_at).order_by(_later.c.id.desc()).limit(1)
_OF_IT = _NEWEST_FIRST.where(_later.c.connection == connections.c.name).correlate(connections)
_ENDED = _OF_IT.where(_later.c.finished_at.is_not(None)).with_only_columns(_later.c.id).scalar_subquery()
_SUCCEEDED = _OF_IT.where(_later.c.exit == 0).with_only_columns(_later.c.finished_at).scalar_subquery()
_LAST_RUNS = select(
    connections.c.name,
    connections.c.account,
    _SUCCEEDED.label("succeeded"),
    runs.c.started_at,
    runs.c.finished_at,
    runs.c.exit,
).select_from(connections.outerjoin(runs, runs.c.id == _ENDED))


@dataclass(frozen=True, slots=True)
class Figures:
    """Rows of the database: last runs, streams, sums, messages, accounts, hints; quarantined rows."""

    runs: Sequence[Any] = ()
    streams: Sequence[Any] = ()
    sums: Sequence[Any] = ()
    messages: Sequence[Any] = ()
    quarantined: Mapping[str, int] = field(default_factory=dict)
    accounts: Sequence[Any] = ()
    hints: Sequence[Any] = ()


def figures(database: Database, now: datetime) -> Figures:
    """Return the figures that the metrics show of all connections; `now` decides which are closed."""
    sizes = (outbox.c.connection, outbox.c.state)
    held = select(*sizes, func.count().label("messages"), func.min(outbox.c.made_at).label("oldest"))
    bad = select(quarantine.c.connection, func.count()).where(IN_QUARANTINE)
    bad = bad.group_by(quarantine.c.connection)
    of_streams = (streams.c.connection, streams.c.name, *(streams.c[name] for name in OF_STREAMS))
    closed = (accounts.c.closed_until > now).label("closed")
    with database.read() as db:
        return Figures(
            db.execute(_LAST_RUNS).all(),
            db.execute(select(*of_streams)).all(),
            db.execute(select(tallies)).all(),
            db.execute(held.group_by(*sizes)).all(),
            {connection: int(number) for connection, number in db.execute(bad)},
            db.execute(select(accounts.c.name, accounts.c.drawn, accounts.c.refusals, closed)).all(),
            db.execute(hints.SUMS).all(),
        )


# --- when each connection is due: shared by all processes of a schedule ------------------------------------


@dataclass(frozen=True, slots=True)
class Due:
    """When a connection is due, and how many runs in a row have failed before."""

    at: datetime
    failures: int = 0


def load_dues(database: Database) -> Mapping[str, Due]:
    """Return when each connection is due that was ever scheduled."""
    with database.read() as db:
        return {row.connection: Due(row.due_at, row.failures) for row in db.execute(select(dues))}


def claim_due(database: Database, connection: str, seen: Due | None, until: datetime) -> bool:
    """Claim a run that was seen to be due; return False if another process was faster.

    Until `until` no other process claims it; if this process dies, another one does so then.
    """
    with database.write() as db:
        if seen is None:
            first = {"connection": connection, "due_at": until, "failures": 0}
            return bool(add_new(db, dues, [first], dues.c.connection))
        mine = (dues.c.connection == connection) & (dues.c.due_at == seen.at)
        return db.execute(update(dues).where(mine).values(due_at=until)).rowcount == 1


def save_due(database: Database, connection: str, due: Due) -> None:
    """Store when a connection is due, for all processes."""
    with database.write() as db:
        put(db, dues, [{"connection": connection, "due_at": due.at, "failures": due.failures}])

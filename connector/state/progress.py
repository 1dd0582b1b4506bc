"""The progress of each stream, parent and child list: load and reset it; the verdicts on rows."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, Table, bindparam, delete, exists, func, or_, select, update

from connector.domain.state import ChildState, ParentState, Progress, StreamState, Verdict
from connector.errors import ConfigurationError, StateDamaged
from connector.state.columns import Moment
from connector.state.damage import Unreadable
from connector.state.dialects import add
from connector.state.engine import Database
from connector.state.leases import Lease, check_lease
from connector.state.tables import (
    IN_QUARANTINE,
    children,
    connections,
    days,
    parents,
    quarantine,
    rows,
    streams,
    tallies,
)

# Clocks differ by less than this.
FUTURE = timedelta(days=2)


def load(database: Database, connection: str, names: tuple[str, ...], *, lists: bool = True) -> Progress:
    """Load a connection's progress (see `load_readonly`); a stream without a row gets one."""
    progress = load_readonly(database, connection, lists=lists)
    missing = [name for name in names if name not in progress.streams]
    if not missing:
        return progress
    new = {"connection": connection, "complete": False, "list_order": "unknown"}
    with database.write() as db:
        # A stream whose stored name is damaged must not start anew: its rows would be sent again.
        for stray in strays(db, names):
            if stray.key["connection"] == connection or stray.column == "connection":
                raise StateDamaged(
                    f"A value in the database refers to something that does not exist: {stray.where}.",
                    todo="Run `beamer-segment state repair`.",
                )
        add(db, streams, [{**new, "name": name} for name in missing])
    return load_readonly(database, connection, lists=lists)


def strays(db: Connection, names: Collection[str]) -> list[Unreadable]:
    """Return the streams of an unknown connection, or of a name that no stream has."""
    known = set(db.execute(select(connections.c.name)).scalars())
    if not known:
        return []
    return [
        Unreadable(streams, "name" if whose in known else "connection", {"connection": whose, "scope": scope})
        for scope, whose, name in db.execute(select(streams.c.scope, streams.c.connection, streams.c.name))
        if whose not in known or name not in names
    ]


def load_readonly(database: Database, connection: str, *, lists: bool = True) -> Progress:
    """Load a connection's progress and write nothing; without `lists`, the streams' own state only."""
    progress = Progress()
    with database.read() as db:
        for row in db.execute(_STREAMS, {"whose": connection}):
            state = StreamState(*row)
            progress.streams[state.name] = state
        by_scope = {state.scope: name for name, state in progress.streams.items()}
        if not lists:
            return progress
        scopes = {"scopes": list(by_scope)}
        # A row with an unreadable id has an empty one instead.
        for scope, *values in db.execute(_PARENTS, scopes):
            if (parent := ParentState(*values)).id:
                progress.parents.setdefault(by_scope[scope], {})[parent.id] = parent
        for row in db.execute(_CHILDREN, scopes):
            if (child := ChildState(*row)).parent:
                progress.children.setdefault(by_scope[child.scope], {})[child.parent] = child
    return progress


def doubt_future(progress: Progress, now: datetime) -> None:
    """Remove moments that are days after `now` from a progress.

    An answer may have had a wrong date: what was requested then would not be requested again.
    """
    horizon = now + FUTURE
    parents = (parent for group in progress.parents.values() for parent in group.values())
    lists = (child for group in progress.children.values() for child in group.values())
    for state in (*progress.streams.values(), *parents, *lists):
        for name in _HAPPENED[type(state)]:
            at = getattr(state, name)
            if at is not None and at > horizon:
                setattr(state, name, None)


def _columns(table: Table, state: type[Any]) -> list[Column[Any]]:
    """Return the columns of a state's fields, which have the same names, in the order of the fields."""
    return [table.c[field.name] for field in fields(state)]


_STREAMS = select(*_columns(streams, StreamState)).where(streams.c.connection == bindparam("whose"))
_PARENTS = select(parents.c.scope, *_columns(parents, ParentState)).where(
    parents.c.scope.in_(bindparam("scopes", expanding=True))
)
_CHILDREN = select(*_columns(children, ChildState)).where(
    children.c.scope.in_(bindparam("scopes", expanding=True))
)
_HAPPENED: dict[type, tuple[str, ...]] = {
    state: tuple(
        field.name
        for field in fields(state)
        if field.name != "date" and isinstance(table.c[field.name].type, Moment)
    )
    for state, table in ((StreamState, streams), (ParentState, parents), (ChildState, children))
}


# The tables that hold what was seen of a stream.
SEEN = (rows, children, days)
# The state of a changed parent after a reset: the next change must not reuse a sent messageId.
UNSEEN = {"gone": True, "checked_at": None, "proved_at": None, "failures": 0, "failed_at": None}
# What was sent or quarantined stays: rows that are seen again add nothing.
LASTING_SUMS = ("sent", "quarantined")
# The number and name of a stream stay, and what was learnt about its lists.
KEPT = ("scope", "name", "list_order", "short_ends", "page_rows")


def scope_of(database: Database, connection: str, stream: str) -> int:
    """Return a stream's number; raise ConfigurationError if it was never read."""
    where = (streams.c.connection == connection) & (streams.c.name == stream)
    with database.read() as db:
        scope: int | None = db.execute(select(streams.c.scope).where(where)).scalar()
    if scope is None:
        raise ConfigurationError(
            f"Connection '{connection}' has never read the stream '{stream}'.",
            means="There is nothing to reset.",
            todo="Name one of those that `beamer-segment status` lists.",
        )
    return scope


def verdicts(database: Database, scope: int) -> Counter[str]:
    """Return how many rows of a stream have each verdict."""
    count = select(rows.c.verdict, func.count()).where(rows.c.scope == scope).group_by(rows.c.verdict)
    with database.read() as db:
        return Counter({Verdict(verdict).label: int(number) for verdict, number in db.execute(count)})


def reset(database: Database, lease: Lease, scope: int, now: datetime) -> None:
    """Delete what was seen of a stream. Waiting messages, and what was learnt of its lists, stay.

    Parents of which a change was sent stay as gone until they are seen again: the number of changes is
    part of the next change's messageId.
    """
    fresh = StreamState(scope, "")
    values = {field.name: getattr(fresh, field.name) for field in fields(fresh) if field.name not in KEPT}
    with database.write() as db:
        check_lease(db, lease, now)
        for table in SEEN:
            db.execute(delete(table).where(table.c.scope == scope))
        name = select(streams.c.name).where(streams.c.scope == scope).scalar_subquery()
        sums = (tallies.c.connection == lease.connection) & (tallies.c.stream == name)
        db.execute(delete(tallies).where(sums, tallies.c.what.not_in(LASTING_SUMS)))
        db.execute(delete(parents).where(parents.c.scope == scope, parents.c.changes == 0))
        db.execute(update(parents).where(parents.c.scope == scope).values(**UNSEEN))
        db.execute(update(streams).where(streams.c.scope == scope).values(**values))


_MARKS = (
    select(streams.c.scope, streams.c.watermark, func.max(children.c.watermark))
    .outerjoin(children, children.c.scope == streams.c.scope)
    .where(streams.c.connection == bindparam("whose"), streams.c.name.in_(bindparam("names", expanding=True)))
    .group_by(streams.c.scope, streams.c.watermark)
)
_NOTE = (
    update(streams)
    .where(
        streams.c.scope == bindparam("here"),
        or_(streams.c.newest.is_(None), streams.c.newest < bindparam("mark")),
    )
    .values(newest=bindparam("mark"), delay=bindparam("late"))
)


def note_newest(database: Database, connection: str, names: Collection[str], now: datetime) -> None:
    """Store the date and delay of the newest row of streams in which a run has just found rows."""
    if not names:
        return
    with database.write() as db:
        for scope, *dates in db.execute(_MARKS, {"whose": connection, "names": list(names)}).all():
            mark = max(filter(None, dates), default=None)
            if mark:
                late = max(0.0, (now - mark).total_seconds())
                db.execute(_NOTE, {"here": scope, "mark": mark, "late": late})


# --- what a key of the same account must show --------------------------------------------------------------

# How many of the newest parents are searched.
MOST_PARENTS = 10
# The same value as in sync/planning/probes.py.
NO_PARENT = "0"


@dataclass(frozen=True, slots=True)
class KnownList:
    """A list that Beamer shows by itself, with known rows dated from `since` to `until`."""

    stream: str
    scope: int
    since: datetime | None
    until: datetime | None


def known_lists(database: Database, connection: str) -> list[KnownList]:
    """Return the lists with rows that a key of the same account must show."""
    query = select(streams).where(streams.c.connection == connection).order_by(streams.c.scope)
    with database.read() as db:
        lists = [_known_list(db, stream) for stream in db.execute(query).all()]
    return [known_list for known_list in lists if known_list]


def _known_list(db: Connection, stream: Any) -> KnownList | None:
    newest = (
        select(parents.c.date)
        .where(parents.c.scope == stream.scope, ~parents.c.gone)
        .order_by(parents.c.date.desc())
        .limit(MOST_PARENTS)
    )
    if dates := db.execute(newest).scalars().all():
        return KnownList(stream.name, stream.scope, dates[-1], dates[0])
    has_rows = exists().where(rows.c.scope == stream.scope, rows.c.parent == NO_PARENT)
    has_parents = exists().where(parents.c.scope == stream.scope)
    if db.execute(select(has_rows & ~has_parents)).scalar():
        return KnownList(stream.name, stream.scope, None, stream.newest)
    return None


def shows_known_row(database: Database, known_list: KnownList, shown: Mapping[str, datetime]) -> bool:
    """Return whether one of the rows shown by Beamer, by id, is stored with that date.

    Only parents are stored with a date; of other rows the ids are compared.
    """
    with database.read() as db:
        if known_list.since is None:
            mine = (rows.c.scope == known_list.scope) & (rows.c.parent == NO_PARENT) & rows.c.id.in_(shown)
            return db.execute(select(rows.c.id).where(mine).limit(1)).scalar() is not None
        same = (parents.c.scope == known_list.scope) & parents.c.id.in_(shown)
        stored = db.execute(select(parents.c.id, parents.c.date).where(same)).all()
    return any(abs((shown[row.id] - row.date).total_seconds()) <= 1 for row in stored)


# --- what became of rows -----------------------------------------------------------------------------------


def newest(database: Database, connection: str) -> Mapping[str, tuple[datetime, float]]:
    """Return by stream the date of the newest row and how many seconds later it was read."""
    mine = (streams.c.connection == connection) & streams.c.newest.is_not(None)
    query = select(streams.c.name, streams.c.newest, streams.c.delay).where(mine)
    with database.read() as db:
        return {name: (date, delay or 0.0) for name, date, delay in db.execute(query)}


def sums(database: Database, connection: str) -> Mapping[str, Mapping[str, int]]:
    """Return by stream the number of rows sent, excluded and so on."""
    query = select(tallies.c.stream, tallies.c.what, tallies.c["count"])
    return _by_stream(database, query.where(tallies.c.connection == connection))


def quarantined(database: Database, connection: str) -> Mapping[str, Mapping[str, int]]:
    """Return by stream and reason the number of quarantined rows."""
    columns = (quarantine.c.stream, quarantine.c.reason)
    mine = (quarantine.c.connection == connection) & IN_QUARANTINE
    return _by_stream(database, select(*columns, func.count()).where(mine).group_by(*columns))


def _by_stream(database: Database, query: Any) -> Mapping[str, Mapping[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    with database.read() as db:
        for stream, what, number in db.execute(query):
            counts.setdefault(stream, {})[what] = int(number)
    return counts


@dataclass(frozen=True, slots=True)
class SeenRow:
    """A row with a verdict: its list, its verdict, and the run that saw it first."""

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
    database: Database,
    connection: str | None,
    row: str,
    *,
    stream: str | None = None,
    parent: str | None = None,
) -> list[SeenRow]:
    """Return every row of this id; without its parent this reads all ids, which takes a moment."""
    wanted = ((streams.c.connection, connection), (streams.c.name, stream), (rows.c.parent, parent))
    columns = (streams.c.connection, streams.c.name, rows.c.parent, rows.c.id, rows.c.verdict, rows.c.run)
    query = select(*columns).join(streams, streams.c.scope == rows.c.scope).where(rows.c.id == row)
    query = query.where(*(column == value for column, value in wanted if value))
    with database.read() as db:
        result = db.execute(query.order_by(*columns[:3]))
        return [SeenRow(*row[:4], Verdict(row[4]), row[5]) for row in result]


def quarantined_rows(database: Database, connection: str | None, row: str) -> list[Quarantined]:
    """Return quarantined rows of this id, with their reason; only their texts are deleted after 30 days."""
    names = ("connection", "stream", "parent", "row", "reason", "seen_at")
    query = select(*(quarantine.c[name] for name in names)).where(quarantine.c.row == row)
    if connection:
        query = query.where(quarantine.c.connection == connection)
    with database.read() as db:
        return [Quarantined(*values) for values in db.execute(query.order_by(quarantine.c.id))]

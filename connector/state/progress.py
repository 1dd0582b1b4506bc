"""The progress of each stream, parent and child list: loaded, saved, reset."""

from collections import Counter
from collections.abc import Collection
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, Table, bindparam, delete, func, or_, select, update

from connector.domain.state import ChildState, ParentState, Progress, StreamState
from connector.domain.verdicts import Verdict
from connector.errors import ConfigurationError, StateDamaged
from connector.state.damage import Unreadable
from connector.state.engine import Database
from connector.state.leases import Lease, check_lease
from connector.state.tables import children, connections, days, parents, rows, streams, tallies
from connector.state.upserts import add

# Clocks differ by less.
FUTURE = timedelta(days=2)


def load(database: Database, connection: str, names: tuple[str, ...], *, lists: bool = True) -> Progress:
    """Load a connection's progress (see `load_readonly`); streams met for the first time get their row."""
    progress = load_readonly(database, connection, lists=lists)
    missing = [name for name in names if name not in progress.streams]
    if not missing:
        return progress
    new = {"connection": connection, "complete": False, "list_order": "unknown"}
    with database.write() as db:
        _refuse_strays(db, connection, names)
        add(db, streams, [{**new, "name": name} for name in missing])
    return load_readonly(database, connection, lists=lists)


def _refuse_strays(db: Connection, connection: str, names: tuple[str, ...]) -> None:
    """Begin no stream anew that is there already under a damaged name: its rows would be sent again."""
    for found in strays(db, names):
        mine = found.key["connection"] == connection
        if mine or found.column == "connection":
            raise StateDamaged(
                f"A value in the database refers to something that does not exist: {found.where}.",
                todo="Run `beamer-segment state repair`.",
            )


def strays(db: Connection, names: Collection[str]) -> list[Unreadable]:
    """Streams of a connection that there is not, or of a name that no stream has."""
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
        for scope, *values in db.execute(_PARENTS, scopes):
            parent = ParentState(*values)
            if not parent.id:
                continue
            progress.parents.setdefault(by_scope[scope], {})[parent.id] = parent
        for row in db.execute(_CHILDREN, scopes):
            child = ChildState(*row)
            if not child.parent:
                continue
            progress.children.setdefault(by_scope[child.scope], {})[child.parent] = child
    return progress


def doubt_future(progress: Progress, now: datetime) -> None:
    """Take as never what is written down to have happened days from now.

    An answer may have come with a date that was far off: what it had looked at would not be looked at again.
    """
    horizon = now + FUTURE
    lists = (child for each in progress.children.values() for child in each.values())
    parents = (parent for each in progress.parents.values() for parent in each.values())
    for state in (*progress.streams.values(), *parents, *lists):
        for name in _HAPPENED[type(state)]:
            at = getattr(state, name)
            if at is not None and at > horizon:
                setattr(state, name, None)


def _columns(table: Table, state: type[Any]) -> list[Column[Any]]:
    """The columns of a state's fields, which are named alike, in the order of the fields."""
    return [table.c[field.name] for field in fields(state)]


_STREAMS = select(*_columns(streams, StreamState)).where(streams.c.connection == bindparam("whose"))
_PARENTS = select(parents.c.scope, *_columns(parents, ParentState)).where(
    parents.c.scope.in_(bindparam("scopes", expanding=True))
)
_CHILDREN = select(*_columns(children, ChildState)).where(
    children.c.scope.in_(bindparam("scopes", expanding=True))
)
_HAPPENED: dict[type, tuple[str, ...]] = {
    StreamState: (
        *(
            "watermark",
            "complete_through",
            "checked_at",
            "audited_at",
            "fitted_at",
            "trouble_at",
            "failed_at",
        ),
    ),
    ParentState: ("known_at", "checked_at", "proved_at", "failed_at"),
    ChildState: (
        *("watermark", "read_at", "deep_at", "whole_at", "waits_since", "recent_at", "failed_at"),
        "short_since",
    ),
}


# Of a stream's tables these hold what was seen of it.
SEEN = (rows, children, days)
# What a changed parent becomes: the next change must not get the messageId of one that was sent.
UNSEEN = {"gone": True, "checked_at": None, "proved_at": None, "failures": 0, "failed_at": None}
# What was sent has been sent, and what is in quarantine stays there: rows that are seen again add nothing.
LASTING_SUMS = ("sent", "quarantined")
# Its number and its name stay, and what was learnt about how its lists answer.
KEPT = ("scope", "name", "list_order", "short_ends", "page_rows")


def scope_of(database: Database, connection: str, stream: str) -> int:
    """The stream's number; raises ConfigurationError where it was never read."""
    where = (streams.c.connection == connection) & (streams.c.name == stream)
    with database.read() as db:
        found: int | None = db.execute(select(streams.c.scope).where(where)).scalar()
    if found is None:
        raise ConfigurationError(
            f"Connection '{connection}' has never read the stream '{stream}'.",
            means="There is nothing to reset.",
            todo="Name one of those that `beamer-segment status` lists.",
        )
    return found


def verdicts(database: Database, scope: int) -> Counter[str]:
    """How many rows of a stream were judged how."""
    count = select(rows.c.verdict, func.count()).where(rows.c.scope == scope).group_by(rows.c.verdict)
    with database.read() as db:
        return Counter({Verdict(verdict).label: int(number) for verdict, number in db.execute(count)})


def reset(database: Database, lease: Lease, scope: int, now: datetime) -> None:
    """Forget what was seen of a stream. Messages that wait, and what was learnt of its lists, stay.

    Parents of which a change was sent stay as gone, until they are seen again: how many changes there were
    is part of the next one's messageId.
    """
    fresh = StreamState(scope, "")
    values = {each.name: getattr(fresh, each.name) for each in fields(fresh) if each.name not in KEPT}
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
    """Streams in which a run has just found rows: where one is the newest so far, how old it is already."""
    if not names:
        return
    with database.write() as db:
        for scope, own, of_lists in db.execute(_MARKS, {"whose": connection, "names": list(names)}).all():
            mark = max(filter(None, (own, of_lists)), default=None)
            if mark:
                late = max(0.0, (now - mark).total_seconds())
                db.execute(_NOTE, {"here": scope, "mark": mark, "late": late})

"""How far each list has been read: streams, parents and their child lists, as a run takes them up."""

from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Table, bindparam, select

from connector.errors import Forbidden
from connector.state.engine import Store
from connector.state.tables import children, parents, streams
from connector.state.writing import add

# Clocks differ by less.
FUTURE = timedelta(days=2)


@dataclass(slots=True)
class StreamState:
    """One stream: `complete` once its list was read to the far end.

    `windows` is what the audit of a list without counters has still to do (see sync/lists/windows.py).
    `recent` counts the rows found lately, as of `looked_at`; `curve` is how rows come at a parent as it
    grows older, fitted at `fitted_at`. `judged` counts the latest rows, and `wanted` those of them that were
    to be sent. `announced` and `silent` count rows that came with and without a
    word of the counters; too many silent ones, and the counters are `distrusted`. `failures` in a row, the
    last one at `failed_at`, make it rest.
    """

    scope: int
    name: str
    watermark: datetime | None = None
    complete_through: datetime | None = None
    complete: bool = False
    place: str | None = None
    list_order: str = "unknown"
    short_ends: bool | None = None
    looked_at: datetime | None = None
    recent: float = 0.0
    audited_at: datetime | None = None
    windows: str | None = None
    curve: str | None = None
    fitted_at: datetime | None = None
    judged: float = 0.0
    wanted: float = 0.0
    announced: float = 0.0
    silent: float = 0.0
    distrusted: bool = False
    trouble: str | None = None
    trouble_at: datetime | None = None
    failures: int = 0
    failed_at: datetime | None = None

    def forbidden_since(self, moment: datetime) -> bool:
        """Whether Beamer has said since then that the key may not read it."""
        trouble, at = self.trouble or "", self.trouble_at
        return Forbidden.tells(trouble) and at is not None and at > moment


@dataclass(slots=True)
class ParentState:
    """A post or a feature request, as last seen on a page.

    `known_at` and `looked_at` say when that was first and last; `proved_at`, when a reading to its
    window's end last made sure that nothing hides there. `failures` in a row of the block that it is in,
    the last one at `failed_at`, make that rest.
    """

    id: str
    date: datetime
    status: str | None = None
    changes: int = 0
    gone: bool = False
    metrics: str | None = None
    metrics_day: int | None = None
    known_at: datetime | None = None
    looked_at: datetime | None = None
    proved_at: datetime | None = None
    failures: int = 0
    failed_at: datetime | None = None


@dataclass(slots=True)
class ChildState:
    """A child list; counters are written as their parts joined by commas.

    `surplus` is how many rows were found beyond what the counter had shown: a lagging counter will
    still move for them; `early` are those of the last reading. `swept_at`: when that was; `fell`: the
    counter has fallen since, and `swept` with it, so that what comes next shows. `deep_at` and `whole_at`:
    when it was last read over the whole lookback, and as a whole. `waits_since`: the mean
    moment at which the rows that wait appeared; `recent` counts its latest rows, as of `recent_at`.
    `failures` in a row, the last one at `failed_at`, make it rest.
    """

    scope: int
    parent: str
    counter: str
    swept: str | None = None
    surplus: int = 0
    watermark: datetime | None = None
    place: str | None = None
    swept_at: datetime | None = None
    early: int = 0
    deep_at: datetime | None = None
    whole_at: datetime | None = None
    fell: bool = False
    waits_since: datetime | None = None
    recent: float = 0.0
    recent_at: datetime | None = None
    failures: int = 0
    failed_at: datetime | None = None


@dataclass(slots=True)
class Progress:
    """All of it for one connection."""

    streams: dict[str, StreamState] = field(default_factory=dict)
    parents: dict[str, dict[str, ParentState]] = field(default_factory=dict)
    children: dict[str, dict[str, ChildState]] = field(default_factory=dict)


def load(store: Store, connection: str, names: tuple[str, ...], *, lists: bool = True) -> Progress:
    """Load a connection's progress (see `peek`); streams met for the first time get their row."""
    progress = peek(store, connection, lists=lists)
    missing = [name for name in names if name not in progress.streams]
    if not missing:
        return progress
    new = {"connection": connection, "complete": False, "list_order": "unknown"}
    with store.write() as db:
        add(db, streams, [{**new, "name": name} for name in missing])
    return peek(store, connection, lists=lists)


def peek(store: Store, connection: str, *, lists: bool = True) -> Progress:
    """Load a connection's progress and write nothing; without `lists`, the streams' own state only."""
    progress = Progress()
    with store.read() as db:
        for row in db.execute(_STREAMS, {"whose": connection}):
            state = StreamState(*row)
            progress.streams[state.name] = state
        by_scope = {state.scope: name for name, state in progress.streams.items()}
        if not lists:
            return progress
        scopes = {"scopes": list(by_scope)}
        for scope, *values in db.execute(_PARENTS, scopes):
            parent = ParentState(*values)
            progress.parents.setdefault(by_scope[scope], {})[parent.id] = parent
        for row in db.execute(_CHILDREN, scopes):
            child = ChildState(*row)
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
    StreamState: ("looked_at", "audited_at", "fitted_at", "trouble_at", "failed_at"),
    ParentState: ("known_at", "looked_at", "proved_at", "failed_at"),
    ChildState: ("swept_at", "deep_at", "whole_at", "waits_since", "recent_at", "failed_at"),
}

"""How far each list has been read: streams, parents and their child lists, as a run takes them up."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select

from connector.state.engine import Store
from connector.state.tables import children, parents, streams
from connector.state.writing import add


@dataclass(slots=True)
class StreamState:
    """One stream: `complete` once its list was read to the far end; `proved_at`: last checked when."""

    scope: int
    name: str
    watermark: datetime | None = None
    complete_through: datetime | None = None
    complete: bool = False
    proved_at: datetime | None = None
    place: str | None = None
    list_order: str = "unknown"
    short_ends: bool | None = None
    trouble: str | None = None
    trouble_at: datetime | None = None


@dataclass(slots=True)
class ParentState:
    """A post or a feature request, as last seen on a page."""

    id: str
    date: datetime
    status: str | None = None
    changes: int = 0
    gone: bool = False
    metrics: str | None = None
    metrics_day: int | None = None


@dataclass(slots=True)
class ChildState:
    """A child list; counters are written as their parts joined by commas.

    `surplus` is how many rows were found beyond what the counter had shown: a lagging counter will
    still move for them.
    """

    scope: int
    parent: str
    counter: str
    swept: str | None = None
    surplus: int = 0
    watermark: datetime | None = None
    place: str | None = None


@dataclass(slots=True)
class Progress:
    """All of it for one connection."""

    streams: dict[str, StreamState] = field(default_factory=dict)
    parents: dict[str, dict[str, ParentState]] = field(default_factory=dict)
    children: dict[str, dict[str, ChildState]] = field(default_factory=dict)


def load(store: Store, connection: str, names: tuple[str, ...]) -> Progress:
    """Load a connection's progress; streams met for the first time get their row."""
    progress = peek(store, connection)
    missing = [name for name in names if name not in progress.streams]
    if not missing:
        return progress
    new = {"connection": connection, "complete": False, "list_order": "unknown"}
    with store.write() as db:
        add(db, streams, [{**new, "name": name} for name in missing])
    return peek(store, connection)


def peek(store: Store, connection: str) -> Progress:
    """Load a connection's progress and write nothing."""
    progress = Progress()
    with store.read() as db:
        for row in db.execute(select(streams).where(streams.c.connection == connection)):
            values = {name: value for name, value in row._mapping.items() if name != "connection"}
            progress.streams[row.name] = StreamState(**values)
        by_scope = {state.scope: name for name, state in progress.streams.items()}
        for row in db.execute(select(parents).where(parents.c.scope.in_(list(by_scope)))):
            values = {name: value for name, value in row._mapping.items() if name != "scope"}
            progress.parents.setdefault(by_scope[row.scope], {})[row.id] = ParentState(**values)
        for row in db.execute(select(children).where(children.c.scope.in_(list(by_scope)))):
            progress.children.setdefault(by_scope[row.scope], {})[row.parent] = ChildState(**row._mapping)
    return progress

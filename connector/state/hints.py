"""Hints: what webhooks announced, by list, until a run reads the list and confirms or discards them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, reduce
from typing import Any

from sqlalchemy import Connection, bindparam, case, delete, func, select, update

from connector.domain.hints import ANYWHERE, Hint, Hints, NewHint, ReadHint
from connector.state.dialects import insert_into
from connector.state.engine import Database
from connector.state.tables import hints, parents, rows, streams

# A title of more posts than this is ignored; and at most so many rows of a list wait by its hints.
MOST_PARENTS, MOST_WAITING = 20, 1_000

_SCOPES = select(streams.c.name, streams.c.scope).where(streams.c.connection == bindparam("whose"))
_PARENTS = (
    select(parents.c.id)
    .where(parents.c.scope == bindparam("of"), ~parents.c.gone)
    .order_by(parents.c.date.desc())
    .limit(MOST_PARENTS + 1)
)
_BY_ID = _PARENTS.where(parents.c.id == bindparam("name"))
_BY_TITLE = _PARENTS.where(parents.c.title == bindparam("digest"))
_KNOWN = select(rows.c.parent).where(
    rows.c.scope == bindparam("of"),
    rows.c.parent.in_(bindparam("under", expanding=True)),
    rows.c.id == bindparam("row"),
)
_WAITING = select(hints.c.stream, hints.c.parent, hints.c.waiting, hints.c.since).where(
    hints.c.connection == bindparam("whose"), hints.c.waiting > 0
)
# True for a hint that is kept for an unsettled row, or has just come; that moment is never postponed.
_KEPT = hints.c.since > hints.c.received_at
_NEWEST = (
    select(hints.c.connection, func.max(case((_KEPT, hints.c.since), else_=hints.c.received_at)).label("at"))
    .where(hints.c.waiting > 0, ~_KEPT | (hints.c.since <= bindparam("now")))
    .group_by(hints.c.connection)
)
_LEFT = hints.c.waiting - bindparam("over")
_AGAIN = bindparam("again", type_=hints.c.since.type)
_READ = (
    update(hints)
    .where(
        hints.c.connection == bindparam("whose"),
        hints.c.stream == bindparam("of"),
        hints.c.parent == bindparam("under"),
    )
    .values(
        waiting=case((_LEFT > 0, _LEFT), else_=0),
        confirmed=hints.c.confirmed + bindparam("right"),
        # Hints that came while the list was read can be read at once.
        since=case((hints.c.waiting == bindparam("count"), _AGAIN), else_=hints.c.since),
    )
)


def add(database: Database, connection: str, new: Iterable[NewHint], now: datetime) -> None:
    """Store where rows are new; a hint of a known row is counted as confirmed, and does not wait."""
    received, known = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    # Read without a lock: a run must not wait for a thousand events.
    with database.read() as db:
        scopes = {name: int(scope) for name, scope in db.execute(_SCOPES, {"whose": connection})}
        for hint, count in Counter(new).items():
            under = _parents(db, scopes, hint)
            known_parents = _known(db, scopes, hint, under)
            for parent in known_parents or under:
                received[hint.stream, parent] += count
                known[hint.stream, parent] += count if known_parents else 0
    values = [
        {
            "connection": connection,
            "stream": stream,
            "parent": parent,
            "received": count,
            "received_at": now,
            "confirmed": known[stream, parent],
            "waiting": min(MOST_WAITING, count - known[stream, parent]),
            "since": now,
        }
        # Always in one order, so that two writers never wait for each other.
        for (stream, parent), count in sorted(received.items())
    ]
    if values:
        with database.write() as db:
            db.execute(_adding(db.dialect.name), values)


def _parents(db: Connection, scopes: Mapping[str, int], hint: NewHint) -> list[str]:
    """Return the parents that a hint may mean; ANYWHERE, for the newest block, if none is known."""
    scope = scopes.get(hint.parents)
    if scope is None or not (hint.parent or hint.title):
        return [ANYWHERE]
    query, values = (_BY_ID, {"name": hint.parent}) if hint.parent else (_BY_TITLE, {"digest": hint.title})
    ids = list(db.execute(query, {"of": scope, **values}).scalars())
    return ids if 0 < len(ids) <= MOST_PARENTS else [ANYWHERE]


def _known(db: Connection, scopes: Mapping[str, int], hint: NewHint, under: Sequence[str]) -> Sequence[str]:
    """Return those of the parents at which a hint's row is known."""
    scope = scopes.get(hint.stream)
    if scope is None or not hint.row:
        return ()
    return db.execute(_KNOWN, {"of": scope, "under": under, "row": hint.row}).scalars().all()


@cache
def _adding(dialect: str) -> Any:
    new = insert_into(dialect, hints)
    more = hints.c.waiting + new.excluded.waiting
    values = {
        "received": hints.c.received + new.excluded.received,
        "received_at": new.excluded.received_at,
        "confirmed": hints.c.confirmed + new.excluded.confirmed,
        "waiting": case((more > MOST_WAITING, MOST_WAITING), else_=more),
        "since": case(
            ((hints.c.waiting > 0) & (hints.c.since < new.excluded.since), hints.c.since),
            else_=new.excluded.since,
        ),
    }
    return new.on_conflict_do_update(index_elements=list(hints.primary_key.columns), set_=values)


def waiting(database: Database, connection: str) -> Hints:
    """Return the hints that are not read yet."""
    by_stream: dict[str, dict[str, Hint]] = {}
    with database.read() as db:
        for stream, parent, count, since in db.execute(_WAITING, {"whose": connection}):
            by_stream.setdefault(stream, {})[parent] = Hint(int(count), since)
    return by_stream


def newest(database: Database, now: datetime) -> Mapping[str, datetime]:
    """Return by connection the moment from which the newest of its waiting hints can be read."""
    with database.read() as db:
        return {row.connection: row.at for row in db.execute(_NEWEST, {"now": now})}


def read(db: Connection, connection: str, read_hints: Iterable[ReadHint], now: datetime) -> None:
    """Store, in the caller's transaction, that lists with hints were read; later hints still wait."""
    values = [
        {
            "whose": connection,
            "of": hint.stream,
            "under": hint.parent,
            "count": hint.count,
            "over": hint.count - hint.left,
            "again": now + hint.after,
            "right": hint.confirmed,
        }
        for hint in read_hints
    ]
    if values:
        db.execute(_READ, values)


SUMS = (
    select(
        hints.c.connection,
        hints.c.stream,
        func.sum(hints.c.received).label("received"),
        func.max(hints.c.received_at).label("received_at"),
        func.sum(hints.c.confirmed).label("confirmed"),
        func.sum(hints.c.waiting).label("waiting"),
    )
    .group_by(hints.c.connection, hints.c.stream)
    .order_by(hints.c.connection, hints.c.stream)
)
# A list whose last hint is from before `old` is not counted any more.
DELETE_OLD = delete(hints).where(hints.c.received_at < bindparam("old"))


@dataclass(frozen=True, slots=True)
class Sums:
    """The hints of one stream: how many came, when the last one came, how many were right, how many wait."""

    received: int
    received_at: datetime
    confirmed: int
    waiting: int

    def with_more(self, other: "Sums") -> "Sums":
        at = max(self.received_at, other.received_at)
        confirmed, waiting = self.confirmed + other.confirmed, self.waiting + other.waiting
        return Sums(self.received + other.received, at, confirmed, waiting)


def total(of: Iterable[Sums]) -> Sums:
    """Return the hints of several streams together."""
    return reduce(Sums.with_more, of)


def sums(database: Database, connection: str) -> Mapping[str, Sums]:
    """Return the sums of the hints, by stream."""
    with database.read() as db:
        totals = db.execute(SUMS.where(hints.c.connection == connection))
        return {
            row.stream: Sums(int(row.received), row.received_at, int(row.confirmed), int(row.waiting))
            for row in totals
        }

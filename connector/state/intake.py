"""A page is accepted in one transaction: ids with verdicts, events, quarantine, and the reading's place."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, update

from connector.state.engine import Store
from connector.state.leases import Fence, hold
from connector.state.progress import ChildState, ParentState, StreamState
from connector.state.tables import (
    children,
    connections,
    outbox,
    parents,
    quarantine,
    rows,
    streams,
    tallies,
)
from connector.state.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Judged:
    """A row's id with its verdict, before the database has said whether it is new."""

    id: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A finished message on its way into the outbox; `size` in bytes as sent."""

    message_id: str
    event: str
    text: str
    size: int
    stream: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that could not be used: why, and the row itself as JSON text."""

    reason: str
    body: str = field(repr=False)
    id: str | None = None

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.body.encode()).hexdigest()


@dataclass(slots=True)
class Effects:
    """What a page changes beside its rows' ids."""

    events: list[Outgoing] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    parents: list[ParentState] = field(default_factory=list)
    children: list[ChildState] = field(default_factory=list)
    stream: StreamState | None = None
    first_page: int | None = None
    tally: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page's rows belong."""

    stream: str
    scope: int
    parent: str


class Intake:
    """Accepts pages for one run of one connection."""

    def __init__(self, store: Store, fence: Fence, destination: str, run: int) -> None:
        self._store = store
        self._fence = fence
        self._destination = destination
        self._run = run

    def accept(
        self,
        page: Page,
        judged: Sequence[Judged],
        rejected: Sequence[Rejected],
        decide: Callable[[set[str], int], Effects],
        now: datetime,
    ) -> Effects:
        """Write a page, all of it or nothing.

        The database says which ids are new, and how many rejected rows; `decide`, which must be pure,
        is told and gives the rest of what is written. It may be called again if the write fails.
        """
        with self._store.write() as db:
            hold(db, self._fence, now)
            fresh = self._new_rows(db, page, judged)
            unusable = self._quarantine(db, page, rejected, now)
            effects = decide(fresh, unusable)
            self._enqueue(db, page, effects.events, now)
            self._give_up(db, page, effects.rejected, now)
            self._move(db, page, effects)
            self._count(db, page.stream, effects.tally)
        return effects

    def _new_rows(self, db: Connection, page: Page, judged: Sequence[Judged]) -> set[str]:
        if not judged:
            return set()
        values = [
            {
                "scope": page.scope,
                "parent": page.parent,
                "id": row.id,
                "verdict": int(row.verdict),
                "run": self._run,
            }
            for row in judged
        ]
        new = self._store.insert(rows).on_conflict_do_nothing().returning(rows.c.id)
        return set(db.execute(new, values).scalars())

    def _quarantine(self, db: Connection, page: Page, rejected: Sequence[Rejected], now: datetime) -> int:
        count = 0
        for row in rejected:
            new = self._store.insert(quarantine).values(
                connection=self._fence.connection,
                stream=page.stream,
                parent=page.parent,
                row=row.id,
                digest=row.digest,
                reason=row.reason,
                body=row.body,
                seen_at=now,
            )
            count += len(db.execute(new.on_conflict_do_nothing().returning(quarantine.c.id)).all())
        return count

    def _give_up(self, db: Connection, page: Page, rejected: Sequence[Rejected], now: datetime) -> None:
        """New rows of which no message could be made."""
        self._quarantine(db, page, rejected, now)
        here = (rows.c.scope == page.scope) & (rows.c.parent == page.parent)
        for row in rejected:
            values = {"verdict": int(Verdict.QUARANTINED)}
            db.execute(update(rows).where(here & (rows.c.id == row.id)).values(values))

    def _enqueue(self, db: Connection, page: Page, events: Iterable[Outgoing], now: datetime) -> None:
        values = [
            {
                "connection": self._fence.connection,
                "destination": self._destination,
                "message_id": event.message_id,
                "stream": event.stream or page.stream,
                "event": event.event,
                "message": event.text,
                "size": event.size,
                "made_at": now,
                "state": "waiting",
                "tries": 0,
            }
            for event in events
        ]
        if values:
            db.execute(self._store.insert(outbox).on_conflict_do_nothing(), values)

    def _move(self, db: Connection, page: Page, effects: Effects) -> None:
        for parent in effects.parents:
            self._upsert(db, parents, {"scope": page.scope, **asdict(parent)})
        for child in effects.children:
            self._upsert(db, children, asdict(child))
        if effects.stream:
            _update_stream(db, effects.stream)
        if effects.first_page is not None:
            mine = connections.c.name == self._fence.connection
            db.execute(update(connections).where(mine).values(first_page=effects.first_page))

    def _upsert(self, db: Connection, table: Any, values: dict[str, Any]) -> None:
        keys = [column.name for column in table.primary_key]
        changes = {name: value for name, value in values.items() if name not in keys}
        new = self._store.insert(table).values(values)
        db.execute(new.on_conflict_do_update(index_elements=keys, set_=changes))

    def _count(self, db: Connection, stream: str, tally: Counter[str]) -> None:
        for what, count in tally.items():
            new = self._store.insert(tallies).values(
                connection=self._fence.connection, stream=stream, what=what, count=count
            )
            db.execute(
                new.on_conflict_do_update(
                    index_elements=list(tallies.primary_key.columns),
                    set_={"count": tallies.c.count + count},
                )
            )

    def note(
        self, states: Iterable[StreamState], now: datetime, *, ignore_filters: bool | None = None
    ) -> None:
        """Write what was learnt about streams outside of a page, such as that one is forbidden."""
        with self._store.write() as db:
            hold(db, self._fence, now)
            for state in states:
                _update_stream(db, state)
            if ignore_filters is not None:
                mine = connections.c.name == self._fence.connection
                db.execute(update(connections).where(mine).values(ignore_filters=ignore_filters))

    def settle(self, child: ChildState, now: datetime) -> None:
        """Write a child list's state outside of a page, when its parent is gone."""
        with self._store.write() as db:
            hold(db, self._fence, now)
            self._upsert(db, children, asdict(child))


def _update_stream(db: Connection, state: StreamState) -> None:
    values = asdict(state)
    db.execute(update(streams).where(streams.c.scope == values.pop("scope")).values(values))

"""The outbox: messages wait here until Segment has confirmed them, and dead letters stay with the answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, true, update

from connector.state.engine import Store
from connector.state.leases import Fence, hold
from connector.state.tables import outbox, tallies

WAITING, FLIGHT, DEAD = "waiting", "flight", "dead"
# Segment forgets a messageId after about 24 hours (observed-facts.md): past this, an unconfirmed row
# that is sent again may arrive twice, which is counted and said.
POSSIBLE_DOUBLE_AFTER = timedelta(hours=20)


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of a batch in hand; `possible_double` when it was sent unconfirmed long ago."""

    id: int
    message_id: str
    stream: str
    text: str = field(repr=False)
    size: int
    tries: int
    possible_double: bool


class Outbox:
    """The outbox of one connection, under the lease of the run that empties it."""

    def __init__(self, store: Store, fence: Fence, destination: str) -> None:
        self._store = store
        self._fence = fence
        self._destination = destination

    def claim(self, most: int, now: datetime) -> list[Letter]:
        """Mark the oldest waiting messages as in flight, in a transaction before they are sent.

        Those that an earlier run left in flight come with them: whether they arrived is unknown, and
        the same messageId may go again.
        """
        mine = self._mine() & outbox.c.state.in_((WAITING, FLIGHT))
        with self._store.write() as db:
            hold(db, self._fence, now)
            found = db.execute(select(outbox).where(mine).order_by(outbox.c.id).limit(most)).all()
            letters = [_letter(row, now) for row in found]
            self._set(
                db,
                [letter.id for letter in letters],
                state=FLIGHT,
                tries=outbox.c.tries + 1,
                first_sent_at=func.coalesce(outbox.c.first_sent_at, now),
            )
        return letters

    def confirm(self, letters: Sequence[Letter], now: datetime) -> None:
        """Segment has taken them: delete them, and count them as sent."""
        with self._store.write() as db:
            hold(db, self._fence, now)
            ids = [letter.id for letter in letters]
            db.execute(delete(outbox).where(outbox.c.id.in_(ids)))
            for stream in {letter.stream for letter in letters}:
                self._count_sent(db, stream, sum(letter.stream == stream for letter in letters))

    def put_back(self, letters: Sequence[Letter], now: datetime, *, arrived_for_sure_not: bool) -> None:
        """They wait again. Where it is unknown whether they arrived, the time of the first try stays."""
        with self._store.write() as db:
            hold(db, self._fence, now)
            values: dict[str, Any] = {"state": WAITING}
            fresh = [letter.id for letter in letters if letter.tries == 0] if arrived_for_sure_not else []
            self._set(db, [letter.id for letter in letters], **values)
            self._set(db, fresh, first_sent_at=None)

    def bury(self, letter: Letter, answer: str, now: datetime) -> None:
        """Segment refused it for good: a dead letter, with the answer it got."""
        with self._store.write() as db:
            hold(db, self._fence, now)
            self._set(db, [letter.id], state=DEAD, answer=answer, answered_at=now)

    def waiting(self) -> int:
        """How many messages wait for this destination, in flight ones included."""
        mine = self._mine() & outbox.c.state.in_((WAITING, FLIGHT))
        with self._store.read() as db:
            return int(db.execute(select(func.count()).select_from(outbox).where(mine)).scalar_one())

    def _mine(self) -> ColumnElement[bool]:
        return (outbox.c.connection == self._fence.connection) & (outbox.c.destination == self._destination)

    def _set(self, db: Connection, ids: Sequence[int], **values: Any) -> None:
        if ids:
            db.execute(update(outbox).where(outbox.c.id.in_(ids)).values(**values))

    def _count_sent(self, db: Connection, stream: str, count: int) -> None:
        new = self._store.insert(tallies).values(
            connection=self._fence.connection, stream=stream, what="sent", count=count
        )
        key = list(tallies.primary_key.columns)
        db.execute(new.on_conflict_do_update(index_elements=key, set_={"count": tallies.c.count + count}))


def _letter(row: Any, now: datetime) -> Letter:
    late = row.first_sent_at is not None and now - row.first_sent_at > POSSIBLE_DOUBLE_AFTER
    return Letter(row.id, row.message_id, row.stream, row.message, row.size, row.tries, late)


def listed(store: Store, connection: str | None, state: str | None, most: int) -> Sequence[Mapping[str, Any]]:
    """Rows of the outbox without their text, oldest first."""
    columns = [column for column in outbox.c if column.name != "message"]
    where = _where(connection) & (outbox.c.state == state if state else true())
    with store.read() as db:
        found = db.execute(select(*columns).where(where).order_by(outbox.c.id).limit(most))
        return [dict(row._mapping) for row in found]


def shown(store: Store, which: str) -> Mapping[str, Any] | None:
    """One row with its exact message, by its number or its messageId."""
    with store.read() as db:
        row = db.execute(select(outbox).where(_named([which]))).first()
        return dict(row._mapping) if row else None


def retry(store: Store, connection: str | None, which: Iterable[str]) -> int:
    """Dead letters wait again: those named, or all of them."""
    where = _where(connection) & (outbox.c.state == DEAD) & _named(list(which))
    with store.write() as db:
        values = {"state": WAITING, "tries": 0, "answer": None, "answered_at": None}
        return db.execute(update(outbox).where(where).values(values)).rowcount


def drop(store: Store, connection: str | None, which: Iterable[str]) -> int:
    """Delete those named, unsent; an in-flight one is not touched."""
    where = _where(connection) & (outbox.c.state != FLIGHT) & _named(list(which))
    with store.write() as db:
        return db.execute(delete(outbox).where(where)).rowcount


def _where(connection: str | None) -> ColumnElement[bool]:
    return outbox.c.connection == connection if connection else true()


def _named(which: list[str]) -> ColumnElement[bool]:
    if not which:
        return true()
    numbers = [int(each) for each in which if each.isdecimal()]
    return or_(outbox.c.message_id.in_(which), outbox.c.id.in_(numbers))

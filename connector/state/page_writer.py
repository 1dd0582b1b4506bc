"""One page written in one transaction: ids, messages, progress."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from connector.domain.state import (
    ChildState,
    Effects,
    NewRows,
    Page,
    ParentState,
    Rejected,
    RowVerdict,
    StreamState,
    Verdict,
)
from connector.state import hints
from connector.state.dialects import add_new, add_up, put
from connector.state.engine import Database
from connector.state.leases import Lease, check_lease
from connector.state.outbox import enqueue
from connector.state.tables import (
    children,
    connections,
    days,
    parents,
    quarantine,
    rows,
    streams,
    tallies,
)

_KEY = (rows.c.scope == bindparam("of"), rows.c.parent == bindparam("under"), rows.c.id == bindparam("row"))
_AHEAD = (
    update(children)
    .where(children.c.scope == bindparam("of"), children.c.parent == bindparam("under"))
    .where(children.c.read_counter.is_not(None))
    .values(surplus=children.c.surplus + bindparam("more"))
)
_HABITS = (
    update(streams)
    .where(streams.c.scope == bindparam("of"))
    .values(list_order=bindparam("order"), short_ends=bindparam("ends"))
)
_HERE = select(rows.c.id).where(
    rows.c.scope == bindparam("of"),
    rows.c.parent == bindparam("under"),
    rows.c.id.in_(bindparam("ids", expanding=True)),
)
# Searches each id at each parent by the table's key: there is no index by id alone.
_ELSEWHERE = select(rows.c.id).where(
    rows.c.scope == bindparam("of"),
    rows.c.parent.in_(select(children.c.parent).where(children.c.scope == bindparam("of"))),
    rows.c.parent != bindparam("under"),
    rows.c.id.in_(bindparam("ids", expanding=True)),
)
_AMONG = select(rows.c.id).where(
    rows.c.scope == bindparam("of"),
    rows.c.parent.in_(bindparam("among", expanding=True)),
    rows.c.parent != bindparam("under"),
    rows.c.id.in_(bindparam("ids", expanding=True)),
)
# How many ids are stored at two parents, though they were not moved there.
_AMBIGUOUS = select(func.count() - func.count(rows.c.id.distinct())).where(
    rows.c.scope == bindparam("of"), rows.c.verdict != int(Verdict.MOVED)
)
_GIVE_UP = update(rows).where(*_KEY).values(verdict=int(Verdict.QUARANTINED))


class OpenPage:
    """A page in its transaction: the `new` rows, and their effects, written once."""

    def __init__(self, new: NewRows, write: Callable[[Effects], None]) -> None:
        self.new = new
        self._write = write
        self.written = False

    def write(self, effects: Effects) -> None:
        """Write the effects of the page, in the transaction of its ids."""
        self._write(effects)
        self.written = True


class PageWriter:
    """Accepts pages for one run of one connection; `resend`: messages that Segment refused wait again.

    `write_key` is the digest of the key that the messages are made for.
    """

    def __init__(
        self,
        database: Database,
        lease: Lease,
        destination: str,
        run: int,
        *,
        resend: bool = False,
        write_key: str = "",
    ) -> None:
        self._write_key = write_key
        self._database = database
        self._lease = lease
        self._destination = destination
        self._run = run
        self._resend = resend

    @contextmanager
    def page(
        self,
        page: Page,
        row_verdicts: Sequence[RowVerdict],
        rejected: Sequence[Rejected],
        now: datetime,
    ) -> Iterator[OpenPage]:
        """Open a page; its ids are stored together with its effects, or not at all.

        Raises Busy where the lease is lost, RuntimeError where nothing was written.
        """
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            new = NewRows(self._new_rows(db, page, row_verdicts), self._quarantine(db, page, rejected, now))
            open_page = OpenPage(new, lambda effects: self._write(db, page, effects, now))
            yield open_page
            if not open_page.written:
                # Ids without their messages would be lost rows.
                raise RuntimeError("a page was opened and not written")

    def moved(self, page: Page, ids: Collection[str], among: Collection[str] | None = None) -> set[str]:
        """Return the ids that are new at this parent and were seen at another one: they were moved.

        Empty if any id was ever seen at two parents without a move: ids then do not identify rows.
        `among`: the other parents to search; None for all of them.
        """
        if not ids or (among is not None and not among):
            return set()
        list_key = {"of": page.scope, "under": page.parent}
        with self._database.read() as db:
            new = set(ids) - set(db.scalars(_HERE, {**list_key, "ids": list(ids)}))
            wanted = {**list_key, "ids": list(new)}
            if among is not None:
                ids_elsewhere = set(db.scalars(_AMONG, {**wanted, "among": list(among)})) if new else set()
            else:
                ids_elsewhere = set(db.scalars(_ELSEWHERE, wanted)) if new else set()
            if ids_elsewhere and db.execute(_AMBIGUOUS, list_key).scalar_one():
                return set()
        return ids_elsewhere

    def _write(self, db: Connection, page: Page, effects: Effects, now: datetime) -> None:
        """Write the effects, always in one order, so that a sync and a backfill never wait for each other."""
        enqueue(
            db,
            self._lease,
            self._destination,
            effects.events,
            now,
            page.stream,
            again=self._resend,
            write_key=self._write_key,
        )
        self._give_up(db, page, effects.rejected, now)
        self._move(db, page, effects)
        self._count(db, page.stream, effects.tally)
        hints.read(db, self._lease.connection, effects.hints, now)
        by_day = sorted(effects.days.items())
        add_up(db, days, [{"scope": page.scope, "day": d, "rows": n} for d, n in by_day], "rows")

    def _new_rows(self, db: Connection, page: Page, row_verdicts: Sequence[RowVerdict]) -> set[str]:
        key = {"scope": page.scope, "parent": page.parent, "run": self._run}
        # Always in one order: on PostgreSQL, writers that insert the same id wait for each other.
        in_order = sorted(row_verdicts, key=lambda row: row.id)
        values = [{**key, "id": row.id, "verdict": int(row.verdict)} for row in in_order]
        return set(add_new(db, rows, values, rows.c.id))

    def _quarantine(self, db: Connection, page: Page, rejected: Sequence[Rejected], now: datetime) -> int:
        origin = {"connection": self._lease.connection, "stream": page.stream, "parent": page.parent}
        values = [
            {
                **origin,
                "row": row.id,
                "digest": row.digest,
                "reason": row.reason,
                "body": row.body,
                "seen_at": now,
            }
            for row in rejected
        ]
        return len(add_new(db, quarantine, values, quarantine.c.id))

    def _give_up(self, db: Connection, page: Page, rejected: Sequence[Rejected], now: datetime) -> None:
        """Mark new rows of which no message could be made as quarantined."""
        self._quarantine(db, page, rejected, now)
        list_key = {"of": page.scope, "under": page.parent}
        if values := [{**list_key, "row": row.id} for row in rejected]:
            db.execute(_GIVE_UP, values)

    def _move(self, db: Connection, page: Page, effects: Effects) -> None:
        put(db, parents, [{"scope": page.scope, **_values(parent)} for parent in effects.parents])
        _put_children(db, effects.children)
        if effects.ahead:
            db.execute(_AHEAD, {"of": page.scope, "under": page.parent, "more": effects.ahead})
        if effects.caught_up:
            values = [{"of": of, "under": under, "more": -rows} for of, under, rows in effects.caught_up]
            db.execute(_AHEAD, values)
        if effects.stream:
            _update_stream(db, effects.stream)
        if effects.habits:
            order, ends = effects.habits
            db.execute(_HABITS, {"of": page.scope, "order": order, "ends": ends})
        if effects.first_page is not None:
            self._update_connection(db, first_page=effects.first_page)

    def _count(self, db: Connection, stream: str, tally: Counter[str]) -> None:
        key = {"connection": self._lease.connection, "stream": stream}
        # Always in one order, so that two writers never wait for each other.
        values = [{**key, "what": what, "count": count} for what, count in sorted(tally.items())]
        add_up(db, tallies, values, "count")

    def note(
        self,
        states: Iterable[StreamState],
        now: datetime,
        *,
        ignore_filters: bool | None = None,
        doubted: bool = False,
    ) -> None:
        """Write what was learnt about streams outside of a page, such as that one is forbidden.

        `ignore_filters`: whether the key may do that; `doubted` after a first refusal.
        """
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            for state in states:
                _update_stream(db, state)
            if ignore_filters is not None:
                refused_at = now if doubted or not ignore_filters else None
                self._update_connection(db, ignore_filters=ignore_filters, filters_at=refused_at)

    def settle_start(self, start: datetime, now: datetime) -> None:
        """Store from when on rows are sent, for good: Beamer's clock has shown the time."""
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            self._update_connection(db, start_date=start, provisional=False)

    def gone(self, scope: int) -> list[str]:
        """Return the parents that Beamer does not list any more."""
        with self._database.read() as db:
            return list(db.scalars(select(parents.c.id).where(parents.c.scope == scope, parents.c.gone)))

    def held(self, scope: int) -> Counter[int]:
        """Return how many rows of each UTC day (since the epoch) are stored, of a list without parents."""
        with self._database.read() as db:
            by_day = db.execute(select(days.c.day, days.c.rows).where(days.c.scope == scope))
            return Counter({int(day): int(rows) for day, rows in by_day})

    def recount(self, scope: int, day: int, rows: int, now: datetime) -> None:
        """Store how many rows of a day Beamer counts, after a new reading: deleted rows are not included."""
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            put(db, days, [{"scope": scope, "day": day, "rows": rows}])

    def settle(self, child: ChildState, now: datetime) -> None:
        """Write a child list's state outside of a page, when the list could not be read."""
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            _put_children(db, [child])

    def settle_block(self, scope: int, block: Iterable[ParentState], now: datetime) -> None:
        """Write parents' states outside of a page, when their block could not be read."""
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            put(db, parents, [{"scope": scope, **_values(parent)} for parent in block])

    def _update_connection(self, db: Connection, **values: Any) -> None:
        mine = connections.c.name == self._lease.connection
        db.execute(update(connections).where(mine).values(**values))


def _put_children(db: Connection, lists: Sequence[ChildState]) -> None:
    """Write lists without their surplus: a parallel backfill adds to that, too."""
    put(db, children, [{**_values(child), "surplus": 0} for child in lists], without="surplus")


def _update_stream(db: Connection, state: StreamState) -> None:
    db.execute(
        _UPDATE_STREAM, {"of" if name == "scope" else name: value for name, value in _values(state).items()}
    )


_UPDATE_STREAM = update(streams).where(streams.c.scope == bindparam("of"))


def _values(state: StreamState | ParentState | ChildState) -> Mapping[str, Any]:
    """Return the fields of a state, which are named as their columns."""
    return {field.name: getattr(state, field.name) for field in fields(state)}

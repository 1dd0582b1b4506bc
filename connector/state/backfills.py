"""Backfills: a range of history that was requested, and how far each of its lists was read.

The database decides whether a backfill reads a list: each is inserted once, and kept as done until the
backfill ends. How far it was read is written in the transaction that accepts a page of it, so that no
accepted page is requested again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from connector.domain.period import within
from connector.domain.state import Effects, Page, RowVerdict, Verdict
from connector.state.dialects import insert_into, put
from connector.state.engine import Database
from connector.state.leases import Lease, check_lease
from connector.state.page_writer import PageWriter
from connector.state.tables import backfills, readings, rows

NO_PARENT = "0"


@dataclass(frozen=True, slots=True)
class Range:
    """What identifies a backfill when it is requested again.

    Rows dated `since` or later and before `until` (None: without an end). `judging` names the settings that
    exclude rows: under other settings, excluded rows must be judged again. `resend`: rows that were sent
    before are sent again.
    """

    since: datetime
    until: datetime | None
    streams: tuple[str, ...]
    judging: str
    resend: bool = False

    def holds(self, date: datetime) -> bool:
        return within(date, self.since, self.until)


@dataclass(frozen=True, slots=True)
class Backfill:
    """A stored backfill. `expected`: its estimated number of requests, None if unknown."""

    id: int
    wanted: Range
    began_at: datetime
    finished_at: datetime | None
    integrations: Mapping[str, Any] | None
    requests: int
    rows: int
    events: int
    expected: int | None


class Stage(StrEnum):
    """OPEN: to be read. ENDED: read to its end, and to be compared with what Beamer counts. DONE: both."""

    OPEN = "open"
    ENDED = "ended"
    DONE = "done"


Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Reading:
    """One list of a backfill, or a part of it: its rows from `since` on and before `until` (None: all).

    `parent` is '0' for a list without a parent; `date` and `title` are the parent's. `part` is 0 for the
    list itself; another part has the millisecond at which it ends. `cursor` is None before the first page.
    `seen` counts the rows shown so far, `found` those of the last complete reading (None: there was
    none, or Beamer answered 404). `expected` is how many rows there are by the parent's counter or Beamer's
    count, None if unknown. `doubted_at`: since when the same number was too small.
    """

    stream: str
    parent: str = NO_PARENT
    part: int = 0
    since: datetime | None = None
    until: datetime | None = None
    date: datetime | None = None
    title: str | None = field(default=None, repr=False)
    stage: str = Stage.OPEN
    cursor: str | None = None
    seen: int = 0
    found: int | None = None
    expected: int | None = None
    doubted_at: datetime | None = None

    @property
    def key(self) -> Key:
        return self.stream, self.parent, self.part

    @property
    def has_parent(self) -> bool:
        return self.parent != NO_PARENT

    @property
    def whole(self) -> bool:
        """Return whether all rows of the list are read, whatever their dates."""
        return self.since is None and self.until is None


@dataclass(slots=True)
class BackfillEffects(Effects):
    """What a page of history changes besides: its own list, and the lists that follow from it.

    After writing, `new_readings` holds those that this backfill did not have before. `revived` rows were
    excluded before, and are sent.
    """

    reading: Reading | None = None
    new_readings: list[Reading] = field(default_factory=list)
    revived: set[str] = field(default_factory=set)


_ON_PAGE = (
    rows.c.scope == bindparam("of"),
    rows.c.parent == bindparam("under"),
    rows.c.id.in_(bindparam("ids", expanding=True)),
)
_VERDICTS = select(rows.c.id, rows.c.verdict).where(*_ON_PAGE)
_REVIVE = update(rows).where(*_ON_PAGE).values(verdict=int(Verdict.EVENT))
_THIS = backfills.c.id == bindparam("number")
_COUNT = (
    update(backfills)
    .where(_THIS)
    .values(
        requests=backfills.c.requests + bindparam("more_requests"),
        rows=backfills.c.rows + bindparam("more_rows"),
        events=backfills.c.events + bindparam("more_events"),
    )
)
_NOT_DONE = readings.c.stage != Stage.DONE
_COLUMNS = [readings.c[column.name] for column in fields(Reading)]


class BackfillWriter(PageWriter):
    """Writes pages of one backfill; `requests_spent` gives the number of requests of the run so far."""

    def __init__(
        self,
        database: Database,
        lease: Lease,
        destination: str,
        run: int,
        backfill: Backfill,
        *,
        requests_spent: Callable[[], int],
        write_key: str = "",
    ) -> None:
        resend = backfill.wanted.resend
        super().__init__(database, lease, destination, run, resend=resend, write_key=write_key)
        self._backfill = backfill.id
        self._requests_spent = requests_spent
        self._requests_counted = requests_spent()

    def verdicts_before(self, page: Page, row_verdicts: Sequence[RowVerdict]) -> dict[str, Verdict]:
        """Return the earlier verdicts of rows that are to be sent."""
        ids = [row.id for row in row_verdicts if row.verdict is Verdict.EVENT]
        if not ids:
            return {}
        with self._database.read() as db:
            stored = db.execute(_VERDICTS, {"of": page.scope, "under": page.parent, "ids": ids})
            return {name: Verdict(verdict) for name, verdict in stored}

    def _write(self, db: Connection, page: Page, effects: Effects, now: datetime) -> None:
        assert isinstance(effects, BackfillEffects)  # noqa: S101 - a backfill writes no others
        if effects.revived:
            db.execute(_REVIVE, {"of": page.scope, "under": page.parent, "ids": sorted(effects.revived)})
        super()._write(db, page, effects, now)
        self._put(db, effects.reading, effects.tally["rows"], len(effects.events))
        effects.new_readings = _add(db, self._backfill, effects.new_readings)

    def add(self, new: Sequence[Reading], now: datetime) -> list[Reading]:
        """Add lists; return those that this backfill did not have before."""
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            return _add(db, self._backfill, new)

    def keep(self, reading: Reading, now: datetime) -> None:
        """Write how far a list was read, without a page."""
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            self._put(db, reading)

    def _put(self, db: Connection, reading: Reading | None, rows: int = 0, events: int = 0) -> None:
        """Write a list, and add its rows, its events and the requests since the last write to the totals."""
        if reading is not None:
            put(db, readings, [_values(self._backfill, reading)])
        spent = self._requests_spent()
        requests, self._requests_counted = spent - self._requests_counted, spent
        totals = {"more_requests": requests, "more_rows": rows, "more_events": events}
        db.execute(_COUNT, {"number": self._backfill, **totals})


def _values(backfill: int, reading: Reading) -> dict[str, Any]:
    return {
        "backfill": backfill,
        **{column.name: getattr(reading, column.name) for column in fields(Reading)},
    }


@cache
def _adding(dialect: str) -> Any:
    new = insert_into(dialect, readings).on_conflict_do_nothing()
    return new.returning(readings.c.stream, readings.c.parent, readings.c.part)


def _add(db: Connection, backfill: int, new: Sequence[Reading]) -> list[Reading]:
    """Insert lists, and return those that are new: the database decides."""
    if not new:
        return []
    values = [_values(backfill, reading) for reading in new]
    added = {tuple(key) for key in db.execute(_adding(db.dialect.name), values)}
    return [reading for reading in new if reading.key in added]


def find(database: Database, connection: str, wanted: Range) -> Backfill | None:
    """Return the last backfill of this range."""
    same = (
        (backfills.c.connection == connection)
        & (backfills.c.since == wanted.since)
        & (backfills.c.until == wanted.until if wanted.until else backfills.c.until.is_(None))
        & (backfills.c.streams == ",".join(wanted.streams))
        & (backfills.c.judging == wanted.judging)
        & (backfills.c.resend == wanted.resend)
    )
    query = select(backfills).where(same).order_by(backfills.c.id.desc()).limit(1)
    with database.read() as db:
        # Reading a damaged value deletes its backfill, which then starts again; so all are read first.
        db.execute(select(backfills)).all()
        db.execute(select(readings).where(_NOT_DONE)).all()
    with database.read() as db:
        row = db.execute(query).one_or_none()
    return _backfill(row) if row else None


def unfinished(database: Database, connection: str) -> list[Backfill]:
    """Return the backfills that run or were interrupted, oldest first."""
    mine = (backfills.c.connection == connection) & backfills.c.finished_at.is_(None)
    with database.read() as db:
        return [_backfill(row) for row in db.execute(select(backfills).where(mine).order_by(backfills.c.id))]


def begin(
    database: Database,
    lease: Lease,
    wanted: Range,
    first: Sequence[Reading],
    *,
    integrations: Mapping[str, Any] | None,
    expected: int | None,
    now: datetime,
) -> Backfill:
    """Store a backfill, with the lists that it begins with."""
    values = {
        "connection": lease.connection,
        "since": wanted.since,
        "until": wanted.until,
        "streams": ",".join(wanted.streams),
        "judging": wanted.judging,
        "resend": wanted.resend,
        "integrations": None if integrations is None else json.dumps(dict(integrations)),
        "began_at": now,
        "requests": 0,
        "rows": 0,
        "events": 0,
        "expected": expected,
    }
    with database.write() as db:
        check_lease(db, lease, now)
        row = db.execute(insert(backfills).values(**values).returning(*backfills.c)).one()
        _add(db, row.id, first)
    return _backfill(row)


def lists(database: Database, backfill: int) -> list[Reading]:
    """Return the lists of a backfill that are not done: a run does not load all of its history."""
    query = select(*_COLUMNS).where(readings.c.backfill == backfill, _NOT_DONE)
    with database.read() as db:
        return [Reading(*row) for row in db.execute(query)]


def abandon(database: Database, lease: Lease, backfill: int, now: datetime) -> None:
    """Delete a backfill that has a list without a readable name; requested again, it starts again."""
    with database.write() as db:
        check_lease(db, lease, now)
        db.execute(delete(readings).where(readings.c.backfill == backfill))
        db.execute(delete(backfills).where(_THIS), {"number": backfill})


def finish(database: Database, lease: Lease, backfill: int, now: datetime) -> None:
    """Store that a backfill is complete, and delete its lists."""
    with database.write() as db:
        check_lease(db, lease, now)
        db.execute(delete(readings).where(readings.c.backfill == backfill))
        db.execute(update(backfills).where(_THIS).values(finished_at=now), {"number": backfill})


def _backfill(row: Any) -> Backfill:
    wanted = Range(row.since, row.until, tuple(row.streams.split(",")), row.judging, row.resend)
    return Backfill(
        row.id,
        wanted,
        row.began_at,
        row.finished_at,
        json.loads(row.integrations) if row.integrations else None,
        row.requests,
        row.rows,
        row.events,
        row.expected,
    )

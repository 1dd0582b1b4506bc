"""Backfills: a range of history under a name, and where each of its lists stands.

Its lists are kept only while they are not read to their end, so that what is kept, and what a run holds in
memory, does not grow with the history. A list at its end is marked or deleted in the transaction that
accepts its last page: no page that was accepted is asked for again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from connector.clock import within
from connector.domain.changes import Effects, Page, Rejected, RowVerdict
from connector.domain.verdicts import Verdict
from connector.state.engine import Database
from connector.state.leases import Lease, check_lease
from connector.state.page_writer import PageWriter
from connector.state.tables import backfills, readings, rows


@dataclass(frozen=True, slots=True)
class Range:
    """What a backfill is known by when it is asked for again.

    Rows dated `since` or later and before `until` (None: all there are); `judging` is a digest of the
    settings that hold rows back: under others, rows held back before have to be looked at again.
    `resend`: what was sent before is sent once more.
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
    """A stored backfill. `expected`: how many requests it was estimated to cost, None if unknown."""

    id: int
    wanted: Range
    began_at: datetime
    finished_at: datetime | None
    integrations: Mapping[str, Any] | None
    requests: int
    rows: int
    events: int
    expected: int | None


@dataclass(frozen=True, slots=True)
class Reading:
    """One list that is being read: rows from `since` on and before `until`; None is open.

    `parent` is '0' for a list without; `date` and `title` are the parent's. `cursor` is where it stands.
    `seen` counts the rows that it has shown since it was begun; `found` is how many it showed when it was
    last read to its end, None where it was not, or was not known (404). `expected` is how many rows its
    parent's counter or Beamer's count says that there are, None where neither is known. `doubted_at`: since
    when fewer were found.
    """

    id: int
    stream: str
    parent: str
    cursor: str
    since: datetime | None = None
    until: datetime | None = None
    date: datetime | None = None
    title: str | None = field(default=None, repr=False)
    seen: int = 0
    found: int | None = None
    expected: int | None = None
    doubted_at: datetime | None = None

    @property
    def to_verify(self) -> bool:
        """Whether it was read to its end, and is kept until what it showed is compared."""
        return self.found is not None or self.doubted_at is not None

    @property
    def of_child(self) -> bool:
        return self.parent != "0"


@dataclass(slots=True)
class HistoryEffects(Effects):
    """What a page of history changes besides.

    `reading`: the list as it stands after the page, None at its end; `opened` lists follow from it (their
    `id` is not used).
    """

    reading: Reading | None = None
    opened: list[Reading] = field(default_factory=list)


# `fresh` ids, those `before` by verdict, and how many rejected rows are new.
Decide = Callable[[set[str], Mapping[str, Verdict], int], HistoryEffects]

_THESE = (rows.c.scope == bindparam("of"), rows.c.parent == bindparam("under"))
_NAMED = rows.c.id.in_(bindparam("ids", expanding=True))
_BEFORE = select(rows.c.id, rows.c.verdict).where(*_THESE, _NAMED)
_REVIVE = update(rows).where(*_THESE, _NAMED).values(verdict=int(Verdict.EVENT))
_STANDS = ("cursor", "since", "seen", "found", "expected", "doubted_at")
_GO_ON = (
    update(readings)
    .where(readings.c.id == bindparam("which"))
    .values({name: bindparam(name) for name in _STANDS})
)
_END = delete(readings).where(readings.c.id == bindparam("which"))
_MINE = backfills.c.id == bindparam("mine")
_COUNT = (
    update(backfills)
    .where(_MINE)
    .values(
        requests=backfills.c.requests + bindparam("spent"),
        rows=backfills.c.rows + bindparam("found"),
        events=backfills.c.events + bindparam("sent"),
    )
)
_LISTS = select(readings).where(readings.c.backfill == bindparam("of")).order_by(readings.c.id)


class HistoryIntake(PageWriter):
    """Accepts pages of one backfill."""

    def __init__(
        self,
        database: Database,
        lease: Lease,
        destination: str,
        run: int,
        backfill: int,
        *,
        resend: bool = False,
        write_key: str = "",
    ) -> None:
        super().__init__(database, lease, destination, run, resend=resend, write_key=write_key)
        self._backfill = backfill
        self.requests = 0

    def accept_history(
        self,
        page: Page,
        of: Reading,
        row_verdicts: Sequence[RowVerdict],
        rejected: Sequence[Rejected],
        decide: Decide,
        now: datetime,
    ) -> tuple[HistoryEffects, list[Reading]]:
        """Write a page, all of it or nothing; give what `decide` said, and the lists that it opened.

        `decide`, which must be pure, is told which ids are new, and the verdicts of those that are not.
        """
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            fresh = self._new_rows(db, page, row_verdicts)
            before = self._before(db, page, row_verdicts, fresh)
            quarantined = self._quarantine(db, page, rejected, now)
            effects = decide(fresh, before, quarantined)
            self._revive(db, page, before)
            self._write(db, page, effects, now)
            opened = self._go_on(db, of, effects)
        self.requests = 0
        return effects, opened

    def _before(
        self, db: Connection, page: Page, row_verdicts: Sequence[RowVerdict], fresh: set[str]
    ) -> dict[str, Verdict]:
        """The verdicts of rows that are to be sent and were judged before."""
        known = [row.id for row in row_verdicts if row.verdict is Verdict.EVENT and row.id not in fresh]
        if not known:
            return {}
        found = db.execute(_BEFORE, {"of": page.scope, "under": page.parent, "ids": known})
        return {name: Verdict(verdict) for name, verdict in found}

    def _revive(self, db: Connection, page: Page, before: Mapping[str, Verdict]) -> None:
        held = [name for name, verdict in before.items() if verdict.revivable]
        if held:
            db.execute(_REVIVE, {"of": page.scope, "under": page.parent, "ids": held})

    def _go_on(self, db: Connection, of: Reading, effects: HistoryEffects) -> list[Reading]:
        """Where the list stands now, the lists that it opened, and the sums of the backfill."""
        if effects.reading is None:
            db.execute(_END, {"which": of.id})
        else:
            db.execute(_GO_ON, _stands(effects.reading))
        self._count_in(db, effects.tally["rows"], len(effects.events))
        return _opened(db, self._backfill, effects.opened)

    def open(self, new: Sequence[Reading], now: datetime) -> list[Reading]:
        """Lists that no page has opened; gives them with their numbers."""
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            return _opened(db, self._backfill, new)

    def close(self, of: Reading, now: datetime) -> None:
        """Nothing more is to be read of a list: it was compared, or is gone with its parent."""
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            db.execute(_END, {"which": of.id})
            self._count_in(db)
        self.requests = 0

    def keep(self, of: Reading, now: datetime) -> None:
        """Write where a list stands outside of a page."""
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            db.execute(_GO_ON, _stands(of))
            self._count_in(db)
        self.requests = 0

    def _count_in(self, db: Connection, found: int = 0, sent: int = 0) -> None:
        """Add to the sums of the backfill what was asked since, and what came of it."""
        db.execute(_COUNT, {"mine": self._backfill, "spent": self.requests, "found": found, "sent": sent})


def _stands(of: Reading) -> dict[str, Any]:
    return {"which": of.id, **{name: getattr(of, name) for name in _STANDS}}


def _opened(db: Connection, backfill: int, new: Sequence[Reading]) -> list[Reading]:
    values = [
        {
            "backfill": backfill,
            "stream": each.stream,
            "parent": each.parent,
            "since": each.since,
            "until": each.until,
            "date": each.date,
            "cursor": each.cursor,
            "title": each.title,
            "expected": each.expected,
        }
        for each in new
    ]
    if not values:
        return []
    numbers = db.scalars(insert(readings).returning(readings.c.id, sort_by_parameter_order=True), values)
    return [replace(each, id=int(number)) for each, number in zip(new, numbers, strict=True)]


def find(database: Database, connection: str, wanted: Range) -> Backfill | None:
    """The last backfill of this range."""
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
        # First, for one of which a part cannot be read is deleted by that: it begins again.
        db.execute(select(backfills)).all()
        db.execute(select(readings)).all()
    with database.read() as db:
        row = db.execute(query).one_or_none()
    return _backfill(row) if row else None


def unfinished(database: Database, connection: str) -> list[Backfill]:
    """Those that are under way or were cut short, oldest first."""
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
    """Write a backfill down, with the lists that it begins with."""
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
        _opened(db, row.id, first)
    return _backfill(row)


def lists(database: Database, backfill: int) -> list[Reading]:
    """The lists of a backfill that are not read to their end, in the order in which they were found."""
    with database.read() as db:
        found = db.execute(_LISTS, {"of": backfill})
        names = [each.name for each in fields(Reading)]
        return [Reading(*(getattr(row, name) for name in names)) for row in found]


def abandon(database: Database, lease: Lease, backfill: int, now: datetime) -> None:
    """Forget a backfill of which a list cannot be told any more: asked for again, it begins anew."""
    with database.write() as db:
        check_lease(db, lease, now)
        db.execute(delete(readings).where(readings.c.backfill == backfill))
        db.execute(delete(backfills).where(_MINE), {"mine": backfill})


def finish(database: Database, lease: Lease, backfill: int, now: datetime) -> None:
    """Everything was read."""
    with database.write() as db:
        check_lease(db, lease, now)
        db.execute(update(backfills).where(_MINE).values(finished_at=now), {"mine": backfill})


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

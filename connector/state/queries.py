"""Queries for people and metrics. They write nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, select

from connector.domain.verdicts import Verdict
from connector.state.credentials import write_keys
from connector.state.engine import Database
from connector.state.leases import Owner, is_dead, lasts
from connector.state.runs import summary_of
from connector.state.tables import (
    LIVE,
    accounts,
    connections,
    leases,
    outbox,
    quarantine,
    rows,
    runs,
    spends,
    streams,
    tallies,
)
from connector.state.upserts import IN_QUARANTINE


@dataclass(frozen=True, slots=True)
class PastRun:
    """One run, in short; `finished_at` is None while it is under way, and for ever if it was killed."""

    id: int
    command: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    exit: int | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for one destination; `held`: for a write key that is not used there any more."""

    destination: str
    messages: int
    oldest: datetime
    held: bool = False


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease that has not ended; `dead` only where that is certain."""

    work: str
    pid: int
    host: str
    until: datetime
    dead: bool


def last_runs(database: Database, connection: str, most: int) -> Sequence[PastRun]:
    """The last runs, newest first, without what they did."""
    columns = (runs.c.id, runs.c.command, runs.c.started_at, runs.c.finished_at, runs.c.outcome, runs.c.exit)
    query = select(*columns).where(runs.c.connection == connection).order_by(runs.c.id.desc()).limit(most)
    with database.read() as db:
        return [PastRun(*row) for row in db.execute(query)]


def last_success(database: Database, connection: str) -> datetime | None:
    """When a run last ended with 0."""
    well = (runs.c.connection == connection) & (runs.c.exit == 0)
    query = select(runs.c.finished_at).where(well).order_by(runs.c.id.desc()).limit(1)
    with database.read() as db:
        found: datetime | None = db.execute(query).scalar()
    return found


def waiting(database: Database, connection: str) -> Sequence[Waiting]:
    """What waits for Segment, by destination: a source that was replaced leaves its messages behind."""
    by = (outbox.c.destination, outbox.c.write_key)
    query = select(*by, func.count(), func.min(outbox.c.made_at)).where(
        outbox.c.connection == connection, LIVE
    )
    found: dict[tuple[str, bool], Waiting] = {}
    with database.read() as db:
        keys = write_keys(db)
        for destination, key, messages, oldest in db.execute(query.group_by(*by)).all():
            held = key != keys.get((connection, destination), key)
            here = found.get((destination, held), Waiting(destination, 0, oldest, held))
            both = here.messages + messages, min(here.oldest, oldest)
            found[destination, held] = Waiting(destination, *both, held)
    return list(found.values())


def newest(database: Database, connection: str) -> Mapping[str, tuple[datetime, float]]:
    """By stream, the date of the newest row and how many seconds later it was read."""
    mine = (streams.c.connection == connection) & streams.c.newest.is_not(None)
    query = select(streams.c.name, streams.c.newest, streams.c.delay).where(mine)
    with database.read() as db:
        return {name: (date, delay or 0.0) for name, date, delay in db.execute(query)}


def account_began(database: Database, account: str) -> datetime | None:
    """When an account was first charged."""
    with database.read() as db:
        found: datetime | None = db.execute(
            select(accounts.c.began_at).where(accounts.c.name == account)
        ).scalar()
    return found


def holders(database: Database, connection: str, me: Owner, now: datetime) -> Sequence[Holder]:
    """Who is at work on a connection, or was when it died."""
    mine = select(leases).where(leases.c.connection == connection).order_by(leases.c.work)
    with database.read() as db:
        found = [row for row in db.execute(mine) if lasts(row, now)]
    return [Holder(row.work, row.pid, row.host, row.expires_at, is_dead(Owner.of(row), me)) for row in found]


def sums(database: Database, connection: str) -> Mapping[str, Mapping[str, int]]:
    """By stream, how many rows had which fate so far."""
    found: dict[str, dict[str, int]] = {}
    with database.read() as db:
        for row in db.execute(select(tallies).where(tallies.c.connection == connection)):
            found.setdefault(row.stream, {})[row.what] = int(row._mapping["count"])
    return found


def outbox_sizes(database: Database, connection: str) -> Mapping[str, int]:
    """How many messages are in which state."""
    count = select(outbox.c.state, func.count()).where(outbox.c.connection == connection)
    with database.read() as db:
        return {row[0]: int(row[1]) for row in db.execute(count.group_by(outbox.c.state))}


def quarantined(database: Database, connection: str) -> Mapping[str, Mapping[str, int]]:
    """By stream and reason, how many rows are in quarantine."""
    columns = (quarantine.c.stream, quarantine.c.reason)
    mine = (quarantine.c.connection == connection) & IN_QUARANTINE
    count = select(*columns, func.count()).where(mine)
    found: dict[str, dict[str, int]] = {}
    with database.read() as db:
        for stream, reason, number in db.execute(count.group_by(*columns)):
            found.setdefault(stream, {})[reason] = int(number)
    return found


OF_STREAMS = ("newest", "delay", "complete_through", "distrusted", "trouble")

_later = runs.alias("later")
# Each answered from the end of an index, however many runs there are of a connection.
_NEWEST_FIRST = select(_later.c.id, _later.c.finished_at).order_by(_later.c.id.desc()).limit(1)
_OF_IT = _NEWEST_FIRST.where(_later.c.connection == connections.c.name).correlate(connections)
_LAST_ENDED = _OF_IT.where(_later.c.finished_at.is_not(None)).with_only_columns(_later.c.id).scalar_subquery()
_SUCCEEDED = _OF_IT.where(_later.c.exit == 0).with_only_columns(_later.c.finished_at).scalar_subquery()
_LAST_RUNS = select(
    connections.c.name,
    connections.c.account,
    _SUCCEEDED.label("succeeded"),
    runs.c.started_at,
    runs.c.finished_at,
    runs.c.exit,
).select_from(connections.outerjoin(runs, runs.c.id == _LAST_ENDED))


@dataclass(frozen=True, slots=True)
class Figures:
    """Rows as they come from the database: last runs, streams, sums, messages, accounts; quarantined rows."""

    runs: Sequence[Any] = ()
    streams: Sequence[Any] = ()
    sums: Sequence[Any] = ()
    messages: Sequence[Any] = ()
    quarantined: Mapping[str, int] = field(default_factory=dict)
    accounts: Sequence[Any] = ()


def figures(database: Database, now: datetime) -> Figures:
    """All that the database can say at once; `now` tells which accounts are closed."""
    sizes = (outbox.c.connection, outbox.c.state)
    held = select(*sizes, func.count().label("messages"), func.min(outbox.c.made_at).label("oldest"))
    bad = select(quarantine.c.connection, func.count()).where(IN_QUARANTINE)
    bad = bad.group_by(quarantine.c.connection)
    of_streams = (streams.c.connection, streams.c.name, *(streams.c[name] for name in OF_STREAMS))
    closed = (accounts.c.closed_until > now).label("closed")
    with database.read() as db:
        return Figures(
            db.execute(_LAST_RUNS).all(),
            db.execute(select(*of_streams)).all(),
            db.execute(select(tallies)).all(),
            db.execute(held.group_by(*sizes)).all(),
            {row[0]: int(row[1]) for row in db.execute(bad)},
            db.execute(select(accounts.c.name, accounts.c.drawn, accounts.c.refusals, closed)).all(),
        )


# So many later runs are looked at for the one with which nothing waited any more.
LATER_RUNS = 500


@dataclass(frozen=True, slots=True)
class SeenRow:
    """A row that was judged: where it belongs, its verdict, and the run that saw it first."""

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
    """Every row of this id; without its parent all ids are gone through, which takes a moment."""
    where = rows.c.id == row
    if connection:
        where &= streams.c.connection == connection
    if stream:
        where &= streams.c.name == stream
    if parent:
        where &= rows.c.parent == parent
    columns = (streams.c.connection, streams.c.name, rows.c.parent, rows.c.id, rows.c.verdict, rows.c.run)
    query = select(*columns).join(streams, streams.c.scope == rows.c.scope).where(where)
    with database.read() as db:
        found = db.execute(query.order_by(streams.c.connection, streams.c.name, rows.c.parent))
        return [SeenRow(*row[:4], Verdict(row[4]), row[5]) for row in found]


def quarantined_rows(database: Database, connection: str | None, row: str) -> list[Quarantined]:
    """Rows of this id that were quarantined, with their reason; only their texts go after 30 days."""
    where = quarantine.c.row == row
    if connection:
        where &= quarantine.c.connection == connection
    names = ("connection", "stream", "parent", "row", "reason", "seen_at")
    query = select(*(quarantine.c[name] for name in names)).where(where).order_by(quarantine.c.id)
    with database.read() as db:
        return [Quarantined(*found) for found in db.execute(query)]


def message(database: Database, message_id: str) -> Mapping[str, Any] | None:
    """A message that is still here, without its text."""
    columns = [column for column in outbox.c if column.name not in ("message", "write_key")]
    with database.read() as db:
        found = db.execute(select(*columns).where(outbox.c.message_id == message_id)).first()
        return dict(found._mapping) if found else None


def run(database: Database, number: int) -> Mapping[str, Any] | None:
    """A run, unless it is too long ago."""
    with database.read() as db:
        found = db.execute(select(runs).where(runs.c.id == number)).first()
        return dict(found._mapping) if found else None


def emptied(database: Database, connection: str, since: int) -> Mapping[str, Any] | None:
    """The first run of a connection, from number `since` on, after which nothing waited for Segment."""
    query = (
        select(runs.c.id, runs.c.command, runs.c.finished_at, runs.c.summary)
        .where(runs.c.connection == connection, runs.c.id >= since, runs.c.finished_at.is_not(None))
        .order_by(runs.c.id)
        .limit(LATER_RUNS)
    )
    with database.read() as db:
        found: Sequence[Any] = db.execute(query).all()
    for each in found:
        if (summary_of(each.summary) or {}).get("waiting") == 0:
            return {"run": each.id, "command": each.command, "finished_at": each.finished_at}
    return None


# A run every minute for the 30 days that runs are kept.
MOST_RUNS = 43_200
CHUNK = 1_000

_RUNS = (
    select(runs.c.command, runs.c.started_at, runs.c.finished_at, runs.c.outcome, runs.c.summary)
    .where(runs.c.connection == bindparam("whose"), runs.c.started_at >= bindparam("since"))
    .order_by(runs.c.id.desc())
    .limit(bindparam("most"))
)
_SPENDS = select(spends.c.day, spends.c.purpose, spends.c.requests).where(
    spends.c.account == bindparam("who"), spends.c.day > bindparam("after")
)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run; `did` is its summary, empty while it is under way and where it was killed."""

    command: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    did: Mapping[str, Any]


def runs_since(
    database: Database, connection: str, since: datetime, most: int = MOST_RUNS
) -> Iterator[RunSummary]:
    """The runs that began since, newest first; never all of them at once in memory."""
    with database.read() as db:
        wanted = {"whose": connection, "since": since, "most": most}
        found = db.execution_options(yield_per=CHUNK).execute(_RUNS, wanted)
        for command, started, finished, outcome, summary in found:
            yield RunSummary(command, started, finished, outcome, summary_of(summary) or {})


def spends_after(database: Database, account: str, after: int) -> list[tuple[int, str, int]]:
    """Of all connections of an account: day, in days since the epoch, purpose, and requests."""
    with database.read() as db:
        found = db.execute(_SPENDS, {"who": account, "after": after})
        return [(int(day), purpose, int(requests)) for day, purpose, requests in found]

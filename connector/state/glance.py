"""What is seen of one connection at a glance, each answered off an index, however much lies in the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from connector.state.engine import Store
from connector.state.leases import lasts
from connector.state.owner import Owner, is_dead
from connector.state.tables import LIVE, accounts, leases, outbox, runs, streams


@dataclass(frozen=True, slots=True)
class Ran:
    """One run, in short; `finished_at` is None while it is under way, and for ever if it was killed."""

    id: int
    command: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    exit: int | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for one destination."""

    destination: str
    messages: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease that has not ended; `dead` only where that is certain."""

    work: str
    pid: int
    host: str
    until: datetime
    dead: bool


def last_runs(store: Store, connection: str, most: int) -> Sequence[Ran]:
    """The last runs, newest first, without what they did."""
    columns = (runs.c.id, runs.c.command, runs.c.started_at, runs.c.finished_at, runs.c.outcome, runs.c.exit)
    query = select(*columns).where(runs.c.connection == connection).order_by(runs.c.id.desc()).limit(most)
    with store.read() as db:
        return [Ran(*row) for row in db.execute(query)]


def last_success(store: Store, connection: str) -> datetime | None:
    """When a run last ended with 0."""
    well = (runs.c.connection == connection) & (runs.c.exit == 0)
    query = select(runs.c.finished_at).where(well).order_by(runs.c.id.desc()).limit(1)
    with store.read() as db:
        found: datetime | None = db.execute(query).scalar()
    return found


def waiting(store: Store, connection: str) -> Sequence[Waiting]:
    """What waits for Segment, by destination: a source that was replaced leaves its messages behind."""
    columns = (outbox.c.destination, func.count(), func.min(outbox.c.made_at))
    query = select(*columns).where(outbox.c.connection == connection, LIVE).group_by(outbox.c.destination)
    with store.read() as db:
        return [Waiting(*row) for row in db.execute(query)]


def newest(store: Store, connection: str) -> Mapping[str, tuple[datetime, float]]:
    """By stream, the date of the newest row and how many seconds later it was read."""
    mine = (streams.c.connection == connection) & streams.c.newest.is_not(None)
    query = select(streams.c.name, streams.c.newest, streams.c.delay).where(mine)
    with store.read() as db:
        return {name: (date, delay or 0.0) for name, date, delay in db.execute(query)}


def account_began(store: Store, account: str) -> datetime | None:
    """When an account was first charged."""
    with store.read() as db:
        found: datetime | None = db.execute(
            select(accounts.c.began_at).where(accounts.c.name == account)
        ).scalar()
    return found


def holders(store: Store, connection: str, me: Owner, now: datetime) -> Sequence[Holder]:
    """Who is at work on a connection, or was when it died."""
    mine = select(leases).where(leases.c.connection == connection).order_by(leases.c.work)
    with store.read() as db:
        found = [row for row in db.execute(mine) if lasts(row, now)]
    return [Holder(row.work, row.pid, row.host, row.expires_at, is_dead(Owner.of(row), me)) for row in found]

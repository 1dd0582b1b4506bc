"""Leases: the right of one run to work on a connection, with a fencing token.

Every write of a run's rows, messages and progress checks it (`check_lease`). Refunds, reports of runs and
refusals of keys are written without it.
"""

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from connector.clock import Clock
from connector.errors import Busy, ConnectorError, DatabaseUnreachable
from connector.state.dialects import add_new
from connector.state.engine import HELD, Database
from connector.state.tables import leases

# The process namespace of a whole machine, not of a container; the same number in every kernel.
WHOLE_MACHINE = "pid:[4026531836]"


@dataclass(frozen=True, slots=True)
class Owner:
    """A process; `started` distinguishes it from a later one with the same pid.

    A pid is unique only within one boot and one `space` (process namespace). `machine` is empty in a
    container, where neither it nor the host's name identifies the machine.
    """

    host: str
    machine: str
    boot: str
    space: str
    pid: int
    started: str

    @classmethod
    def of(cls, row: Any) -> "Owner":
        """Return the owner stored in a lease's row."""
        return cls(row.host, row.machine, row.boot, row.space, row.pid, row.started)


def this_process() -> Owner:
    space = _space()
    machine = _read("/etc/machine-id") if space == WHOLE_MACHINE else ""
    boot = _read("/proc/sys/kernel/random/boot_id")
    pid = os.getpid()
    return Owner(socket.gethostname()[:255], machine[:64], boot[:64], space, pid, _started(pid) or "")


def is_dead(owner: Owner, me: Owner) -> bool:
    """Return True only if it is certain: the same machine, and another boot or no such process any more."""
    if not (owner.boot and me.boot):
        return False
    if owner.boot != me.boot:
        return owner.machine == me.machine != ""
    return bool(owner.space) and owner.space == me.space and not _lives(owner)


def _lives(owner: Owner) -> bool:
    try:
        os.kill(owner.pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    # /proc may be hidden from other users: a process that cannot be seen counts as alive.
    if not Path(f"/proc/{owner.pid}").exists():
        return True
    return _started(owner.pid) == owner.started


def _started(pid: int) -> str | None:
    """Return clock ticks between boot and the start of a process (field 22 of proc(5) stat), None if gone."""
    # The command name is in parentheses, and may hold spaces and parentheses itself.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if fields and fields[0] not in "ZX" else None


def _space() -> str:
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(errors="replace").strip()
    return ""


SYNC, BACKFILL = "sync", "backfill"
LASTS = timedelta(seconds=60)
# Clocks differ by less: a lease that ends later was taken before a clock was set back.
SKEW = timedelta(hours=1)

_MINE = (
    leases.c.connection == bindparam("mine"),
    leases.c.work == bindparam("kind"),
    leases.c.token == bindparam("held"),
)
_UNTIL = update(leases).where(*_MINE).values(expires_at=bindparam("until"))
_RENEW = _UNTIL.values(renewals=leases.c.renewals + 1).returning(leases.c.renewals)
_GIVE_BACK = _UNTIL.values(token=leases.c.token + 1)


@dataclass(slots=True, eq=False)
class Lease:
    """The right to do one kind of work on a connection; valid only while its token is the newest.

    `renewals`: how many the database has committed. If it holds fewer, it has lost transactions of this
    run, as a server may that fails over to a replica, and this run cannot go on from there.
    """

    connection: str
    token: int
    work: str = SYNC
    lasts: timedelta = LASTS
    renewals: int = 0

    @property
    def key(self) -> dict[str, Any]:
        """Return the values that select it in a statement."""
        return {"mine": self.connection, "kind": self.work, "held": self.token}

    def committed(self, renewals: int) -> None:
        """Note how many renewals are committed; the delivery's thread may have committed more by now."""
        self.renewals = max(self.renewals, renewals)


def acquire(
    database: Database,
    connection: str,
    owner: Owner,
    now: datetime,
    work: str = SYNC,
    lasts: timedelta = LASTS,
) -> Lease:
    """Take the lease, if it is free, expired, or its owner is dead; raise Busy otherwise."""
    values = {"expires_at": now + lasts, "renewals": 0, **asdict(owner)}
    with database.write() as db:
        first = {"connection": connection, "work": work, "token": 1, **values}
        if add_new(db, leases, [first], leases.c.token):
            return Lease(connection, 1, work, lasts)
        mine = (leases.c.connection == connection) & (leases.c.work == work)
        held = db.execute(select(leases).where(mine).with_for_update()).one()
        _check_free(held, owner, now)
        db.execute(update(leases).where(mine).values(token=held.token + 1, **values))
        return Lease(connection, held.token + 1, work, lasts)


def _lasts(held: Row[Any], now: datetime) -> bool:
    """Return whether a lease has not expired."""
    return bool(now < held.expires_at <= now + LASTS + SKEW)


def _is_held(held: Row[Any], me: Owner, now: datetime) -> bool:
    return _lasts(held, now) and not is_dead(Owner.of(held), me)


def _check_free(held: Row[Any], me: Owner, now: datetime) -> None:
    if not _is_held(held, me, now):
        return
    owner = Owner.of(held)
    left = (held.expires_at - now).total_seconds()
    run = "run" if held.work == SYNC else held.work
    raise Busy(
        f"Another {run} is running for connection '{held.connection}' (process {owner.pid} on {owner.host}).",
        means="This run read and sent nothing.",
        todo=f"Wait until it finishes. If it was killed, its lease expires in {left:.0f} s.",
    )


_OF = select(leases).where(leases.c.connection == bindparam("whose")).order_by(leases.c.work)


def at_work(db: Connection, connection: str, me: Owner, now: datetime) -> bool:
    """Return whether any run is working on the connection; none starts before the transaction ends."""
    rows = db.execute(_OF.with_for_update(), {"whose": connection}).all()
    return any(_is_held(held, me, now) for held in rows)


def others_at_work(db: Connection, lease: Lease, me: Owner, now: datetime) -> bool:
    """Return whether a run of another kind is working on the connection, without waiting for locks."""
    rows = db.execute(_OF, {"whose": lease.connection}).all()
    return any(held.work != lease.work and _is_held(held, me, now) for held in rows)


@dataclass(frozen=True, slots=True)
class Holder:
    """The owner of a lease that has not expired; `dead` only where that is certain."""

    work: str
    pid: int
    host: str
    until: datetime
    dead: bool


def holders(database: Database, connection: str, me: Owner, now: datetime) -> list[Holder]:
    """Return who is working on a connection, or was when they died."""
    with database.read() as db:
        rows = [row for row in db.execute(_OF, {"whose": connection}) if _lasts(row, now)]
    return [Holder(row.work, row.pid, row.host, row.expires_at, is_dead(Owner.of(row), me)) for row in rows]


def check_lease(db: Connection, lease: Lease, now: datetime) -> None:
    """Renew the lease inside the caller's transaction.

    Raise Busy if the run has lost it, DatabaseUnreachable if the database has lost what the run stored.
    Once is enough in a transaction: until it ends nobody else can change the lease.
    """
    held = (db.get_transaction(), lease)
    if db.info.get(HELD, ())[:2] == held:
        return
    renewals = db.execute(_RENEW, {**lease.key, "until": now + lease.lasts}).scalar_one_or_none()
    if renewals is None or renewals <= lease.renewals:
        raise _lost(db, lease)
    db.info[HELD] = *held, renewals


def _lost(db: Connection, lease: Lease) -> ConnectorError:
    newest = select(leases.c.token).where(*_MINE[:2])
    if (db.execute(newest, lease.key).scalar() or 0) <= lease.token:
        return DatabaseUnreachable(
            "The database has lost what this run stored last: it was restored, or has failed over.",
            means="This run reads and sends nothing more; the next run continues from what is stored.",
            todo="Let the server keep what it has committed: synchronous_commit=on, synchronous replicas.",
        )
    return Busy(
        f"Another run took over this run's lease on connection '{lease.connection}'.",
        means="Nothing is lost: the other run reads again what this run had not stored.",
    )


def renew(database: Database, lease: Lease, now: datetime) -> None:
    """Renew the lease of a run that waits and has nothing to write."""
    with database.write() as db:
        check_lease(db, lease, now)


def progressed(database: Database, names: Collection[str]) -> dict[str, datetime]:
    """Return when runs of these connections last renewed their leases, which each write does."""
    last = select(leases.c.connection, func.max(leases.c.expires_at)).group_by(leases.c.connection)
    with database.read() as db:
        rows = db.execute(last.where(leases.c.connection.in_(names))).all()
    return {name: expires - LASTS for name, expires in rows}


def release(database: Database, lease: Lease, now: datetime) -> None:
    """Release the lease: it has expired by every clock, and its token is not accepted any more."""
    with database.write() as db:
        db.execute(_GIVE_BACK, {**lease.key, "until": now - SKEW})


@contextmanager
def holding(
    database: Database,
    connection: str,
    owner: Owner,
    clock: Clock,
    work: str = SYNC,
    lasts: timedelta = LASTS,
) -> Iterator[Lease]:
    """Hold the lease, and release it in every case; raise Busy as `acquire` does."""
    lease = acquire(database, connection, owner, clock.now(), work, lasts)
    try:
        yield lease
    finally:
        release(database, lease, clock.now())


@contextmanager
def holding_all(database: Database, connection: str, owner: Owner, clock: Clock) -> Iterator[list[Lease]]:
    """Hold the leases of all kinds of work on a connection; raise Busy if somebody works on it."""
    held: list[Lease] = []
    try:
        for work in (SYNC, BACKFILL):
            held.append(acquire(database, connection, owner, clock.now(), work))
        yield held
    finally:
        for lease in held:
            release(database, lease, clock.now())

"""The heartbeat event `Beamer Sync Completed`: its figures, and that it is made once an hour."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import func, or_, select, update

from connector.domain.changes import Outgoing
from connector.state.engine import Database
from connector.state.leases import Lease, check_lease
from connector.state.outbox import enqueue
from connector.state.tables import DEAD, connections, outbox


def refused(database: Database, connection: str) -> Mapping[str, int]:
    """By stream, how many dead letters there are."""
    count = select(outbox.c.stream, func.count()).where(DEAD & (outbox.c.connection == connection))
    with database.read() as db:
        return {row[0]: int(row[1]) for row in db.execute(count.group_by(outbox.c.stream))}


def enqueue_event(
    database: Database,
    lease: Lease,
    destination: str,
    event: Outgoing,
    hour: datetime,
    now: datetime,
    *,
    write_key: str = "",
) -> bool:
    """Put the event into the outbox, unless the connection has had one for this hour or a later one.

    The clock that `hour` was taken from may have been set back: no hour must come twice.
    """
    sent_for = connections.c.heartbeat_hour
    later = or_(sent_for.is_(None), sent_for < hour)
    mine = (connections.c.name == lease.connection) & later
    with database.write() as db:
        check_lease(db, lease, now)
        if db.execute(update(connections).where(mine).values(heartbeat_hour=hour)).rowcount != 1:
            return False
        enqueue(db, lease, destination, [event], now, write_key=write_key)
    return True

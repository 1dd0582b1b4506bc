"""Sums for those who look: nothing here writes, and nothing counts the rows ever seen."""

from collections.abc import Mapping

from sqlalchemy import func, select

from connector.state.engine import Store
from connector.state.quarantined import IN_QUARANTINE
from connector.state.tables import outbox, quarantine, tallies


def sums(store: Store, connection: str) -> Mapping[str, Mapping[str, int]]:
    """By stream, how many rows had which fate so far."""
    found: dict[str, dict[str, int]] = {}
    with store.read() as db:
        for row in db.execute(select(tallies).where(tallies.c.connection == connection)):
            found.setdefault(row.stream, {})[row.what] = int(row._mapping["count"])
    return found


def outbox_sizes(store: Store, connection: str) -> Mapping[str, int]:
    """How many messages are in which state."""
    count = select(outbox.c.state, func.count()).where(outbox.c.connection == connection)
    with store.read() as db:
        return {row[0]: int(row[1]) for row in db.execute(count.group_by(outbox.c.state))}


def quarantined(store: Store, connection: str) -> Mapping[str, Mapping[str, int]]:
    """By stream and reason, how many rows are in quarantine."""
    columns = (quarantine.c.stream, quarantine.c.reason)
    mine = (quarantine.c.connection == connection) & IN_QUARANTINE
    count = select(*columns, func.count()).where(mine)
    found: dict[str, dict[str, int]] = {}
    with store.read() as db:
        for stream, reason, number in db.execute(count.group_by(*columns)):
            found.setdefault(stream, {})[reason] = int(number)
    return found

"""The sign of life: made once for each hour, whatever the clock does."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from connector.domain.state import Outgoing
from connector.state import connections, outbox
from connector.state.connections import Identity
from connector.state.engine import Database
from connector.state.leases import Lease
from connector.state.tables import outbox as table
from tests.state.times import NOW

HOUR = timedelta(hours=1)


def made(database: Database, lease: Lease, hours: int, now: datetime) -> bool:
    """Whether the event of so many hours after the first is made, when this machine's clock shows `now`."""
    hour = NOW.replace(minute=0) + hours * HOUR
    event = Outgoing(f"bmr1-{hour:%Y%m%dT%H}", "Beamer Sync Completed", "{}", 2, "sync")
    return outbox.enqueue_heartbeat(database, lease, "dest", event, hour, now)


@pytest.mark.parametrize("days_behind", [1, 2, 400])
def test_dates_of_beamer_that_fall_back_make_no_hour_twice(
    database: Database, lease: Lease, days_behind: int
) -> None:
    """Answers dated two days ago made the event of that hour once more, with other contents (seed 3115)."""
    connections.settle(database, Identity("default", "acct", "dest", NOW), NOW)
    days = 24 * days_behind
    assert made(database, lease, 0, NOW)
    assert made(database, lease, days + 2, NOW + (days + 2) * HOUR)
    assert not made(database, lease, 0, NOW + (days + 3) * HOUR)
    assert made(database, lease, days + 4, NOW + (days + 4) * HOUR)


def test_an_hour_is_told_of_once(database: Database, lease: Lease) -> None:
    """A clock set back by an hour brought the last one once more, under the same messageId."""
    connections.settle(database, Identity("default", "acct", "dest", NOW), NOW)

    def enqueue(hours: int) -> bool:
        return made(database, lease, hours, NOW)

    sent_for = [enqueue(hours) for hours in (0, 0, 1, 0, 1, 2, 60, 59, 3, 4)]
    assert sent_for == [True, False, True, False, False, True, True, False, False, False]
    with database.read() as db:
        assert len(db.execute(select(table.c.message_id)).all()) == sum(sent_for)

"""The sign of life: made once for each hour, whatever the clock does."""

from datetime import timedelta

from sqlalchemy import select

from connector.domain.changes import Outgoing
from connector.state import connections, heartbeat
from connector.state.connections import Identity
from connector.state.engine import Store
from connector.state.leases import Fence
from connector.state.tables import outbox
from tests.state.times import NOW

HOUR = timedelta(hours=1)


def test_an_hour_is_told_of_once(store: Store, fence: Fence) -> None:
    """A clock set back by an hour brought the last one once more, under the same messageId."""
    connections.settle(store, Identity("default", "acct", "dest", NOW), NOW)

    def tell(hours: int) -> bool:
        hour = NOW.replace(minute=0) + hours * HOUR
        event = Outgoing(f"bmr1-{hour:%Y%m%dT%H}", "Beamer Sync Completed", "{}", 2, "sync")
        return heartbeat.tell(store, fence, "dest", event, hour, NOW)

    # The last but one is a clock that was days ahead, set right.
    told = [tell(hours) for hours in (0, 0, 1, 0, 1, 2, 60, 59, 3, 4)]
    assert told == [True, False, True, False, False, True, True, False, True, True]
    with store.read() as db:
        assert len(db.execute(select(outbox.c.message_id)).all()) == sum(told)

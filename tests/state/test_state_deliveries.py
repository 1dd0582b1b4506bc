"""Deliveries are counted by hour and event, in the transaction that confirms them."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from connector.domain.proof import Sent
from connector.domain.state import Outgoing
from connector.state import deliveries, leases, runs
from connector.state.engine import Database, open_database
from connector.state.leases import Lease, this_process
from connector.state.outbox import Outbox, enqueue
from tests.state.racers import race
from tests.state.times import DAY, HOUR, NOW, SECOND

KEY = "0123456789abcdef"
START = NOW


def message(number: int, event: str = "Post Commented", date: datetime | None = NOW) -> Outgoing:
    body = {"messageId": f"m{number}", "event": event}
    text = json.dumps(body | ({"timestamp": date.isoformat()} if date else {}))
    return Outgoing(f"m{number}", event, text, len(text), "comments")


def deliver(
    database: Database, *messages: Outgoing, at: datetime = NOW, again: bool = False, key: str = KEY
) -> None:
    lease = leases.acquire(database, "default", this_process(), at)
    with database.write() as db:
        enqueue(db, lease, "dest", messages, at, again=again, write_key=key)
    outbox = Outbox(database, lease, "dest", key)
    outbox.confirm(outbox.claim(100, at), at)
    leases.release(database, lease, at)


def counted(database: Database, *keys: str) -> dict[tuple[str, float], Sent]:
    found = deliveries.sent(database, keys or (KEY,), NOW - 90 * DAY)
    return {(event, (hour - START) / HOUR): sent for (event, hour), sent in found.items()}


def test_confirmed_messages_are_counted_with_the_dates_of_their_rows(database: Database) -> None:
    old, new = NOW - 400 * DAY, NOW - 2 * SECOND
    deliver(database, message(1, date=old), message(2, date=new), message(3, "Post Reacted To", None))
    deliver(database, message(4, date=NOW), at=NOW + 59 * timedelta(minutes=1))
    deliver(database, message(5, date=None), at=NOW + HOUR)
    assert counted(database) == {
        ("Post Commented", 0): Sent(3, 0, 0, old, NOW),
        ("Post Reacted To", 0): Sent(1),
        ("Post Commented", 1): Sent(1),
    }
    assert deliveries.by_event(database, ["default"], NOW) == {"Post Commented": 4, "Post Reacted To": 1}


def test_what_was_sent_before_is_counted_apart(database: Database, lease: Lease) -> None:
    with database.write() as db:
        enqueue(db, lease, "dest", [message(1), message(2)], NOW, write_key=KEY)
    outbox = Outbox(database, lease, "dest", KEY)
    first, second = outbox.claim(100, NOW)
    # One may have arrived, one surely has not.
    outbox.put_back([first], NOW, not_arrived=False)
    outbox.put_back([second], NOW, not_arrived=True)
    outbox.confirm(outbox.claim(100, NOW), NOW)
    assert counted(database) == {("Post Commented", 0): Sent(2, 1, 0, NOW, NOW)}


def test_a_resend_is_counted_as_sent_before(database: Database) -> None:
    deliver(database, message(1))
    deliver(database, message(1), message(2), at=NOW + 2 * HOUR, again=True)
    assert counted(database)["Post Commented", 2] == Sent(2, 0, 2, NOW, NOW)


def test_nothing_is_counted_that_was_not_confirmed(database: Database, lease: Lease) -> None:
    with database.write() as db:
        enqueue(db, lease, "dest", [message(1), message(2)], NOW, write_key=KEY)
    outbox = Outbox(database, lease, "dest", KEY)
    first, second = outbox.claim(100, NOW)
    outbox.mark_dead(first, "no", NOW, NOW)
    outbox.put_back([second], NOW, not_arrived=True)
    assert counted(database) == {}


def test_keys_are_counted_apart(database: Database) -> None:
    deliver(database, message(1))
    deliver(database, message(2), key="another")
    assert counted(database)["Post Commented", 0].messages == 1
    assert counted(database, KEY, "another")["Post Commented", 0].messages == 2


@pytest.mark.parametrize(("days", "left"), [(59, 1), (61, 0)])
def test_counts_are_kept_for_sixty_days(database: Database, days: int, left: int) -> None:
    deliver(database, message(1))
    later = NOW + days * DAY
    lease = leases.acquire(database, "default", this_process(), later)
    runs.delete_old(database, lease, later, later - runs.KEPT)
    assert len(counted(database)) == left


# --- when Segment is asked ---


def test_segment_is_asked_once_an_hour(database: Database) -> None:
    minute = timedelta(minutes=1)
    moments = (NOW, NOW + 59 * minute, NOW + 60 * minute, NOW + 61 * minute, NOW - DAY)
    # A clock that was set back delays nothing.
    assert [deliveries.claim(database, "default", at) for at in moments] == [True, False, True, False, True]
    assert deliveries.claim(database, "other", NOW)


def _claim(url: str, name: str) -> Any:
    database = open_database(url)
    try:
        return deliveries.claim(database, name, NOW)
    finally:
        database.close()


def test_of_several_processes_one_asks(database: Database, database_url: str) -> None:
    assert sorted(race(_claim, database_url, ["default"] * 3)) == [False, False, True]


def test_what_was_found_is_kept_for_two_days(database: Database) -> None:
    assert deliveries.last(database, "default", NOW) == deliveries.LastProof()
    found = {"problems": [{"found": "A", "todo": "B"}, "nonsense"], "unproven": None}
    deliveries.save(database, "default", found, NOW)
    assert deliveries.last(database, "default", NOW + DAY) == deliveries.LastProof((("A", "B"),))
    assert deliveries.last(database, "default", NOW + 3 * DAY) == deliveries.LastProof()
    deliveries.save(database, "default", {"problems": 5, "unproven": "no answer"}, NOW)
    assert deliveries.last(database, "default", NOW) == deliveries.LastProof((), "no answer")

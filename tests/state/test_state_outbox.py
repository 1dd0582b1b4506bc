"""The outbox: a message waits until it is confirmed, and a crash in between sends it again."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from connector.errors import Busy
from connector.state import leases, progress, runs
from connector.state import outbox as room
from connector.state.engine import Database
from connector.state.leases import Lease, this_process
from connector.state.outbox import Outbox, OutboxMessage
from connector.state.tables import outbox as table
from connector.state.tables import quarantine, tallies
from tests.state.times import DAY, HOUR, NOW, SECOND


def fill(database: Database, count: int, destination: str = "dest", connection: str = "default") -> None:
    values = [
        {
            "connection": connection,
            "destination": destination,
            "message_id": f"{connection}-{destination}-{number}",
            "stream": "posts" if number % 3 == 0 else "nps",
            "event": "E",
            "message": f'"{number}"',
            "size": 3,
            "made_at": NOW,
            "state": "waiting",
            "tries": 0,
        }
        for number in range(count)
    ]
    with database.write() as db:
        db.execute(insert(table), values)


def texts(messages: list[OutboxMessage]) -> list[str]:
    return [message.text for message in messages]


def states(database: Database) -> list[Any]:
    columns = (table.c.state, table.c.tries, table.c.first_sent_at)
    with database.read() as db:
        return [tuple(row) for row in db.execute(select(*columns).order_by(table.c.id))]


def test_the_oldest_go_first_until_none_waits(database: Database, outbox: Outbox) -> None:
    fill(database, 25)
    seen: list[str] = []
    assert outbox.waiting() == 25
    while messages := outbox.claim(10, NOW):
        seen += texts(messages)
        outbox.confirm(messages, NOW)
    assert seen == [f'"{number}"' for number in range(25)]
    assert outbox.waiting() == 0
    with database.read() as db:
        sums = select(tallies.c.stream, tallies.c.count).where(tallies.c.what == "sent")
        sent = {tuple(row) for row in db.execute(sums)}
    assert sent == {("posts", 9), ("nps", 16)}


def test_each_destination_and_connection_has_its_own(
    database: Database, outbox: Outbox, lease: Lease
) -> None:
    fill(database, 1)
    fill(database, 2, destination="another")
    fill(database, 3, connection="other")
    assert outbox.waiting() == len(outbox.claim(10, NOW)) == 1
    assert Outbox(database, lease, "another").waiting() == 2


def test_what_was_in_flight_at_a_crash_goes_again(database: Database, outbox: Outbox) -> None:
    fill(database, 3)
    first = outbox.claim(2, NOW)
    lease = leases.acquire(database, "default", this_process(), NOW + DAY)
    again = Outbox(database, lease, "dest").claim(10, NOW + HOUR)
    assert [message.message_id for message in again[:2]] == [message.message_id for message in first]
    assert not any(message.possible_double for message in again)
    with pytest.raises(Busy):
        outbox.confirm(first, NOW + HOUR)
    assert len(states(database)) == 3


@pytest.mark.parametrize(("after", "double"), [(20 * HOUR, False), (20 * HOUR + SECOND, True), (-DAY, False)])
def test_an_old_unconfirmed_one_may_be_a_double(
    database: Database, outbox: Outbox, after: timedelta, double: bool
) -> None:
    fill(database, 1)
    outbox.put_back(outbox.claim(1, NOW), NOW, not_arrived=False)
    assert [message.possible_double for message in outbox.claim(1, NOW + after)] == [double]


def test_from_when_on_a_double_is_possible(database: Database, lease: Lease) -> None:
    outbox = Outbox(database, lease, "dest", double_after=SECOND)
    fill(database, 1)
    for after, double in ((SECOND, False), (2 * SECOND, True)):
        outbox.put_back(outbox.claim(1, NOW), NOW, not_arrived=False)
        assert [message.possible_double for message in outbox.claim(1, NOW + after)] == [double]


def test_what_did_not_arrive_counts_as_not_sent(database: Database, outbox: Outbox) -> None:
    """However often: only a send whose end is unknown starts the clock of a possible double."""
    fill(database, 1)
    for _ in range(3):
        outbox.put_back(outbox.claim(1, NOW), NOW, not_arrived=True)
        assert states(database) == [("waiting", 0, None)]
    outbox.put_back(outbox.claim(1, NOW + HOUR), NOW, not_arrived=False)
    outbox.put_back(outbox.claim(1, NOW + 2 * HOUR), NOW, not_arrived=True)
    assert states(database) == [("waiting", 1, NOW + HOUR)]
    assert [message.possible_double for message in outbox.claim(1, NOW + 22 * HOUR)] == [True]


def test_putting_back_wakes_no_dead_letter(database: Database, outbox: Outbox) -> None:
    fill(database, 3)
    messages = outbox.claim(3, NOW)
    outbox.mark_dead(messages[0], "400 no", NOW, NOW)
    outbox.confirm(messages[1:2], NOW)
    outbox.put_back(messages, NOW, not_arrived=False)
    assert [state for state, *_ in states(database)] == ["dead", "waiting"]
    assert texts(outbox.claim(10, NOW)) == ['"2"']


@pytest.mark.parametrize(("chance", "numbers"), [(0.0, [5, 15, 24]), (0.5, [10, 20, 24]), (0.99, [14, 24])])
def test_some_from_several_places(
    database: Database, outbox: Outbox, chance: float, numbers: list[int]
) -> None:
    """The newest is among them, and none that is in hand already."""
    fill(database, 25)
    fill(database, 3, destination="another")
    hand = outbox.claim(5, NOW)
    some = outbox.sample(3, chance, NOW)
    assert sorted(texts(some), key=lambda text: int(text.strip('"'))) == [f'"{each}"' for each in numbers]
    outbox.put_back([*hand, *some], NOW, not_arrived=True)
    assert set(states(database)) == {("waiting", 0, None)}


def test_of_nothing_there_are_no_places(database: Database, outbox: Outbox) -> None:
    assert outbox.sample(10, 0.5, NOW) == []
    fill(database, 2)
    outbox.claim(2, NOW)
    assert outbox.sample(10, 0.5, NOW) == []


def test_nothing_to_set_is_no_error(database: Database, outbox: Outbox) -> None:
    fill(database, 1)
    outbox.put_back([], NOW, not_arrived=True)
    outbox.confirm([], NOW)
    assert outbox.waiting() == 1


def test_a_run_that_lost_its_lease_changes_nothing(database: Database, outbox: Outbox) -> None:
    fill(database, 2)
    messages = outbox.claim(1, NOW)
    before = states(database)
    leases.acquire(database, "default", this_process(), NOW + DAY)
    for write in (
        lambda: outbox.claim(1, NOW),
        lambda: outbox.confirm(messages, NOW),
        lambda: outbox.put_back(messages, NOW, not_arrived=True),
        lambda: outbox.mark_dead(messages[0], "no", NOW, NOW),
    ):
        with pytest.raises(Busy):
            write()
    assert states(database) == before


# --- by hand ------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(database: Database, outbox: Outbox) -> Outbox:
    """Dead: 0 and 1; in flight: 2; waiting: 3 and 4."""
    fill(database, 5)
    for message in (messages := outbox.claim(3, NOW))[:2]:
        outbox.mark_dead(message, f"400 \0 \ud800 {message.id}", NOW, NOW)
    assert len(messages) == 3
    return outbox


@pytest.mark.usefixtures("mixed")
def test_listing_and_showing(database: Database) -> None:
    listed = room.listed(database, "default", None, 100)
    assert [row["state"] for row in listed] == ["dead", "dead", "flight", "waiting", "waiting"]
    assert all("message" not in row for row in listed)
    assert len(room.listed(database, "default", "dead", 1)) == 1
    assert room.listed(database, "other", None, 100) == []
    assert len(room.listed(database, None, None, 100)) == 5
    shown = room.shown(database, "default-dest-0")
    assert shown
    assert (shown["message"], shown["answer"]) == ('"0"', f"400 \0 \ud800 {shown['id']}")
    assert room.shown(database, str(shown["id"])) == shown


@pytest.mark.parametrize("which", ["", "nothing", "9" * 400, "99999999999999999999", "٣٣٣٣", "-1", "1.0"])
@pytest.mark.usefixtures("mixed")
def test_what_names_nothing_finds_nothing(database: Database, which: str) -> None:
    assert room.shown(database, which) is None
    assert room.retry(database, None, [which]) == room.drop(database, None, [which]) == 0


@pytest.mark.parametrize(("which", "count"), [([], 2), (["default-dest-1"], 1), (["default-dest-3"], 0)])
@pytest.mark.usefixtures("mixed")
def test_dead_letters_wait_again(database: Database, which: list[str], count: int) -> None:
    assert room.retry(database, "other", which) == 0
    assert room.retry(database, "default", which) == count
    woken = [row for row in states(database) if row[0] == "waiting"]
    # Refused is not unconfirmed: no clock of a possible double runs on.
    assert woken == [("waiting", 0, None)] * (2 + count)


@pytest.mark.parametrize(("which", "count"), [([], 4), (["default-dest-2"], 0), (["default-dest-3"], 1)])
@pytest.mark.usefixtures("mixed")
def test_dropping_leaves_what_is_in_flight(database: Database, which: list[str], count: int) -> None:
    assert room.drop(database, "default", which) == count
    assert len(states(database)) == 5 - count
    assert "flight" in [state for state, *_ in states(database)]


# --- runs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", ["deliver", "backfill"])
def test_what_went_on_beside_the_syncs_is_no_last_run(database: Database, beside: str) -> None:
    """A daemon that only delivered for a while had lost its place among those that wait for requests."""
    one = runs.begin(database, "default", "sync", NOW)
    runs.finish(database, one, NOW, "stopped", 0, {"saving": 3.0, "saving_since": NOW.isoformat()})
    two = runs.begin(database, "default", beside, NOW + HOUR)
    runs.finish(database, two, NOW + HOUR, "done", 0, {"saving": 0.0, "saving_since": None})
    assert runs.last(database, "default") == runs.Last(NOW, 3.0, NOW)


def test_runs_are_told_newest_first(database: Database) -> None:
    one = runs.begin(database, "default", "sync", NOW)
    two = runs.begin(database, "other", "backfill", NOW + HOUR)
    runs.finish(database, one, NOW + DAY, "done", 0, {"events": {"nps": 3}, "error": None})
    assert [row["id"] for row in runs.recent(database, None, 10)] == [two, one]
    assert [row["id"] for row in runs.recent(database, None, 1)] == [two]
    first = runs.recent(database, "default", 10)[0]
    assert first["summary"] == {"events": {"nps": 3}, "error": None}
    assert (first["finished_at"], first["outcome"], first["exit"]) == (NOW + DAY, "done", 0)
    assert runs.recent(database, "other", 10)[0]["summary"] is None


@pytest.mark.parametrize(("age", "kept"), [(30 * DAY, True), (30 * DAY + SECOND, False)])
def test_what_is_kept_for_thirty_days(
    database: Database, lease: Lease, mixed: Outbox, age: timedelta, kept: bool
) -> None:
    runs.begin(database, "default", "sync", NOW)
    bad = {"connection": "c", "stream": "s", "parent": "", "digest": "d", "reason": "r", "body": "{}"}
    with database.write() as db:
        db.execute(insert(quarantine).values(seen_at=NOW, **bad))
        db.execute(update(table).where(table.c.state == "waiting").values(answered_at=NOW - 99 * DAY))
    runs.delete_old(database, lease, NOW + age, NOW + age - runs.KEPT)
    assert [state for state, *_ in states(database)] == ["dead", "dead"] * kept + [
        "flight",
        "waiting",
        "waiting",
    ]
    with database.read() as db:
        (left,) = db.execute(select(quarantine)).all()
    # By its digest it is known for ever.
    assert (left.digest, left.reason, left.body) == ("d", "r", "{}" if kept else "")
    assert progress.quarantined(database, "c") == ({"s": {"r": 1}} if kept else {})
    assert runs.figures(database, NOW).quarantined == ({"c": 1} if kept else {})
    assert len(runs.recent(database, None, 10)) == kept


def test_a_run_that_lost_its_lease_deletes_nothing(database: Database, lease: Lease, mixed: Outbox) -> None:
    """It was suspended meanwhile; what it holds for the time may be long past (seed 3333)."""
    later = NOW + 2 * DAY
    leases.acquire(database, lease.connection, this_process(), later)
    with pytest.raises(Busy):
        runs.delete_old(database, lease, later, later)
    assert [state for state, *_ in states(database)].count("dead") == 2

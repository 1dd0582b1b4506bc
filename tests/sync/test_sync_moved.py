"""Rows that move to another parent, as where two feature requests are merged, are sent once."""

from datetime import timedelta

import pytest

from connector.sandbox import Company
from tests.harness import Rig, expected, landed, sandbox
from tests.sandbox import Sandbox

HOUR = timedelta(hours=1)
USER = {"userId": "u-1"}
BELOW = ("feature_request_comments", "feature_request_votes")


@pytest.fixture
def rig(database_url: str) -> Rig:
    return Rig(sandbox(company=Company.empty()), database_url)


def a_request(box: Sandbox, days: float, rows: int = 3, prefix: str = "") -> str:
    """A feature request with so many comments and votes, an hour apart; `prefix` makes their ids."""
    date = box.now() - timedelta(days=days)
    request = box.world.add("feature_requests", date=date, **USER)
    for stream in BELOW:
        for number in range(rows):
            own = {"id": f"{prefix}{number + 1}"} if prefix else {}
            at = date + (1 + number) * HOUR
            box.world.add(stream, request, date=at, text="Please!", **USER, **own)
    return request


def merge(box: Sandbox, merged: str, kept: str) -> None:
    """Its rows hang below the other one, with their ids; it is gone."""
    for stream in BELOW:
        for row in box.world.rows(stream, merged):
            box.world.move(stream, row.id, kept)
    box.world.delete("feature_requests", merged)


def check_once(rig: Rig, days: int = 30) -> None:
    """Every row of so many days has landed, and once."""
    found, since = landed(rig.sandbox), rig.sandbox.now() - timedelta(days=days)
    assert set(found.values()) == {1}
    assert set(found) == set(expected(rig.sandbox, since, deleted=True))


@pytest.mark.parametrize("own", [0, 3, 12])
@pytest.mark.parametrize("moved", [1, 14])
def test_what_was_sent_below_a_merged_request_is_not_sent_again(rig: Rig, own: int, moved: int) -> None:
    box = rig.sandbox
    kept, merged = a_request(box, 6, own), a_request(box, 5, moved)
    rig.sync()
    check_once(rig)
    merge(box, merged, kept)
    box.advance(HOUR)
    for stream in BELOW:
        box.world.add(stream, kept, text="New", **USER)
    for _ in range(3):
        assert rig.sync().exit == 0
        box.advance(HOUR)
    check_once(rig)
    rig.backfill()
    check_once(rig)
    rig.close()


def test_a_row_is_sent_where_it_was_moved_to_before_it_was_read(rig: Rig) -> None:
    box = rig.sandbox
    kept, merged = a_request(box, 6), a_request(box, 5, 0)
    rig.sync()
    for stream in BELOW:
        box.world.add(stream, merged, text="Please!", **USER)
    box.advance(HOUR)
    merge(box, merged, kept)
    rig.sync()
    check_once(rig)
    rig.close()


def test_one_row_that_moves_while_its_parent_stays_is_sent_once(rig: Rig) -> None:
    box = rig.sandbox
    kept, other = a_request(box, 6), a_request(box, 5)
    rig.sync()
    for stream in BELOW:
        box.world.move(stream, box.world.rows(stream, other)[0].id, kept)
    box.advance(HOUR)
    rig.sync()
    rig.sync()
    check_once(rig)
    rig.close()


def test_a_merged_request_that_a_backfill_reads_is_not_sent_again(rig: Rig) -> None:
    box = rig.sandbox
    kept, merged = a_request(box, 200), a_request(box, 190)
    rig.sync()
    rig.backfill()
    check_once(rig, 3650)
    merge(box, merged, kept)
    box.advance(HOUR)
    rig.sync()
    rig.backfill(3700)
    check_once(rig, 3650)
    rig.close()


def test_ids_that_are_counted_below_each_parent_are_rows_of_their_own(rig: Rig) -> None:
    """Where one id stands at two requests, it does not tell which row it is: none is left out for it."""
    box = rig.sandbox
    first, second = a_request(box, 9, 3, "7"), a_request(box, 8, 2, "7")
    rig.sync()
    assert {message["messageId"] for message in box.segment.messages if "vote" in message["messageId"]} == {
        *(f"bmr1-dest-acct-vote-{first}-7{n}" for n in (1, 2, 3)),
        *(f"bmr1-dest-acct-vote-{second}-7{n}" for n in (1, 2)),
    }
    box.advance(HOUR)
    # A row that comes late, with an old date, and with an id that the other one has, too.
    for stream in BELOW:
        box.world.add(stream, second, date=box.now() - timedelta(days=7), id="73", text="Late", **USER)
    rig.sync()
    late = [message for message in box.segment.messages if message["messageId"].endswith(f"-{second}-73")]
    assert len(late) == 2
    rig.close()

"""`Beamer Sync Completed`: with it, quiet can be told from broken."""

import json
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connector.sandbox import Company, Request
from connector.state import outbox
from tests.harness import Rig, SandboxClock, sandbox

EVENT = "Beamer Sync Completed"
USER = {"userId": "u"}
ANSWER: tuple[Any, ...] = ("answer", 400, '{"success": false, "message": "too large"}', {})


@pytest.fixture
def rig(database_url: str) -> Rig:
    box = sandbox(company=Company.empty())
    post = box.world.add("posts")
    box.world.add("comments", post, text="Hi", **USER)
    box.world.add("comments", post, text="Hi", userId=None)
    box.world.add("nps", feedback="Good", score="many", **USER)
    return Rig(box, database_url, settings={"sync_event": True})


def told(rig: Rig) -> list[dict[str, Any]]:
    return [message for message in rig.sandbox.segment.messages if message["event"] == EVENT]


def test_it_says_how_far_each_stream_has_come(rig: Rig) -> None:
    start = rig.sandbox.now()
    assert rig.sync().report.waiting == 0
    (message,) = told(rig)
    said = message["properties"]
    assert (message["userId"], message["anonymousId"]) == (None, "beamer-default")
    assert message["messageId"] == f"bmr1-dest-acct-sync-default-{start:%Y%m%dT%H}"
    assert (said["waiting"], said["quarantined"]) == (0, 1)
    assert (said["comments_sent"], said["comments_excluded"], said["comments_refused"]) == (1, 1, 0)
    assert (said["nps_sent"], said["posts_sent"]) == (0, 1)
    for name in ("complete_through", "comments_complete_through", "nps_complete_through"):
        assert abs(datetime.fromisoformat(said[name]) - start) < timedelta(minutes=1)
    rig.close()


def test_it_comes_once_an_hour(rig: Rig) -> None:
    rig.sandbox.advance(timedelta(minutes=5))
    for _ in range(30):  # over two hours and a half, from five past
        rig.sync()
        rig.sandbox.advance(timedelta(minutes=5))
    hours = [message["messageId"].rpartition("T")[2] for message in told(rig)]
    assert hours == ["00", "01", "02"]
    assert len(rig.sandbox.segment.received) == len(rig.sandbox.segment.messages)
    rig.close()


def test_a_stream_that_could_not_be_read_stays_behind(rig: Rig) -> None:
    rig.sync()
    rig.sandbox.advance(timedelta(hours=2))
    rig.sandbox.switches.may_read = set(rig.streams) - {"nps"}
    rig.sync()
    first, second = (message["properties"] for message in told(rig))
    assert second["nps_complete_through"] == first["nps_complete_through"]
    assert second["complete_through"] == first["complete_through"]
    assert second["posts_complete_through"] > first["posts_complete_through"]
    rig.close()


def test_only_listed_streams_are_named(rig: Rig) -> None:
    rig.streams = frozenset({"nps"})
    rig.sync()
    (message,) = told(rig)
    assert {name for name in message["properties"] if name.endswith("_sent")} == {"nps_sent"}
    assert "complete_through" in message["properties"]
    rig.close()


def test_refused_ones_are_counted(rig: Rig) -> None:
    def about_comments(request: Request) -> bool:
        return request.api == "segment" and b"Post Commented" in gunzipped(request)

    rig.sandbox.faults.on(about_comments, [ANSWER] * 9)
    rig.sync()
    (message,) = told(rig)
    assert (message["properties"]["comments_sent"], message["properties"]["comments_refused"]) == (0, 1)
    rig.close()


def gunzipped(request: Request) -> bytes:
    return zlib.decompress(request.body, 31)


def test_a_run_that_failed_or_did_not_deliver_says_nothing(rig: Rig) -> None:
    rig.sync(deliver=False)
    rig.sandbox.faults.script("segment", [500] * 9)
    assert rig.sync().exit == 69
    rig.sandbox.faults.clear()
    rig.sandbox.faults.script("beamer", [401])
    assert rig.sync().exit == 77
    assert not told(rig)
    assert not [each for each in outbox.listed(rig.database, None, None, 99) if each["event"] == EVENT]
    rig.close()


def test_it_waits_like_any_other_where_segment_goes_away(rig: Rig) -> None:
    rig.sandbox.faults.script("segment", ["ok", *[500] * 9])
    assert (outcome := rig.sync()).exit == 69
    assert outcome.report.waiting == 1
    rig.sandbox.faults.clear()
    assert (rig.sync().exit, len(told(rig))) == (0, 1)
    rig.close()


def test_it_is_off_by_default_and_goes_by_beamers_clock(rig: Rig) -> None:
    rig.settings = {}
    rig.sync()
    assert not told(rig)
    rig.settings, rig.clock = {"sync_event": True}, SandboxClock(rig.sandbox, timedelta(days=2))
    rig.sync()
    (message,) = told(rig)
    assert datetime.fromisoformat(message["timestamp"]) <= rig.sandbox.now().astimezone(UTC)
    rig.close()


@pytest.mark.parametrize(
    "wrong", [timedelta(days=-3), timedelta(hours=-27), timedelta(hours=30), timedelta(days=400)]
)
@pytest.mark.parametrize("answers", [True, False])
def test_a_clock_that_is_wrong_every_other_run_makes_no_hour_twice(
    rig: Rig, wrong: timedelta, answers: bool
) -> None:
    """Set back by 27 hours and right again, it made the same hour's event once more (seed 4000)."""
    hours: list[str] = []
    for number in range(12):
        rig.clock = SandboxClock(rig.sandbox, wrong if number % 2 else timedelta(0))
        rig.sync(most_requests=None if answers or not number % 2 else 0)
        rig.sandbox.advance(timedelta(minutes=20))
    hours = [message["messageId"] for message in told(rig)]
    assert len(hours) == len(set(hours))
    contents = {json.dumps(message, sort_keys=True) for message in rig.sandbox.segment.received}
    assert len(contents) == len(rig.sandbox.segment.messages)
    # The right clock's hours are all there.
    assert len(hours) >= 4
    rig.close()


@pytest.mark.parametrize("behind", [timedelta(0), timedelta(hours=5), timedelta(days=2)])
def test_no_hour_is_used_up_before_it_has_come_by_both_clocks(rig: Rig, behind: timedelta) -> None:
    rig.clock = SandboxClock(rig.sandbox, -behind)
    rig.sync()
    (message,) = told(rig)
    assert message["messageId"].endswith(f"-{rig.sandbox.now() - behind:%Y%m%dT%H}")
    rig.close()

"""What changes about a row that was sent already: statuses and totals."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.sandbox import Company
from connector.state import leases, progress
from connector.state.leases import this_process
from tests.harness import Rig, sandbox

USER = {"userId": "u-1"}
HOUR = timedelta(hours=1)
CHANGED = "Feature Request Status Changed"
METRICS = "Post Metrics Updated"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    box = sandbox(company=Company.empty())
    return Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}")


def sent(rig: Rig, event: str) -> list[dict[str, Any]]:
    return [message for message in rig.sandbox.segment.messages if message["event"] == event]


@pytest.mark.parametrize("days", [1, 90])
def test_each_change_of_a_status_is_sent_once_under_its_own_id(rig: Rig, days: int) -> None:
    date = rig.sandbox.now() - timedelta(days=days)
    request = rig.sandbox.world.add("feature_requests", status="under_review", date=date, **USER)
    rig.sync()
    assert not sent(rig, CHANGED)
    for status in ("planned", "planned", "complete", "planned"):
        rig.sandbox.advance(HOUR)
        rig.sandbox.world.set("feature_requests", request, status=status)
        rig.sync()
        rig.sync()
    changes = [
        (m["properties"]["previous_status"], m["properties"]["status"], m["messageId"].split("-")[-1])
        for m in sent(rig, CHANGED)
    ]
    assert changes == [
        ("under_review", "planned", "1"),
        ("planned", "complete", "2"),
        ("complete", "planned", "3"),
    ]
    assert {m["properties"]["request_id"] for m in sent(rig, CHANGED)} == {request}
    assert {m["anonymousId"] for m in sent(rig, CHANGED)} == {"beamer-default"}
    rig.close()


@pytest.mark.parametrize("order", ["newest", "oldest", "unordered"])
def test_a_status_on_two_pages_of_one_run_was_shown_once(rig: Rig, order: Any) -> None:
    """The newest block shows members of the next, and each page begins with a row of the one before."""
    rig.sandbox.switches.order = order
    for number in range(25):
        date = rig.sandbox.now() - timedelta(days=number + 1)
        rig.sandbox.world.add("feature_requests", status="under_review", date=date, **USER)
    rig.sync()
    for row in rig.sandbox.world.rows("feature_requests"):
        rig.sandbox.world.set("feature_requests", row.id, status="planned")
    rig.sandbox.advance(HOUR)
    rig.sandbox.world.add("feature_requests", status="under_review", **USER)
    rig.sync()
    assert not sent(rig, CHANGED)
    rig.sync()
    assert len(sent(rig, CHANGED)) == 25
    rig.close()


A, B, C = "under_review", "planned", "complete"
# What each check shows after the first, which showed A, and the changes that are sent.
SHOWN: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "a change": ("BB", [(A, B)]),
    "a change that was shown once": ("B", []),
    "a copy that lags, by turns": ("BABABABB", [(A, B)]),
    "a copy that lags, the other way round": ("ABABABABB", [(A, B)]),
    "a copy that lags, often": ("BBABABABB", [(A, B)]),
    "one that caught up late": ("BAAAB", [(A, B)]),
    "there and back": ("BBAA", [(A, B), (B, A)]),
    "there, back and there again": ("BBBAAABB", [(A, B), (B, A), (A, B)]),
    "further at once": ("BCC", [(A, C)]),
    "from one to the next": ("BBCC", [(A, B), (B, C)]),
    "one of three lags": ("BBCBCBC", [(A, B), (B, C)]),
    "nothing but a slip": ("BAAAAA", []),
}


@pytest.mark.parametrize(("shown", "changes"), SHOWN.values(), ids=SHOWN)
def test_a_status_that_flaps_is_one_change(
    database_url: str, shown: str, changes: list[tuple[str, str]]
) -> None:
    box = sandbox(company=Company.empty())
    rig = Rig(box, database_url)
    request = box.world.add("feature_requests", status=A, **USER)
    rig.sync()
    for each in shown:
        box.advance(HOUR / 12)
        box.world.set("feature_requests", request, status={"A": A, "B": B, "C": C}[each])
        rig.sync()
    found = sent(rig, CHANGED)
    assert [(m["properties"]["previous_status"], m["properties"]["status"]) for m in found] == changes
    assert len({m["messageId"] for m in box.segment.received}) == len(box.segment.received)
    rig.close()


def test_a_change_after_a_reset_gets_no_id_that_was_sent(rig: Rig) -> None:
    """Segment, and a warehouse for good, would take it for the change before."""
    request = rig.sandbox.world.add("feature_requests", status="under_review", **USER)
    rig.sync()
    rig.sandbox.world.set("feature_requests", request, status="planned")
    rig.sync()
    rig.sync()
    scope = progress.scope_of(rig.database, rig.name, "feature_requests")
    with leases.holding(rig.database, rig.name, this_process(), rig.clock) as lease:
        progress.reset(rig.database, lease, scope, rig.clock.now())
    assert rig.sync().report.events == {"feature_requests": 1}  # the row again, and no change
    rig.sandbox.world.set("feature_requests", request, status="complete")
    rig.sync()
    rig.sync()
    assert [m["properties"]["status"] for m in sent(rig, CHANGED)] == ["planned", "complete"]
    rig.close()


def test_a_status_does_not_change_where_requests_are_not_sent(rig: Rig) -> None:
    rig.streams = frozenset({"feature_request_votes"})
    request = rig.sandbox.world.add("feature_requests", status="under_review", **USER)
    rig.sync()
    rig.sandbox.world.set("feature_requests", request, status="planned")
    rig.sync()
    assert not rig.sandbox.segment.messages
    rig.close()


def test_a_change_of_which_no_message_can_be_made_stops_nobody(rig: Rig) -> None:
    attributes = {f"a{number}": "x" * 900 for number in range(40)}
    long: dict[str, Any] = {"userCustomAttributes": attributes, "category": "c" * 40_000}
    request = rig.sandbox.world.add("feature_requests", status="planned", **USER, **long)
    rig.sync()
    rig.sandbox.world.set("feature_requests", request, status="s" * 40_000)
    rig.sync()
    rig.sandbox.world.add("nps", feedback="Good", **USER)
    outcome = rig.sync()
    assert (outcome.exit, len(sent(rig, "NPS Response Sent"))) == (0, 1)
    assert rig.sync().exit == 0
    rig.close()


def test_totals_are_sent_at_most_once_per_post_and_day_if_asked_for(rig: Rig) -> None:
    post = rig.sandbox.world.add("posts", views=10, uniqueViews=8, clicks=2)
    rig.sync()
    rig.settings = {"metrics": True}
    for views in (15, 20, 20, 31):
        rig.sandbox.world.set("posts", post, views=views, uniqueViews=views - 2, clicks=3)
        rig.sync()
        rig.sandbox.advance(6 * HOUR)
        rig.sync()
        rig.sandbox.advance(6 * HOUR)
    rig.sync()
    told = [
        (m["properties"]["views"], m["properties"].get("views_change"), m["messageId"].split("-")[-1])
        for m in sent(rig, METRICS)
    ]
    assert told == [(15, 5, "1"), (20, 5, "2"), (31, 11, "3")]
    rig.close()


def test_totals_are_not_sent_unless_asked_for(rig: Rig) -> None:
    post = rig.sandbox.world.add("posts", views=10, uniqueViews=8, clicks=2)
    rig.sync()
    rig.sandbox.world.set("posts", post, views=99)
    rig.sync()
    assert not sent(rig, METRICS)
    rig.close()


# Views day by day, as noon shows them, and those that are sent.
TOTALS = {
    "a copy that lags": ([15, 14, 16, 15, 17], [15, 16, 17]),
    "a fall that stays": ([15, 9, 9], [15, 9]),
    "a fall and a rise": ([15, 9, 20], [15, 20]),
}


@pytest.mark.parametrize(("views", "told"), TOTALS.values(), ids=TOTALS)
def test_totals_that_fell_are_believed_a_day_later(rig: Rig, views: list[int], told: list[int]) -> None:
    post = rig.sandbox.world.add("posts", views=10, uniqueViews=8, clicks=2)
    rig.settings = {"metrics": True}
    rig.sync()
    for each in views:
        rig.sandbox.advance(24 * HOUR)
        rig.sandbox.world.set("posts", post, views=each)
        rig.sync()
    assert [m["properties"]["views"] for m in sent(rig, METRICS)] == told
    rig.close()

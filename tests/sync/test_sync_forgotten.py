"""A person who was forgotten does not come back, whatever Beamer still shows."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from connector.sandbox import Company
from connector.state import leases, privacy, progress
from connector.state.leases import this_process
from connector.sync.rows.judging import user_of_raw
from tests.harness import Rig, sandbox

HOUR = timedelta(hours=1)
JANE: dict[str, Any] = {"userId": "jane", "userEmail": "jane@person.example", "text": "Jane's words"}
JOE = {"userId": "joe", "text": "Joe's words"}


@pytest.fixture
def rig(database_url: str) -> Rig:
    return Rig(sandbox(company=Company.empty()), database_url)


def forget(rig: Rig, user: str) -> None:
    now = rig.clock.now()
    lease = leases.acquire(rig.database, rig.name, this_process(), now)
    privacy.erase(rig.database, lease, user, lambda raw: user_of_raw(raw) == user, now)
    leases.release(rig.database, lease, now)


def sent(rig: Rig) -> str:
    return json.dumps(rig.sandbox.segment.messages)


def quarantined(rig: Rig) -> int:
    return sum(progress.quarantined(rig.database, rig.name)["nps"].values())


def test_rows_of_a_forgotten_person_are_recorded_and_not_sent(rig: Rig) -> None:
    world = rig.sandbox.world
    post = world.add("posts")
    for person in (JANE, JOE):
        world.add("comments", post, **person)
    forget(rig, "jane")
    outcome = rig.sync()
    assert dict(outcome.report.excluded) == {"forgotten": 1}
    assert "Joe" in sent(rig)
    assert "Jane" not in sent(rig)
    assert "jane" not in sent(rig)
    # An empty memory of what was seen would judge the row again, and again give nothing.
    assert rig.sync().report.new.total() == 0
    assert progress.sums(rig.database, "default")["comments"]["forgotten"] == 1
    rig.close()


def test_a_connection_that_comes_later_brings_nobody_back(rig: Rig) -> None:
    """It may be the same one under another name."""
    post = rig.sandbox.world.add("posts")
    for person in (JANE, JOE):
        rig.sandbox.world.add("comments", post, **person)
    rig.sync(deliver=False)
    forget(rig, "jane")
    later, last = replace(rig, name="later"), replace(rig, name="last")
    assert dict(later.sync().report.excluded) == {"forgotten": 1}
    # Whom only one of several has forgotten, a further one sends.
    forget(later, "joe")
    assert dict(last.sync().report.excluded) == {"forgotten": 1}
    assert "joe" in sent(rig)
    assert "jane" not in sent(rig)
    for each in (rig, later, last):
        each.close()


def test_under_every_policy(rig: Rig) -> None:
    rig.streams = frozenset({"feature_request_votes"})
    world = rig.sandbox.world
    request = world.add("feature_requests", **JANE)
    world.add("feature_request_votes", request, **JANE | {"userId": " jane "})
    forget(rig, "jane")
    assert dict(rig.sync().report.excluded) == {"forgotten": 2}
    rig.close()


def test_a_change_of_their_feature_request_says_nothing(rig: Rig) -> None:
    world = rig.sandbox.world
    hers = world.add("feature_requests", status="planned", **JANE)
    his = world.add("feature_requests", status="planned", **JOE)
    rig.sync()
    forget(rig, "jane")
    rig.sandbox.advance(HOUR)
    for request in (hers, his):
        world.set("feature_requests", request, status="complete")
    # A change is sent once two checks have shown it.
    rig.sync()
    rig.sync()
    changes = [m for m in rig.sandbox.segment.messages if m["event"] == "Feature Request Status Changed"]
    assert [m["properties"]["request_id"] for m in changes] == [his]
    rig.close()


def test_an_unusable_row_of_theirs_is_not_kept_in_quarantine(rig: Rig) -> None:
    for person in (JANE, JOE):
        rig.sandbox.world.add("nps", **person, feedback="Good", score="many")
    rig.sync()
    assert quarantined(rig) == 2
    forget(rig, "jane")
    assert quarantined(rig) == 1
    rig.sync()
    assert quarantined(rig) == 1
    rig.close()


@pytest.mark.parametrize(
    ("raw", "user"),
    [
        ({"userId": "jane"}, "jane"),
        ({"userId": " 42 "}, "42"),
        ({"userId": 42}, "42"),
        ({"userId": "undefined"}, None),
        ({"userId": ["jane"]}, None),
        ({}, None),
        ([], None),
        (None, None),
        ("jane", None),
    ],
)
def test_whose_a_raw_row_is(raw: Any, user: str | None) -> None:
    assert user_of_raw(raw) == user

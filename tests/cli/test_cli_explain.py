"""`explain`: what became of one row, told from the database alone."""

import pytest

from tests.cli.conftest import Make
from tests.cli.process import Machine, made_up
from tests.harness import NO_USER

# Each of these is a handful of processes.
pytestmark = pytest.mark.slow


@pytest.fixture
def unlimited(make: Make) -> Machine:
    return make(made_up(), extra={"BEAMER_PLAN": "pro"})


def comment(machine: Machine, *, user: bool) -> str:
    """A comment since the start date, by somebody with or without a user id."""
    return next(
        row.id
        for row in machine.sandbox.world.rows("comments")
        if row.date >= machine.start
        and (str(row.fields.get("userId") or "").lower() not in NO_USER) is user
        and not row.deleted_at
        and not row.hidden
    )


def test_the_stories_of_rows(unlimited: Machine) -> None:
    post = unlimited.sandbox.world.posts_shown()[0].id
    stranger = unlimited.sandbox.world.add("comments", post, userId="", text="Nobody's own words")
    broken = unlimited.sandbox.world.add("comments", post, userId="u-1", text={"not": "a text"})
    unlimited.run("sync", "--no-deliver")
    row = comment(unlimited, user=True)
    spent = unlimited.asked()
    told = unlimited.run("explain", row)
    assert told.code == 0
    assert f"comments {row} of " in told.out
    assert "first seen by run 1, sync of " in told.out
    assert "verdict: send as event 'Post Commented'" in told.out
    assert "waiting for Segment since" in told.out
    (user,) = {
        str(each.fields["userId"]) for each in unlimited.sandbox.world.rows("comments") if each.id == row
    }
    (held,) = unlimited.run("explain", user, "--output", "json").json["users"]
    assert held["waiting"]["Post Commented"] >= 1
    unlimited.run("sync")
    (found,) = unlimited.run("explain", row, "--output", "json").json["rows"]
    assert (found["verdict"], found["delivery"], found["first_seen_in_run"]) == ("event", "confirmed", 1)
    assert found["message_id"] in {message["messageId"] for message in unlimited.sandbox.segment.messages}
    # By its messageId it is found as well, and at once.
    (same,) = unlimited.run("explain", found["message_id"], "--output", "json").json["rows"]
    assert same == found
    said = unlimited.run("explain", row).out
    assert "delivered: Segment has confirmed it, at the latest by run 2" in said
    assert "unless it was deleted with `outbox drop`" in said
    excluded = unlimited.run("explain", stranger).out
    assert "excluded: no user id; BEAMER_ANONYMOUS=send sends them" in excluded
    assert "backfill" in excluded
    assert "Nobody's own words" not in excluded
    assert "in quarantine" in unlimited.run("explain", broken).out
    assert (
        unlimited.asked()
        == spent + unlimited.run("runs", "--output", "json").json["runs"][0]["summary"]["requests_spent"]
    )


def test_a_row_that_nobody_has_seen(unlimited: Machine) -> None:
    told = unlimited.run("explain", "77777")
    assert told.code == 0
    assert "no sync has seen a row with the id 77777" in told.out
    assert "no sync has run yet" in unlimited.run("explain", "2026-11-01").out
    assert unlimited.run("explain", "2026-13-01").code == 2
    unlimited.run("sync")
    assert unlimited.run("explain", "77777", "--output", "json").json["rows"] == []
    assert "no sync has seen a row" in unlimited.run("explain", "bmr1-" + "0" * 64).out

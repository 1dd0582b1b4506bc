"""`audit` as a process: what no counter shows is found, fetched and said."""

import sqlite3
from contextlib import closing

import pytest

from tests.cli.conftest import Make
from tests.cli.process import Machine, made_up
from tests.sandbox import Sandbox


def cancel_out(box: Sandbox) -> str:
    """In a list of comments one goes and another comes: its counter stands where it stood."""
    post = next(each for each in box.world.posts_shown() if box.world.row_list("comments", each.id).rows)
    box.world.delete("comments", box.world.row_list("comments", post.id).rows[0].id)
    return box.world.add("comments", post.id, userId="u-1")


@pytest.fixture
def unlimited(make: Make) -> Machine:
    return make(made_up(), extra={"BEAMER_PLAN": "pro"})


def test_an_audit_finds_what_counters_did_not_show(unlimited: Machine) -> None:
    first = unlimited.run("sync", "--output", "json")
    assert first.code == 0
    cancel_out(unlimited.sandbox)
    assert unlimited.run("sync", "--output", "json").connection["sent"] == 0
    # What the first sync read whole, it did today.
    assert unlimited.run("audit", "--output", "json").connection["missing_found"] == {}
    (file,) = (unlimited.here / "state").rglob("*.sqlite")
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE beamer_segment_child SET whole_at = '2020-01-01 00:00:00.000000'")
    found = unlimited.run("audit", "--output", "json")
    assert (found.code, found.connection["missing_found"], found.connection["sent"]) == (
        0,
        {"comments": 1},
        1,
    )
    told = unlimited.run("audit")
    assert "nothing was missing" in told.out or "audited" not in told.out


def test_a_dry_run_says_what_an_audit_would_ask(unlimited: Machine) -> None:
    unlimited.run("sync")
    before = len(unlimited.sandbox.requests)
    found = unlimited.run("audit", "--dry-run", "--output", "json")
    assert (found.code, found.json["command"], found.json["dry_run"]) == (0, "audit", True)
    assert len(unlimited.sandbox.requests) == before


def test_all_and_one_exclude_each_other(unlimited: Machine) -> None:
    assert unlimited.run("audit", "--all", "--connection", "default").code == 2

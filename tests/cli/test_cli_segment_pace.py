"""Together, the runs of one database send Segment no more than its events a second."""

from datetime import timedelta

import pytest

from connector.sandbox import Company
from tests.benchmarks.backfill import measure
from tests.benchmarks.history_server import Shape
from tests.cli.accounts import accounts
from tests.cli.conftest import Make
from tests.cli.process import Machine, made_up
from tests.sandbox import Sandbox

RATE = 1_000


@pytest.mark.slow
@pytest.mark.long
def test_a_long_history_never_exceeds_the_rate() -> None:
    """The server refuses an event above the rate in any second, wherever the second begins."""
    shape = Shape(nps=100_000, events=RATE)
    found = measure(shape)
    assert found.seen["refused"] == 0
    assert shape.rows / found.seconds < RATE


def answered(rows: int) -> Sandbox:
    box = made_up(Company.empty())
    for number in range(rows):
        date = box.now() - timedelta(days=90) + timedelta(minutes=number)
        box.world.add("nps", None, date=date, appears=date, userId=f"u-{number}", feedback="Good", score=9)
    return box


def refused(machine: Machine) -> list[int]:
    return [seen.status for seen in machine.sandbox.requests if (seen.api, seen.status) == ("segment", 429)]


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "kept"), [("200", True), ("none", False)])
def test_two_connections_on_one_database_share_the_rate(
    make: Make, postgres_url: str, setting: str, kept: bool
) -> None:
    machine = accounts(make, ["one", "two"], sandbox=answered(1_500), database_url=postgres_url)
    machine.sandbox.segment.rate_limit = 200
    machine.extra["SEGMENT_EVENTS_PER_SECOND"] = setting
    words = ("backfill", "--since", "2020-01-01", "--yes", "--connection")
    running = [machine.begin(*words, name) for name in ("one", "two")]
    ended = [each.end(120) for each in running]
    assert len(machine.sandbox.segment.duplicates) == 0
    assert (refused(machine) == []) is kept
    if kept:
        assert [each.code for each in ended] == [0, 0], [each.err for each in ended]
        assert len(machine.sandbox.segment.messages) == 3_000

"""What Segment refuses for good, and how much of it: the messages at fault are found, and only these."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connector.sandbox import Answer, Company, Request
from connector.state import outbox
from tests.harness import Rig, sandbox

TYPE = {"Content-Type": "application/json"}
NO = Answer(400, b'{"success": false, "code": "invalid", "message": "no"}', dict(TYPE))


def collected(path: Path, count: int, words: str = "Good") -> Rig:
    """An account's answers, read and waiting."""
    box = sandbox(company=Company.empty())
    for _ in range(count):
        box.world.add("nps", userId="u", feedback=words, score=9)
    rig = Rig(box, f"sqlite:///{path / 'state.sqlite'}")
    assert rig.sync(deliver=False).report.waiting == count
    return rig


def ids(request: Request) -> list[str]:
    batch = json.loads(zlib.decompress(request.body, 31))["batch"]
    return [message["properties"]["nps_id"] for message in batch]


def refuse(rig: Rig, which: Callable[[str], bool], most: int = 5_000) -> list[list[str]]:
    """Refuse every batch that holds one of these; give the batches that Segment is asked to take."""
    seen: list[list[str]] = []

    def step(request: Request) -> Answer | None:
        seen.append(ids(request))
        return NO if any(map(which, seen[-1])) else None

    rig.sandbox.faults.script("segment", [step] * most)
    return seen


def in_order(rig: Rig) -> list[str]:
    listed = outbox.listed(rig.database, "default", None, 10_000)
    return [str(row["message_id"]).rpartition("-")[2] for row in listed]


def states(rig: Rig) -> set[Any]:
    return {row["state"] for row in outbox.listed(rig.database, "default", None, 10_000)}


@pytest.mark.parametrize("bad", [99, 100, 101, 230])
def test_however_many_refused_ones_stand_at_the_head_the_others_go_through(tmp_path: Path, bad: int) -> None:
    rig = collected(tmp_path, 250)
    at_fault = set(in_order(rig)[:bad])
    refuse(rig, at_fault.__contains__)
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.refused, outcome.report.sent) == (0, bad, 250 - bad)
    assert outcome.report.waiting == 0
    rig.sandbox.faults.clear()
    assert outbox.retry(rig.database, "default", []) == bad
    assert rig.sync().report.sent == bad
    rig.check()
    rig.close()


def test_one_good_message_among_many_is_found_in_the_end(tmp_path: Path) -> None:
    """Each run tries other places; until then nothing is buried."""
    rig = collected(tmp_path, 150)
    good = in_order(rig)[133]
    refuse(rig, lambda name: name != good, 100_000)
    for _ in range(200):
        outcome = rig.sync()
        if outcome.report.sent:
            break
        assert (outcome.exit, outcome.report.refused, outcome.report.waiting) == (69, 0, 150)
    assert outcome.report.sent == 1
    rig.close()


def test_a_segment_that_takes_nothing_is_asked_a_bounded_number_of_times(tmp_path: Path) -> None:
    rig = collected(tmp_path, 1_000)
    seen = refuse(rig, lambda _: True)
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.refused, outcome.report.waiting) == (69, 0, 1_000)
    assert states(rig) == {"waiting"}
    assert len(seen) <= 199 + 10
    assert in_order(rig)[-1] in seen[-1] + seen[-10], "the newest, too"
    rig.sandbox.faults.clear()
    assert rig.sync().report.sent == 1_000
    assert rig.sync().report.possible_doubles == 0
    rig.check()
    rig.close()


def test_a_segment_that_begins_to_refuse_everything_buries_nothing(tmp_path: Path) -> None:
    rig = collected(tmp_path, 400)
    rig.sandbox.faults.script("segment", ["ok", "ok", *[lambda _: NO] * 5_000])
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.sent, outcome.report.refused) == (69, 200, 0)
    assert (outcome.report.waiting, states(rig)) == (200, {"waiting"})
    rig.sandbox.faults.clear()
    assert rig.sync().exit == 0
    rig.check()
    rig.close()


@pytest.mark.parametrize("count", [102, 161, 199])
def test_a_segment_that_refuses_the_last_messages_all_of_them_buries_none(tmp_path: Path, count: int) -> None:
    """A gateway's 404 in the middle of a delivery: nobody else waits of whom it could be told."""
    rig = collected(tmp_path, count)
    rig.sandbox.faults.script("segment", ["ok", *[("answer", 404, b"<html>no such route</html>", {})] * 500])
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.sent, outcome.report.refused) == (69, 100, 0)
    assert states(rig) == {"waiting"}
    rig.sandbox.faults.clear()
    assert rig.sync().report.possible_doubles == 0
    rig.check()
    rig.close()


def test_a_segment_that_refuses_from_some_batch_of_a_claim_on_buries_nothing(tmp_path: Path) -> None:
    rig = collected(tmp_path, 60, words="x" * 30_000)
    rig.sandbox.faults.script("segment", ["ok", *[lambda _: NO] * 500])
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.refused, states(rig)) == (69, 0, {"waiting"})
    assert outcome.report.sent + outcome.report.waiting == 60
    rig.sandbox.faults.clear()
    assert rig.sync().exit == 0
    rig.check()
    rig.close()


def test_a_single_last_message_that_is_refused_is_at_fault(tmp_path: Path) -> None:
    rig = collected(tmp_path, 101)
    refuse(rig, {in_order(rig)[-1]}.__contains__)
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.sent, outcome.report.refused) == (0, 100, 1)
    rig.close()


def test_messages_so_long_that_a_claim_takes_several_batches(tmp_path: Path) -> None:
    """The first batch all bad, the second good, and nobody else waits."""
    rig = collected(tmp_path, 30, words="x" * 30_000)
    at_fault = set(in_order(rig)[:16])
    refuse(rig, at_fault.__contains__)
    outcome = rig.sync()
    assert (outcome.exit, outcome.report.refused, outcome.report.sent) == (0, 16, 14)
    rig.close()


@pytest.mark.parametrize("step", ["status_500", 401, "redirect", "busy"])
@pytest.mark.parametrize("after", [0, 1, 40, 199, 200, 205])
def test_a_segment_that_goes_away_while_the_faulty_are_looked_for(
    tmp_path: Path, step: str | int, after: int
) -> None:
    rig = collected(tmp_path, 250)
    rig.sandbox.faults.script("segment", [*[lambda _: NO] * after, *[step] * 50])
    outcome = rig.sync()
    assert outcome.exit == (77 if step == 401 else 69)
    assert (outcome.report.refused, outcome.report.waiting, states(rig)) == (0, 250, {"waiting"})
    rig.sandbox.faults.clear()
    assert rig.sync().exit == 0
    rig.check()
    rig.close()


@pytest.mark.parametrize("after", [1, 2, 7, 100, 199, 203])
def test_a_stop_while_the_faulty_are_looked_for(tmp_path: Path, after: int) -> None:
    """The batch in hand is one request, not the two hundred that it may be split into."""
    rig = collected(tmp_path, 250)
    asked: list[Request] = []

    def step(request: Request) -> Answer:
        asked.append(request)
        rig.clock.stopped = len(asked) >= after
        return NO

    rig.sandbox.faults.script("segment", [step] * 5_000)
    outcome = rig.sync()
    assert len(asked) == after
    assert outcome.error is None
    assert (outcome.report.refused, outcome.report.waiting, states(rig)) == (0, 250, {"waiting"})
    rig.clock.stopped = False
    rig.sandbox.faults.clear()
    after_all = rig.sync()
    assert (after_all.exit, after_all.report.possible_doubles) == (0, 0)
    rig.check()
    rig.close()


def test_a_stop_between_the_batches_of_a_claim(tmp_path: Path) -> None:
    rig = collected(tmp_path, 60, words="x" * 30_000)

    def step(_: Request) -> None:
        rig.clock.stopped = True

    rig.sandbox.faults.script("segment", [step])
    outcome = rig.sync()
    assert outcome.error is None
    assert 0 < outcome.report.sent < 20
    assert outcome.report.waiting == 60 - outcome.report.sent
    assert states(rig) == {"waiting"}
    rig.clock.stopped = False
    assert rig.sync().exit == 0
    rig.check()
    rig.close()

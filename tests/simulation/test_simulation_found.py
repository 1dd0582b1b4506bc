"""What the simulation found, each by the shortest way to it."""

from datetime import timedelta
from pathlib import Path

from connector.state import outbox
from tests.harness import Rig, sandbox
from tests.sandbox import Step

DAY = timedelta(days=1)
REFUSED: Step = ("answer", 400, b'{"success": false, "code": "invalid", "message": "no"}', {})


def settled(path: Path) -> Rig:
    """Everything has arrived, and one row more is there."""
    box = sandbox()
    rig = Rig(box, f"sqlite:///{path / 'state.sqlite'}", streams=frozenset({"nps"}))
    rig.sync()
    box.world.add("nps", userId="u-1", feedback="one more")
    return rig


def landed_twice(rig: Rig) -> int:
    ids = [message["messageId"] for message in rig.sandbox.segment.messages]
    return len(ids) - len(set(ids))


def test_a_dead_letter_that_had_arrived_is_a_possible_double(tmp_path: Path) -> None:
    """Its answer was lost, Segment refused it later, and somebody tried again a day after."""
    rig = settled(tmp_path)
    rig.sandbox.faults.script("segment", ["reset_after"] * 4)
    assert rig.sync().exit == 69
    # One that is taken beside it: not everything is refused.
    rig.sandbox.world.add("nps", userId="u-2", feedback="another")
    rig.sync(deliver=False)
    rig.sandbox.faults.script("segment", [REFUSED, REFUSED, "ok"])
    rig.sync()
    rig.sandbox.advance(2 * DAY)
    assert outbox.retry(rig.database, None, []) == 1
    outcome = rig.sync()
    assert landed_twice(rig) == outcome.report.possible_doubles == 1
    rig.close()


def test_a_message_without_an_answer_and_then_refused_is_a_possible_double(tmp_path: Path) -> None:
    """The connection broke behind it, and the next attempt of the same run was refused like all others."""
    rig = settled(tmp_path)
    rig.sandbox.faults.script("segment", ["reset_after", REFUSED])
    assert rig.sync().exit == 69
    rig.sandbox.advance(2 * DAY)
    outcome = rig.sync()
    assert landed_twice(rig) == outcome.report.possible_doubles == 1
    rig.close()

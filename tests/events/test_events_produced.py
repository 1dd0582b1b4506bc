"""Everything that an account like the demo's makes of itself, with every kind of event on."""

import json
from datetime import timedelta
from pathlib import Path

from connector.reporting.checks import hello_message
from connector.segment.events import EVENTS, IDENTIFY
from connector.segment.shaping import Privacy
from tests.events.judging import flaws
from tests.events.recording import keep
from tests.harness import Rig
from tests.sandbox import Sandbox


def test_every_event_of_the_demo_fits_its_schema(tmp_path: Path) -> None:
    box = Sandbox(plan="scale")
    every = {"metrics": True, "sync_event": True, "identify": True}
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", settings=every)
    rig.privacy = Privacy(anonymous="send", traits="all", trait_attributes=("organization", "age"))
    rig.sync()
    box.advance(timedelta(hours=26))
    for request in box.world.row_list("feature_requests").rows:
        box.world.set("feature_requests", request.id, status="declined")
    rig.sync()
    rig.sync()
    hello = json.loads(hello_message(rig.context().policy, box.now()).text)
    rig.close()
    landed = [*box.segment.messages, hello]
    keep([hello])
    assert [flaw for message in landed for flaw in flaws(message)] == []
    names = {message.get("event") or message["type"] for message in landed}
    assert names == {*(event.name for event in EVENTS.values()), IDENTIFY.name}
    assert len(landed) > 900

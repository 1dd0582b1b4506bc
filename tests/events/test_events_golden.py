"""Each event as it stands on the wire, sent by the official library to a server on loopback.

`UPDATE_GOLDEN=1 python -m pytest tests/events` writes the files anew; whoever does so changes what
analysts see.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from connector.sandbox import Company, Request
from connector.segment.client import SegmentClient
from connector.segment.events import EVENTS
from tests.events.samples import NOW, sample
from tests.harness import sandbox

GOLDEN = Path(__file__).parent / "golden"
MASK = "***"


def on_the_wire(kind: str) -> dict[str, Any]:
    """The body of the request that brings one message, unpacked; what changes by itself is masked."""
    bodies: list[bytes] = []
    box = sandbox(company=Company.empty())

    def keep(request: Request) -> None:
        assert request.headers["content-encoding"] == "gzip"
        bodies.append(request.body)

    box.faults.script("segment", [keep])
    with box.serve() as served:
        SegmentClient(box.write_key, served.segment_url).send(
            [sample(EVENTS[kind], "usual").message.text], NOW
        )
    (body,) = bodies
    found: dict[str, Any] = json.loads(zlib.decompress(body, 31))
    assert len(box.segment.messages) == 1
    assert found["sentAt"] == "2026-11-21T12:30:00.000+00:00"
    found["sentAt"] = MASK
    assert found["batch"][0]["context"]["library"]["name"] == "analytics-python"
    found["batch"][0]["context"]["library"]["version"] = MASK
    return found


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_on_the_wire_is_the_golden_one(kind: str) -> None:
    file = GOLDEN / f"{kind}.json"
    text = json.dumps(on_the_wire(kind), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text, (
        "Run: UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/events"
    )


def test_there_is_no_golden_file_too_many() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(EVENTS)

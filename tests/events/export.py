"""Writes what Node has to find: all events with samples of them, and answers of the Public API."""

import json
import sys
from pathlib import Path

from connector.segment.events import EVENTS
from tests.events.answers import answers
from tests.events.samples import VARIANTS, samples


def export(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    due = {"events": [event.name for event in EVENTS.values()], "variants": list(VARIANTS)}
    (folder / "due.json").write_text(json.dumps(due), encoding="utf-8")
    lines = (json.dumps({"variant": each.variant, "message": each.content}) for each in samples())
    (folder / "samples.ndjson").write_text("\n".join(lines) + "\n", encoding="utf-8")
    typed = [each._asdict() for each in answers()]
    (folder / "answers.json").write_text(json.dumps(typed), encoding="utf-8")


if __name__ == "__main__":
    export(Path(sys.argv[1]))

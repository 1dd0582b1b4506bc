"""Messages held against the catalogue's schemas; as a program, all those that a folder holds."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator

from connector.segment.events import EVENTS, IDENTIFY, schema_of


@cache
def validators() -> Mapping[str, Draft7Validator]:
    return {event.name: Draft7Validator(schema_of(event)) for event in (*EVENTS.values(), IDENTIFY)}


def name_of(message: Mapping[str, Any]) -> str:
    """An event's name; `identify` has none."""
    return str(message.get("event") or message["type"])


def flaws(message: Mapping[str, Any]) -> list[str]:
    """What the schema of its event says against a message."""
    name = name_of(message)
    if name == IDENTIFY.name:
        message = {**message, "properties": message["traits"], "traits": {}}
    validator = validators().get(name)
    if validator is None:
        return [f"no event is called {name!r}"]
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(message)]


def kept(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Every message in a folder (see `recording` and `export`)."""
    for file in sorted(folder.glob("*.ndjson")):
        with file.open(encoding="utf-8") as lines:
            yield from (json.loads(line)["message"] for line in lines)


def main(folder: Path) -> int:
    """Say how many messages fit their schemas, and what is wrong with the others."""
    outcome: Counter[str] = Counter()
    for message in kept(folder):
        found = flaws(message)
        outcome["failed" if found else "passed"] += 1
        if found and outcome["failed"] <= 50:
            sys.stderr.write(f"{name_of(message)}: {'; '.join(found)}\n")
    sys.stdout.write(f"schemas: {outcome['passed']} passed, {outcome['failed']} failed\n")
    return 1 if outcome["failed"] or not outcome["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

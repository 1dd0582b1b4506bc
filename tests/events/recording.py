"""Keeps the messages that tests see, where they are asked for, so that `make test-events` checks them all.

With EVENTS_INTO=<folder> each process writes into a file of its own there, one message a line.
"""

import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from connector.segment.events import EVENTS, IDENTIFY

# As they are without what a test may add for its length.
NAMES = frozenset(event.name for event in (*EVENTS.values(), IDENTIFY))

_seen: set[int] = set()


def keep(messages: Iterable[Mapping[str, Any]]) -> None:
    """Keep each message once a process."""
    if not os.environ.get("EVENTS_INTO"):
        return
    for message in messages:
        line = json.dumps({"variant": "as it came", "message": message}, sort_keys=True)
        if message.get("event", message.get("type")) in NAMES and (known := hash(line)) not in _seen:
            _seen.add(known)
            _file().write(line + "\n")


@cache
def _file() -> TextIO:
    folder = Path(os.environ["EVENTS_INTO"])
    folder.mkdir(parents=True, exist_ok=True)
    # Line by line: whoever is killed in the middle leaves whole lines.
    return (folder / f"seen-{os.getpid()}.ndjson").open("a", buffering=1, encoding="utf-8")

"""The connector with marks: a letter on a pipe tells what it is doing, before each statement that writes.

Only SQLAlchemy's own events are listened to; the connector runs as it is. Run it as
`python -m tests.stress.marked sync` with MARKS set to the number of an open pipe.
"""

import os
import re
import sys
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

# What each letter stands for. 'claimed' is delivery, too: the batch is on its way, or being confirmed.
STAGES = {"L": "ledger", "P": "page", "A": "accept", "D": "delivery", "C": "delivery", "R": "start and end"}
WRITES = re.compile(r"\s*(INSERT INTO|UPDATE|DELETE FROM) beamer_segment_(\w+)")
ACCEPTED = {"row", "quarantine", "parent", "child", "stream", "tally", "day", "outbox"}
# Once this is committed, and the connection given back, that is what goes on.
AFTER = {"L": "P", "P": "P", "A": "P", "D": "D", "C": "P", "R": "P"}


class Marks:
    """Writes a letter whenever the stage changes."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._stage = "R"

    def statement(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if found := WRITES.match(statement):
            self._mark(self._stage_of(*found.groups()))

    def _stage_of(self, verb: str, table: str) -> str:
        if table in ("account", "spend"):
            return "L"
        if table == "outbox" and verb != "INSERT INTO":
            return "C" if verb == "DELETE FROM" else "D"
        if table == "lease":
            return self._stage  # renewed at the beginning of whatever comes
        # Confirming counts in the tallies, too.
        inside = table in ACCEPTED
        return self._stage if inside and self._stage == "C" else "A" if inside else "R"

    def given_back(self, *_: Any) -> None:
        self._mark(AFTER[self._stage])

    def _mark(self, stage: str) -> None:
        if stage != self._stage:
            self._stage = stage
            os.write(self._pipe, stage.encode())


def main() -> None:
    marks = Marks(int(os.environ.pop("MARKS")))
    event.listen(Engine, "before_cursor_execute", marks.statement)
    event.listen(Pool, "checkin", marks.given_back)
    from connector.cli import main as run

    sys.argv[0] = "beamer-segment"
    run()


if __name__ == "__main__":
    main()

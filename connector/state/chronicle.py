"""What the store keeps by the day, for pictures: past runs with what they did, and requests by purpose."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select

from connector.state.engine import Store
from connector.state.tables import runs, spends

# A run every minute for the 30 days that runs are kept.
MOST_RUNS = 43_200
CHUNK = 1_000

_RUNS = (
    select(runs.c.command, runs.c.started_at, runs.c.finished_at, runs.c.outcome, runs.c.summary)
    .where(runs.c.connection == bindparam("whose"), runs.c.started_at >= bindparam("since"))
    .order_by(runs.c.id.desc())
    .limit(bindparam("most"))
)
_SPENDS = select(spends.c.day, spends.c.purpose, spends.c.requests).where(
    spends.c.account == bindparam("who"), spends.c.day > bindparam("after")
)


@dataclass(frozen=True, slots=True)
class Past:
    """One run; `did` is its summary, empty while it is under way and where it was killed."""

    command: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    did: Mapping[str, Any]


def runs_since(store: Store, connection: str, since: datetime, most: int = MOST_RUNS) -> Iterator[Past]:
    """The runs that began since, newest first; never all of them at once in memory."""
    with store.read() as db:
        wanted = {"whose": connection, "since": since, "most": most}
        found = db.execution_options(yield_per=CHUNK).execute(_RUNS, wanted)
        for command, started, finished, outcome, summary in found:
            yield Past(command, started, finished, outcome, json.loads(summary) if summary else {})


def spends_after(store: Store, account: str, after: int) -> list[tuple[int, str, int]]:
    """Of all connections of an account: day, in days since the epoch, purpose, and requests."""
    with store.read() as db:
        found = db.execute(_SPENDS, {"who": account, "after": after})
        return [(int(day), purpose, int(requests)) for day, purpose, requests in found]

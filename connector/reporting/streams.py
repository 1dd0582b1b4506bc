"""The streams of a connection: what is read, what the key may read, and how many requests a poll takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connector.beamer.streams import CATALOGUE
from connector.errors import Forbidden
from connector.reporting.status import Status, StreamStatus
from connector.state import progress
from connector.state.engine import Database
from connector.sync.fetch import stored
from connector.sync.forecast import activity
from connector.sync.planning.probes import PlanInputs
from connector.sync.policy import Policy

MAY_READ, FORBIDDEN, NOT_TRIED = "may read", "forbidden", "not tried"


@dataclass(frozen=True, slots=True)
class StreamCost:
    """One stream of a connection; `status` is None before its first run.

    `sent`: its rows are sent. `polled`: how many requests a poll takes for it; None if it is not read.
    """

    name: str
    sent: bool
    polled: int | None
    status: StreamStatus | None

    @property
    def use(self) -> str:
        """Return whether its rows are sent, it is read for the counters of others, or it is off."""
        return "sent" if self.sent else "off" if self.polled is None else "read"

    @property
    def key(self) -> str:
        """Return what is known of the key's permission."""
        if self.status and self.status.trouble_code == Forbidden.trouble_code:
            return FORBIDDEN
        return MAY_READ if self.status and self.status.checked_at else NOT_TRIED

    @property
    def rows(self) -> int:
        return self.status.counts.get("rows", 0) if self.status else 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "stream": self.name,
            "use": self.use,
            "rows": self.rows,
            "counters_trusted": self.status.counters_trusted if self.status else None,
            "key": self.key,
            "requests_a_poll": self.polled,
        }


def stream_costs(
    database: Database | None, status: Status, policy: Policy | None, names: Sequence[str], now: datetime
) -> list[StreamCost]:
    """Return every stream; `names` are those that the settings list, `policy` is None before a first run.

    Beyond `polled`, a poll reads each list whose counter has changed.
    """
    parents = {CATALOGUE[name].parent for name in names}
    checks = dict.fromkeys(CATALOGUE, 0)
    if database and policy:
        state = stored.readable(progress.load_readonly(database, status.name), policy.start)
        checks |= activity([PlanInputs(CATALOGUE, policy, state, None)], now).checks
    statuses = {stream.name: stream for stream in status.streams}
    return [
        StreamCost(
            name,
            name in names,
            max(checks[name], int(stream.parent is None)) if name in names or name in parents else None,
            statuses.get(name),
        )
        for name, stream in CATALOGUE.items()
    ]

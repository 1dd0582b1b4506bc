"""The event `Beamer Sync Completed`: it tells a quiet account from a broken sync in a warehouse."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from connector.domain.state import Outgoing, StreamState, Verdict
from connector.segment.shaping import Fact
from connector.state import outbox, progress
from connector.state.engine import Database
from connector.state.leases import Lease
from connector.sync.policy import Policy
from connector.sync.rows.pages import outgoing

STREAM = "sync"
EXCLUDED = [verdict.label for verdict in Verdict if verdict not in (Verdict.EVENT, Verdict.QUARANTINED)]


def enqueue_heartbeat(
    database: Database,
    lease: Lease,
    policy: Policy,
    states: Mapping[str, StreamState],
    waiting: int,
    beamer_now: datetime,
    earliest: datetime,
    now: datetime,
    *,
    write_key: str = "",
) -> bool:
    """Put the event into the outbox, at most once an hour; return whether it was added.

    The hour is that of `earliest`: a clock that is ahead would use up later hours.
    """
    fields: dict[str, Any] = {"waiting": waiting, **_figures(database, lease.connection, policy, states)}
    hour = earliest.replace(minute=0, second=0, microsecond=0)
    # The connection replaces a row's parent: two may share account and destination.
    fact = Fact("sync", f"{hour:%Y%m%dT%H}", lease.connection, beamer_now, fields)
    message = outgoing(fact, policy, beamer_now)
    event = Outgoing(message.message_id, message.event, message.text, message.size, STREAM)
    return outbox.enqueue_heartbeat(
        database, lease, policy.naming.destination, event, hour, now, write_key=write_key
    )


def _figures(
    database: Database, connection: str, policy: Policy, states: Mapping[str, StreamState]
) -> dict[str, Any]:
    sums, refused = progress.sums(database, connection), outbox.dead_by_stream(database, connection)
    listed = [states[name] for name in states if name in policy.streams]
    through = [state.complete_through for state in listed if state.complete_through]
    figures: dict[str, Any] = {
        "complete_through": min(through) if through and len(through) == len(listed) else None,
        "quarantined": sum(counts.get("quarantined", 0) for counts in sums.values()),
    }
    for state in listed:
        counts = sums.get(state.name, {})
        figures |= {
            f"{state.name}_complete_through": state.complete_through,
            f"{state.name}_sent": counts.get("sent", 0),
            f"{state.name}_excluded": sum(counts.get(label, 0) for label in EXCLUDED),
            f"{state.name}_refused": refused.get(state.name, 0),
        }
    return figures

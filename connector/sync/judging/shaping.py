"""Rows and changes made into messages, or into a reason why they cannot be."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from connector.beamer.catalogue import Stream
from connector.beamer.rows import Row, Unusable
from connector.segment.facts import Fact
from connector.segment.messages import Unshapeable, build
from connector.segment.shape import shape
from connector.state.intake import Effects, Outgoing, Rejected
from connector.sync.judging.newness import fact_of
from connector.sync.policy import Policy


def outgoing(fact: Fact, policy: Policy, now: datetime) -> Outgoing:
    """The finished message of a fact; raises Unshapeable."""
    message = build(shape(fact, policy.naming, policy.privacy, now))
    return Outgoing(message.message_id, message.event, message.text, message.size)


def enqueue(
    effects: Effects,
    rows: Iterable[tuple[Row, Any]],
    stream: Stream,
    parent: str,
    policy: Policy,
    now: datetime,
    title: str | None = None,
) -> None:
    """Add the events of new rows to a page's effects; what cannot be shaped is quarantined."""
    for row, raw in rows:
        try:
            effects.events.append(outgoing(fact_of(row, stream, parent, title), policy, now))
        except Unshapeable as error:
            effects.rejected.append(Rejected(error.reason, body_of(raw), row.id))


def enqueue_changes(
    effects: Effects, changes: Iterable[Fact], raw: Any, policy: Policy, now: datetime
) -> None:
    """Add the events of what changed about a row; the row itself stays as it was judged."""
    for change in changes:
        try:
            effects.events.append(outgoing(change, policy, now))
        except Unshapeable as error:
            effects.rejected.append(Rejected(error.reason, body_of(raw)))


def rejected(unusable: Unusable) -> Rejected:
    return Rejected(unusable.reason, body_of(unusable.raw), unusable.id)


def body_of(raw: Any) -> str:
    """The row as it came, in ASCII: PostgreSQL refuses NUL and lone surrogates in text."""
    return json.dumps(raw, sort_keys=True)

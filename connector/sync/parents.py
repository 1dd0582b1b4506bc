"""What a row of a post or a feature request changes about it, and which facts follow from that."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from connector.beamer.catalogue import Stream
from connector.segment.facts import Fact
from connector.segment.values import plain
from connector.state.progress import ChildState, ParentState, StreamState
from connector.sync import counters
from connector.sync.looks import LookStep
from connector.sync.people import is_forgotten
from connector.sync.policy import Policy
from connector.sync.probes import NO_PARENT, Probe

METRICS = ("views", "unique_views", "clicks")


@dataclass(slots=True)
class Context:
    """What deciding needs to know: settings, the stream's state, and Beamer's time."""

    policy: Policy
    state: StreamState
    now: datetime


def parent_after(
    before: ParentState | None, row: Any, context: Context, stream: Stream
) -> tuple[ParentState, list[Fact]]:
    status = _status(row)
    if before is None:
        after = ParentState(row.id, row.date, status, metrics=_metrics(row))
        return after, []
    after = replace(before, date=row.date, gone=False)
    facts: list[Fact] = []
    sent = stream.name in context.policy.streams
    if status and status != before.status:
        after = replace(after, status=status)
        if before.status and sent and not is_forgotten(row, context.policy):
            after = replace(after, changes=after.changes + 1)
            fields = {**row.fields, "previous_status": before.status}
            facts.append(Fact("status", row.id, NO_PARENT, context.now, fields, after.changes))
    if context.policy.metrics and sent and row.date >= context.policy.start:
        after, more = _metrics_after(after, row, context)
        facts += more
    return after, facts


def _status(row: Any) -> str | None:
    # As much of it as the store keeps; PostgreSQL refuses NUL and lone surrogates in text.
    status = row.fields.get("status")
    return plain(status)[:100] if status else None


def _metrics(row: Any) -> str | None:
    values = [row.fields.get(name) for name in METRICS]
    return None if None in values else ",".join(map(str, values))


def _metrics_after(before: ParentState, row: Any, context: Context) -> tuple[ParentState, list[Fact]]:
    """Totals that have moved, at most once per post and UTC day."""
    metrics, day = _metrics(row), context.now.toordinal()
    if metrics is None or metrics == before.metrics or day == before.metrics_day:
        return before, []
    after = replace(before, metrics=metrics, metrics_day=day, changes=before.changes + 1)
    old = dict(zip(METRICS, map(int, before.metrics.split(",")), strict=True)) if before.metrics else {}
    change = {f"{name}_change": row.fields[name] - old[name] for name in METRICS if name in old}
    fact = Fact("metrics", row.id, NO_PARENT, context.now, {**row.fields, **change}, after.changes)
    return after, [fact]


def counter_after(child: ChildState | None, scope: int, parent: str, counter: str) -> ChildState:
    if child is None:
        empty = not counters.moved(counter, None)
        return ChildState(scope, parent, counter, swept=counter if empty else None)
    return child if child.counter == counter else replace(child, counter=counter)


def gone(
    step: LookStep, probe: Probe, known: Mapping[str, ParentState], just_seen: set[str]
) -> list[ParentState]:
    """Parents that their window no longer shows: deleted, or hidden; they are back as soon as seen again."""
    assert probe.look is not None  # noqa: S101 - the caller tells blocks from lists
    missing = [known[name] for name in step.missing if name in known and name not in just_seen]
    # One whose date was changed is shown by another window.
    return [replace(parent, gone=True) for parent in missing if probe.look.block.covers(parent.date)]

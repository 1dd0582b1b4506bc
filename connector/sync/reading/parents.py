"""What a row of a post or a feature request changes about it, and which facts follow from that."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from connector.beamer.catalogue import Stream
from connector.segment.facts import Fact
from connector.segment.values import plain
from connector.state.progress import ChildState, ParentState, StreamState
from connector.sync.judging.people import is_forgotten
from connector.sync.lists import counters, resting
from connector.sync.lists.looks import LookStep
from connector.sync.planning.curves import faded
from connector.sync.planning.probes import NO_PARENT, Probe
from connector.sync.policy import Policy

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
        now = context.now
        after = ParentState(
            row.id, row.date, status, metrics=_metrics(row), known_at=now, looked_at=now, proved_at=now
        )
        return after, []
    after = replace(resting.well(before), date=row.date, gone=False, looked_at=context.now)
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


def counter_after(
    child: ChildState | None,
    scope: int,
    parent: str,
    counter: str,
    before: datetime | None,
    now: datetime,
) -> ChildState:
    """A child list after its parent was seen; `before` is when the parent had been seen last."""
    if child is None:
        empty = not counters.moved(counter, None)
        swept, at = (counter, now) if empty else (None, None)
        return ChildState(scope, parent, counter, swept=swept, swept_at=at)
    if child.counter == counter:
        return child
    rise = counters.risen(counter, child.counter)
    lately = faded(child.recent, child.recent_at, now)
    swept = None if child.swept is None else counters.lowered(child.swept, counter)
    fell = child.fell or swept != child.swept
    return replace(
        child,
        counter=counter,
        swept=swept,
        fell=fell,
        recent=lately + rise,
        recent_at=now,
        waits_since=_waits_since(child, counter, lately, before or now, now),
    )


def _waits_since(
    child: ChildState, counter: str, lately: float, before: datetime, now: datetime
) -> datetime | None:
    """The mean moment at which the rows that wait appeared; new ones did so between the two looks.

    None where none waits: the counter only fell, or caught up with rows found since the look before. What
    it had not caught up with by a look after they were found, it never will: then a row has come.
    """
    rise = counters.risen(counter, child.counter)
    caught_up = child.swept is not None and counters.risen(counter, child.swept) <= child.early
    if not rise or (caught_up and child.swept_at is not None and child.swept_at >= before):
        return child.waits_since
    appeared = now - (now - before) / 2
    waiting = lately if child.swept is None else counters.waiting(child.counter, child.swept, child.surplus)
    if child.waits_since is None or not waiting:
        return appeared
    return appeared - (appeared - child.waits_since) * (waiting / (waiting + rise))


def gone(
    step: LookStep, probe: Probe, known: Mapping[str, ParentState], just_seen: set[str]
) -> list[ParentState]:
    """Parents that their window no longer shows: deleted, or hidden; they are back as soon as seen again."""
    missing = [known[name] for name in step.missing if name in known and name not in just_seen]
    # One whose date was changed is shown by another window.
    return [replace(parent, gone=True) for parent in missing if probe.block_look.block.covers(parent.date)]


def proved(
    probe: Probe, known: Mapping[str, ParentState], changed: Iterable[ParentState], now: datetime
) -> list[ParentState]:
    """The parents of a window that was read to its end, nothing hidden; `changed` by its last page."""
    look = probe.block_look
    mine = {name: known[name] for name in {*look.block.members, *look.found} if name in known}
    mine |= {parent.id: parent for parent in changed}
    return [replace(parent, proved_at=now) for parent in mine.values()]

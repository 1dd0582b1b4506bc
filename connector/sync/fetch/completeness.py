"""Up to when each stream is complete."""

from dataclasses import replace
from datetime import datetime

import structlog

from connector.beamer.streams import Stream, children
from connector.domain.state import Progress, StreamState
from connector.errors import Forbidden
from connector.sync.context import RunState
from connector.sync.lists import counter_trust, stored_pass
from connector.sync.planning import candidates
from connector.sync.planning.probes import PlanInputs

log = structlog.get_logger()


def write_down(run: RunState, *, ended: bool) -> None:
    """Store what a run learnt about its streams.

    A run that has not `ended` well may have had no answer about a stream: its stored trouble stays.
    """
    wanted, now = candidates.wanted(run.catalogue, run.policy), run.clock.now()
    for stream in wanted:
        state = _advanced(run.inputs, stream, run.beamer_now)
        requested = ended and run.report.requests[stream.name]
        if requested and not {stream.name, stream.parent} & run.troubled:
            state = replace(state, trouble=None, trouble_code=None, trouble_at=None)
        holes = None if state.trouble_code == Forbidden.trouble_code else _holes(run.inputs, stream)
        state = replace(state, unread=holes or None)
        if holes:
            # A failed list is in backoff: its trouble stays although nothing failed in this run.
            before = run.progress.streams[stream.name]
            what, code = before.trouble or "a page failed", before.trouble_code
            state = replace(state, trouble=what, trouble_code=code, trouble_at=before.trouble_at or now)
        run.keep_stream(state)
    read = {stream.name for stream in wanted if stream.filtered} - set(run.report.forbidden)
    run.report.segmented_hidden = run.ignore_filters is False and bool(read)
    run.keep_streams(stream.name for stream in wanted)
    log.debug("collected", **run.report.as_dict())


def _holes(inputs: PlanInputs, stream: Stream) -> str:
    """Return, as dates, which rows of a stream could not be read; empty if all could."""
    cursors = [inputs.progress.streams[stream.name].cursor]
    parents = inputs.progress.parents.get(stream.parent or "", {})
    for child in inputs.progress.children.get(stream.name, {}).values():
        parent = parents.get(child.parent)
        cursors.append(child.cursor if parent and not parent.gone else None)
    parts = [
        part for cursor in cursors if cursor for part in stored_pass.restore(cursor).unread if part.failures
    ]
    if not parts:
        return ""
    until = max((part.cursor.until for part in parts if part.cursor.until), default=None)
    since = min((part.cursor.since or inputs.policy.start for part in parts), default=inputs.policy.start)
    return f"{since:%Y-%m-%d %H:%M} to {f'{until:%Y-%m-%d %H:%M}' if until else 'now'} UTC"


def _advanced(inputs: PlanInputs, stream: Stream, now: datetime) -> StreamState:
    progress = inputs.progress
    state = progress.streams[stream.name]
    through = complete_through(progress, stream, has_children=bool(children(inputs.catalogue, stream.name)))
    if through is None:
        return state
    dates = [parent.date for parent in progress.parents.get(stream.name, {}).values()]
    mark = max((date for date in dates if date <= now), default=state.watermark)
    # A list that has just started another pass was complete before: its date does not go back.
    return replace(
        state, complete_through=max(filter(None, (state.complete_through, through))), watermark=mark
    )


def complete_through(progress: Progress, stream: Stream, *, has_children: bool) -> datetime | None:
    """Return up to when all listed rows were read; None before everything was read once."""
    state = progress.streams[stream.name]
    if stream.parent is None and state.cursor:
        return None
    if stream.parent is None and not has_children:
        return state.checked_at
    above = progress.parents.get(stream.parent or stream.name, {})
    alive = [parent for parent in above.values() if not parent.gone]
    if stream.parent is None:
        return (
            min((parent.checked_at for parent in alive if parent.checked_at), default=state.checked_at)
            if state.complete
            else None
        )
    if not progress.streams[stream.parent].complete or progress.streams[stream.parent].cursor:
        return None
    lists = progress.children.get(stream.name, {})
    moments = []
    for parent in alive:
        child = lists.get(parent.id)
        behind = child is None or candidates.has_news(child) or state.distrusted
        moment = (child.read_at if child else None) if behind else parent.checked_at
        if child and child.cursor and any(part.failures for part in stored_pass.restore(child.cursor).unread):
            return None
        if moment is None:
            return None
        unshown_since = counter_trust.complete_until(child) if child else None
        moments.append(min(moment, unshown_since or moment))
    return min(moments, default=progress.streams[stream.parent].checked_at)

"""How far each stream is complete: as far as everything was looked at, and everything that moved was read."""

from dataclasses import replace
from datetime import datetime

import structlog

from connector.beamer.catalogue import Stream, children
from connector.state.progress import Progress, StreamState
from connector.sync.planning import candidates
from connector.sync.planning.picture import Picture
from connector.sync.reading.work import Work

log = structlog.get_logger()


def write_down(work: Work, *, ended: bool) -> None:
    """Write what a run learnt about its streams.

    A run that has not `ended` well may have asked for a stream and got no answer: what ails it stays.
    """
    wanted = candidates.wanted(work.catalogue, work.policy)
    for stream in wanted:
        state = _advanced(work.picture, stream, work.beamer_now)
        asked = ended and work.report.requests[stream.name]
        if asked and not {stream.name, stream.parent} & work.troubled:
            state = replace(state, trouble=None, trouble_at=None)
        work.progress.streams[stream.name] = state
    read = {stream.name for stream in wanted if stream.filtered} - set(work.report.forbidden)
    work.report.segmented_hidden = work.ignore_filters is False and bool(read)
    work.intake.note([work.progress.streams[stream.name] for stream in wanted], work.clock.now())
    log.debug("collected", **work.report.as_dict())


def _advanced(picture: Picture, stream: Stream, now: datetime) -> StreamState:
    progress = picture.progress
    state = progress.streams[stream.name]
    through = complete_through(progress, stream, has_children=bool(children(picture.catalogue, stream.name)))
    if through is None:
        return state
    dates = [parent.date for parent in progress.parents.get(stream.name, {}).values()]
    mark = max((date for date in dates if date <= now), default=state.watermark)
    # A list that has just begun to ask again was complete until then: what was once complete stays so.
    return replace(
        state, complete_through=max(filter(None, (state.complete_through, through))), watermark=mark
    )


def complete_through(progress: Progress, stream: Stream, *, has_children: bool) -> datetime | None:
    """The moment up to which all rows that Beamer showed were read; None before everything was once."""
    state = progress.streams[stream.name]
    if stream.parent is None and not has_children:
        return None if state.place else state.looked_at
    above = progress.parents.get(stream.parent or stream.name, {})
    alive = [parent for parent in above.values() if not parent.gone]
    if stream.parent is None:
        return (
            min((parent.looked_at for parent in alive if parent.looked_at), default=state.looked_at)
            if state.complete
            else None
        )
    if not progress.streams[stream.parent].complete:
        return None
    lists = progress.children.get(stream.name, {})
    moments = []
    for parent in alive:
        child = lists.get(parent.id)
        behind = child is None or candidates.asks(child) or state.distrusted
        moment = (child.swept_at if child else None) if behind else parent.looked_at
        if moment is None:
            return None
        moments.append(moment)
    return min(moments, default=progress.streams[stream.parent].looked_at)

"""How far each stream is complete when a run has come to its end."""

from dataclasses import replace
from datetime import datetime

import structlog

from connector.state.progress import StreamState
from connector.sync import planner
from connector.sync.work import Work

log = structlog.get_logger()


def write_down(work: Work, started: datetime, *, whole: bool) -> None:
    """Write what a run learnt about its streams; `whole`: everything there was to ask was answered."""
    wanted = planner.wanted(work.catalogue, work.policy)
    for stream in wanted:
        if whole and not {stream.name, stream.parent} & work.troubled:
            state = _completed(work, work.progress.streams[stream.name], started)
            work.progress.streams[stream.name] = state
    read = {stream.name for stream in wanted if stream.filtered} - set(work.report.forbidden)
    work.report.segmented_hidden = work.ignore_filters is False and bool(read)
    work.intake.note([work.progress.streams[stream.name] for stream in wanted], work.clock.now())
    log.debug("collected", **work.report.as_dict())


def _completed(work: Work, state: StreamState, started: datetime) -> StreamState:
    through = started + work.ahead
    looked_through = work.agenda.looked_through(state.name)
    proved = started if looked_through and planner.doubted(state, started) else state.proved_at
    dates = [parent.date for parent in work.progress.parents.get(state.name, {}).values()]
    mark = max((date for date in dates if date <= through), default=state.watermark)
    return replace(
        state, complete_through=through, proved_at=proved, watermark=mark, trouble=None, trouble_at=None
    )

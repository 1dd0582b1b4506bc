"""Check what is stored of passes, windows and curves.

Does not log: `status` uses it, too, and must answer within a second.
"""

from collections.abc import Iterator
from datetime import datetime

from connector.domain.state import ChildState, Progress, StreamState
from connector.state import damage, tables
from connector.sync.lists import count_windows, stored_pass
from connector.sync.planning import arrival


def readable(progress: Progress, start: datetime) -> Progress:
    """Return the progress without passes, windows and curves of an unknown form."""
    for state, column in _unreadable(progress, start):
        table, key = tables.streams, f"scope={state.scope}"
        if isinstance(state, ChildState):
            table, key = tables.children, f"{key}, parent={state.parent}"
        damage.warn(table, key, column)
        setattr(state, column, None)
    return progress


def _unreadable(progress: Progress, start: datetime) -> Iterator[tuple[StreamState | ChildState, str]]:
    states: list[StreamState | ChildState] = [*progress.streams.values()]
    states += (child for lists in progress.children.values() for child in lists.values())
    for state in states:
        if state.cursor and stored_pass.restored(state.cursor) is None:
            yield state, "cursor"
    for stream in progress.streams.values():
        if stream.windows and count_windows.restored(stream.windows, start) is None:
            yield stream, "windows"
        if stream.curve and arrival.restored(stream.curve) is None:
            yield stream, "curve"

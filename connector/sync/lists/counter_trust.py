"""Whether counters are trusted; rows that one announced and its list did not show; without I/O."""

from dataclasses import replace
from datetime import datetime, timedelta

from connector.domain.state import ChildState, StreamState
from connector.sync.lists.passes import ListPass, PassKind, surplus_after

# So long after a list first showed too few rows it is read again.
READ_AGAIN_AFTER = (
    timedelta(minutes=5),
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(days=1),
    timedelta(days=2),
)
# No list is behind its counter for longer.
LONGEST = READ_AGAIN_AFTER[-1]
# How much one such reading changes what is believed of the next.
LEARNT = 0.1
# Below this share of rows that came later, a new announcement does not make the older ones wait longer.
IN_VAIN = 0.1


def missing_rows(child: ChildState) -> int:
    """How many rows the counter announced and the list did not show, or not in a form that can be used."""
    return max(0, -child.surplus)


def reread_due(child: ChildState, now: datetime) -> bool:
    """Return whether it is time to read the list again for their sake."""
    since, read = child.short_since, child.read_at
    if not missing_rows(child) or since is None or read is None:
        return False
    # The last reading settles it only if all of it came after the longest time (after_reading).
    return now >= since + LONGEST or any(read < since + wait <= now for wait in READ_AGAIN_AFTER)


def oldest_missing(child: ChildState, lookback: timedelta) -> datetime | None:
    """Return the oldest date that such a row may have; None if there is none."""
    if not missing_rows(child) or child.short_since is None:
        return None
    return child.short_since - LONGEST - lookback


def complete_until(child: ChildState) -> datetime | None:
    """Return up to when the list is complete although its counter announced more; None if it showed all."""
    return child.short_since - LONGEST if missing_rows(child) and child.short_since else None


def after_reading(
    child: ChildState, pass_: ListPass, state: StreamState, now: datetime
) -> tuple[int, datetime | None]:
    """Return the surplus after a list was read to its end, and since when it is short.

    Newly announced rows start the time anew, since nothing tells which of them are not there.
    """
    surplus = surplus_after(pass_, child.read_counter, child.surplus)
    if surplus >= 0:
        return surplus, None
    anew = -surplus > missing_rows(child) or (pass_.plan.expected and state.late_share >= IN_VAIN)
    if anew or child.short_since is None:
        return surplus, now
    # A page that an earlier run read may have been shown too early.
    began = pass_.progress.started_at or now
    return (0, None) if began >= child.short_since + LONGEST else (surplus, child.short_since)


def with_late_share(state: StreamState, child: ChildState, pass_: ListPass) -> StreamState:
    """Return the stream after a list was read again: what share of the rows that were not there has come."""
    before = missing_rows(child)
    if not before or pass_.plan.expected:
        return state
    left = min(before, max(0, -surplus_after(pass_, child.read_counter, child.surplus)))
    came = (before - left) / before
    return replace(state, late_share=state.late_share + LEARNT * (came - state.late_share))


# Each row found makes what is known count a little less: some fifty rows are remembered.
REMEMBERED = 0.98
# Distrusted from so many silent rows and such a share of all on; trusted again below the other share.
SILENT_ROWS = 5.0
SILENT_SHARE = 0.25
TRUSTED_AGAIN_SHARE = 0.1


def after_pass(state: StreamState, pass_: ListPass, before: ChildState, after: ChildState) -> StreamState:
    """Return the stream after one of its lists was read to the end.

    What a hint announced came before its counter could show it.
    """
    if pass_.plan.kind is PassKind.HINTED:
        return state
    change, new_rows = max(0, after.surplus) - max(0, before.surplus), pass_.progress.new_rows
    came_announced = max(0, new_rows - max(0, change))
    if not change and not came_announced:
        return state
    fading = REMEMBERED**new_rows
    silent = max(0.0, state.silent * fading + change)
    announced = state.announced * fading + came_announced
    return replace(
        state, silent=silent, announced=announced, distrusted=_distrusted(state, silent, announced)
    )


def _distrusted(state: StreamState, silent: float, announced: float) -> bool:
    share = silent / (silent + announced) if silent else 0.0
    if state.distrusted:
        return share > TRUSTED_AGAIN_SHARE
    return silent >= SILENT_ROWS and share > SILENT_SHARE

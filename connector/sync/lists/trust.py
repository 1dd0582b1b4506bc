"""Whether an account's counters can be believed: judged on sums over time; without I/O.

A counter that lags is found out by rows that it had not announced, and forgiven when it catches up: both
are sums. What stays is counted against it, and what is long ago is forgotten.
"""

from dataclasses import replace

from connector.state.progress import ChildState, StreamState
from connector.sync.lists.sweeps import Sweep

# Each row found makes what is known count a little less: some fifty rows are remembered.
REMEMBERED = 0.98
# Distrusted from so many silent rows and such a share of all on; trusted again below the other share.
SILENT_ROWS = 5.0
SILENT_SHARE = 0.25
FORGIVEN_SHARE = 0.1


def after_sweep(state: StreamState, sweep: Sweep, before: ChildState, after: ChildState) -> StreamState:
    """The stream after one of its lists was read to the end."""
    change = after.surplus - before.surplus
    heard = max(0, sweep.found - max(0, change))
    if not change and not heard:
        return state
    fading = REMEMBERED**sweep.found
    silent = max(0.0, state.silent * fading + change)
    announced = state.announced * fading + heard
    return replace(
        state, silent=silent, announced=announced, distrusted=_distrusted(state, silent, announced)
    )


def _distrusted(state: StreamState, silent: float, announced: float) -> bool:
    share = silent / (silent + announced) if silent else 0.0
    if state.distrusted:
        return share > FORGIVEN_SHARE
    return silent >= SILENT_ROWS and share > SILENT_SHARE

"""Several connections of one account: first come, first served."""

from datetime import datetime, timedelta

from connector.state import runs
from connector.state.engine import Store

# Who has not run for so long saves for nothing any more.
SAVING_LASTS = timedelta(days=1)


def left_to_others(
    store: Store,
    connection: str,
    account: str,
    last: runs.Last | None,
    now: datetime,
    *,
    before: int = runs.NEXT,
) -> float:
    """How many requests another connection of the account waits for, and has for longer than this one.

    They are left to it, or whoever runs first would take each request as it comes in. `last` is this
    connection's own last run before run number `before`.
    """
    mine = (last.saving_since if last and last.saving else None) or now
    others = runs.waiting_others(store, connection, account, before=before)
    return max(
        (
            other.saving
            for other in others
            if other.started_at >= now - SAVING_LASTS and (other.saving_since or now) < mine
        ),
        default=0.0,
    )

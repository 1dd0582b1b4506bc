"""The rate at which events go to Segment, shared by all runs of a database."""

from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, bindparam

from connector.clock import Clock
from connector.domain.period import micros, moment_of
from connector.state.dialects import insert_into
from connector.state.engine import Database
from connector.state.spending import SECOND, next_free
from connector.state.tables import paces

# One batch holds at most a tenth of a second's events, and a fifth of the rate is left unused: then the
# batches of a second stay within the rate although two earlier ones arrive late, whatever delayed them.
SHARE_OF_RATE = 0.8
LANES, BATCHES = 2, 10
# A batch that is later than this would be sent together with the next ones: it takes another moment, at
# most so many times.
LATE, MOST_MOMENTS = timedelta(seconds=1 / BATCHES), 3
# Segment asks partners for no more requests than this, however few events a request holds.
REQUESTS_PER_SECOND = 50
SEGMENT = "segment"


class Pace:
    """Decides when a batch may be sent; `per_second` events together, None without a limit."""

    def __init__(self, database: Database, per_second: int | None) -> None:
        self._database = database
        self._per_second = per_second

    def lanes(self, wanted: int) -> int:
        """Return how many batches may be in flight at once."""
        return wanted if self._per_second is None else min(wanted, LANES)

    def batch(self, wanted: int) -> int:
        """Return how many events one batch may hold."""
        return wanted if self._per_second is None else min(wanted, max(1, self._per_second // BATCHES))

    def wait(self, events: int, clock: Clock) -> None:
        """Wait until a batch of so many events may be sent."""
        for _ in range(MOST_MOMENTS):
            now = clock.now()
            at = self.take(events, now)
            clock.sleep((at - now).total_seconds())
            if self._per_second is None or clock.stopped or clock.now() - at <= LATE:
                return

    def take(self, events: int, now: datetime) -> datetime:
        """Reserve the next moment for a batch of so many events, and return it."""
        if self._per_second is None:
            return now
        events = max(events, self._per_second // REQUESTS_PER_SECOND)
        gap = int(SECOND * events / (self._per_second * SHARE_OF_RATE))
        values = {"name": SEGMENT, "at": micros(now), "gap": gap}
        with self._database.write() as db:
            next_at: int = db.execute(_pacing(db.dialect.name), values).scalar_one()
        return moment_of(next_at - gap)


@cache
def _pacing(dialect: str) -> Any:
    """Return the statement that reserves the time from the next free moment to `gap` after it."""
    at, gap = bindparam("at", type_=BigInteger), bindparam("gap", type_=BigInteger)
    new = insert_into(dialect, paces).values(name=bindparam("name"), next_at=at + gap)
    update = new.on_conflict_do_update(
        index_elements=[paces.c.name], set_={"next_at": next_free(paces.c.next_at, at) + gap}
    )
    return update.returning(paces.c.next_at)

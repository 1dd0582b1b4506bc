"""When a connection is next to be worked on; data in, data out."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from connector.errors import Exit
from connector.state.dues import Due

JITTER = 0.1
# Messages that wait for a Segment that is away: tried again soon, then ever later.
DELIVERY, MOST_DELIVERY = timedelta(minutes=1), timedelta(minutes=15)
AUDIT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: its exit code, when a request is worth sending again, and what waits for Segment.

    `again` is None without a monthly limit. `run` is its number, if it had one. `stopped`: by a signal.
    """

    exit: int
    run: int | None = None
    again: datetime | None = None
    waiting: int = 0
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """No connection is synced oftener than `least`, and each at least as often as `most`."""

    least: timedelta
    most: timedelta

    def after(self, ended: Ended, before: Due | None, now: datetime, chance: float) -> Due:
        """When to sync next; `chance`, from 0 to 1, spreads those that ended together."""
        failures = before.failures if before else 0
        if ended.exit == Exit.BUSY:
            return Due(now + self._spread(self.least, chance), failures)
        if ended.exit in (Exit.DONE, Exit.QUARANTINED):
            wanted = ended.again - now if ended.again else self.least
            return Due(now + self._spread(wanted, chance))
        # Doubled at each failure; not a power that outgrows a timedelta.
        return Due(now + self._spread(self.least * (1 << min(failures, 20)), chance), failures + 1)

    def _spread(self, wanted: timedelta, chance: float) -> timedelta:
        wanted = max(self.least, wanted)
        if wanted * (1 + JITTER * chance) <= self.most:
            return wanted * (1 + JITTER * chance)
        return max(self.least, self.most * (1 - JITTER * chance))


def delivery_after(tries: int) -> timedelta:
    """How long to wait before waiting messages are tried again."""
    return min(MOST_DELIVERY, DELIVERY * (1 << min(tries, 10)))

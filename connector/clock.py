"""The only place that reads the time; everywhere else, time is an argument."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol


class Clock(Protocol):
    """Wall time for dates and leases, and a wait that a signal can interrupt."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""

    def sleep(self, seconds: float) -> None:
        """Wait, or return early once stopped."""

    @property
    def stopped(self) -> bool:
        """Return whether this process is to end."""


class SystemClock:
    """This machine's clock; `stop` ends every wait early."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        slept = timer()
        while not self._stopped.is_set() and (left := seconds - slept()) > 0:
            self._stopped.wait(min(left, LONGEST_WAIT))

    def on_the_wall(self, moment: datetime) -> datetime:
        """Return the wall's time of a moment; another clock may run faster."""
        return moment

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self) -> None:
        """End every wait, now and from now on."""
        self._stopped.set()


def timer() -> Callable[[], float]:
    """Return a function that returns the seconds since this call."""
    started = time.monotonic()
    return lambda: time.monotonic() - started


def plain(value: Any) -> Any:
    """Return a moment as JSON holds it, and anything else as it is."""
    return value.isoformat() if isinstance(value, datetime) else value


# In seconds. Python may notice a signal only when a system call returns, so no wait is longer.
LONGEST_WAIT = 0.5

# In seconds: how often to look for a stop, and how long to wait for an answer after one.
GLANCE = 0.1
GRACE = 1.5

"""The one place that reads the time; everything else is told what time it is."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol


class Clock(Protocol):
    """Wall time for dates and leases, and a way to wait that a signal can cut short."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""

    def sleep(self, seconds: float) -> None:
        """Wait, or return early once stopped."""

    @property
    def stopped(self) -> bool:
        """Whether this process has been asked to come to an end."""


class SystemClock:
    """This machine's clock.

    Waiting ends early when `stop` is called, so that a signal is not kept waiting by a back-off.
    """

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        slept = timer()
        while not self._stopped.is_set() and (left := seconds - slept()) > 0:
            self._stopped.wait(min(left, LONGEST_WAIT))

    def on_the_wall(self, moment: datetime) -> datetime:
        """When a timer goes off for a moment of this clock; another one may run faster than the wall's."""
        return moment

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self) -> None:
        """End every wait, now and from now on."""
        self._stopped.set()


def timer() -> Callable[[], float]:
    """Give a function that says how many seconds have passed since this call."""
    started = time.monotonic()
    return lambda: time.monotonic() - started


def plain(value: Any) -> Any:
    """A moment as JSON holds it; anything else as it is."""
    return value.isoformat() if isinstance(value, datetime) else value


def within(moment: datetime, since: datetime | None, until: datetime | None) -> bool:
    """Whether a moment lies in a half-open range; None is open towards past or future."""
    return (since is None or since <= moment) and (until is None or moment < until)


SECOND = timedelta(seconds=1)

# A signal that comes between Python's last look for one and the system call is only seen when the call
# returns, which none therefore takes long to do.
LONGEST_WAIT = 0.5

# How often a stop is looked for, and how long an answer is waited for after one.
GLANCE = 0.1
GRACE = 1.5

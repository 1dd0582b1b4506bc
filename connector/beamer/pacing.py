"""This process's own pace: never more requests in a second than the account's rate, whatever is late.

The ledger hands out evenly spaced moments, but a thread that wakes up late sends its request into the
next one's moment; on a busy machine several such bunch up, and Beamer counts the 31st in a second.
"""

import threading
from collections import deque
from datetime import datetime, timedelta

from connector.clock import Clock

# A little more than a second, for what the network adds to one request and not to another.
WINDOW = timedelta(seconds=1.03)


class Pacer:
    """A sliding window over the moments at which requests really went out. Safe to use from threads."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._clock = clock
        self._sent: deque[datetime] = deque(maxlen=max(1, int(per_second)))
        self._lock = threading.Lock()

    def wait(self, go_at: datetime) -> None:
        """Wait until this request may go: not before `go_at`, nor where the window is full."""
        self._clock.sleep((go_at - self._clock.now()).total_seconds())
        while (late := self._claim()) > 0 and not self._clock.stopped:
            self._clock.sleep(late)

    def _claim(self) -> float:
        """Take a place in the window, or say in how many seconds one may be free."""
        with self._lock:
            now = self._clock.now()
            full = len(self._sent) == self._sent.maxlen
            # A clock set back must not make everybody wait until it has caught up.
            if full and timedelta(0) <= now - self._sent[0] < WINDOW:
                return (self._sent[0] + WINDOW - now).total_seconds()
            self._sent.append(now)
            return 0.0

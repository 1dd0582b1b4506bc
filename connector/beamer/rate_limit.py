"""The rate of one process: never more requests in a second than the account allows."""

import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta

from connector.clock import Clock

# A little more than a second, for what the network adds to one request and not to another.
WINDOW = timedelta(seconds=1.02)
# Between taking its place and being sent a request waits for the interpreter and its connection: so long at
# a time is waited for it, in seconds.
SOON = 0.003


@dataclass(slots=True, eq=False)
class Slot:
    """One request's place in the window: the moment at which it was sent, None until it is."""

    at: datetime | None = None


class Pacer:
    """A sliding window over the moments at which requests really went out. Safe to use from threads."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._clock = clock
        self._slots: deque[Slot] = deque(maxlen=max(1, int(per_second)))
        self._lock = threading.Lock()

    def wait(self, go_at: datetime) -> Slot:
        """Wait until a request may go: not before `go_at`, nor where the window is full.

        Its place must be given to `sent` when the request is on its way, or will never be.
        """
        self._clock.sleep((go_at - self._clock.now()).total_seconds())
        slot = Slot()
        while (late := self._claim(slot)) > 0 and not self._clock.stopped:
            self._clock.sleep(late)
        return slot

    def sent(self, slot: Slot) -> None:
        """The window counts from here: what came between may have taken longer than between others."""
        slot.at = self._clock.now()

    def _claim(self, slot: Slot) -> float:
        """Take a place in the window, or say in how many seconds one may be free."""
        with self._lock:
            now = self._clock.now()
            if len(self._slots) == self._slots.maxlen:
                oldest = self._slots[0].at
                if oldest is None:
                    return SOON
                # A clock set back must not make everybody wait until it has caught up.
                if timedelta(0) <= now - oldest < WINDOW:
                    return (oldest + WINDOW - now).total_seconds()
            self._slots.append(slot)
            return 0.0

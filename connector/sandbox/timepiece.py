"""The sandbox's own time, and the time by which its limiters go."""

from datetime import datetime
from time import monotonic

from connector.sandbox.switches import Switches


class Timepiece:
    """Stands still, runs with real time, or faster."""

    def __init__(self, now: datetime, speed: float) -> None:
        self.speed = speed
        self._base = now.timestamp()
        self._since = monotonic()

    def now(self) -> float:
        return self._base + (monotonic() - self._since) * self.speed

    def advance(self, seconds: float) -> None:
        self._base += seconds

    def for_limits(self, switches: Switches, arrived: float | None) -> float | None:
        """Seconds for a limiter; None turns it off, as time that stands still would never let go."""
        if switches.limiter_clock:
            return switches.limiter_clock()
        if arrived is not None:
            return arrived
        return self.now() if self.speed > 0 else None

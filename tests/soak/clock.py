"""A clock that runs faster than the wall's, for a daemon whose sandbox does."""

from datetime import datetime, timedelta
from time import monotonic

from connector.clock import SystemClock


class FastClock(SystemClock):
    """Shows `start` at the moment `since` of the monotonic clock, which all processes share, and runs on."""

    def __init__(self, start: datetime, speed: float, since: float | None = None) -> None:
        super().__init__()
        self._start = start
        self._speed = speed
        self._since = monotonic() if since is None else since

    def now(self) -> datetime:
        return self._start + timedelta(seconds=(monotonic() - self._since) * self._speed)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / self._speed)

    def on_the_wall(self, moment: datetime) -> datetime:
        return super().now() + (moment - self.now()) / self._speed

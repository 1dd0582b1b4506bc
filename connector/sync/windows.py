"""Windows of whole UTC days, in which a list's rows are counted and halved; without I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from connector.clock import SECOND
from connector.state.period import EPOCH, day_of

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """The days from `first` up to, not including, `end`, since the epoch; nothing before `start` counts."""

    first: int
    end: int
    start: datetime

    @property
    def since(self) -> datetime:
        return max(self.start, EPOCH + self.first * DAY)

    @property
    def until(self) -> datetime:
        """The last second: whether Beamer's bounds are inclusive is unknown, and most likely they are."""
        return EPOCH + self.end * DAY - SECOND

    @property
    def single(self) -> bool:
        return self.end - self.first <= 1

    def halves(self) -> "tuple[Window, Window]":
        middle = (self.first + self.end) // 2
        return Window(self.first, middle, self.start), Window(middle, self.end, self.start)

    def holds(self, held: Mapping[int, int]) -> int:
        """How many of the rows that are held lie in it."""
        return sum(rows for day, rows in held.items() if self.first <= day < self.end)


def whole_days(start: datetime, now: datetime) -> Window | None:
    """From the start date to the end of yesterday: today's rows are still coming in."""
    first, end = day_of(start), day_of(now)
    return Window(first, end, start) if first < end else None

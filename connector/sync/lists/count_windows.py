"""Windows of days whose rows are counted: the audit of lists without counters; without I/O."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from connector.domain.period import EPOCH, SECOND, day_of

DAY = timedelta(days=1)
# In days since the epoch, as far as dates go; and no list has as many rows.
LAST_DAY, MOST = 2_900_000, 2**40
# What is stored under another version starts again.
VERSION = 1


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
        """Return how many of the rows that are held lie in it."""
        return sum(rows for day, rows in held.items() if self.first <= day < self.end)


def whole_days(start: datetime, now: datetime) -> Window | None:
    """From the start date to the end of yesterday: today's rows are still coming in."""
    first, end = day_of(start), day_of(now)
    return Window(first, end, start) if first < end else None


@dataclass(frozen=True, slots=True)
class Left:
    """A window that an audit has still to count, or to read where Beamer's `count` is known."""

    window: Window
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """What is left of an audit, kept in the database: on a small budget a run asks for one window or two."""

    left: tuple[Left, ...] = ()
    thorough: bool = False

    def after(self, done: Window, more: Iterable[Left]) -> "Round":
        """Return the round after a window was counted or read, with the windows that follow from it."""
        others = tuple(left for left in self.left if left.window != done)
        return Round((*others, *more), self.thorough)

    def dump(self) -> str | None:
        """As text; None at the round's end."""
        rows = [[left.window.first, left.window.end, left.count] for left in self.left]
        return json.dumps({"version": VERSION, "left": rows, "thorough": self.thorough}) if rows else None


def restore(text: str | None, start: datetime) -> Round:
    """Return a round as it was kept; one that cannot be read, or is of another version, begins anew."""
    return Round() if text is None else restored(text, start) or Round()


def restored(text: str, start: datetime) -> Round | None:
    """Return a round as it was kept; None where that cannot be read."""
    try:
        stored = json.loads(text)
        rows = [(first, end, count) for first, end, count in stored["left"]]
        thorough, version = stored["thorough"], stored["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    numbers = [number for row in rows for number in row if number is not None]
    whole = all(isinstance(number, int) and 0 <= number < MOST for number in numbers)
    known = all(first is not None and end is not None for first, end, _ in rows)
    if not (whole and known and isinstance(thorough, bool) and version == VERSION):
        return None
    if not all(first < end <= LAST_DAY for first, end, _ in rows):
        return None
    return Round(tuple(Left(Window(first, end, start), count) for first, end, count in rows), thorough)

"""How late rows were when they were read: sums small enough to stand in every run's summary. Data alone."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

MINUTE, HOUR, DAY = 60, 3_600, 86_400
# Rows are counted by the first of these that they do not exceed, in seconds; close enough together for a
# percentile. What took longer than the last counts there, and `longest` tells.
UP_TO = (
    *(MINUTE * each for each in (1, 2, 3, 5, 7, 10, 15, 20, 30, 45)),
    *(HOUR * each for each in (1, 1.5, 2, 3, 4, 6, 8, 12, 18, 24, 36, 48)),
    *(DAY * each for each in (3, 4, 5, 7, 10, 14, 21, 31)),
)
_BEFORE = {bound: below for below, bound in pairwise((0, *UP_TO))}


@dataclass(slots=True)
class Lateness:
    """So many rows were read, together and at most so many seconds after their dates."""

    rows: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    up_to: Counter[int] = field(default_factory=Counter)

    def note(self, late: Iterable[float]) -> None:
        """Add rows; one from the future of Beamer's clock is not late."""
        for each in late:
            seconds = max(0.0, each)
            self.rows += 1
            self.seconds += seconds
            self.longest = max(self.longest, seconds)
            self.up_to[int(UP_TO[min(bisect_left(UP_TO, seconds), len(UP_TO) - 1)])] += 1

    def add(self, told: Mapping[str, Any]) -> None:
        """Add what another run's summary says."""
        self.rows += told["rows"]
        self.seconds += told["seconds"]
        self.longest = max(self.longest, told["longest"])
        self.up_to.update({int(bound): rows for bound, rows in told["up_to"].items()})

    @property
    def mean(self) -> float | None:
        return self.seconds / self.rows if self.rows else None

    def within(self, share: float) -> float | None:
        """Within how many seconds that share of the rows was read; between two bounds it is a guess."""
        wanted, below = share * self.rows, 0.0
        for bound, rows in sorted(self.up_to.items()):
            if below + rows >= wanted:
                start = _BEFORE.get(bound, 0)
                end = max(self.longest, start) if bound == UP_TO[-1] else min(bound, self.longest)
                return start + (end - start) * (wanted - below) / rows if end > start else end
            below += rows
        return None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON and for the store."""
        return {
            "rows": self.rows,
            "seconds": round(self.seconds, 1),
            "longest": round(self.longest, 1),
            "up_to": {str(bound): rows for bound, rows in sorted(self.up_to.items())},
        }

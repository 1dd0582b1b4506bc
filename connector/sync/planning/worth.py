"""What a request is worth, in row-hours: without I/O.

Every probe is polled or read again and again, each request costs the same, and what waits costs an hour
for each row and hour. The worth of asking a probe now is the price of a request at which asking now and
asking later come to the same (its Whittle index); who asks what is worth most, as often as the budget
allows, keeps the mean delay least. For a list with rows arriving at a rate λ, last read τ hours ago, it is
λτ²/2, the row-hours that have gathered. For rows that a counter shows, n(n+1)/2λ, the same with λτ = n:
where rows come slowly, nothing is saved by letting them wait for the next one.
"""

from collections.abc import Iterable
from datetime import timedelta
from math import exp
from typing import NamedTuple

from connector.sync.planning.curves import HOUR

# A row that is older than the connection is worth next to nothing beside what is said today, or it would
# keep the connector from it for weeks: history is read by its own share of the requests.
HISTORY = 0.01
# At posts older than the start date there is little of it: that is left to the share alone.
OLD_HISTORY = 1e-6
# How many rows are behind a move without a rise, or one by rows that were found before their counter moved:
# a deletion may hide one that came.
HIDDEN_ROW = 0.02
# No list is taken to be so quiet that nothing comes in this many hours.
QUIET_HOURS = 24.0 * 365


class Expected(NamedTuple):
    """Rows that have come at one list, as far as can be guessed, and the hours they have waited together.

    Only the hours of those that will be sent count (see sending.py).
    """

    rows: float
    row_hours: float

    def times(self, factor: float, sent: float = 1.0) -> "Expected":
        """So many times as many rows, of which a share is sent."""
        return Expected(factor * self.rows, factor * sent * self.row_hours)


NOTHING = Expected(0.0, 0.0)


def of_look(own: Expected, below: Iterable[Expected], requests: float = 1.0) -> float:
    """The worth of looking at a block of parents, and of reading the lists that are then worth it.

    A list that moved costs a request of its own. Of a list's rows, the first would cost one at any time; only
    those that share a read save something by waiting, and only as far as that counts against looking now.
    """
    cleared = own.row_hours
    lists = []
    for rows, row_hours in below:
        if rows > 0:
            shared = 1.0 - exp(-rows) * (1.0 + rows)
            lists.append((row_hours / (shared + 1e-12), row_hours, shared))
    lists.sort(reverse=True)
    for ratio, row_hours, shared in lists:
        if ratio * requests <= cleared:
            break
        cleared += row_hours
        requests += shared
    return cleared / requests


def lists_moved(below: Iterable[Expected]) -> float:
    """How many lists a look is expected to show to have moved."""
    return sum(1.0 - exp(-rows) for rows, _ in below if rows > 0)


def of_waiting(rows: float, per_hour: float, pages: int = 1) -> float:
    """The worth of reading a list in which so many rows wait, while more come at a rate."""
    return rows * (rows + 1.0) / 2.0 / max(per_hour, 1.0 / QUIET_HOURS) / pages


def of_polling(per_hour: float, unlooked: timedelta, pages: int = 1) -> float:
    """The worth of reading a list of which nothing shows whether something has come."""
    return steady(per_hour, unlooked).row_hours / pages


def steady(per_hour: float, unlooked: timedelta) -> Expected:
    """Rows that come at an even rate."""
    hours = max(0.0, unlooked / HOUR)
    return Expected(per_hour * hours, per_hour * hours * hours / 2)

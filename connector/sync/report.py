"""The report of a run: what it read, sent and found, and how late rows arrived."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

MINUTE, HOUR, DAY = 60, 3_600, 86_400
# Rows are counted by the first bound that they do not exceed, in seconds; close enough together for a
# percentile. Longer delays count at the last bound, and `longest` holds the longest.
UP_TO = (
    *(MINUTE * each for each in (1, 2, 3, 5, 7, 10, 15, 20, 30, 45)),
    *(HOUR * each for each in (1, 1.5, 2, 3, 4, 6, 8, 12, 18, 24, 36, 48)),
    *(DAY * each for each in (3, 4, 5, 7, 10, 14, 21, 31)),
)
_BEFORE = {bound: lower for lower, bound in pairwise((0, *UP_TO))}


@dataclass(slots=True)
class Lateness:
    """How late rows were read, in seconds after their dates: number, sum, longest, and counts by bound."""

    rows: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    up_to: Counter[int] = field(default_factory=Counter)

    def note(self, delays: Iterable[float]) -> None:
        """Add rows; a row from the future by Beamer's clock is not late."""
        for delay in delays:
            seconds = max(0.0, delay)
            self.rows += 1
            self.seconds += seconds
            self.longest = max(self.longest, seconds)
            self.up_to[int(UP_TO[min(bisect_left(UP_TO, seconds), len(UP_TO) - 1)])] += 1

    def add(self, stored: Mapping[str, Any]) -> None:
        """Add the delays of another run's summary."""
        self.rows += stored["rows"]
        self.seconds += stored["seconds"]
        self.longest = max(self.longest, stored["longest"])
        self.up_to.update({int(bound): rows for bound, rows in stored["up_to"].items()})

    @property
    def mean(self) -> float | None:
        return self.seconds / self.rows if self.rows else None

    def within(self, share: float) -> float | None:
        """Return within how many seconds that share of the rows was read; interpolated between two bounds."""
        wanted, counted = share * self.rows, 0.0
        for bound, rows in sorted(self.up_to.items()):
            if counted + rows >= wanted:
                start = _BEFORE.get(bound, 0)
                end = max(self.longest, start) if bound == UP_TO[-1] else min(bound, self.longest)
                return start + (end - start) * (wanted - counted) / rows if end > start else end
            counted += rows
        return None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON and for the database."""
        return {
            "rows": self.rows,
            "seconds": round(self.seconds, 1),
            "longest": round(self.longest, 1),
            "up_to": {str(bound): rows for bound, rows in sorted(self.up_to.items())},
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """A list of a backfill that showed another number of rows than Beamer counts.

    `parent` is None for a list without one; `expected` None if unknown, `found` None if Beamer does not know
    the list (404) although it still shows the parent. `settled`: it was the same for an hour and is
    accepted.
    """

    stream: str
    parent: str | None
    expected: int | None
    found: int | None
    settled: bool = False


class Deliveries:
    """What a run delivered: written by the delivering thread, read by the collecting one.

    `waiting` messages were there before the run, and were not delivered yet.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def confirmed(self, messages: int, possible_doubles: int) -> None:
        """Add messages that Segment has accepted, and how many of them may have been sent before."""
        with self._lock:
            self._counts.update(sent=messages, possible_doubles=possible_doubles)

    def refused_one(self) -> None:
        """Add a message that Segment refused for good."""
        with self._lock:
            self._counts.update(refused=1)

    def dropped(self, messages: int) -> None:
        """Subtract waiting messages that somebody else has deleted."""
        with self._lock:
            self._counts["waiting"] -= messages

    def set_waiting(self, messages: int) -> None:
        """Set how many messages wait."""
        with self._lock:
            self._counts["waiting"] = messages

    @property
    def left(self) -> int:
        """Return how many messages waited, less those delivered or refused since."""
        with self._lock:
            return self._counts["waiting"] - self._counts["sent"] - self._counts["refused"]

    def __getitem__(self, what: str) -> int:
        with self._lock:
            return self._counts[what]


@dataclass(slots=True)
class Report:
    """Counts by stream; `audited` lists and counts, in which `missing` rows were found.

    `pages` counts accepted answers.

    `late`: the delays of new rows that came after the connection was created.
    `troubles` are sentences without personal data. `stopped` says why the run ended early; `interrupted`:
    a signal ended it. `price`: the least priority of a request, at first that of the run before; None
    without a limit.
    """

    new: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    pages: int = 0
    audited: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    late: Lateness = field(default_factory=Lateness)
    deliveries: Deliveries = field(default_factory=Deliveries)
    forbidden: list[str] = field(default_factory=list)
    skipped_parents: int = 0
    troubles: list[str] = field(default_factory=list)
    unread: bool = False
    differences: list[Difference] = field(default_factory=list)
    stopped: str | None = None
    interrupted: bool = False
    price: float | None = None
    saving: float = 0.0
    saving_since: datetime | None = None
    next_try: datetime | None = None
    segmented_hidden: bool = False

    @property
    def sent(self) -> int:
        return self.deliveries["sent"]

    @property
    def refused(self) -> int:
        return self.deliveries["refused"]

    @property
    def possible_doubles(self) -> int:
        return self.deliveries["possible_doubles"]

    @property
    def waiting(self) -> int:
        return self.deliveries["waiting"]

    @property
    def requests_spent(self) -> int:
        return self.requests.total()

    def has_spent(self, most: int | None) -> bool:
        """Return whether the run has sent as many requests as it may; None: no such limit."""
        return most is not None and self.requests_spent >= most

    @property
    def backlog(self) -> int:
        """Return how many messages wait during collection; `waiting` is how many did before."""
        return self.events.total() + self.deliveries.left

    @property
    def incomplete(self) -> bool:
        """Return whether a requested row could not be read; a forbidden stream does not count."""
        return self.unread or any(not difference.settled for difference in self.differences)

    def stop(self, why: str, until: datetime | None = None) -> None:
        """Note why the run ends early, and when it can continue."""
        self.stopped, self.next_try = why, until

    def trouble(self, what: str, *, unread: bool) -> None:
        """Note a problem once; `unread`: requested rows could not be read."""
        if what not in self.troubles:
            self.troubles.append(what)
        self.unread |= unread

    def count(self, stream: str, tally: Mapping[str, int]) -> None:
        """Add the counts of one page."""
        sums = {"rows": self.new, "events": self.events, "quarantined": self.quarantined}
        for what, count in tally.items():
            if what in sums:
                sums[what][stream] += count
            elif count > 0:
                # If it falls below zero, rows are not excluded any more: they are among the events.
                self.excluded[what] += count

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON and for the database."""
        return {
            "rows_new": dict(self.new),
            "events": dict(self.events),
            "excluded": dict(self.excluded),
            "quarantined": dict(self.quarantined),
            "audited": dict(self.audited),
            "missing_found": dict(self.missing),
            "late": self.late.as_dict(),
            "sent": self.sent,
            "refused": self.refused,
            "possible_doubles": self.possible_doubles,
            "waiting": self.waiting,
            "requests": dict(self.requests),
            "requests_spent": self.requests_spent,
            "forbidden": self.forbidden,
            "skipped_parents": self.skipped_parents,
            "segmented_posts_hidden": self.segmented_hidden,
            "troubles": self.troubles,
            "differences": [asdict(difference) for difference in self.differences],
            "stopped": self.stopped,
            "interrupted": self.interrupted,
            "price": self.price,
            "saving": self.saving,
            "saving_since": self.saving_since.isoformat() if self.saving_since else None,
            "next_try": self.next_try.isoformat() if self.next_try else None,
        }

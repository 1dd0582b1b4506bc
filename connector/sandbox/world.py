"""The world of the sandbox: rows in lists, their counters, as time goes by."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import blake2b
from heapq import heapify, heappop
from typing import Any, overload

from connector.sandbox.life import Company, Happening, Life
from connector.sandbox.row import DAY, STREAMS, Fields, Row, seconds


class Tally:
    """Counts by the moments at which children came and went."""

    def __init__(self) -> None:
        self._came: list[float] = []
        self._went: list[float] = []

    def came(self, at: float) -> None:
        insort(self._came, at)

    def went(self, at: float) -> None:
        insort(self._went, at)

    def at(self, moment: float, *, ignore_deletions: bool = False) -> int:
        """The count as it stood at a moment."""
        gone = 0 if ignore_deletions else bisect_right(self._went, moment)
        return bisect_right(self._came, moment) - gone


def counters_of(row: Row) -> tuple[str, ...]:
    """The counters of its parent that a row moves."""
    if row.stream == "reactions":
        return (f"{row.given.get('reaction', 'positive')}Reactions",)
    return {
        "comments": ("feedbacks",),
        "feature_request_comments": ("commentsCount",),
        "feature_request_votes": ("votesCount",),
    }.get(row.stream, ())


Key = tuple[int, int]


def _key(row: Row) -> Key:
    return (row.date_s, row.seq)


class Newest(Sequence[Row]):
    """A span of a shelf read backwards without copying it."""

    def __init__(self, rows: list[Row], low: int, high: int) -> None:
        self._rows = rows
        self._positions = range(high - 1, low - 1, -1)

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self._rows[position] for position in self._positions[index]]
        return self._rows[self._positions[index]]


class Shelf:
    """Pages are slices: a page costs the same however long the list is."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._cache: dict[Any, list[Row]] = {}

    def put(self, row: Row) -> None:
        insort(self.rows, row, key=_key)
        self._cache.clear()

    def take(self, row: Row) -> None:
        del self.rows[bisect_left(self.rows, _key(row), key=_key)]
        self._cache.clear()

    def touch(self) -> None:
        """Forget listings: a row's fields have changed."""
        self._cache.clear()

    def span(
        self, after: float, before: float, *, from_inclusive: bool, to_inclusive: bool
    ) -> tuple[int, int]:
        """The positions of the rows between two dates."""
        start, end = (
            (bisect_left if from_inclusive else bisect_right),
            (bisect_right if to_inclusive else bisect_left),
        )
        low = start(self.rows, after, key=lambda row: row.date_s)
        return low, max(low, end(self.rows, before, key=lambda row: row.date_s))

    def ordered(self, span: tuple[int, int], order: str, pinned_first: bool) -> Sequence[Row]:
        """The rows of a span in the order of a list."""
        if order == "newest" and not pinned_first:
            return Newest(self.rows, *span)
        key = (span, order, pinned_first)
        if key not in self._cache:
            self._remember(key, _sorted(self.rows[slice(*span)], order, pinned_first))
        return self._cache[key]

    def kept(self, key: Any, rows: Sequence[Row], keep: Callable[[Row], bool]) -> Sequence[Row]:
        """The rows that pass a filter, remembered under its key."""
        if key not in self._cache:
            self._remember(key, [row for row in rows if keep(row)])
        return self._cache[key]

    def _remember(self, key: Any, rows: list[Row]) -> None:
        if len(self._cache) > 32:
            self._cache.clear()
        self._cache[key] = rows


def _sorted(rows: list[Row], order: str, pinned_first: bool) -> list[Row]:
    if order == "newest":
        rows.reverse()
    elif order == "unordered":
        rows.sort(key=lambda row: blake2b(row.id.encode(), digest_size=8).digest())
    if pinned_first:
        rows.sort(key=lambda row: str(row.fields.get("pinned")).lower() != "true")
    return rows


FIRST_ID = {
    "posts": 1_000,
    "comments": 20_000,
    "reactions": 300_000,
    "feature_requests": 5_000,
    "feature_request_comments": 70_000,
    "feature_request_votes": 900_000,
    "nps": 0,
}


class Numbers:
    """Hands out ids."""

    def __init__(self, seed: int) -> None:
        self._prefix = f"{seed % 65536:04x}"
        self._given: Counter[tuple[str, int]] = Counter()

    def give(self, row: Row, base: int | None = None) -> None:
        """Give a row the next id of its stream, counted from `base` if it has a range of its own."""
        base = FIRST_ID[row.stream] if base is None else base
        self._given[row.stream, base] += 1
        number = base + self._given[row.stream, base]
        row.id = f"{row.appears_s:08x}{self._prefix}{number:012x}" if row.stream == "nps" else str(number)

    def total(self) -> int:
        """Return how many ids are given."""
        return self._given.total()


class World:
    """Follows from the company and the time alone."""

    def __init__(self, company: Company, now: datetime) -> None:
        self.opened = seconds(now)
        self.company = company
        self.life = Life(company, self.opened)
        self.now = float(self.life.first_day * DAY)
        self.views_counted = 0
        self.hides = company.hidden > 0
        self._pending: list[Happening] = []
        self._day = self.life.first_day
        self._numbers = Numbers(company.seed)
        self._shelves: dict[tuple[str, str | None], Shelf] = {}
        self._tallies: dict[tuple[str, str | None], Tally] = defaultdict(Tally)
        self._ever: dict[str, dict[str, Row]] = {stream: {} for stream in STREAMS}
        self.advance_to(self.opened)
        if company.still:
            self._pending.clear()

    # --- time ---

    def advance_to(self, now: float) -> None:
        """Let happen what happens until then."""
        if now <= self.now:
            return
        still = self.company.still and self.now >= self.opened
        while not still and self._day * DAY <= now:
            self._pending += self.life.day(self._day)
            heapify(self._pending)
            self._day += 1
            self._live_until(min(now, self._day * DAY))
        self._live_until(now)
        self.now = now

    def _live_until(self, now: float) -> None:
        while self._pending and self._pending[0].at <= now:
            event = heappop(self._pending)
            self.now = max(self.now, event.at)
            self._happen(event)

    def _happen(self, event: Happening) -> None:
        row = event.row
        if event.kind == "appears":
            if not row.id:
                self._numbers.give(row)
            self._show(row)
        elif row.id and event.kind == "deleted":
            self._hide(row)
        elif row.id:
            row.change(event.fields or {})
            self._shelf_of(row).touch()

    def _show(self, row: Row) -> None:
        self._ever[row.stream][row.id] = row
        self._shelf_of(row).put(row)
        for tally in self._tallies_of(row):
            tally.came(row.appears_s)

    def _hide(self, row: Row) -> None:
        if row.deleted_s is not None:
            return
        self._shelf_of(row).take(row)
        row.deleted_s = int(self.now)
        for tally in self._tallies_of(row):
            tally.went(self.now)

    def _tallies_of(self, row: Row) -> list[Tally]:
        return [self._tallies[counter, row.parent_id] for counter in counters_of(row)]

    # --- reading ---

    def _shelf_of(self, row: Row) -> Shelf:
        return self._shelves.setdefault((row.stream, row.parent_id), Shelf())

    def shelf(self, stream: str, parent_id: str | None = None) -> Shelf:
        """The list of a stream as it is shown now."""
        return self._shelves.get((stream, parent_id)) or Shelf()

    def find(self, stream: str, row_id: str) -> Row | None:
        """A row that is shown now."""
        row = self._ever[stream].get(row_id)
        return row if row and row.deleted_s is None else None

    def users(self) -> list[Fields]:
        """The rows of `/users`."""
        return self.life.people.listed(self.company.seed, self.opened)

    def tally(self, counter: str, parent_id: str | None) -> Tally | None:
        return self._tallies.get((counter, parent_id))

    def count_view(self, row: Row) -> None:
        """A post was read without `saveViews=false`."""
        row.reads += 1
        row.version += 1
        self.views_counted += 1

"""The world of the sandbox: its rows in lists, and their counters, at the present time."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import blake2b
from heapq import heapify, heappop
from typing import Any, overload

from connector.sandbox.life import Change, Company, Life
from connector.sandbox.rows import DAY, STREAMS, Fields, Row, seconds


class ChildCounter:
    """Counts the children of a parent, as of any time."""

    def __init__(self) -> None:
        self._added: list[float] = []
        self._removed: list[float] = []

    def add(self, time: float) -> None:
        insort(self._added, time)

    def remove(self, time: float) -> None:
        insort(self._removed, time)

    def at(self, time: float, *, ignore_deletions: bool = False) -> int:
        """Return the count at a time."""
        removed = 0 if ignore_deletions else bisect_right(self._removed, time)
        return bisect_right(self._added, time) - removed


def counters_of(row: Row) -> tuple[str, ...]:
    """Return the names of its parent's counters that count this row."""
    if row.stream == "reactions":
        return (f"{row.overrides.get('reaction', 'positive')}Reactions",)
    return {
        "comments": ("feedbacks",),
        "feature_request_comments": ("commentsCount",),
        "feature_request_votes": ("votesCount",),
    }.get(row.stream, ())


def _sort_key(row: Row) -> tuple[int, int]:
    return (row.date_s, row.seq)


class NewestFirst(Sequence[Row]):
    """Part of a list in reverse order, without a copy."""

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


class RowList:
    """One list of the API, in the order of its dates; a page costs the same at any length of the list."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._cache: dict[Any, list[Row]] = {}

    def add(self, row: Row) -> None:
        insort(self.rows, row, key=_sort_key)
        self._cache.clear()

    def remove(self, row: Row) -> None:
        del self.rows[bisect_left(self.rows, _sort_key(row), key=_sort_key)]
        self._cache.clear()

    def clear_cache(self) -> None:
        """Clear the filtered lists, because the fields of a row have changed."""
        self._cache.clear()

    def span(
        self, after: float, before: float, *, from_inclusive: bool, to_inclusive: bool
    ) -> tuple[int, int]:
        """Return the positions of the rows between two dates: the first, and the one after the last."""
        bisect_after = bisect_left if from_inclusive else bisect_right
        bisect_before = bisect_right if to_inclusive else bisect_left
        low = bisect_after(self.rows, after, key=lambda row: row.date_s)
        return low, max(low, bisect_before(self.rows, before, key=lambda row: row.date_s))

    def ordered(self, span: tuple[int, int], order: str, pinned_first: bool) -> Sequence[Row]:
        """Return the rows at these positions in the order of the API."""
        if order == "newest" and not pinned_first:
            return NewestFirst(self.rows, *span)
        key = (span, order, pinned_first)
        if key not in self._cache:
            self._store(key, _sorted(self.rows[slice(*span)], order, pinned_first))
        return self._cache[key]

    def filtered(self, key: Any, rows: Sequence[Row], keep: Callable[[Row], bool]) -> Sequence[Row]:
        """Return the rows that pass a filter; the result is cached under `key`."""
        if key not in self._cache:
            self._store(key, [row for row in rows if keep(row)])
        return self._cache[key]

    def _store(self, key: Any, rows: list[Row]) -> None:
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


class Ids:
    """Gives rows their ids."""

    def __init__(self, seed: int) -> None:
        self._prefix = f"{seed % 65536:04x}"
        self._counts: Counter[tuple[str, int]] = Counter()

    def give(self, row: Row, base: int | None = None) -> None:
        """Give a row the next id of its stream, counted from `base` if it has a range of its own."""
        base = FIRST_ID[row.stream] if base is None else base
        self._counts[row.stream, base] += 1
        number = base + self._counts[row.stream, base]
        row.id = f"{row.appears_s:08x}{self._prefix}{number:012x}" if row.stream == "nps" else str(number)

    def total(self) -> int:
        """Return the number of ids so far."""
        return self._counts.total()


class World:
    """All rows of the account; they depend only on the company and the time."""

    def __init__(self, company: Company, now: datetime) -> None:
        self.start = seconds(now)
        self.company = company
        self.life = Life(company, self.start)
        self.now = float(self.life.first_day * DAY)
        self.views_counted = 0
        self.has_hidden = company.hidden > 0
        # Called with each row that appears from then on.
        self.on_appearance: Callable[[Row], None] | None = None
        self._pending: list[Change] = []
        self._next_day = self.life.first_day
        self._ids = Ids(company.seed)
        self._lists: dict[tuple[str, str | None], RowList] = {}
        self._users: list[Fields] | None = None
        self._counters: dict[tuple[str, str | None], ChildCounter] = defaultdict(ChildCounter)
        self._by_id: dict[str, dict[str, Row]] = {stream: {} for stream in STREAMS}
        self.advance_to(self.start)
        if company.still:
            self._pending.clear()

    # --- time ---

    def advance_to(self, now: float) -> None:
        """Move the world's time forward, and apply all changes until then."""
        if now <= self.now:
            return
        still = self.company.still and self.now >= self.start
        while not still and self._next_day * DAY <= now:
            self._pending += self.life.day(self._next_day)
            heapify(self._pending)
            self._next_day += 1
            self._apply_until(min(now, self._next_day * DAY))
        self._apply_until(now)
        self.now = now

    def _apply_until(self, now: float) -> None:
        while self._pending and self._pending[0].at <= now:
            change = heappop(self._pending)
            self.now = max(self.now, change.at)
            self._apply(change)

    def _apply(self, change: Change) -> None:
        row = change.row
        if change.kind == "appears":
            if not row.id:
                self._ids.give(row)
            self._show(row)
        elif row.id and change.kind == "deleted":
            self._hide(row)
        elif row.id:
            row.change(change.fields or {})
            self._list_of(row).clear_cache()

    def _show(self, row: Row) -> None:
        self._by_id[row.stream][row.id] = row
        self._list_of(row).add(row)
        for counter in self._counters_of(row):
            counter.add(row.appears_s)
        if self.on_appearance:
            self.on_appearance(row)

    def _hide(self, row: Row) -> None:
        if row.deleted_s is not None:
            return
        self._list_of(row).remove(row)
        row.deleted_s = int(self.now)
        for counter in self._counters_of(row):
            counter.remove(self.now)

    def _counters_of(self, row: Row) -> list[ChildCounter]:
        return [self._counters[name, row.parent_id] for name in counters_of(row)]

    # --- reading ---

    def _list_of(self, row: Row) -> RowList:
        return self._lists.setdefault((row.stream, row.parent_id), RowList())

    def row_list(self, stream: str, parent_id: str | None = None) -> RowList:
        """Return the list that the API shows now."""
        return self._lists.get((stream, parent_id)) or RowList()

    def find(self, stream: str, row_id: str) -> Row | None:
        """Return a row that the API shows now."""
        row = self._by_id[stream].get(row_id)
        return row if row and row.deleted_s is None else None

    def users(self) -> list[Fields]:
        """Return the rows of `/users`, which may be changed."""
        if self._users is None:
            self._users = self.life.people.user_rows(self.company.seed, self.start)
        return self._users

    def counter(self, name: str, parent_id: str | None) -> ChildCounter | None:
        """Return a counter of a parent; None before its first child."""
        return self._counters.get((name, parent_id))

    def count_view(self, row: Row) -> None:
        """Count a view of a post by a request without `saveViews=false`."""
        row.reads += 1
        row.version += 1
        self.views_counted += 1

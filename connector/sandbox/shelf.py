"""The rows of one list that are shown now, kept in the order of their dates."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, overload

from connector.sandbox.row import Row

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

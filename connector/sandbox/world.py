"""The world of the sandbox: rows in lists, their counters, as time goes by."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from typing import Any, overload

from connector.sandbox.company import Company
from connector.sandbox.life import CURVES, DAY, HOUR, PARENTS, Happening, Life
from connector.sandbox.row import Fields, Row, moment, seconds
from connector.sandbox.switches import STREAMS


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
BY_HAND = 500_000_000


class Numbers:
    """Hands out ids."""

    def __init__(self, seed: int) -> None:
        self._prefix = f"{seed % 65536:04x}"
        self._given: Counter[tuple[str, int]] = Counter()

    def give(self, row: Row) -> None:
        self._give(row, FIRST_ID[row.stream])

    def give_by_hand(self, row: Row) -> None:
        self._give(row, BY_HAND)

    def next_by_hand(self) -> int:
        """A place among rows of the same date behind all that life has made."""
        return BY_HAND + self._given.total()

    def _give(self, row: Row, base: int) -> None:
        self._given[row.stream, base] += 1
        number = base + self._given[row.stream, base]
        row.id = f"{row.appears_s:08x}{self._prefix}{number:012x}" if row.stream == "nps" else str(number)


ROW_KEYS = {"date", "appears", "hidden", "deleted_at"}


class World:
    """Pure given its company and the time; rows added by hand have ids of their own range."""

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
        for counter in counters_of(row):
            self._tallies[counter, row.parent_id].came(row.appears_s)

    def _hide(self, row: Row) -> None:
        if row.deleted_s is not None:
            return
        self._shelf_of(row).take(row)
        row.deleted_s = int(self.now)
        for counter in counters_of(row):
            self._tallies[counter, row.parent_id].went(self.now)

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

    def rows(self, stream: str, parent_id: str | None = None) -> list[Row]:
        """Every row ever shown, deleted ones included, in the order of appearance."""
        rows = self._ever[stream].values()
        return [row for row in rows if parent_id is None or row.parent_id == parent_id]

    def posts_shown(self) -> list[Row]:
        """The posts that the API holds now: drafts, scheduled and segmented ones too, oldest first."""
        return list(self.shelf("posts").rows)

    def users(self) -> list[Fields]:
        """The rows of `/users`."""
        return self.life.people.listed(self.company.seed, self.opened)

    def tally(self, counter: str, parent_id: str | None) -> Tally | None:
        return self._tallies.get((counter, parent_id))

    def rate(self, stream: str, parent_id: str | None = None, at: datetime | None = None) -> float:
        """The generator's true rate in rows an hour."""
        when = at.timestamp() if at else self.now
        if self.company.still and when >= self.opened:
            return 0.0
        if parent_id is None and stream not in CURVES:
            return self.life.flat()[stream] / 24
        parents = (
            [self._ever[PARENTS[stream]].get(parent_id)]
            if parent_id
            else self._ever[PARENTS[stream]].values()
        )
        return sum(
            CURVES[stream].at((when - row.starts_s) / HOUR) * row.appeal
            for row in parents
            if row and row.appeal
        )

    # --- meddling ---

    def add(self, stream: str, parent_id: str | None = None, **fields: Any) -> str:
        """Insert one row now, or when `appears` says; life takes no notice of it."""
        parent = self._ever[PARENTS[stream]][parent_id] if parent_id is not None else None
        appears = seconds(fields["appears"]) if "appears" in fields else int(self.now)
        date = seconds(fields["date"]) if "date" in fields else appears
        number = self._numbers.next_by_hand()
        row = Row(stream, number, date, appears, self.life.write, parent, starts_s=appears)
        row.hidden = bool(fields.get("hidden", False))
        self.hides |= row.hidden
        row.given = {key: value for key, value in fields.items() if key not in ROW_KEYS and key != "id"}
        self._numbers.give_by_hand(row)
        row.id = str(fields.get("id", row.id))
        if appears > self.now:
            heappush(self._pending, Happening(appears, row.seq, "appears", row))
        else:
            self._show(row)
        return row.id

    def delete(self, stream: str, row_id: str) -> None:
        """Take a row away; lists below it answer 404 from now on."""
        self._hide(self._ever[stream][row_id])

    def move(self, stream: str, row_id: str, parent_id: str) -> None:
        """Hang a row below another parent, as where two feature requests are merged."""
        row = self._ever[stream][row_id]
        self._shelf_of(row).take(row)
        for counter in counters_of(row):
            self._tallies[counter, row.parent_id].went(self.now)
        row.parent = self._ever[PARENTS[stream]][parent_id]
        self._shelf_of(row).put(row)
        for counter in counters_of(row):
            self._tallies[counter, row.parent_id].came(int(self.now))

    def set(self, stream: str, row_id: str, **fields: Any) -> None:
        """Write fields over those of a row; `date` and `hidden` too."""
        row = self._ever[stream][row_id]
        if "date" in fields:
            self._shelf_of(row).take(row)
            row.date_s = seconds(fields["date"])
            self._shelf_of(row).put(row)
        row.hidden = bool(fields.get("hidden", row.hidden))
        self.hides |= row.hidden
        row.change({key: value for key, value in fields.items() if key not in ROW_KEYS})
        self._shelf_of(row).touch()

    def count_view(self, row: Row) -> None:
        """A post was read without `saveViews=false`."""
        row.reads += 1
        row.version += 1
        self.views_counted += 1

    @property
    def time(self) -> datetime:
        return moment(self.now)

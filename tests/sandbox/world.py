"""The world of the sandbox, with rows that a test adds, changes and deletes."""

from datetime import datetime
from heapq import heappush
from typing import Any

from connector.sandbox import Row
from connector.sandbox.life import CURVES, PARENTS, Change, Curve
from connector.sandbox.rows import HOUR, seconds
from connector.sandbox.world import World

# The ids of rows that a test adds start here, so that the generated rows keep theirs.
ADDED_ID = 500_000_000
ROW_KEYS = {"date", "appears", "hidden", "deleted_at"}


def rate_at(curve: Curve, age: float) -> float:
    """Return the rows per hour at a parent of this age in hours."""
    return curve.peak * 2 ** (-age / curve.half) + curve.floor if age >= 0 else 0.0


class EditableWorld(World):
    """The world as its company and the time make it, and the changes of a test."""

    # --- reading ---

    def rows(self, stream: str, parent_id: str | None = None) -> list[Row]:
        """Return every row ever shown, deleted ones included, in the order of appearance."""
        rows = self._by_id[stream].values()
        return [row for row in rows if parent_id is None or row.parent_id == parent_id]

    def posts_shown(self) -> list[Row]:
        """Return the posts that the API holds now, drafts and scheduled ones too, oldest first."""
        return list(self.row_list("posts").rows)

    def rate(self, stream: str, parent_id: str | None = None, at: datetime | None = None) -> float:
        """Return the true rate of the generator in rows per hour."""
        when = at.timestamp() if at else self.now
        if self.company.still and when >= self.start:
            return 0.0
        if parent_id is None and stream not in CURVES:
            return self.life.rates_per_day()[stream] / 24
        parents = (
            [self._by_id[PARENTS[stream]].get(parent_id)]
            if parent_id
            else self._by_id[PARENTS[stream]].values()
        )
        return sum(
            rate_at(self.life.curves[stream], (when - row.starts_s) / HOUR) * row.appeal
            for row in parents
            if row and row.appeal
        )

    # --- changing ---

    def add(self, stream: str, parent_id: str | None = None, **fields: Any) -> str:
        """Add one row now, or at `appears`, and return its id; the generated rows do not change."""
        parent = self._by_id[PARENTS[stream]][parent_id] if parent_id is not None else None
        appears = seconds(fields["appears"]) if "appears" in fields else int(self.now)
        date = seconds(fields["date"]) if "date" in fields else appears
        # Behind all generated rows of the same date.
        number = ADDED_ID + self._ids.total()
        row = Row(stream, number, date, appears, self.life.write, parent, starts_s=appears)
        row.hidden = bool(fields.get("hidden", False))
        self.has_hidden |= row.hidden
        row.overrides = {key: value for key, value in fields.items() if key not in ROW_KEYS and key != "id"}
        self._ids.give(row, ADDED_ID)
        row.id = str(fields.get("id", row.id))
        if appears > self.now:
            heappush(self._pending, Change(appears, row.seq, "appears", row))
        else:
            self._show(row)
        return row.id

    def delete(self, stream: str, row_id: str) -> None:
        """Delete a row; the lists of its children answer 404 from now on."""
        self._hide(self._by_id[stream][row_id])

    def move(self, stream: str, row_id: str, parent_id: str) -> None:
        """Give a row another parent, as where two feature requests are merged."""
        row = self._by_id[stream][row_id]
        self._list_of(row).remove(row)
        for counter in self._counters_of(row):
            counter.remove(self.now)
        row.parent = self._by_id[PARENTS[stream]][parent_id]
        self._list_of(row).add(row)
        for counter in self._counters_of(row):
            counter.add(int(self.now))

    def set(self, stream: str, row_id: str, **fields: Any) -> None:
        """Write these fields over those of a row; also `date` and `hidden`."""
        row = self._by_id[stream][row_id]
        if "date" in fields:
            self._list_of(row).remove(row)
            row.date_s = seconds(fields["date"])
            self._list_of(row).add(row)
        row.hidden = bool(fields.get("hidden", row.hidden))
        self.has_hidden |= row.hidden
        row.change({key: value for key, value in fields.items() if key not in ROW_KEYS})
        self._list_of(row).clear_cache()

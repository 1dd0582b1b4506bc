"""The world of the sandbox, with rows that a test adds, changes and deletes."""

from datetime import datetime
from heapq import heappush
from typing import Any

from connector.sandbox import Row
from connector.sandbox.life import CURVES, PARENTS, Curve, Happening
from connector.sandbox.row import HOUR, seconds
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
        rows = self._ever[stream].values()
        return [row for row in rows if parent_id is None or row.parent_id == parent_id]

    def posts_shown(self) -> list[Row]:
        """Return the posts that the API holds now, drafts and scheduled ones too, oldest first."""
        return list(self.shelf("posts").rows)

    def rate(self, stream: str, parent_id: str | None = None, at: datetime | None = None) -> float:
        """Return the true rate of the generator in rows per hour."""
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
            rate_at(CURVES[stream], (when - row.starts_s) / HOUR) * row.appeal
            for row in parents
            if row and row.appeal
        )

    # --- changing ---

    def add(self, stream: str, parent_id: str | None = None, **fields: Any) -> str:
        """Add one row now, or at `appears`, and return its id; the generated rows do not change."""
        parent = self._ever[PARENTS[stream]][parent_id] if parent_id is not None else None
        appears = seconds(fields["appears"]) if "appears" in fields else int(self.now)
        date = seconds(fields["date"]) if "date" in fields else appears
        # Behind all generated rows of the same date.
        number = ADDED_ID + self._numbers.total()
        row = Row(stream, number, date, appears, self.life.write, parent, starts_s=appears)
        row.hidden = bool(fields.get("hidden", False))
        self.hides |= row.hidden
        row.given = {key: value for key, value in fields.items() if key not in ROW_KEYS and key != "id"}
        self._numbers.give(row, ADDED_ID)
        row.id = str(fields.get("id", row.id))
        if appears > self.now:
            heappush(self._pending, Happening(appears, row.seq, "appears", row))
        else:
            self._show(row)
        return row.id

    def delete(self, stream: str, row_id: str) -> None:
        """Delete a row; the lists of its children answer 404 from now on."""
        self._hide(self._ever[stream][row_id])

    def move(self, stream: str, row_id: str, parent_id: str) -> None:
        """Give a row another parent, as where two feature requests are merged."""
        row = self._ever[stream][row_id]
        self._shelf_of(row).take(row)
        for tally in self._tallies_of(row):
            tally.went(self.now)
        row.parent = self._ever[PARENTS[stream]][parent_id]
        self._shelf_of(row).put(row)
        for tally in self._tallies_of(row):
            tally.came(int(self.now))

    def set(self, stream: str, row_id: str, **fields: Any) -> None:
        """Write these fields over those of a row; also `date` and `hidden`."""
        row = self._ever[stream][row_id]
        if "date" in fields:
            self._shelf_of(row).take(row)
            row.date_s = seconds(fields["date"])
            self._shelf_of(row).put(row)
        row.hidden = bool(fields.get("hidden", row.hidden))
        self.hides |= row.hidden
        row.change({key: value for key, value in fields.items() if key not in ROW_KEYS})
        self._shelf_of(row).touch()

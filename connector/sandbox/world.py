"""The account's content as it stands at a moment, and the means to meddle with it."""

from collections import defaultdict
from datetime import datetime
from heapq import heapify, heappop, heappush
from typing import Any

from connector.sandbox.company import Company
from connector.sandbox.life import DAY, HOUR, Happening, Life
from connector.sandbox.numbering import Numbers
from connector.sandbox.rates import CURVES, PARENTS
from connector.sandbox.row import Fields, Row, moment, seconds
from connector.sandbox.shelf import Shelf
from connector.sandbox.switches import STREAMS
from connector.sandbox.tally import Tally, counters_of

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

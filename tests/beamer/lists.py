"""A list as the API may page it, with every unknown as a switch, and a reader that follows `next_page`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from connector.beamer.pagination import Cursor, Habits, PageRows, PageRules, next_page, params_of

START = datetime(2026, 1, 1, tzinfo=UTC)
MOST_REQUESTS = 500

Item = tuple[str, datetime]


def items(*seconds: float, prefix: str = "r") -> list[Item]:
    """Rows at so many seconds after START, as the list holds them."""
    return [(f"{prefix}{n}", START + timedelta(seconds=at)) for n, at in enumerate(seconds)]


@dataclass
class FakeList:
    """`hidden` rows are filtered out after a page is cut; `between` may change the list after a request."""

    rows: list[Item]
    cap: int = 10
    first_page: int = 0
    order: str = "newest"
    from_inclusive: bool = True
    to_inclusive: bool = True
    hidden: frozenset[str] = frozenset()
    pages: str = "kept"
    dates: str = "kept"
    between: Callable[["FakeList", int], None] = lambda _, __: None
    asked: list[dict[str, str]] = field(default_factory=list)

    def answer(self, params: dict[str, str]) -> PageRows:
        self.asked.append(params)
        rows = self._ordered([row for row in self.rows if self.dates == "ignored" or self._in(row, params)])
        page = [row for row in self._cut(rows, params) if row[0] not in self.hidden]
        self.between(self, len(self.asked))
        return PageRows(tuple(name for name, _ in page), tuple(date for _, date in page), len(page))

    def _in(self, row: Item, params: dict[str, str]) -> bool:
        since, until = (_date(params.get(name)) for name in ("dateFrom", "dateTo"))
        late = since is None or row[1] > since or (self.from_inclusive and row[1] == since)
        return late and (until is None or row[1] < until or (self.to_inclusive and row[1] == until))

    def _ordered(self, rows: list[Item]) -> list[Item]:
        if self.order == "unordered":
            return sorted(rows, key=lambda row: sha256(row[0].encode()).digest())
        return sorted(rows, key=lambda row: (row[1], row[0]), reverse=self.order == "newest")

    def _cut(self, rows: list[Item], params: dict[str, str]) -> Sequence[Item]:
        number = max(0, int(params.get("page", self.first_page)) - self.first_page)
        if self.pages == "ignored":
            number = 0
        if self.pages == "clamped":
            number = min(number, max(0, len(rows) - 1) // self.cap)
        return rows[number * self.cap : (number + 1) * self.cap]


def _date(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


@dataclass
class Reading:
    """A list followed to its end, or to the error that ended it."""

    habits: Habits
    found: set[str] = field(default_factory=set)
    requests: int = 0

    def follow(self, source: FakeList, *, by_date: bool, cursor: Cursor | None = None) -> "Reading":
        going: Cursor | None = cursor or Cursor()
        while going is not None:
            self.requests += 1
            assert self.requests < MOST_REQUESTS, "paging for ever"
            page = source.answer(params_of(going, self.habits, source.cap))
            turned = next_page(going, page, self.habits, PageRules(source.cap, by_date))
            self.habits, going = turned.habits, turned.next
            self.found |= set(page.ids)
        return self


def read(source: FakeList, habits: Habits | None = None, *, by_date: bool = False) -> Reading:
    return Reading(habits or Habits()).follow(source, by_date=by_date)


def names(source: FakeList) -> set[str]:
    return {name for name, _ in source.rows} - source.hidden

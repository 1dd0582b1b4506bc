"""What happens at the account beside its everyday life: late rows, crowds, rows that nobody can use."""

import re
from datetime import timedelta
from random import Random
from typing import Any

from connector.sandbox import Row
from connector.sandbox.rows import iso
from tests.sandbox import Sandbox
from tests.simulation.choices import Choices
from tests.simulation.plan import Plan

PARENT = {
    "comments": "posts",
    "reactions": "posts",
    "feature_request_comments": "feature_requests",
    "feature_request_votes": "feature_requests",
}
LIST = re.compile(r"/(posts|requests)/(\d+)/(\w+)$")
NAMES = {
    ("posts", "comments"): "comments",
    ("posts", "reactions"): "reactions",
    ("requests", "comments"): "feature_request_comments",
    ("requests", "votes"): "feature_request_votes",
}
ALONE = {"posts": "posts", "requests": "feature_requests"}
# What makes a row one of no use where it is none of these values, and a value that mends it.
FIELD = {"nps": "score", "comments": "text", "feature_request_comments": "text"}
MENDED: dict[str, Any] = {"nps": 7, "comments": "words", "feature_request_comments": "words"}
KINDS = (
    *("late", "late", "crowd", "crowd", "unusable", "words", "swap", "removal", "nobody", "post", "post"),
)
# These happen to a row that is there; the others make one come at a place.
TO_A_ROW = ("swap", "removal", "goes")
# What happens, in plain values: its kind, where it happens, and as much as it needs besides.
Event = tuple[Any, ...]
LONG = "Words, words, words, and a smile \N{GRINNING FACE}. "


def stream_of(path: str) -> str:
    """The stream whose list is at a path, however that begins."""
    if found := LIST.search(path):
        return NAMES[found[1], found[3]]
    return ALONE.get(path.rstrip("/").rpartition("/")[2], "nps")


class Happenings:
    """Meddles with the world; `quarantined` are the rows that are to end in quarantine."""

    def __init__(self, plan: Plan, box: Sandbox, choices: Choices) -> None:
        self._plan = plan
        self._box = box
        self._choices = choices
        self._rng = Random(f"{plan.seed}/happenings")
        self._mending = Random(f"{plan.seed}/mended")
        self.mended: set[tuple[str, str]] = set()
        """Rows that were of no use at first."""
        self._popular: list[Row] = []
        self.quarantined: set[tuple[str, str]] = set()
        self.cut: set[tuple[str, str | None]] = set()
        """Lists from which a row has gone by hand."""
        self.belated: set[tuple[str, str]] = set()
        """Rows that came with an older date than others before them."""

    def between(self, number: int, where: str) -> str:
        """Something happens between two syncs, or nothing does."""
        event = self._choices.choose(f"happening {number} {where}", None, self._drawn)
        done = self.happen(event) if event else ""
        return "; ".join(filter(None, (done, self._mend(f"mending {number} {where}"))))

    def happen(self, event: Event) -> str:
        """Do what was chosen, if it still can be done; return it in words."""
        kind, stream, where, *more = event
        world = self._box.world
        if kind in TO_A_ROW:
            if (row := world.find(stream, where)) is None:
                return "nothing, as the row is gone"
            return str(getattr(self, f"_{kind}")(row))
        if where is not None and world.find(PARENT[stream], where) is None:
            return "nothing, as the list is gone"
        return str(getattr(self, f"_{kind}")(stream, where, *more))

    def in_the_middle(self, path: str) -> Event | None:
        """Draw a row that comes to, or goes from, the very list that is being read."""
        found, stream = LIST.search(path), stream_of(path)
        parent = found[2] if found else None
        if parent is not None and self._box.world.find(PARENT[stream], parent) is None:
            return None
        rows = self._box.world.row_list(stream, parent).rows
        if rows and self._rng.random() < 0.5:
            return "goes", stream, self._rng.choice((rows[-1], rows[0], self._rng.choice(rows))).id
        return "comes", stream, parent

    def beside(self, row: Row) -> str:
        """Another row comes to the same list."""
        if row.parent is not None and row.parent.deleted_s is not None:
            return "nothing, as the list is gone"
        return f"{row.stream} {self._add(row.stream, row.parent_id, userId='u-1')} comes beside {row.id}"

    def popular(self) -> str:
        """A few reactions more to the same posts: their counters move all the time, late if they are slow.

        So few that a page holds them: of what takes several, none counts as unannounced.
        """
        posts = [row for row in self._box.world.row_list("posts").rows if row.date <= self._box.now()]
        self._popular = [row for row in self._popular if row in posts] or posts[-4:]
        for post in (*self._popular, *self._popular):
            self._add("reactions", post.id)
        return f"2 reactions come at each of {[post.id for post in self._popular]}"

    # --- what is drawn ---

    def _drawn(self) -> Event | None:
        kind = self._rng.choice(KINDS)
        if kind in ("swap", "removal", "post"):
            where: Event | None = getattr(self, f"_draw_{kind}")()
            return where and (kind, *where)
        if (place := self._place()) is None:
            return None
        return (kind, *getattr(self, f"_draw_{kind}")(*place))

    def _place(self) -> tuple[str, str | None] | None:
        """A list of children, or the answers to the survey."""
        stream = self._rng.choice((*PARENT, "nps", "nps"))
        if stream == "nps":
            return stream, None
        parents = [
            row for row in self._box.world.row_list(PARENT[stream]).rows if row.date <= self._box.now()
        ]
        return (stream, self._rng.choice(parents[-8:]).id) if parents else None

    def _draw_late(self, stream: str, parent: str | None) -> Event:
        return stream, parent, self._rng.choice((0.0, 0.5, 0.9, 1.0))

    def _draw_crowd(self, stream: str, parent: str | None) -> Event:
        return stream, parent, self._rng.choice((3, 10, 11, 13, 22, 33)), self._rng.choice((0, 1, 30))

    def _draw_unusable(self, stream: str, parent: str | None) -> Event:
        if self._mending.random() < 0.3:
            # A parent whose child list can be read.
            return "feature_requests", None
        return stream, parent

    def _draw_words(self, stream: str, parent: str | None) -> Event:
        return stream, parent, self._rng.choice((1, 5, 1_500))

    def _draw_nobody(self, stream: str, parent: str | None) -> Event:
        return stream, parent, self._rng.choice(("0", "-1", "null", " ", "None", "undefined", 0))

    def _draw_swap(self) -> Event | None:
        if (place := self._place()) is None or not (rows := self._box.world.row_list(*place).rows):
            return None
        return place[0], self._rng.choice(rows).id

    def _draw_removal(self) -> Event | None:
        stream = self._rng.choice(("posts", "feature_requests", *PARENT, "nps"))
        alive = [row for row in self._box.world.rows(stream) if row.deleted_s is None]
        return (stream, self._rng.choice(alive).id) if alive else None

    def _draw_post(self) -> Event:
        stream = self._rng.choice(("posts", "feature_requests"))
        return stream, None, self._rng.randrange(1, 86_400) if self._rng.random() < 0.3 else 0

    # --- what happens ---

    def _add(self, stream: str, parent: str | None, **fields: Any) -> str:
        if stream in ("posts", "feature_requests") and "date" not in fields:
            fields["date"] = self._free_second(stream)
        return self._box.world.add(stream, parent, **fields)

    def _free_second(self, stream: str, earlier: int = 0) -> str:
        taken = {row.date_s for row in self._box.world.row_list(stream).rows}
        at = int(self._box.now().timestamp()) - earlier
        while at in taken:
            at -= 1
        return iso(at)

    def _remove(self, row: Row) -> None:
        self.cut.add((row.stream, row.parent_id))
        self._box.world.delete(row.stream, row.id)

    def _late(self, stream: str, parent: str | None, share: float) -> str:
        """A row comes with a date that lies behind the newest one's, by as much as the lookback allows."""
        rows = self._box.world.row_list(stream, parent).rows
        lookback = min(member.lookback for member in self._plan.members)
        newest = rows[-1].date if rows else self._box.now()
        oldest = newest - lookback * share
        if parent is not None and (above := self._box.world.find(PARENT[stream], parent)):
            oldest = max(oldest, above.date)
        row = self._add(stream, parent, date=iso(oldest.timestamp()))
        self.belated.add((stream, row))
        return f"{stream} {row} comes late, of {oldest:%m-%d %H:%M}"

    def _crowd(self, stream: str, parent: str | None, number: int, apart: int) -> str:
        now = self._box.now()
        for n in range(number):
            date = now - timedelta(seconds=apart * (number - n))
            self._add(stream, parent, date=iso(date.timestamp()))
        return f"{number} {stream} come at {parent}"

    def _unusable(self, stream: str, parent: str | None) -> str:
        row = self._add(stream, parent, **{FIELD.get(stream, "userId"): {"not": "this"}})
        self.quarantined.add((stream, row))
        return f"{stream} {row} comes, of no use"

    def _words(self, stream: str, parent: str | None, times: int) -> str:
        name = {"nps": "feedback"}.get(stream, "text")
        row = self._add(stream, parent, **{name: LONG * times, "userId": "u-1 \N{SNOWMAN}"})
        return f"{stream} {row} has many words"

    def _mend(self, name: str) -> str:
        """Now and then a row of no use is shown as it should have been."""
        rows = sorted(self.quarantined)

        def draw() -> tuple[str, str] | None:
            return self._mending.choice(rows) if rows and self._mending.random() < 0.1 else None

        mended = self._choices.choose(name, None, draw)
        if mended not in self.quarantined:
            return ""
        stream, row_id = mended
        self._box.world.set(stream, row_id, **{FIELD.get(stream, "userId"): MENDED.get(stream, "u-1")})
        self.quarantined.remove((stream, row_id))
        self.mended.add((stream, row_id))
        return f"{stream} {row_id} is mended"

    def _nobody(self, stream: str, parent: str | None, user: str | int) -> str:
        return f"{stream} {self._add(stream, parent, userId=user)} is of nobody"

    def _swap(self, gone: Row) -> str:
        """A row goes and another comes: no counter moves."""
        fields = {"reaction": gone.fields["reaction"]} if gone.stream == "reactions" else {}
        self._remove(gone)
        return f"{gone.stream} {gone.id} goes for {self._add(gone.stream, gone.parent_id, **fields)}"

    def _removal(self, row: Row) -> str:
        self._remove(row)
        return f"{row.stream} {row.id} goes"

    _goes = _removal

    def _comes(self, stream: str, parent: str | None) -> str:
        return f"{stream} {self._add(stream, parent)} comes"

    def _post(self, stream: str, _parent: None, earlier: int) -> str:
        if not earlier:
            return self._comes(stream, None)
        row = self._add(stream, None, date=self._free_second(stream, earlier))
        self.belated.add((stream, row))
        return f"{stream} {row} comes late"

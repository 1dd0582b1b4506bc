"""What happens at the account beside its everyday life: late rows, crowds, rows that nobody can use."""

import re
from datetime import timedelta
from random import Random
from typing import Any

from connector.sandbox import Row
from connector.sandbox.rows import iso
from tests.sandbox import Sandbox
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
LONG = "Words, words, words, and a smile \N{GRINNING FACE}. "


def stream_of(path: str) -> str:
    """The stream whose list is at a path, however that begins."""
    if found := LIST.search(path):
        return NAMES[found[1], found[3]]
    return ALONE.get(path.rstrip("/").rpartition("/")[2], "nps")


class Happenings:
    """Meddles with the world; `quarantined` are the rows that are to end in quarantine."""

    def __init__(self, plan: Plan, box: Sandbox) -> None:
        self._plan = plan
        self._box = box
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

    def between(self) -> str:
        """Something happens between two syncs."""
        kind = self._rng.choice(
            (
                "late",
                "late",
                "crowd",
                "crowd",
                "unusable",
                "words",
                "swap",
                "removal",
                "nobody",
                "post",
                "post",
            )
        )
        done: str = getattr(self, f"_{kind}")()
        return done + self._mend()

    def in_the_middle(self, path: str) -> str:
        """A row comes to, or goes from, the very list that is being read."""
        found, stream = LIST.search(path), stream_of(path)
        parent = found[2] if found else None
        if parent is not None and self._box.world.find(PARENT[stream], parent) is None:
            return "nothing, as the list is gone"
        rows = self._box.world.row_list(stream, parent).rows
        if rows and self._rng.random() < 0.5:
            row = self._rng.choice((rows[-1], rows[0], self._rng.choice(rows)))
            self._remove(row)
            return f"{stream} {row.id} goes"
        return f"{stream} {self._add(stream, parent)} comes"

    def beside(self, row: Row) -> str:
        """Another row comes to the same list."""
        if row.parent is not None and row.parent.deleted_s is not None:
            return "nothing, as the list is gone"
        return f"{row.stream} {self._add(row.stream, row.parent_id, userId='u-1')} comes beside {row.id}"

    # --- kinds ---

    def _place(self) -> tuple[str, str | None] | None:
        """A list of children, or the answers to the survey."""
        stream = self._rng.choice((*PARENT, "nps", "nps"))
        if stream == "nps":
            return stream, None
        parents = [
            row for row in self._box.world.row_list(PARENT[stream]).rows if row.date <= self._box.now()
        ]
        return (stream, self._rng.choice(parents[-8:]).id) if parents else None

    def _add(self, stream: str, parent: str | None, **fields: Any) -> str:
        if stream in ("posts", "feature_requests") and "date" not in fields:
            fields["date"] = self._free_second(stream)
        return self._box.world.add(stream, parent, **fields)

    def _free_second(self, stream: str) -> str:
        taken = {row.date_s for row in self._box.world.row_list(stream).rows}
        at = int(self._box.now().timestamp())
        while at in taken:
            at -= 1
        return iso(at)

    def _remove(self, row: Row) -> None:
        self.cut.add((row.stream, row.parent_id))
        self._box.world.delete(row.stream, row.id)

    def _late(self) -> str:
        """A row comes with a date that lies behind the newest one's, by as much as the lookback allows."""
        if (place := self._place()) is None:
            return "nothing"
        stream, parent = place
        rows = self._box.world.row_list(stream, parent).rows
        lookback = min(member.lookback for member in self._plan.members)
        newest = rows[-1].date if rows else self._box.now()
        oldest = newest - lookback * self._rng.choice((0.0, 0.5, 0.9, 1.0))
        if parent is not None and (above := self._box.world.find(PARENT[stream], parent)):
            oldest = max(oldest, above.date)
        row = self._add(stream, parent, date=iso(oldest.timestamp()))
        self.belated.add((stream, row))
        return f"{stream} {row} comes late, of {oldest:%d %H:%M}"

    def _crowd(self) -> str:
        if (place := self._place()) is None:
            return "nothing"
        stream, parent = place
        number = self._rng.choice((3, 10, 11, 13, 22, 33))
        apart = self._rng.choice((0, 1, 30))
        now = self._box.now()
        for n in range(number):
            date = now - timedelta(seconds=apart * (number - n))
            self._add(stream, parent, date=iso(date.timestamp()))
        return f"{number} {stream} come at {parent}"

    def _unusable(self) -> str:
        if (place := self._place()) is None:
            return "nothing"
        stream, parent = place
        if self._mending.random() < 0.3:
            # A parent whose child list can be read.
            stream, parent = "feature_requests", None
        row = self._add(stream, parent, **{FIELD.get(stream, "userId"): {"not": "this"}})
        self.quarantined.add((stream, row))
        return f"{stream} {row} comes, of no use"

    def _words(self) -> str:
        if (place := self._place()) is None:
            return "nothing"
        stream, parent = place
        name = {"nps": "feedback"}.get(stream, "text")
        text = LONG * self._rng.choice((1, 5, 1_500))
        row = self._add(stream, parent, **{name: text, "userId": "u-1 \N{SNOWMAN}"})
        return f"{stream} {row} has many words"

    def popular(self) -> str:
        """A few reactions more to the same posts: their counters move all the time, late if they are slow.

        So few that a page holds them: of what takes several, none counts as unannounced.
        """
        posts = [row for row in self._box.world.row_list("posts").rows if row.date <= self._box.now()]
        self._popular = [row for row in self._popular if row in posts] or posts[-4:]
        for post in (*self._popular, *self._popular):
            self._add("reactions", post.id)
        return f"2 reactions come at each of {[post.id for post in self._popular]}"

    def _mend(self) -> str:
        """Now and then a row of no use is shown as it should have been."""
        rows = sorted(self.quarantined)
        if not rows or self._mending.random() >= 0.1:
            return ""
        stream, row_id = self._mending.choice(rows)
        self._box.world.set(stream, row_id, **{FIELD.get(stream, "userId"): MENDED.get(stream, "u-1")})
        self.quarantined.remove((stream, row_id))
        self.mended.add((stream, row_id))
        return f"; {stream} {row_id} is mended"

    def _nobody(self) -> str:
        if (place := self._place()) is None:
            return "nothing"
        stream, parent = place
        user = self._rng.choice(("0", "-1", "null", " ", "None", "undefined", 0))
        return f"{stream} {self._add(stream, parent, userId=user)} is of nobody"

    def _swap(self) -> str:
        """A row goes and another comes: no counter moves."""
        if (place := self._place()) is None or not (rows := self._box.world.row_list(*place).rows):
            return "nothing"
        gone = self._rng.choice(rows)
        fields = {"reaction": gone.fields["reaction"]} if gone.stream == "reactions" else {}
        self._remove(gone)
        return f"{gone.stream} {gone.id} goes for {self._add(gone.stream, gone.parent_id, **fields)}"

    def _removal(self) -> str:
        stream = self._rng.choice(("posts", "feature_requests", *PARENT, "nps"))
        rows = self._box.world.rows(stream)
        alive = [row for row in rows if row.deleted_s is None]
        if not alive:
            return "nothing"
        row = self._rng.choice(alive)
        self._remove(row)
        return f"{stream} {row.id} goes"

    def _post(self) -> str:
        stream = self._rng.choice(("posts", "feature_requests"))
        if self._rng.random() < 0.3:
            rows = self._box.world.row_list(stream).rows
            taken = {row.date_s for row in rows}
            at = int(self._box.now().timestamp()) - self._rng.randrange(1, 86_400)
            while at in taken:
                at -= 1
            row = self._add(stream, None, date=iso(at))
            self.belated.add((stream, row))
            return f"{stream} {row} comes late"
        return f"{stream} {self._add(stream, None)} comes"

"""Blocks of some ten parents that tile all time, each looked at with one request."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise
from operator import itemgetter

from connector.clock import SECOND, within

SIZE = 10
# Far enough below a block's oldest row that a window asked a second wider does not show it.
MARGIN = 2 * SECOND


@dataclass(frozen=True, slots=True)
class Block:
    """A half-open window of dates, open towards the past or the future where one is None.

    `members` are the parents known in it, oldest first.
    """

    since: datetime | None
    until: datetime | None
    members: tuple[str, ...]

    def covers(self, date: datetime) -> bool:
        return within(date, self.since, self.until)


def cut(parents: Iterable[tuple[datetime, str]], size: int = SIZE) -> list[Block]:
    """Cut parents into blocks, newest block first.

    Cut from the oldest, so that a new parent falls into a block that is not full and costs no page of
    its own. Parents of one second are never parted: no date lies between them.
    """
    groups: list[list[tuple[datetime, str]]] = [[]]
    for _, tied in groupby(sorted(parents), key=itemgetter(0)):
        together = list(tied)
        if groups[-1] and len(groups[-1]) + len(together) > size:
            groups.append([])
        groups[-1].extend(together)
    bounds: list[datetime | None] = [None, *(_bound(a, b) for a, b in pairwise(groups)), None]
    blocks = [
        Block(bounds[i], bounds[i + 1], tuple(name for _, name in group)) for i, group in enumerate(groups)
    ]
    return blocks[::-1]


def _bound(older: Sequence[tuple[datetime, str]], newer: Sequence[tuple[datetime, str]]) -> datetime:
    """As close below the newer block's oldest row as it may be.

    On a full page, newest first, only what is as old as its last row can be hidden: whatever lies in
    the gap between two blocks must therefore fall into the older one, where it comes first.
    """
    below, above = older[-1][0], newer[0][0]
    return max(below + SECOND, above - MARGIN)

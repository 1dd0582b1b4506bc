"""What was there at first sight and was not read yet, and when it will have been; without I/O."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil, inf

from connector.beamer.catalogue import Stream, children
from connector.state.ledger import Balance
from connector.state.progress import ChildState, ParentState
from connector.sync.forecasting.activity import whole
from connector.sync.forecasting.forecast import share
from connector.sync.lists import counters
from connector.sync.planning import candidates
from connector.sync.planning.picture import Picture
from connector.sync.planning.probes import Turn


@dataclass(frozen=True, slots=True)
class FirstReads:
    """How many lists of each stream held rows at first sight and were not read, and the requests that takes.

    `discovering`: the streams not yet listed to their far end, so that more may follow.
    """

    lists: Mapping[str, int]
    requests: int
    discovering: Sequence[str]


def first_reads(pictures: Sequence[Picture]) -> FirstReads:
    """What was there before the account was known, and was not read yet."""
    lists: Counter[str] = Counter()
    requests, discovering = 0, []
    for picture in map(whole, pictures):
        for stream in candidates.wanted(picture.catalogue, picture.policy):
            if stream.parent is None:
                if (
                    children(picture.catalogue, stream.name)
                    and not picture.progress.streams[stream.name].complete
                ):
                    discovering.append(stream.name)
                continue
            parents = picture.progress.parents.get(stream.parent, {})
            for child in picture.progress.children.get(stream.name, {}).values():
                parent = parents.get(child.parent)
                # A list that was seen to move since its parent is known waits like any other.
                unread = candidates.is_history(child) and candidates.asks(child)
                if parent and not parent.gone and unread:
                    lists[stream.name] += 1
                    requests += _pages(picture, stream, parent, child)
    return FirstReads(lists, requests, tuple(dict.fromkeys(discovering)))


def _pages(picture: Picture, stream: Stream, parent: ParentState, child: ChildState) -> int:
    """A list of a parent older than the start date is not read further back than that."""
    young = parent.date >= picture.policy.start
    return max(1, ceil(counters.total(child.counter) / stream.cap)) if young else 1


def read_by(first: FirstReads, now: datetime, balance: Balance) -> datetime | None:
    """When all this will have been read at the latest; None if not within a year."""
    if balance.level is None or first.requests <= balance.level:
        return now
    per_day = (balance.per_day or 0.0) * share(Turn.HISTORY)
    days = (first.requests - balance.level) / per_day if per_day else inf
    return now + timedelta(days=days) if days < 366 else None

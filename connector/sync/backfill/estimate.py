"""What a backfill will cost, from counters already known and a few counts; without I/O.

Of a parent older than the range only part of its children may lie in it: how many, nobody knows before
they are read. So there is a least and a most of everything.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from connector.beamer.streams import Stream
from connector.domain.state import Progress
from connector.state.backfills import Range
from connector.sync.backfill import decisions
from connector.sync.lists import counters

# A full page by date shows a row of the page before it once more.
OVERLAP = 1


@dataclass(slots=True)
class Estimate:
    """Requests and rows, at the least and at the most; `users` is the most that rows can have.

    `unknown` are child lists of which no counter was seen yet: each that is not empty adds a request or more.
    `failures` says by stream why its rows could not be counted; they are missing in the numbers. With
    `unanswered`, Beamer was at fault for one of them, and not the budget.
    """

    requests: int = 0
    most_requests: int = 0
    rows: int = 0
    most_rows: int = 0
    users: int = 0
    unknown: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    unanswered: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def to_count(
    catalogue: Mapping[str, Stream], wanted: Range, progress: Progress
) -> list[tuple[Stream, datetime | None, datetime | None]]:
    """The lists of which a count has to be asked for, each with its range: those not known from syncs."""
    found = []
    for reading in decisions.first_readings(catalogue, wanted, decisions.redated(progress.parents, wanted)):
        state = progress.streams.get(reading.stream)
        child_streams = decisions.read_for(catalogue, wanted.streams, catalogue[reading.stream])
        if not child_streams or state is None or not state.complete:
            found.append((catalogue[reading.stream], reading.since, reading.until))
    return found


def estimate(
    catalogue: Mapping[str, Stream], wanted: Range, progress: Progress, counted: Mapping[str, int]
) -> Estimate:
    """Estimate a backfill; `counted` are rows by stream, as Beamer's counts tell them."""
    found, moved = Estimate(), decisions.redated(progress.parents, wanted)
    for reading in decisions.first_readings(catalogue, wanted, moved):
        _add_list(found, catalogue[reading.stream], wanted, reading.until, progress, counted)
        for child in decisions.read_for(catalogue, wanted.streams, catalogue[reading.stream]):
            _add_children(found, child, wanted, progress, moved.get(reading.stream, {}))
    return found


def _add_list(
    found: Estimate,
    stream: Stream,
    wanted: Range,
    until: datetime | None,
    progress: Progress,
    counted: Mapping[str, int],
) -> None:
    dates = [parent.date for parent in progress.parents.get(stream.name, {}).values() if not parent.gone]
    if stream.name in counted:
        total = inside = counted[stream.name]
    else:
        total = sum(until is None or date < until for date in dates)
        inside = sum(wanted.holds(date) for date in dates)
    pages = 1 + max(0, total - 1) // (stream.cap - OVERLAP)
    found.requests += pages
    found.most_requests += pages
    if stream.name in wanted.streams:
        _add_rows(found, stream, inside if stream.name not in counted else 0, inside)


def _add_rows(found: Estimate, stream: Stream, least: int, most: int) -> None:
    found.rows += least
    found.most_rows += most
    found.users += most if stream.by_user else 0


def _add_children(
    found: Estimate, child: Stream, wanted: Range, progress: Progress, moved: Mapping[str, datetime]
) -> None:
    parents = progress.parents.get(child.parent or "", {})
    lists = progress.children.get(child.name, {})
    if not parents:
        found.unknown.append(child.name)
        return
    for name, parent in parents.items():
        if parent.gone or (wanted.until and parent.date >= wanted.until and name not in moved):
            continue
        counter = lists[name].counter if name in lists else counters.UNKNOWN
        if not counters.moved(counter, None):
            continue
        total = counters.total(counter)
        whole = parent.date >= wanted.since and wanted.until is None
        # Behind a list whose rows fill its last page an empty one proves the end.
        pages = total // child.cap + 1
        found.requests += pages if whole else 1
        found.most_requests += pages if whole else max(1, total // (child.cap - OVERLAP) + 1)
        _add_rows(found, child, total if whole else 0, total)

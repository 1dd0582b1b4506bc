"""What a backfill will cost, from the counters that syncs know and a few counts.

Of a parent older than the range, some children may lie in the range; how many is unknown before they
are read. So each number has a minimum and a maximum.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from connector.beamer.pagination import BeamerRequest, iso
from connector.beamer.streams import Stream
from connector.domain.state import Progress
from connector.errors import ConnectorError, NoBudget, NotSent, Transient
from connector.state import progress
from connector.state.backfills import Range, Reading
from connector.state.spending import ALLOWANCE
from connector.sync.backfill import decisions
from connector.sync.context import RunContext
from connector.sync.lists import counters

# A full page by date shows a row of the page before it once more.
OVERLAP = 1


@dataclass(slots=True)
class Estimate:
    """The minimum and maximum of requests and rows; `users` is the most that the rows can have.

    `unknown` are child lists without a known counter: each that is not empty adds a request or more.
    `failures` says by stream why its rows could not be counted; the numbers do not include them. With
    `unanswered`, Beamer did not answer one of the counts.
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


def requested_estimate(context: RunContext, wanted: Range) -> Estimate:
    """Estimate a backfill; request the counts of the lists that no sync has seen, one request each."""
    known = progress.load_readonly(context.database, context.identity.name)
    counted, failures, unanswered = {}, {}, False
    for reading in to_count(context.catalogue, wanted, known):
        try:
            count = _count(context, reading)
        except ConnectorError as error:
            # A failed count never fails the backfill: the estimate names it.
            failures[reading.stream] = error.what
            unanswered = unanswered or not isinstance(error, NoBudget)
            if isinstance(error, NotSent) or (isinstance(error, Transient) and not error.again):
                # Beamer does not answer: the next count would time out as well.
                break
            continue
        if count is not None:
            counted[reading.stream] = count
    estimated = estimate(context.catalogue, wanted, known, counted)
    estimated.failures, estimated.unanswered = failures, unanswered
    return estimated


def _count(context: RunContext, reading: Reading) -> int | None:
    bounds = {"dateFrom": reading.since, "dateTo": reading.until}
    params = tuple((name, iso(date)) for name, date in bounds.items() if date)
    path = f"{context.catalogue[reading.stream].path}/count"
    with context.ledger.taken(ALLOWANCE, context.clock.now()) as at:
        answer = context.beamer.get(BeamerRequest(path, params), at)
    context.ledger.note_beamer_time(answer.date, context.clock.now())
    return counters.counted(answer.body)


def to_count(catalogue: Mapping[str, Stream], wanted: Range, known: Progress) -> list[Reading]:
    """Return the lists whose rows must be counted: those that no sync has seen completely."""
    return [
        reading
        for reading in decisions.first_readings(catalogue, wanted)
        if not decisions.child_streams(catalogue, wanted, reading.stream)
        or reading.stream not in known.streams
        or not known.streams[reading.stream].complete
    ]


def estimate(
    catalogue: Mapping[str, Stream], wanted: Range, known: Progress, counted: Mapping[str, int]
) -> Estimate:
    """Estimate a backfill; `counted` are Beamer's numbers of rows, by stream."""
    estimated = Estimate()
    moved = decisions.moved_parents(known.parents, wanted.until) if wanted.until else {}
    for reading in decisions.first_readings(catalogue, wanted):
        _add_list(estimated, catalogue[reading.stream], wanted, known, counted)
        for child in decisions.child_streams(catalogue, wanted, reading.stream):
            _add_children(estimated, child, wanted, known, moved.get(reading.stream, {}))
    return estimated


def _add_list(
    estimated: Estimate, stream: Stream, wanted: Range, known: Progress, counted: Mapping[str, int]
) -> None:
    if (count := counted.get(stream.name)) is not None:
        total, least, most = count, 0, count
    else:
        parents = known.parents.get(stream.name, {}).values()
        dates = [parent.date for parent in parents if not parent.gone]
        total = sum(wanted.until is None or date < wanted.until for date in dates)
        least = most = sum(wanted.holds(date) for date in dates)
    pages = 1 + max(0, total - 1) // (stream.cap - OVERLAP)
    estimated.requests += pages
    estimated.most_requests += pages
    if stream.name in wanted.streams:
        _add_rows(estimated, stream, least, most)


def _add_rows(estimated: Estimate, stream: Stream, least: int, most: int) -> None:
    estimated.rows += least
    estimated.most_rows += most
    estimated.users += most if stream.by_user else 0


def _add_children(
    estimated: Estimate, child: Stream, wanted: Range, known: Progress, moved: Mapping[str, datetime]
) -> None:
    parents = known.parents.get(child.parent or "", {})
    lists = known.children.get(child.name, {})
    if not parents:
        estimated.unknown.append(child.name)
        return
    for name, parent in parents.items():
        if parent.gone or (wanted.until and parent.date >= wanted.until and name not in moved):
            continue
        counter = lists[name].counter if name in lists else counters.UNKNOWN
        if not counters.moved(counter, None):
            continue
        total = counters.total(counter)
        whole = parent.date >= wanted.since and wanted.until is None
        # After a list whose rows fill its last page, an empty page proves the end.
        pages = total // child.cap + 1
        estimated.requests += pages if whole else 1
        estimated.most_requests += pages if whole else max(1, total // (child.cap - OVERLAP) + 1)
        _add_rows(estimated, child, total if whole else 0, total)

"""Asks Beamer for the counts that the estimate of a backfill needs, at most one a list."""

from datetime import datetime

from connector.beamer.pagination import iso
from connector.beamer.request import BeamerRequest
from connector.beamer.streams import Stream
from connector.errors import ConnectorError, NoBudget, NotSent, Transient
from connector.state import progress
from connector.state.backfills import Range
from connector.state.spending import ALLOWANCE
from connector.sync.backfill.estimate import Estimate, estimate, to_count
from connector.sync.context import Parts
from connector.sync.lists import counters


def requested_estimate(parts: Parts, wanted: Range) -> Estimate:
    """Estimate from the counters that syncs have seen, and count the lists that no sync has seen."""
    known = progress.load_readonly(parts.database, parts.identity.name)
    counted, failures, unanswered = {}, {}, False
    for stream, since, until in to_count(parts.catalogue, wanted, known):
        try:
            count = _count(parts, stream, since, until)
        except ConnectorError as error:
            # An estimate never fails a backfill: it says what it could not count.
            failures[stream.name] = error.what
            unanswered = unanswered or not isinstance(error, NoBudget)
            if isinstance(error, NotSent) or (isinstance(error, Transient) and not error.again):
                # Beamer does not answer: the next count would wait as long.
                break
            continue
        if count is not None:
            counted[stream.name] = count
    found = estimate(parts.catalogue, wanted, known, counted)
    found.failures, found.unanswered = failures, unanswered
    return found


def _count(parts: Parts, stream: Stream, since: datetime | None, until: datetime | None) -> int | None:
    bounds = {"dateFrom": since and iso(since), "dateTo": until and iso(until)}
    params = tuple((name, value) for name, value in bounds.items() if value)
    with parts.ledger.taken(ALLOWANCE, parts.clock.now()) as at:
        answer = parts.beamer.get(BeamerRequest(f"{stream.path}/count", params), at)
    parts.ledger.note_beamer_time(answer.date, parts.clock.now())
    return counters.counted(answer.body)

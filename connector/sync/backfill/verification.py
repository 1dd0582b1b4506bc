"""Compare a backfill's lists with Beamer's counts and counters at its end: were all rows read?

One answer may be wrong. So a list that showed fewer rows than expected, or was unknown (404), is read a
second time. If its parent is not listed any more, the parent was deleted. Any other difference leaves the
backfill unfinished, so that the next run compares again; it is accepted if it is the same after an hour.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from connector.beamer.client import BeamerClient
from connector.beamer.pagination import Answer, BeamerRequest, Cursor, Habits, iso, params_of
from connector.beamer.rows import Row, parse
from connector.beamer.streams import Stream
from connector.domain.period import SECOND, within
from connector.errors import ConnectorError, DatabaseUnreachable, KeyRefused, NoBudget, Stopped
from connector.state.backfills import BackfillWriter, Key, Reading, Stage
from connector.state.leases import Lease
from connector.state.spending import ALLOWANCE
from connector.sync.backfill import decisions
from connector.sync.backfill.decisions import ParentDates
from connector.sync.backfill.handler import HistoryHandler
from connector.sync.context import RunState
from connector.sync.lists import counters
from connector.sync.report import Difference

log = structlog.get_logger()

# A difference that stays the same for so long is accepted.
ACCEPTED_AFTER = timedelta(hours=1)
# How often a request of the comparison is sent until it succeeds.
ATTEMPTS = 2


class Verification:
    """Compares the lists that one backfill read to their ends; it began at `began_at`.

    `dates` are those of the parents that syncs know.
    """

    def __init__(
        self,
        run: RunState,
        handler: HistoryHandler,
        writer: BackfillWriter,
        began_at: datetime,
        *,
        beamer: BeamerClient,
        lease: Lease,
        most_requests: int | None,
        dates: ParentDates,
    ) -> None:
        self._run = run
        self._handler = handler
        self._writer = writer
        self._began_at = began_at
        self._beamer = beamer
        self._lease = lease
        self._most = most_requests
        self._dates = dates
        self._unlisted: set[Key] = set()

    def compare(self) -> bool:
        """Compare the lists, and queue those that are read again; return False if there are none."""
        for reading in list(self._handler.ended.values()):
            if self._run.report.stopped:
                break
            # A child list's counter was read before the list was read a second time.
            if not (reading.has_parent and reading.key in self._handler.read_twice):
                self._compare(reading)
        return self._handler.left

    def conclude(self) -> None:
        """Report remaining differences; lists of deleted parents, and differences an hour old, are done."""
        report, now = self._run.report, self._run.clock.now()
        for reading in list(self._handler.ended.values()):
            if reading.key in self._unlisted and reading.found is None:
                report.skipped_parents += 1
                self._done(reading)
                continue
            parent = reading.parent if reading.has_parent else None
            settled = reading.found is not None and now - (reading.doubted_at or now) >= ACCEPTED_AFTER
            numbers = {"expected": reading.expected, "found": reading.found}
            report.differences.append(Difference(reading.stream, parent, **numbers, settled=settled))
            log.warning("backfill_differs", stream=reading.stream, parent=parent, **numbers, believed=settled)
            if settled:
                self._done(reading)

    def _compare(self, reading: Reading) -> None:
        if reading.has_parent and not reading.whole and reading.found is not None:
            # An empty part: its second reading proves more than a counter.
            self._handler.read_again(reading)
            return
        trusted = not self._run.progress.streams[reading.stream].distrusted
        expected = self._expected(reading)
        if self._run.report.stopped:
            return
        if expected != reading.expected:
            reading = replace(reading, expected=expected, doubted_at=self._run.clock.now())
        if not decisions.lacks_rows(reading, trusted=trusted):
            self._done(reading)
        elif reading.key in self._handler.read_twice:
            self._writer.keep(reading, self._run.clock.now())
            self._handler.ended[reading.key] = reading
        else:
            self._handler.read_again(reading)

    def _done(self, reading: Reading) -> None:
        del self._handler.ended[reading.key]
        self._writer.keep(replace(reading, stage=Stage.DONE), self._run.clock.now())

    def _expected(self, reading: Reading) -> int | None:
        """Return how many rows a list has now; None if unknown."""
        if not reading.has_parent:
            known = self._known(reading)
            enough = known is not None and (reading.found or 0) >= known
            return known if enough else self._count(reading)
        return self._counter(reading)

    # --- lists without parent ---

    def _count(self, reading: Reading) -> int | None:
        """Return how many rows Beamer counts, or else how many parents the syncs know."""
        stream = self._run.catalogue[reading.stream]
        since, until = reading.since, self._until(reading) - SECOND
        params = {**({"dateFrom": iso(since)} if since else {}), "dateTo": iso(until)}
        answer = self._get(stream, f"{stream.path}/count", params)
        count = counters.counted(answer.body) if answer else None
        if count is not None:
            return count
        log.info("not_compared", stream=reading.stream)
        return self._known(reading)

    def _known(self, reading: Reading) -> int | None:
        """Return how many parents the syncs know; None if they have not seen all of them."""
        if not self._run.progress.streams[reading.stream].complete or reading.stream not in self._dates:
            return None
        dates = self._dates[reading.stream].values()
        return sum(within(date, reading.since, self._until(reading)) for date in dates)

    def _until(self, reading: Reading) -> datetime:
        return min(reading.until or self._began_at, self._began_at)

    # --- child lists ---

    def _counter(self, reading: Reading) -> int | None:
        """Return the counter in the parent's current row, or else the last known one.

        A parent that is not listed any more is noted.
        """
        child = self._run.catalogue[reading.stream]
        parents = self._run.catalogue[child.parent or ""]
        known = self._dates.get(parents.name, {}).get(reading.parent)
        dates = dict.fromkeys(filter(None, (known, reading.date)))
        for date in dates:
            params = {
                **parents.params,
                **params_of(Cursor.around(date, date + SECOND), Habits(), parents.cap),
            }
            answer = self._get(parents, parents.path, params)
            if answer is None or not isinstance(answer.body, list):
                return reading.expected
            for raw in answer.body:
                row = parse(raw, parents.fields)
                if isinstance(row, Row) and row.id == reading.parent:
                    return decisions.expected_rows(counters.read(raw, child.counters))
            if len(answer.body) >= parents.cap:
                # It may be on the next page.
                return reading.expected
        if dates:
            self._unlisted.add(reading.key)
        return reading.expected

    # --- requests ---

    def _get(self, stream: Stream, path: str, params: Mapping[str, str]) -> Answer | None:
        """Send one request, from the backfill's allowance; return None if there is no usable answer."""
        run = self._run
        if stream.filtered and run.ignore_filters:
            params = {**params, "ignoreFilters": "true"}
        request = BeamerRequest(path, tuple(params.items()))
        for _ in range(ATTEMPTS):
            if run.report.stopped:
                return None
            if run.report.has_spent(self._most):
                run.stop(f"--max-requests {self._most} reached")
                return None
            try:
                with run.ledger.taken(ALLOWANCE, run.clock.now(), lease=self._lease) as at:
                    run.report.requests[stream.name] += 1
                    answer = self._beamer.get(request, at)
            except NoBudget as none:
                run.stop(none.what, none.until)
                return None
            except Stopped:
                run.report.requests[stream.name] -= 1
                run.interrupt()
                return None
            except (KeyRefused, DatabaseUnreachable):
                raise
            except ConnectorError as error:
                log.info("not_compared", stream=stream.name, error=error.what)
                continue
            run.report.pages += 1
            return answer
        return None

"""Whether a backfill read all there is: its lists compared with Beamer's counts and counters at the end.

One answer may be a gateway's: a list that showed fewer rows than are expected, or was not known (404), is
read once more in a later pass. Where its parent is not listed any more, the parent was deleted. What still
differs leaves the backfill unfinished, so that the next run looks again; what is the same after an hour is
believed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from connector.beamer.client import BeamerClient
from connector.beamer.pagination import Cursor, Habits, iso, params_of
from connector.beamer.request import Answer, BeamerRequest
from connector.beamer.rows import Row, parse
from connector.beamer.streams import Stream
from connector.clock import SECOND, within
from connector.errors import ConnectorError, DatabaseUnreachable, KeyRefused, NoBudget, Stopped
from connector.state.backfills import Backfill, HistoryIntake, Reading
from connector.state.leases import Lease
from connector.state.spending import ALLOWANCE
from connector.sync.backfill import decisions
from connector.sync.backfill.handler import HistoryAnswers
from connector.sync.context import Work
from connector.sync.lists import counters
from connector.sync.report import Difference

log = structlog.get_logger()

# So long the same numbers have to stand before they are believed.
BELIEVED_AFTER = timedelta(hours=1)
# A request of the comparison that fails is tried once more.
ATTEMPTS = 2


class Verification:
    """Compares the lists of one backfill that were read to their ends.

    `dates` are those that parents are known by from syncs, by stream and id.
    """

    def __init__(
        self,
        work: Work,
        answers: HistoryAnswers,
        intake: HistoryIntake,
        of: Backfill,
        *,
        beamer: BeamerClient,
        lease: Lease,
        most_requests: int | None,
        dates: Mapping[str, Mapping[str, datetime]],
    ) -> None:
        self._work = work
        self._answers = answers
        self._intake = intake
        self._of = of
        self._beamer = beamer
        self._lease = lease
        self._most = most_requests
        self._dates = dates
        # Parents that were not listed any more.
        self._unlisted: set[int] = set()
        self._again: set[int] = set()

    def compare_again(self) -> bool:
        """Compare what was read, and put into the queue what is to be read again; False if nothing is."""
        more = False
        for group in self._parts():
            more |= self._compare_by_count(group)
        for of in [each for each in self._answers.ended.values() if each.of_child]:
            if self._work.report.stopped:
                return more
            if of.id not in self._again:
                more |= self._compare_by_counter(of)
        return more

    def conclude(self) -> None:
        """Say what still differs; deleted parents, and what was the same an hour ago, are let go."""
        report = self._work.report
        for of in list(self._answers.ended.values()):
            if of.id in self._unlisted and of.found is None:
                report.skipped_parents += 1
                self._close(of)
            elif of.of_child and not decisions.lacks(of, trusted=self._trusted(of)):
                self._close(of)
            elif of.doubted_at:
                self._differs(of)

    def _differs(self, of: Reading) -> None:
        parent = of.parent if of.of_child else None
        settled = of.found is not None and self._age(of) >= BELIEVED_AFTER
        difference = Difference(of.stream, parent, of.expected, of.found, settled=settled)
        self._work.report.differences.append(difference)
        log.warning(
            "backfill_differs",
            stream=of.stream,
            parent=parent,
            expected=of.expected,
            found=of.found,
            believed=settled,
        )
        if settled:
            self._close(of)

    def _age(self, of: Reading) -> timedelta:
        """Since when it has shown the same number."""
        return self._work.clock.now() - (of.doubted_at or self._work.clock.now())

    def _close(self, of: Reading) -> None:
        self._answers.ended.pop(of.id, None)
        self._intake.close(of, self._work.clock.now())

    def _once_more(self, of: Reading) -> bool:
        self._again.add(of.id)
        self._intake.keep(of, self._work.clock.now())
        self._answers.once_more(of)
        return True

    # --- lists without parent ---

    def _parts(self) -> list[list[Reading]]:
        """The lists without parent, each with its parts together."""
        groups: dict[str, list[Reading]] = {}
        for of in self._answers.ended.values():
            if not of.of_child:
                groups.setdefault(of.stream, []).append(of)
        return list(groups.values())

    def _compare_by_count(self, parts: Sequence[Reading]) -> bool:
        """Compare a list with Beamer's count, as a whole first; read those parts again that lack rows."""
        found = sum(of.found or 0 for of in parts)
        whole = replace(parts[0], since=_first(parts), until=_last(parts))
        expected = self._known(whole)
        if expected is None or found < expected:
            expected = self._expected(whole)
        if self._work.report.stopped:
            return False
        if expected is None or found >= expected:
            for of in parts:
                self._close(of)
            return False
        more = False
        for of in parts:
            due = expected if len(parts) == 1 else self._expected(of)
            if self._work.report.stopped:
                return more
            if due is None or (of.found or 0) >= due:
                self._close(of)
                continue
            now = self._work.clock.now()
            same = of.doubted_at is not None and of.expected == due
            of = replace(of, expected=due, doubted_at=of.doubted_at if same else now)
            if of.id not in self._again:
                more |= self._once_more(of)
            else:
                self._answers.ended[of.id] = of
                self._intake.keep(of, now)
        return more

    def _expected(self, of: Reading) -> int | None:
        """How many rows Beamer counts; where it does not, how many parents syncs know."""
        stream = self._work.catalogue[of.stream]
        until = min(of.until or self._of.began_at, self._of.began_at)
        bounds = {"dateFrom": of.since and iso(of.since), "dateTo": iso(until - SECOND)}
        params = {name: value for name, value in bounds.items() if value}
        if stream.filtered and self._work.ignore_filters:
            params["ignoreFilters"] = "true"
        answer = self._get(stream, BeamerRequest(f"{stream.path}/count", tuple(params.items())))
        count = counters.counted(answer.body) if answer else None
        if count is not None:
            return count
        log.info("not_compared", stream=of.stream)
        return self._known(of)

    def _known(self, of: Reading) -> int | None:
        """How many parents syncs know; None where they have not seen all of them."""
        if not self._work.progress.streams[of.stream].complete or of.stream not in self._dates:
            return None
        until = min(of.until or self._of.began_at, self._of.began_at)
        return sum(within(date, of.since, until) for date in self._dates[of.stream].values())

    # --- lists of parents ---

    def _compare_by_counter(self, of: Reading) -> bool:
        """Look at the parent as it is now, and read its list again unless that explains what was found."""
        listed, counter = self._parent(of)
        if self._work.report.stopped:
            return False
        if listed is False:
            self._unlisted.add(of.id)
        if listed and of.found is not None and counter is not None:
            of = replace(of, expected=counter)
            if not decisions.lacks(of, trusted=self._trusted(of)):
                self._close(of)
                return False
        if listed and counter != of.expected:
            of = replace(of, expected=counter, doubted_at=self._work.clock.now())
        return self._once_more(replace(of, cursor=decisions.anew(of)))

    def _trusted(self, of: Reading) -> bool:
        return not self._work.progress.streams[of.stream].distrusted

    def _parent(self, of: Reading) -> tuple[bool | None, int | None]:
        """Whether the parent is still listed (None: nobody can tell), and its counter."""
        child = self._work.catalogue[of.stream]
        above = self._work.catalogue[child.parent or ""]
        known = self._dates.get(above.name, {}).get(of.parent)
        listed: bool | None = None
        for date in dict.fromkeys(filter(None, (known, of.date))):
            params = {
                **above.params,
                **params_of(Cursor.around(date, date + SECOND), Habits(), above.cap),
                **({"ignoreFilters": "true"} if above.filtered and self._work.ignore_filters else {}),
            }
            answer = self._get(above, BeamerRequest(above.path, tuple(params.items())))
            if answer is None or not isinstance(answer.body, list):
                return None, None
            listed = False
            for raw in answer.body:
                row = parse(raw, above.fields)
                if isinstance(row, Row) and row.id == of.parent:
                    counter = counters.read(raw, child.counters)
                    return True, None if counters.UNKNOWN in counter else counters.total(counter)
            if len(answer.body) >= above.cap:
                # It may be on the page behind.
                return None, None
        return listed, None

    # --- asking ---

    def _get(self, stream: Stream, request: BeamerRequest) -> Answer | None:
        """Ask once, out of the backfill's allowance; None where there is no answer to compare with."""
        work = self._work
        for _ in range(ATTEMPTS):
            if work.report.stopped:
                return None
            if self._most is not None and work.report.requests_spent >= self._most:
                work.stop(f"--max-requests {self._most} reached")
                return None
            try:
                with work.ledger.taken(ALLOWANCE, work.clock.now(), lease=self._lease) as at:
                    answer = self._beamer.get(request, at)
            except NoBudget as none:
                work.stop(none.what, none.until)
                return None
            except Stopped:
                work.interrupt()
                return None
            except (KeyRefused, DatabaseUnreachable):
                self._charge(stream)
                raise
            except ConnectorError as error:
                self._charge(stream)
                log.info("not_compared", stream=stream.name, error=error.what)
                continue
            self._charge(stream)
            work.report.pages += 1
            return answer
        return None

    def _charge(self, stream: Stream) -> None:
        self._work.report.requests[stream.name] += 1
        self._intake.requests += 1


def _first(parts: Sequence[Reading]) -> datetime | None:
    dates = [of.since for of in parts if of.since]
    return min(dates) if len(dates) == len(parts) else None


def _last(parts: Sequence[Reading]) -> datetime | None:
    dates = [of.until for of in parts if of.until]
    return max(dates) if len(dates) == len(parts) else None

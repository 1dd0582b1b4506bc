"""What one sync asks: plan, fetch, plan again after each page, and keep what was learnt for the next one."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta

from connector.state.intake import Intake
from connector.state.leases import Fence
from connector.state.progress import Progress
from connector.sync.parts import Parts
from connector.sync.planning.opening import agenda_for, at_hand, planner_for
from connector.sync.reading import completeness
from connector.sync.reading.answers import Answers
from connector.sync.reading.fetching import Fetching
from connector.sync.reading.work import Work
from connector.sync.report import Report

# A permission that a key did not have is asked about again.
FILTERS_TRIED_AGAIN = timedelta(days=7)


class Collector:
    """Collects what is new for one connection, in one run."""

    def __init__(
        self,
        parts: Parts,
        progress: Progress,
        intake: Intake,
        fence: Fence,
        report: Report,
        *,
        most_requests: int | None = None,
        before: datetime | None = None,
        reserved: float = 0.0,
        accepted: Callable[[Report], None] = lambda _: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._planner = parts.planner or planner_for(limited=parts.ledger.limits.usable is not None)
        self._work = Work.begun(parts, progress, intake, report)
        self._before = before
        self._reserved = reserved
        self._most = most_requests
        self._fetching = Fetching(
            self._work,
            Answers(self._work, self._planner),
            beamer=parts.beamer,
            fence=fence,
            pool=parts.pool,
            most_requests=most_requests,
            accepted=accepted,
            chance=chance,
        )

    @property
    def beamer_now(self) -> datetime:
        return self._work.beamer_now

    def run(self, started: datetime) -> None:
        """Ask everything there is to ask, until all is answered, the budget ends, or a stop is asked for.

        Raises KeyRefused or Unreachable when it makes no sense to go on, Busy when the lease is lost.
        """
        work = self._work
        balance = work.ledger.balance(started)
        work.per_day, work.at_hand = balance.per_day, at_hand(balance, self._most)
        work.agenda = agenda_for(
            balance, started, before=self._before, reserved=self._reserved, most=self._most
        )
        self._doubt_filters(started)
        for probe in self._planner.begin(work.picture, started):
            work.agenda.add(probe)
        ended = False
        try:
            self._fetching.run(refused=balance.refused)
            self._fetching.check_permissions()
            self._say_what_is_saved_for()
            ended = True
        finally:
            work.notebook.learn(work.picture, work.beamer_now)
            completeness.write_down(work, ended=ended)

    # --- before and after ---

    def _doubt_filters(self, started: datetime) -> None:
        """A key that might not ignore filters may have been allowed to since."""
        work = self._work
        if work.policy.ignore_filters is None and work.ignore_filters is False:
            tried = work.identity.filters_at
            if tried is None or started - tried > FILTERS_TRIED_AGAIN:
                work.ignore_filters = None

    def _say_what_is_saved_for(self) -> None:
        """When enough will have gathered for the look that is worth most."""
        work = self._work
        short = work.agenda.saving
        work.report.saving = work.agenda.saves_for
        if short and work.per_day and not work.report.stopped:
            work.report.next_try = work.clock.now() + timedelta(days=short / work.per_day)

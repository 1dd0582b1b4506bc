"""The loop: take a request out of the budget, fetch a page, see what came back, and go on from there."""

import random
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import datetime, timedelta
from functools import partial

import structlog

from connector.beamer.catalogue import Stream
from connector.beamer.door import Answer, Beamer
from connector.clock import Clock
from connector.errors import (
    BadAnswer,
    Forbidden,
    Gone,
    KeyRefused,
    NoBudget,
    Stopped,
    TooMany,
    Transient,
)
from connector.state.connections import Identity
from connector.state.intake import Intake
from connector.state.leases import Fence
from connector.state.ledger import Ledger
from connector.state.progress import Progress
from connector.sync import candidates, completeness
from connector.sync.answers import Answers
from connector.sync.everywhere import LookEverywhere
from connector.sync.planner import MostWorth, Planner
from connector.sync.policy import Policy
from connector.sync.pool import Pool
from connector.sync.probes import Probe, ask
from connector.sync.report import Report
from connector.sync.troubles import Troubles
from connector.sync.work import Work

log = structlog.get_logger()


class Collector:
    """Collects what is new for one connection, in one run."""

    def __init__(
        self,
        *,
        catalogue: Mapping[str, Stream],
        identity: Identity,
        policy: Policy,
        progress: Progress,
        beamer: Beamer,
        ledger: Ledger,
        intake: Intake,
        fence: Fence,
        clock: Clock,
        pool: Pool,
        report: Report,
        most_requests: int | None = None,
        planner: Planner | None = None,
        before: datetime | None = None,
        accepted: Callable[[Report], None] = lambda _: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        told = policy.ignore_filters
        self._work = Work(
            catalogue,
            identity,
            policy,
            progress,
            ledger,
            intake,
            clock,
            report,
            first_page=identity.first_page if policy.first_page is None else policy.first_page,
            ignore_filters=identity.ignore_filters if told is None else told,
            planner=planner or (LookEverywhere() if ledger.limits.usable is None else MostWorth()),
        )
        self._beamer = beamer
        self._fence = fence
        self._pool = pool
        self._most = most_requests
        self._accepted = accepted
        self._chance = chance
        self._before = before
        self._answers = Answers(self._work)
        self._pages = 0

    @property
    def beamer_now(self) -> datetime:
        return self._work.beamer_now

    # --- the loop ---

    def run(self, started: datetime) -> None:
        """Ask everything there is to ask, until all is answered, the budget ends, or a stop is asked for.

        Raises KeyRefused or Unreachable when it makes no sense to go on, Busy when the lease is lost.
        """
        work = self._work
        balance = work.ledger.balance(started)
        work.per_day, work.at_hand = balance.per_day, balance.level
        work.agenda.picked, work.agenda.at_hand = balance.drawn, balance.level
        if self._before and work.per_day:
            work.agenda.per_run = work.per_day * ((started - self._before) / timedelta(days=1))
        self._troubles = Troubles(work, self._chance, refused=balance.refused)
        self._doubt_filters(started)
        for probe in work.planner.begin(work.picture, started):
            work.agenda.add(probe)
        try:
            while self._turn():
                pass
            self._check_permissions()
            self._say_what_is_saved_for()
        finally:
            work.notebook.learn(work.picture, work.beamer_now)
            completeness.write_down(work)

    def _turn(self) -> bool:
        """One round: send what may be sent, then settle what has landed."""
        agenda, report = self._work.agenda, self._work.report
        self._dispatch()
        if not agenda.flights:
            return False
        landed = self._pool.landed(agenda.flights, 3600)
        if not landed:
            log.warning("requests_abandoned", requests=len(agenda.flights))
            report.stopped = "asked to stop; requests in flight were abandoned"
            return False
        for flight, probe in agenda.land(landed):
            self._settle(probe, flight)
        return True

    def _dispatch(self) -> None:
        work = self._work
        while self._may_send() and (probe := work.agenda.next(self._alone)):
            self._answers.plan_again(probe)
            probe.habits = candidates.habits_of(work.progress.streams[probe.stream.name], work.first_page)
            probe.ignore_filters = probe.stream.filtered and work.ignore_filters is not False
            request = ask(probe, probe.habits, ignore_filters=probe.ignore_filters)
            try:
                at = work.ledger.take(probe.purpose, work.clock.now(), self._fence)
            except NoBudget as none:
                work.stop(none.what, none.until)
                return
            work.report.requests[probe.stream.name] += 1
            due = max(filter(None, (at, probe.not_before)))
            log.debug("request", stream=probe.stream.name, parent=probe.parent, reason=probe.reason)
            work.agenda.fly(self._pool.submit(partial(self._beamer.get, request, due)), probe)

    def _may_send(self) -> bool:
        work = self._work
        if work.report.stopped or not work.agenda.waits:
            return False
        if work.clock.stopped:
            work.stop("asked to stop")
            return False
        if self._most is not None and work.report.asked >= self._most:
            work.stop(f"--max-requests {self._most} reached")
            return False
        # A refused key stops everything: until the first answer nothing else is tried.
        return len(work.agenda.flights) < (1 if work.careful else self._pool.size)

    def _alone(self, probe: Probe) -> bool:
        untried = probe.stream.filtered and self._work.ignore_filters is None
        return untried or self._work.progress.streams[probe.stream.name].short_ends is None

    def _settle(self, probe: Probe, flight: Future[Answer]) -> None:
        troubles = self._troubles
        try:
            answer = flight.result()
            troubles.answered()
            self._answers.accept(probe, answer)
            troubles.went_well(probe)
        except Stopped:
            self._work.stop("asked to stop")
        except Gone:
            troubles.answered()
            if not self._answers.skip(probe):
                troubles.not_known(probe)
        except Forbidden:
            troubles.answered()
            troubles.forbidden(probe)
        except TooMany as error:
            troubles.too_many(probe, error)
        except Transient as error:
            troubles.transient(probe, error)
        except BadAnswer as error:
            troubles.give_up(probe, error)
        else:
            self._pages += 1
            self._accepted(self._work.report)

    # --- before and after ---

    def _doubt_filters(self, started: datetime) -> None:
        """A key that might not ignore filters may have been allowed to since."""
        work = self._work
        if work.policy.ignore_filters is None and work.ignore_filters is False:
            tried = work.identity.filters_at
            if tried is None or started - tried > candidates.PROOF_LASTS:
                work.ignore_filters = None

    def _say_what_is_saved_for(self) -> None:
        """When enough will have gathered for the look that is worth most."""
        work = self._work
        short = work.agenda.saving
        if short and work.per_day and not work.report.stopped:
            work.report.next_try = work.clock.now() + timedelta(days=short / work.per_day)

    def _check_permissions(self) -> None:
        """One forbidden collection is reported and the others go on; if all are, the key is refused."""
        report = self._work.report
        if report.forbidden and not self._pages and not report.stopped and not report.incomplete:
            raise KeyRefused(
                "The Beamer key may read none of the collections asked for (403).",
                means="Nothing was read.",
                todo="Give it read permissions under Settings > API in Beamer, or use another key.",
            )

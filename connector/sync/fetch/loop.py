"""The loop of a run: take the next probe, request its page, handle the answer."""

import random
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import structlog

from connector.beamer.client import BeamerClient
from connector.beamer.pagination import Answer
from connector.beamer.streams import CATALOGUE
from connector.domain.state import Progress
from connector.errors import (
    BadAnswer,
    ConnectorError,
    DatabaseUnreachable,
    Declined,
    Forbidden,
    Gone,
    KeyRefused,
    NoBudget,
    NothingAllowed,
    NotSent,
    Stopped,
    TooMany,
    Transient,
    Unreachable,
)
from connector.state import hints
from connector.state.engine import Database
from connector.state.leases import Lease
from connector.state.ledger import Charge
from connector.state.page_writer import PageWriter
from connector.sync.context import RunContext, RunState
from connector.sync.fetch import completeness
from connector.sync.fetch.failures import FailureHandler
from connector.sync.fetch.handler import PageHandler
from connector.sync.lists import passes
from connector.sync.planning import candidates
from connector.sync.planning.probes import Job, Probe, request_for
from connector.sync.planning.start import available, planner_for, queue_for
from connector.sync.report import Report
from connector.sync.threads import Pool

log = structlog.get_logger()


class HandlesPages(Protocol):
    """The part of a page handler that the loop uses."""

    def accept(self, job: Job, answer: Answer) -> None:
        """Accept one page; raises Transient, or BadAnswer, if the answer is not a page."""

    def skip(self, job: Job) -> bool:
        """Handle 404: the parent was deleted while its child list waited. Return False if it has none."""

    def plan_again(self, job: Job) -> None:
        """Plan a job again by what was learnt since it was put into the queue."""


class Fetching:
    """Requests what is in the queue of one run, several requests at a time, until all is answered.

    `allowance`: the purpose of requests that are taken from the month and not from the bucket. `grouped`: a
    database on which answers that arrive together are accepted, and requests charged, in one commit: a crash
    may then cost more requests.
    """

    def __init__(
        self,
        run: RunState,
        page_handler: HandlesPages,
        *,
        beamer: BeamerClient,
        lease: Lease,
        pool: Pool,
        most_requests: int | None = None,
        allowance: str | None = None,
        grouped: Database | None = None,
        accepted: Callable[[Report], None] = lambda _: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._run = run
        self._page_handler = page_handler
        self._beamer = beamer
        self._lease = lease
        self._pool = pool
        self._most = most_requests
        self._allowance = allowance
        self._accepted = accepted
        self._chance = chance
        self._database = grouped
        # Requests in flight, in the order in which they were sent, and their charges.
        self._flights: dict[Future[Answer], tuple[Job, Charge]] = {}

    def _together(self) -> AbstractContextManager[None]:
        return self._database.together() if self._database else nullcontext()

    def run(self, *, refused: bool) -> None:
        """Request until all is answered, the budget ends, or a stop comes; `refused`: see `FailureHandler`.

        Raises KeyRefused or Unreachable when continuing is useless, Busy when the lease is lost.
        """
        self._failure_handler = FailureHandler(self._run, self._chance, refused=refused)
        try:
            while self._step():
                pass
        finally:
            self._failure_handler.settle_doubts()
        if not self._run.report.interrupted:
            self._failure_handler.cut_short()

    def check_permissions(self) -> None:
        """Report forbidden streams and continue with the others; if all are forbidden, the key is refused.

        All streams of the connection count, even if the run reads only one.
        """
        report = self._run.report
        known = {**CATALOGUE, **self._run.catalogue}
        roots = {known[name].parent or name for name in self._run.policy.streams}
        read = report.pages or not roots <= {*report.forbidden}
        if not read and not report.stopped and not report.incomplete:
            raise NothingAllowed(
                "The Beamer key may read none of the requested streams (403).",
                means="Nothing was read.",
                todo="Give it read permissions under Settings > API in Beamer, or use another key.",
            )

    def _step(self) -> bool:
        """Send what may be sent, then settle what has arrived; return False when nothing is left."""
        report = self._run.report
        self._dispatch()
        if not self._flights:
            return False
        landed = self._pool.landed(self._flights.keys(), 3600)
        if not landed:
            log.warning("requests_abandoned", requests=len(self._flights))
            self._run.interrupt("; requests in flight were abandoned")
            return False
        before, error = report.pages, None
        with self._together():
            try:
                for flight in [flight for flight in self._flights if flight in landed]:
                    self._settle(flight, *self._flights.pop(flight))
            except DatabaseUnreachable:
                raise
            except (KeyRefused, Unreachable) as final:
                # What was accepted before the error stays.
                error = final
        if error:
            raise error
        if report.pages > before:
            self._accepted(report)
        return True

    def _dispatch(self) -> None:
        """Send requests, once the database has stored their charges."""
        while self._may_send() and (charged := self._charge_batch()):
            for job, charge in charged:
                due = max(filter(None, (charge.at, job.not_before)))
                request = request_for(job)
                params = dict(request.params)
                log.debug(
                    "request",
                    stream=job.probe.stream.name,
                    parent=job.probe.parent,
                    page=params.get("page"),
                    date_to=params.get("dateTo"),
                    reason=job.probe.reason,
                )
                fetch = partial(self._beamer.get, request, due)
                self._flights[self._pool.submit(fetch)] = job, charge

    def _charge_batch(self) -> list[tuple[Job, Charge]]:
        charged: list[tuple[Job, Charge]] = []
        with self._together():
            while self._may_send() and (job_and_charge := self._charge_next()):
                charged.append(job_and_charge)
                if not self._database:
                    break
        return charged

    def _charge_next(self) -> tuple[Job, Charge] | None:
        """Charge the next request; None if no probe waits or no request is available."""
        run = self._run
        job = run.queue.next(self._alone)
        if job is None:
            return None
        self._page_handler.plan_again(job)
        stream = job.probe.stream
        job.habits = candidates.habits_of(run.progress.streams[stream.name], run.first_page)
        job.ignore_filters = stream.filtered and run.ignore_filters is not False
        try:
            charge = self._charge(job)
        except NoBudget as none:
            run.stop(none.what, none.until)
            return None
        run.queue.sent(job)
        run.report.requests[stream.name] += 1
        return job, charge

    def _charge(self, job: Job) -> Charge:
        """Charge a request to the budget."""
        run = self._run
        return run.ledger.take(self._allowance or job.probe.purpose, run.clock.now(), self._lease)

    def _may_send(self) -> bool:
        run = self._run
        if run.report.stopped or not run.queue.waits:
            return False
        if run.clock.stopped:
            run.interrupt()
            return False
        if run.report.has_spent(self._most):
            run.stop(f"--max-requests {self._most} reached")
            return False
        # A refused key stops everything: until the first answer only one request is sent.
        return run.queue.in_flight < (1 if run.careful else self._pool.size)

    def _alone(self, probe: Probe) -> bool:
        untried = probe.stream.filtered and self._run.ignore_filters is None
        return untried or self._run.progress.streams[probe.stream.name].short_ends is None

    def _result(self, flight: Future[Answer], job: Job, charge: Charge) -> Answer:
        """Return the answer to a request; one that never left this machine is refunded."""
        try:
            return flight.result()
        except (NotSent, Stopped):
            self._run.ledger.give_back(charge)
            self._run.report.requests[job.probe.stream.name] -= 1
            self._run.queue.not_sent()
            raise
        except (Gone, BadAnswer, Transient) as error:
            if not _over(job.probe, error):
                raise
            return Answer([], None)

    def _settle(self, flight: Future[Answer], job: Job, charge: Charge) -> None:
        run, failure_handler = self._run, self._failure_handler
        run.queue.landed(job)
        try:
            answer = self._result(flight, job, charge)
            if not run.note_beamer_time(answer.date):
                run.queue.put_first(job)
                return
            failure_handler.answered(job)
            self._page_handler.accept(job, answer)
            failure_handler.succeeded(job)
        except Stopped:
            run.interrupt()
        except Gone:
            failure_handler.answered(job)
            if not self._page_handler.skip(job):
                failure_handler.not_known(job)
        except KeyRefused as error:
            failure_handler.key_refused(job, error)
        except Forbidden:
            failure_handler.answered(job)
            failure_handler.forbidden(job)
        except TooMany as error:
            failure_handler.too_many(job, error)
        except Transient as error:
            failure_handler.transient(job, error)
        except BadAnswer as error:
            failure_handler.give_up(job, error)
        else:
            run.report.pages += 1


def _over(probe: Probe, error: ConnectorError) -> bool:
    """Return whether a failure means that nothing follows: 404 or 400 for a page after the last one.

    Some servers answer only errors there: a page that has failed before counts as missing.
    """
    if isinstance(error, Gone | Declined):
        return probe.may_be_over
    return (
        probe.list_pass is not None
        and passes.fails_behind(probe.list_pass)
        and not isinstance(error, TooMany)
    )


class Collector:
    """Collects the new rows of one connection, in one run."""

    def __init__(
        self,
        context: RunContext,
        progress: Progress,
        writer: PageWriter,
        lease: Lease,
        report: Report,
        *,
        most_requests: int | None = None,
        before: datetime | None = None,
        reserved: float = 0.0,
        accepted: Callable[[Report], None] = lambda _: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._hints = hints.waiting(context.database, context.identity.name)
        self._planner = context.planner or planner_for(limited=context.ledger.limits.usable is not None)
        self._run = RunState.begin(context, progress, writer, report)
        self._before = before
        self._reserved = reserved
        self._most = most_requests
        self._fetching = Fetching(
            self._run,
            PageHandler(self._run, self._planner),
            beamer=context.beamer,
            lease=lease,
            pool=context.pool,
            most_requests=most_requests,
            accepted=accepted,
            chance=chance,
        )

    @property
    def beamer_now(self) -> datetime:
        return self._run.beamer_now

    def run(self, started: datetime) -> None:
        """Request everything that is planned, until all is answered, the budget ends, or a stop is requested.

        Raises KeyRefused or Unreachable when continuing is useless, Busy when the lease is lost.
        """
        run = self._run
        balance = run.ledger.balance(started)
        queue = queue_for(
            self._planner,
            balance,
            started,
            before=self._before,
            price=run.report.price,
            reserved=self._reserved,
            most=self._most,
        )
        if queue.price:
            run.report.price = queue.price.level
        run.may_spend(queue, balance.per_day, available(balance, self._most))
        run.use_hints(self._hints, balance.level, started)
        run.doubt_filters(started)
        for probe in self._planner.begin(run.inputs, started):
            run.queue.add(probe)
        ended = False
        try:
            self._fetching.run(refused=balance.refused)
            self._fetching.check_permissions()
            self._say_what_is_saved_for()
            ended = True
        finally:
            run.observations.learn(run.inputs, run.beamer_now)
            completeness.write_down(run, ended=ended)

    def _say_what_is_saved_for(self) -> None:
        """Report when enough requests will be available for the check of the highest priority."""
        run = self._run
        short = run.queue.saving
        run.report.saving = run.queue.saves_for
        if short and run.per_day and not run.report.stopped:
            run.report.next_try = run.clock.now() + timedelta(days=short / run.per_day)

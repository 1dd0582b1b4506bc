"""One run of one connection: take the lease, deliver what waits, collect, deliver, give the lease back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from connector.beamer.catalogue import Stream
from connector.beamer.door import Beamer
from connector.clock import Clock
from connector.errors import Busy, ConnectorError, Exit
from connector.segment.batches import MOST
from connector.segment.door import Segment
from connector.state import forgetting, leases, progress, runs
from connector.state.connections import Identity
from connector.state.engine import Store
from connector.state.intake import Intake
from connector.state.ledger import Ledger
from connector.state.outbox import Outbox
from connector.state.owner import this_process
from connector.sync.collector import Collector
from connector.sync.delivery import Delivery
from connector.sync.planner import Planner
from connector.sync.policy import Policy
from connector.sync.pool import Pool
from connector.sync.report import Report
from connector.sync.telling import tell

log = structlog.get_logger()

# How many more messages may come to wait before their bytes are added up again.
WEIGHED_EVERY = 500


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a run works with, put together in one place."""

    catalogue: Mapping[str, Stream]
    identity: Identity
    policy: Policy
    store: Store
    beamer: Beamer
    segment: Segment
    ledger: Ledger
    clock: Clock
    pool: Pool
    most_waiting: int = 100_000
    most_bytes: int = 200_000_000
    planner: Planner | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: its report, and the error that ended it, if one did."""

    run: int
    report: Report
    error: ConnectorError | None

    @property
    def exit(self) -> Exit:
        if self.error:
            return self.error.exit
        return Exit.UNREACHABLE if self.incomplete else Exit.DONE

    @property
    def incomplete(self) -> bool:
        return self.report.incomplete


class Run:
    """One incremental run. A second one at the same time raises Busy before anything is asked."""

    def __init__(
        self,
        parts: Parts,
        *,
        command: str = "sync",
        deliver: bool = True,
        most_requests: int | None = None,
        on_progress: Callable[[Report], None] = lambda _: None,
    ) -> None:
        self._parts = parts
        self._command = command
        self._deliver = deliver
        self._most = most_requests
        self._on_progress = on_progress
        self._report = Report()
        self._segment_error: ConnectorError | None = None
        self._weighed_at = 0
        self._before: datetime | None = None

    def go(self) -> Outcome:
        parts = self._parts
        started = parts.clock.now()
        name = parts.identity.name
        fence = leases.acquire(parts.store, name, this_process(), started)
        self._before = runs.last_begun(parts.store, name)
        number = runs.begin(parts.store, name, self._command, started)
        structlog.contextvars.bind_contextvars(run=number, connection=name)
        outcome = Outcome(number, self._report, Busy("The run did not end."))
        try:
            outcome = Outcome(number, self._report, self._work(fence, number, started))
        finally:
            self._end(fence, outcome)
            structlog.contextvars.unbind_contextvars("run", "connection")
        return outcome

    def _work(self, fence: leases.Fence, number: int, started: datetime) -> ConnectorError | None:
        parts = self._parts
        outbox = Outbox(parts.store, fence, parts.identity.destination)
        balance = parts.ledger.balance(started)
        if balance.refusal:
            # Nothing can be asked: what is known of thousands of lists is not even loaded.
            self._report.stopped, self._report.next_try = balance.refusal, balance.again
            state = progress.peek(parts.store, parts.identity.name, lists=False)
        else:
            state = progress.load(parts.store, parts.identity.name, tuple(parts.catalogue))
        # Under the lease, so that nobody is forgotten in the middle of a run.
        policy = replace(parts.policy, forgotten=forgetting.load(parts.store, parts.identity.name))
        collector = Collector(
            catalogue=parts.catalogue,
            identity=parts.identity,
            policy=policy,
            progress=state,
            beamer=parts.beamer,
            ledger=parts.ledger,
            intake=Intake(parts.store, fence, parts.identity.destination, number),
            fence=fence,
            clock=parts.clock,
            pool=parts.pool,
            report=self._report,
            most_requests=self._most,
            planner=parts.planner,
            before=self._before,
            accepted=lambda report: self._page_accepted(delivery, outbox, report),
        )
        delivery = Delivery(
            outbox, parts.segment, parts.clock, self._report, segment_now=lambda: collector.beamer_now
        )
        self._report.waiting = outbox.waiting()
        error: ConnectorError | None = None
        try:
            self._try_delivery(delivery, self._report.waiting)
            self._hold_back(outbox, self._backlog)
            if not self._report.stopped:
                collector.run(started)
        except Busy:
            raise
        except ConnectorError as stopped:
            error = stopped
        self._try_delivery(delivery, self._backlog)
        self._report.waiting = outbox.waiting()
        if not (error or self._segment_error) and self._tell(policy, fence, state, collector.beamer_now):
            self._try_delivery(delivery, 1)
            self._report.waiting = outbox.waiting()
        return error or self._segment_error

    @property
    def _backlog(self) -> int:
        """How many messages wait while collecting; `report.waiting` is how many did before."""
        report = self._report
        return report.events.total() + report.waiting - report.sent - report.refused

    def _tell(self, policy: Policy, fence: leases.Fence, state: progress.Progress, now: datetime) -> bool:
        """Say in Segment how far things have come, where that is wanted."""
        parts = self._parts
        if not policy.sync_event or not self._deliver or parts.clock.stopped:
            return False
        waiting = self._report.waiting
        return tell(parts.store, fence, policy, state.streams, waiting, now, parts.clock.now())

    def _page_accepted(self, delivery: Delivery, outbox: Outbox, report: Report) -> None:
        """Deliver while collecting, as soon as a batch is full: early, and with little waiting."""
        waiting = self._backlog
        if waiting >= MOST:
            self._try_delivery(delivery, waiting)
        self._hold_back(outbox, waiting)
        self._on_progress(report)

    def _hold_back(self, outbox: Outbox, waiting: int) -> None:
        """Read no more while too much waits that cannot be sent: the quota is better kept."""
        if self._deliver and not self._segment_error:
            return
        full = waiting >= self._parts.most_waiting
        if not full and waiting >= self._weighed_at:
            self._weighed_at = waiting + WEIGHED_EVERY
            full = outbox.weight() >= self._parts.most_bytes
        if full:
            self._report.stopped = (
                f"{waiting:,} messages wait for Segment; no more is read until they are sent"
            )

    def _try_delivery(self, delivery: Delivery, waiting: int) -> None:
        """Segment being away does not keep rows from being collected; it is tried once a run."""
        if not self._deliver or self._segment_error or not waiting:
            return
        try:
            delivery.run()
        except Busy:
            raise
        except ConnectorError as error:
            log.warning("delivery_stopped", error=error.what)
            self._segment_error = error

    def _end(self, fence: leases.Fence, outcome: Outcome) -> None:
        parts, now = self._parts, self._parts.clock.now()
        label = "failed" if outcome.error else "incomplete" if outcome.incomplete else "done"
        if outcome.report.stopped and not outcome.error:
            label = "stopped"
        error = outcome.error.what if outcome.error else None
        summary = {**outcome.report.as_dict(), "error": error}
        runs.finish(parts.store, outcome.run, now, label, int(outcome.exit), summary)
        leases.release(parts.store, fence, now)

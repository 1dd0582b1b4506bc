"""One run of one connection: deliver what waits, collect, deliver; under the lease of its syncs."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import structlog

from connector.errors import Busy, ConnectorError
from connector.segment.batches import MOST
from connector.state import forgetting, leases, progress, runs
from connector.state.intake import Intake
from connector.state.outbox import Outbox
from connector.state.owner import this_process
from connector.sync.delivery import Delivery
from connector.sync.parts import Parts
from connector.sync.policy import Policy
from connector.sync.reading.collector import Collector
from connector.sync.report import Report
from connector.sync.running import Outcome, under_lease
from connector.sync.sharing import left_to_others
from connector.sync.telling import tell

log = structlog.get_logger()

# How many more messages may come to wait before their bytes are added up again.
WEIGHED_EVERY = 500


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

    def go(self) -> Outcome:
        return under_lease(self._parts, self._command, self._report, self._work)

    def _work(self, fence: leases.Fence, number: int, started: datetime) -> ConnectorError | None:
        parts = self._parts
        outbox = Outbox(parts.store, fence, parts.identity.destination)
        balance = parts.ledger.balance(started)
        last = runs.last(parts.store, parts.identity.name, before=number)
        if balance.refusal:
            self._report.saving = max(last.saving if last else 0.0, 1.0)
            # Nothing can be asked: what is known of thousands of lists is not even loaded.
            self._report.stopped, self._report.next_try = balance.refusal, balance.again
            state = progress.peek(parts.store, parts.identity.name, lists=False)
        else:
            state = progress.load(parts.store, parts.identity.name, tuple(parts.catalogue))
            progress.doubt_future(state, started)
        reserved = 0.0
        if balance.level is not None:
            name, account = parts.identity.name, parts.ledger.account
            reserved = left_to_others(parts.store, name, account, last, started, before=number)
        # Under the lease, so that nobody is forgotten in the middle of a run.
        policy = replace(parts.policy, forgotten=forgetting.load(parts.store, parts.identity.name))
        collector = Collector(
            replace(parts, policy=policy),
            state,
            Intake(parts.store, fence, parts.identity.destination, number),
            fence,
            self._report,
            most_requests=self._most,
            before=last.started_at if last else None,
            reserved=reserved,
            accepted=lambda report: self._page_accepted(delivery, outbox, report),
        )

        def delivery_of(of: Outbox) -> Delivery:
            return Delivery(
                of, parts.segment, parts.clock, self._report, segment_now=lambda: collector.beamer_now
            )

        delivery = delivery_of(outbox)
        self._report.waiting = outbox.waiting()
        error: ConnectorError | None = None
        try:
            self._try_delivery(delivery, self._report.waiting)
            self._hold_back(outbox, self._report.backlog)
            if not self._report.stopped:
                collector.run(started)
        except Busy:
            raise
        except ConnectorError as stopped:
            error = stopped
        if self._report.saving:
            waits = last and last.saving and not self._report.asked
            self._report.saving_since = (waits and last and last.saving_since) or started
        self._try_delivery(delivery, self._report.backlog)
        self._report.waiting = outbox.waiting()
        if not (error or self._segment_error) and self._tell(policy, fence, state, collector.beamer_now):
            self._try_delivery(delivery, 1)
            self._report.waiting = outbox.waiting()
        self._deliver_what_backfills_left(delivery_of)
        return error or self._segment_error

    def _deliver_what_backfills_left(self, delivery_of: Callable[[Outbox], Delivery]) -> None:
        """Messages of a backfill that was cut short go out, unless one is at work."""
        parts, name = self._parts, self._parts.identity.name
        left = Outbox(parts.store, leases.Fence(name, 0, leases.BACKFILL), parts.identity.destination)
        if not self._deliver or self._segment_error or parts.clock.stopped or not left.waiting():
            return
        holding = leases.holding(parts.store, name, this_process(), parts.clock, leases.BACKFILL)
        with suppress(Busy), holding as fence:
            self._try_delivery(delivery_of(Outbox(parts.store, fence, parts.identity.destination)), 1)

    def _tell(self, policy: Policy, fence: leases.Fence, state: progress.Progress, now: datetime) -> bool:
        """Say in Segment how far things have come, where that is wanted."""
        parts = self._parts
        if not policy.sync_event or not self._deliver or parts.clock.stopped:
            return False
        waiting = self._report.waiting
        return tell(parts.store, fence, policy, state.streams, waiting, now, parts.clock.now())

    def _page_accepted(self, delivery: Delivery, outbox: Outbox, report: Report) -> None:
        """Deliver while collecting, as soon as a batch is full: early, and with little waiting."""
        waiting = self._report.backlog
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

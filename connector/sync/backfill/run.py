"""One run of a backfill: take its lease, read what is left, deliver meanwhile."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from connector.errors import Busy, ConnectorError
from connector.state import backfills, leases, privacy, progress
from connector.state.backfills import Backfill, BackfillWriter, Range
from connector.state.leases import BACKFILL, Lease
from connector.state.pace import Pace
from connector.state.spending import ALLOWANCE
from connector.sync.backfill import decisions
from connector.sync.backfill.decisions import ParentDates
from connector.sync.backfill.handler import HistoryHandler
from connector.sync.backfill.verification import Verification
from connector.sync.context import RunContext, RunState
from connector.sync.delivery import Delivery, DeliveryWorker, InlineDelivery
from connector.sync.fetch.loop import Fetching
from connector.sync.policy import Policy
from connector.sync.report import Report
from connector.sync.run import Outcome, under_lease
from connector.text import counted

# While Segment accepts messages, reading pauses when this number waits.
ENOUGH = 5_000
# While Segment is away, a backfill stops at this share of the messages at which syncs stop.
SHARE_OF_WAITING = 0.5
PAUSE = 0.02
# While it waits for Segment, it renews its lease this often: losing it would lose the answers in memory.
RENEWED = timedelta(seconds=20)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BackfillOrder:
    """A requested range, its destinations (None: all), and the most requests it may take.

    `expected`: its estimated number of requests. `again`: from the beginning, although it is complete.
    """

    wanted: Range
    integrations: Mapping[str, Any] | None = None
    most_requests: int | None = None
    expected: int | None = None
    deliver: bool = True
    again: bool = False


class BackfillRun:
    """A backfill that continues at its stored progress. A second one at the same time raises Busy.

    `lanes`: the number of batches in flight to Segment at once.
    """

    def __init__(
        self,
        context: RunContext,
        order: BackfillOrder,
        *,
        worker: Callable[[Delivery], DeliveryWorker] = InlineDelivery,
        lanes: int = 1,
        on_progress: Callable[[Report, Backfill], None] = lambda *_: None,
    ) -> None:
        self._context = context
        self._order = order
        self._worker_of = worker
        self._lanes = lanes
        self._on_progress = on_progress
        self._report = Report()
        # How many messages may wait, and how many are sent together while reading continues.
        self._most_waiting = context.most_waiting * SHARE_OF_WAITING
        self._full = max(1, int(min(context.constants.batch, self._most_waiting)))

    def go(self) -> tuple[Outcome, Backfill]:
        """Read and deliver; return how the run ended, and the backfill after it."""
        may_request = self._order.most_requests != 0
        outcome = under_lease(
            self._context, "backfill", self._report, self._work, work=BACKFILL, may_request=may_request
        )
        backfill = backfills.find(self._context.database, self._context.identity.name, self._order.wanted)
        assert backfill is not None  # noqa: S101 - the run has begun it
        return outcome, backfill

    def _work(self, lease: Lease, number: int, started: datetime) -> ConnectorError | None:
        context, report = self._context, self._report
        backfill = self._begun(lease, started)
        outbox = context.outbox(lease)
        writer = BackfillWriter(
            context.database,
            lease,
            context.identity.destination,
            number,
            backfill,
            requests_spent=lambda: report.requests_spent,
            write_key=context.write_key,
        )
        state = progress.load(context.database, context.identity.name, tuple(context.catalogue), lists=False)
        run = RunState.begin(replace(context, policy=self._policy(backfill)), state, writer, report)
        delivery = Delivery(
            outbox,
            context.segment,
            context.clock,
            report,
            Pace(context.database, context.events_per_second),
            segment_now=lambda: run.beamer_now,
            latest=context.ledger.latest,
            lanes=self._lanes,
            full=self._full,
            limit=context.constants.batch_bytes,
        )
        report.deliveries.set_waiting(outbox.waiting())
        worker = self._worker_of(delivery)
        if report.waiting and self._order.deliver:
            worker.go()
        error: ConnectorError | None = None
        try:
            if not backfill.finished_at:
                self._read(run, writer, lease, backfill, worker)
        except Busy:
            raise
        except ConnectorError as stopped:
            error = stopped
        finally:
            if self._order.deliver:
                worker.finish()
        report.deliveries.set_waiting(outbox.waiting())
        return error or _raised(worker.error)

    def _begun(self, lease: Lease, now: datetime) -> Backfill:
        """Return the backfill of this range; create it if there is none."""
        context, order = self._context, self._order
        backfill = backfills.find(context.database, context.identity.name, order.wanted)
        lists = backfills.lists(context.database, backfill.id) if backfill else []
        if backfill and not {reading.stream for reading in lists} <= {*context.catalogue}:
            key = f"backfill={backfill.id}"
            log.warning("state_damaged", table="reading", key=key, column="stream", now="it starts again")
            backfills.abandon(context.database, lease, backfill.id, now)
            backfill = None
        if backfill and not (backfill.finished_at and order.again):
            return backfill
        first = decisions.first_readings(context.catalogue, order.wanted)
        return backfills.begin(
            context.database,
            lease,
            order.wanted,
            first,
            integrations=order.integrations,
            expected=order.expected,
            now=now,
        )

    def _policy(self, backfill: Backfill) -> Policy:
        context, integrations = self._context, self._order.integrations
        if integrations is None:
            integrations = backfill.integrations
        settings = context.policy.privacy
        if integrations is not None:
            settings = replace(settings, integrations=integrations)
        forgotten = privacy.load(context.database, context.identity.name)
        return replace(context.policy, start=backfill.wanted.since, privacy=settings, forgotten=forgotten)

    # --- reading ---

    def _read(
        self, run: RunState, writer: BackfillWriter, lease: Lease, backfill: Backfill, worker: DeliveryWorker
    ) -> None:
        """Read what is left, then the parents that moved meanwhile; compare at the end."""
        context, most_requests = self._context, self._order.most_requests
        handler = HistoryHandler(run, writer, backfill.wanted, context.pool.size)
        fetching = Fetching(
            run,
            handler,
            beamer=context.beamer,
            lease=lease,
            pool=context.pool,
            most_requests=most_requests,
            allowance=ALLOWANCE,
            # A commit there waits for the disk; on PostgreSQL, grouped pages could deadlock with a sync.
            grouped=context.database if context.database.is_sqlite else None,
            accepted=lambda _: self._accepted(run, lease, worker, backfill),
        )
        refused = context.ledger.balance(context.clock.now()).refused
        handler.moved = self._moved(backfill)
        handler.take_up(backfills.lists(context.database, backfill.id))
        self._request_all(fetching, handler, refused=refused)
        while self._all_read(handler) and handler.follow_moved(self._moved(backfill)):
            self._request_all(fetching, handler)
        fetching.check_permissions()
        verification = Verification(
            run,
            handler,
            writer,
            backfill.began_at,
            beamer=context.beamer,
            lease=lease,
            most_requests=most_requests,
            dates=self._dates(),
        )
        while self._all_read(handler) and verification.compare():
            self._request_all(fetching, handler)
        if self._all_read(handler):
            verification.conclude()
            if not handler.ended:
                backfills.finish(context.database, lease, backfill.id, context.clock.now())

    def _all_read(self, handler: HistoryHandler) -> bool:
        return not handler.left and not self._report.stopped

    def _request_all(self, fetching: Fetching, handler: HistoryHandler, *, refused: bool = False) -> None:
        fetching.run(refused=refused)
        # The other lists are read although some have failed.
        while handler.feed() and not self._report.stopped:
            fetching.run(refused=False)

    def _moved(self, backfill: Backfill) -> ParentDates:
        """Return the parents that moved behind the range's end, or while the backfill ran."""
        known = progress.load_readonly(self._context.database, self._context.identity.name).parents
        since = min(backfill.began_at, backfill.wanted.until or backfill.began_at)
        return decisions.moved_parents(known, since.replace(microsecond=0))

    def _dates(self) -> ParentDates:
        """Return the dates of the parents that syncs know."""
        known = progress.load_readonly(self._context.database, self._context.identity.name).parents
        return {
            stream: {parent.id: parent.date for parent in parents.values() if not parent.gone}
            for stream, parents in known.items()
        }

    # --- delivering ---

    def _accepted(self, run: RunState, lease: Lease, worker: DeliveryWorker, backfill: Backfill) -> None:
        """Deliver while reading; read no faster than that, and only a little while Segment is unavailable."""
        context, report = self._context, self._report
        if self._order.deliver and not worker.error:
            if report.backlog >= self._full:
                worker.go()
            renewed = context.clock.now()
            while report.backlog >= ENOUGH and not worker.error and not context.clock.stopped:
                context.clock.sleep(PAUSE)
                if context.clock.now() - renewed > RENEWED:
                    renewed = context.clock.now()
                    leases.renew(context.database, lease, renewed)
        _raised(worker.error, only_busy=True)
        if (worker.error or not self._order.deliver) and report.backlog >= self._most_waiting:
            run.stop(
                f"Too much waits for Segment ({counted(report.backlog, 'message')}): the backfill continues "
                "once it is sent"
            )
        self._on_progress(report, backfill)


def _raised(error: BaseException | None, *, only_busy: bool = False) -> ConnectorError | None:
    """Return the delivery's error, for the summary; an error that ends the run at once is raised."""
    if error is not None and (isinstance(error, Busy) or not isinstance(error, ConnectorError)):
        raise error
    return None if only_busy else error


def judging(policy: Policy) -> str:
    """Return the name of the settings that exclude rows."""
    return f"anonymous={policy.privacy.anonymous} team={policy.team_comments}"

"""One run: its lease, its report, what it requests and delivers, how it ends."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

import structlog

from connector.domain.budget import Balance
from connector.domain.state import Progress
from connector.errors import Busy, ConnectorError, Exit, Stopped
from connector.state import connections, leases, privacy, progress, runs
from connector.state.connections import OtherAccount
from connector.state.engine import Database
from connector.state.leases import SYNC, Lease, this_process
from connector.state.outbox import Outbox
from connector.state.pace import Pace
from connector.state.page_writer import PageWriter
from connector.sync.account_check import learn_feed, prove_account
from connector.sync.context import RunContext
from connector.sync.delivery import Delivery
from connector.sync.fetch import stored
from connector.sync.fetch.loop import Collector
from connector.sync.heartbeat import enqueue_heartbeat
from connector.sync.policy import Policy
from connector.sync.report import Report
from connector.sync.users import UserReader
from connector.text import counted

# The work of a run, under a lease, with its run number and start; returns the error that ended it.
Do = Callable[[Lease, int, datetime], ConnectorError | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: its report, and the error that ended it, if any."""

    run: int
    report: Report
    error: ConnectorError | None

    @property
    def exit(self) -> Exit:
        if self.error:
            return self.error.exit
        if self.report.interrupted:
            return Exit.INTERRUPTED
        return Exit.UNREACHABLE if self.incomplete else Exit.DONE

    @property
    def incomplete(self) -> bool:
        return self.report.incomplete

    @property
    def label(self) -> str:
        """Return how it ended, in one word."""
        if self.report.interrupted or isinstance(self.error, Stopped):
            return "interrupted"
        if self.error:
            return "failed"
        return "stopped" if self.report.stopped else "incomplete" if self.incomplete else "done"


def under_lease(
    context: RunContext, command: str, report: Report, do: Do, *, work: str = SYNC, may_request: bool = True
) -> Outcome:
    """Take the lease, work, store how the run ended, and release the lease; raises Busy at once.

    Raises OtherAccount, with nothing written, if the keys may be another account's. `may_request`: whether
    requests to Beamer may prove the account.
    """
    started, name = context.clock.now(), context.identity.name
    problem, proved = _proved(context, report) if may_request else (None, False)
    if problem and work != SYNC:
        raise problem
    lasts = context.constants.lease
    with leases.holding(context.database, name, this_process(), context.clock, work, lasts) as lease:
        connections.check_names(context.database, context.identity)
        if context.api_keys:
            destination, now = context.identity.destination, context.clock.now()
            connections.take_over_keys(
                context.database, lease, destination, context.api_keys, context.change, now, proved=proved
            )
            if context.change.changed & connections.SEGMENT:
                # Segment accepts a wrong key: only its source's page would show the mistake.
                log.warning("destination_changed", connection=name, changed=context.change.named)
        number = runs.begin(context.database, name, command, started)
        structlog.contextvars.bind_contextvars(run=number, connection=name)
        # This outcome stays if a signal ends the process at once.
        outcome = Outcome(number, report, Stopped("A signal stopped the run."))
        try:
            outcome = Outcome(number, report, problem or do(lease, number, started))
        except Exception as error:
            outcome = Outcome(number, report, _known(error))
            raise
        finally:
            _write_down(context, outcome, lease)
            structlog.contextvars.unbind_contextvars("run", "connection")
    return outcome


def _proved(context: RunContext, report: Report) -> tuple[ConnectorError | None, bool]:
    """Return the error that prevented the comparison of a changed key, and whether it was compared."""
    try:
        return None, prove_account(context, report)
    except OtherAccount:
        raise
    except ConnectorError as error:
        return error, False


def _known(error: Exception) -> ConnectorError:
    """Return an error fit for the summary: the text of an unforeseen one may hold a row or a key."""
    return (
        error if isinstance(error, ConnectorError) else ConnectorError(f"unexpected {type(error).__name__}")
    )


def _write_down(context: RunContext, outcome: Outcome, lease: Lease) -> None:
    now = context.clock.now()
    error = outcome.error.what if outcome.error else None
    summary = {**outcome.report.as_dict(), "error": error}
    runs.finish(context.database, outcome.run, now, outcome.label, int(outcome.exit), summary)
    # Nothing is deleted for its age by this machine's clock alone, which may be ahead.
    if context.ledger.furthest is not None:
        with suppress(Busy):
            old = min(now, context.ledger.beamer_now(now)) - context.constants.retention
            runs.delete_old(context.database, lease, now, old)


# A connection that has not run for this time saves no requests.
SAVING_LASTS = timedelta(days=1)


def left_to_others(
    database: Database,
    connection: str,
    account: str,
    last: runs.Last | None,
    now: datetime,
    *,
    before: int = runs.NEXT,
) -> float:
    """Return how many requests another connection of the account waits for, and longer than this one.

    They are left to it; otherwise the connection that runs first would take each new request. `last` is
    this connection's own last run before run number `before`.
    """
    mine = (last.saving_since if last and last.saving else None) or now
    others = runs.waiting_others(database, connection, account, before=before)
    return max(
        (
            other.saving
            for other in others
            if other.started_at >= now - SAVING_LASTS and (other.saving_since or now) < mine
        ),
        default=0.0,
    )


log = structlog.get_logger()

# How many more messages may wait before their bytes are summed up again.
WEIGHED_EVERY = 500


class Run:
    """One incremental run. A second one at the same time raises Busy before its first request."""

    def __init__(
        self,
        context: RunContext,
        *,
        command: str = "sync",
        deliver: bool = True,
        most_requests: int | None = None,
        on_progress: Callable[[Report], None] = lambda _: None,
    ) -> None:
        self._context = context
        self._command = command
        self._deliver = deliver
        self._most = most_requests
        self._on_progress = on_progress
        self._report = Report()
        self._segment_error: ConnectorError | None = None
        self._weighed_at = 0

    def go(self) -> Outcome:
        may_request = self._most != 0
        return under_lease(self._context, self._command, self._report, self._work, may_request=may_request)

    def _work(self, lease: leases.Lease, number: int, started: datetime) -> ConnectorError | None:
        context = self._context
        outbox = context.outbox(lease)
        outbox.check_values()
        balance = context.ledger.balance(started)
        last = runs.last(context.database, context.identity.name, before=number)
        state = self._state(balance, last, started)
        # Loaded under the lease, so that nobody is forgotten during a run.
        policy = replace(context.policy, forgotten=privacy.load(context.database, context.identity.name))
        working = replace(context, policy=policy)

        def segment_now() -> datetime:
            return collector.beamer_now

        delivery = self._delivery(outbox, segment_now)
        accepted = partial(self._page_accepted, delivery, outbox)
        collector = Collector(
            working,
            state,
            PageWriter(
                context.database, lease, context.identity.destination, number, write_key=context.write_key
            ),
            lease,
            self._report,
            most_requests=self._most,
            before=last.started_at if last else None,
            reserved=self._reserved(balance, last, started, number),
            accepted=accepted,
        )
        self._report.deliveries.set_waiting(outbox.waiting())
        error: ConnectorError | None = None
        try:
            self._try_delivery(delivery, self._report.waiting)
            self._hold_back(outbox, self._report.backlog)
            if not self._report.stopped:
                collector.run(started)
                self._read_what_is_no_stream(working, lease, collector.beamer_now, accepted)
        except Busy:
            raise
        except ConnectorError as stopped:
            error = stopped
        if self._report.saving:
            waits = last and last.saving and not self._report.requests_spent
            self._report.saving_since = (waits and last and last.saving_since) or started
        self._try_delivery(delivery, self._report.backlog)
        self._report.deliveries.set_waiting(outbox.waiting())
        if not (error or self._segment_error) and self._enqueue_heartbeat(
            policy, lease, state, collector.beamer_now
        ):
            self._try_delivery(delivery, 1)
            self._report.deliveries.set_waiting(outbox.waiting())
        self._deliver_what_backfills_left(segment_now)
        return error or self._segment_error

    def _state(self, balance: Balance, last: runs.Last | None, started: datetime) -> Progress:
        """Load the progress; if no request is available, without the lists, which may be thousands."""
        context = self._context
        self._report.price = last.price if last else None
        if balance.refusal:
            self._report.saving = max(last.saving if last else 0.0, 1.0)
            self._report.stop(balance.refusal, balance.again)
            return progress.load_readonly(context.database, context.identity.name, lists=False)
        state = progress.load(context.database, context.identity.name, tuple(context.catalogue))
        progress.doubt_future(state, max(started, context.ledger.beamer_now(started)))
        stored.readable(state, context.policy.start)
        return state

    def _read_what_is_no_stream(
        self, context: RunContext, lease: leases.Lease, now: datetime, accepted: Callable[[Report], None]
    ) -> None:
        if self._command == SYNC:
            learn_feed(context, lease, self._report, self._most)
            UserReader(context, lease, self._report, self._most, accepted).run(now)

    def _reserved(self, balance: Balance, last: runs.Last | None, started: datetime, number: int) -> float:
        """Return how many of the available requests are left to other connections."""
        if balance.level is None:
            return 0.0
        name, account = self._context.identity.name, self._context.ledger.account
        return left_to_others(self._context.database, name, account, last, started, before=number)

    def _deliver_what_backfills_left(self, segment_now: Callable[[], datetime]) -> None:
        """Deliver the messages of an interrupted backfill, unless a backfill is running."""
        context, name = self._context, self._context.identity.name
        left = context.outbox(leases.Lease(name, 0, leases.BACKFILL))
        if not self._deliver or self._segment_error or context.clock.stopped or not left.waiting():
            return
        lasts, clock = context.constants.lease, context.clock
        holding = leases.holding(context.database, name, this_process(), clock, leases.BACKFILL, lasts)
        with suppress(Busy), holding as lease:
            self._try_delivery(self._delivery(context.outbox(lease), segment_now), 1)

    def _delivery(self, of: Outbox, segment_now: Callable[[], datetime]) -> Delivery:
        context = self._context
        return Delivery(
            of,
            context.segment,
            context.clock,
            self._report,
            Pace(context.database, context.events_per_second),
            segment_now=segment_now,
            latest=context.ledger.latest,
            full=context.constants.batch,
            limit=context.constants.batch_bytes,
        )

    def _enqueue_heartbeat(self, policy: Policy, lease: leases.Lease, state: Progress, now: datetime) -> bool:
        """Report in Segment that the sync completed, if the settings say so."""
        context = self._context
        if not policy.sync_event or not self._deliver or context.clock.stopped:
            return False
        waiting, local_now = self._report.waiting, context.clock.now()
        earliest, key = context.ledger.earliest(local_now), context.write_key
        return earliest is not None and enqueue_heartbeat(
            context.database, lease, policy, state.streams, waiting, now, earliest, local_now, write_key=key
        )

    def _page_accepted(self, delivery: Delivery, outbox: Outbox, report: Report) -> None:
        """Deliver during collection, as soon as a batch is full, so that little waits."""
        waiting = self._report.backlog
        if waiting >= self._context.constants.batch:
            self._try_delivery(delivery, waiting)
        self._hold_back(outbox, waiting)
        self._on_progress(report)

    def _hold_back(self, outbox: Outbox, waiting: int) -> None:
        """Stop reading while too many messages cannot be sent: unused requests are kept."""
        if self._deliver and not self._segment_error:
            return
        full = waiting >= self._context.most_waiting
        if not full and waiting >= self._weighed_at:
            self._weighed_at = waiting + WEIGHED_EVERY
            full = outbox.weight() >= self._context.most_bytes
        if full:
            self._report.stop(
                f"Too much waits for Segment ({counted(waiting, 'message')}): no more rows are read until "
                "it is sent"
            )

    def _try_delivery(self, delivery: Delivery, waiting: int) -> None:
        """Deliver once in a run; if Segment is unavailable, rows are collected nevertheless."""
        if not self._deliver or self._segment_error or not waiting:
            return
        try:
            delivery.run()
        except Busy:
            raise
        except ConnectorError as error:
            log.warning("delivery_stopped", error=error.what)
            self._segment_error = error

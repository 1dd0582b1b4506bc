"""One run of a backfill: take its lease, go on with what is left of it, deliver meanwhile."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from connector.errors import Busy, ConnectorError
from connector.segment.messages import MOST_MESSAGES
from connector.state import backfills, leases, privacy, progress
from connector.state.backfills import Backfill, HistoryIntake, Range
from connector.state.leases import BACKFILL, Lease
from connector.state.outbox import Outbox
from connector.state.spending import ALLOWANCE
from connector.sync.backfill import decisions
from connector.sync.backfill.handler import HistoryAnswers
from connector.sync.backfill.verification import Verification
from connector.sync.context import Parts, Work
from connector.sync.delivery import Delivery, DeliveryWorker, InlineDelivery
from connector.sync.fetch.loop import Fetching
from connector.sync.policy import Policy
from connector.sync.report import Report
from connector.sync.run import Outcome, under_lease

# While Segment takes them, no more messages than these wait: reading is held back rather.
ENOUGH = 5_000
# What a backfill may make wait while Segment is away: it stops before the syncs do.
SHARE_OF_WAITING = 0.5
PAUSE = 0.02
# While it waits for Segment its lease is kept: what it holds of answers was paid for.
RENEWED = timedelta(seconds=20)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BackfillOrder:
    """What was asked for: a range, where it may go (None: everywhere), and what it may cost.

    `expected`: how many requests it was estimated to take.
    """

    wanted: Range
    integrations: Mapping[str, Any] | None = None
    most_requests: int | None = None
    expected: int | None = None
    deliver: bool = True
    # Once more from the beginning, although it was done.
    again: bool = False


class BackfillRun:
    """A backfill that goes on where it stood. A second one at the same time raises Busy.

    `lanes`: so many batches are on their way to Segment at once.
    """

    def __init__(
        self,
        parts: Parts,
        order: BackfillOrder,
        *,
        worker: Callable[[Delivery], DeliveryWorker] = InlineDelivery,
        lanes: int = 1,
        on_progress: Callable[[Report, Backfill], None] = lambda *_: None,
    ) -> None:
        self._parts = parts
        self._order = order
        self._worker_of = worker
        self._lanes = lanes
        self._on_progress = on_progress
        self._report = Report()

    def go(self) -> tuple[Outcome, Backfill]:
        """Read and deliver; give how it ended, and the backfill as it stands then."""
        may_request = self._order.most_requests != 0
        outcome = under_lease(
            self._parts, "backfill", self._report, self._work, work=BACKFILL, may_request=may_request
        )
        found = backfills.find(self._parts.database, self._parts.identity.name, self._order.wanted)
        assert found is not None  # noqa: S101 - the run has begun it
        return outcome, found

    def _redated(self) -> decisions.Redated:
        until = self._order.wanted.until
        return self._moved(until) if until else {}

    def _found(self, lease: Lease, now: datetime, redated: decisions.Redated) -> Backfill:
        """The backfill of this range, which is begun where there is none."""
        parts, order = self._parts, self._order
        found = backfills.find(parts.database, parts.identity.name, order.wanted)
        lists = backfills.lists(parts.database, found.id) if found else []
        if found and not {each.stream for each in lists} <= {*parts.catalogue}:
            log.warning(
                "state_damaged",
                table="reading",
                key=f"backfill={found.id}",
                column="stream",
                now="it starts again",
            )
            backfills.abandon(parts.database, lease, found.id, now)
            found = None
        if found and not (found.finished_at and order.again):
            return found
        return backfills.begin(
            parts.database,
            lease,
            order.wanted,
            decisions.first_readings(parts.catalogue, order.wanted, redated),
            integrations=order.integrations,
            expected=order.expected,
            now=now,
        )

    def _work(self, lease: Lease, number: int, started: datetime) -> ConnectorError | None:
        parts, report, redated = self._parts, self._report, self._redated()
        of = self._found(lease, started, redated)
        if of.began_at < started:
            redated = self._moved(min(of.began_at, of.wanted.until or of.began_at))
        outbox = Outbox(parts.database, lease, parts.identity.destination, parts.write_key)
        intake = self._intake(lease, number, of)
        state = progress.load(parts.database, parts.identity.name, tuple(parts.catalogue), lists=False)
        work = Work.begun(replace(parts, policy=self._policy(of)), state, intake, report)
        answers = HistoryAnswers(work, intake, of.wanted, parts.pool.size, redated)
        delivery = self._delivery(outbox, work)
        report.waiting = outbox.waiting()
        worker = self._worker_of(delivery)
        fetching = Fetching(
            work,
            answers,
            beamer=parts.beamer,
            lease=lease,
            pool=parts.pool,
            most_requests=self._order.most_requests,
            allowance=ALLOWANCE,
            # A commit there costs the disk; on PostgreSQL several pages' locks might cross those of a sync.
            grouped=parts.database if parts.database.is_sqlite else None,
            accepted=lambda _: self._accepted(work, lease, worker, of),
        )
        if report.waiting and self._order.deliver:
            worker.go()
        error: ConnectorError | None = None
        try:
            if not of.finished_at:
                verification = Verification(
                    work,
                    answers,
                    intake,
                    of,
                    beamer=parts.beamer,
                    lease=lease,
                    most_requests=self._order.most_requests,
                    dates=self._dates(),
                )
                self._read(fetching, answers, verification, of)
        except Busy:
            raise
        except ConnectorError as stopped:
            error = stopped
        finally:
            if self._order.deliver:
                worker.finish()
        read = not answers.left and not answers.ended
        if not of.finished_at and not error and read and not report.stopped:
            backfills.finish(parts.database, lease, of.id, parts.clock.now())
        report.waiting = outbox.waiting()
        return error or _raised(worker.error)

    def _intake(self, lease: Lease, number: int, of: Backfill) -> HistoryIntake:
        parts = self._parts
        return HistoryIntake(
            parts.database,
            lease,
            parts.identity.destination,
            number,
            of.id,
            resend=of.wanted.resend,
            write_key=parts.write_key,
        )

    def _delivery(self, outbox: Outbox, work: Work) -> Delivery:
        parts = self._parts
        return Delivery(
            outbox,
            parts.segment,
            parts.clock,
            self._report,
            segment_now=lambda: work.beamer_now,
            latest=parts.ledger.latest,
            lanes=self._lanes,
            full=self._full,
        )

    def _policy(self, of: Backfill) -> Policy:
        parts = self._parts
        chosen = self._order.integrations if self._order.integrations is not None else of.integrations
        settings = parts.policy.privacy
        if chosen is not None:
            settings = replace(settings, integrations=chosen)
        known = privacy.load(parts.database, parts.identity.name)
        return replace(parts.policy, start=of.wanted.since, privacy=settings, forgotten=known)

    def _dates(self) -> dict[str, dict[str, datetime]]:
        """The dates of the parents that syncs know."""
        known = progress.load_readonly(self._parts.database, self._parts.identity.name).parents
        alive = {of: (each for each in parents.values() if not each.gone) for of, parents in known.items()}
        return {stream: {each.id: each.date for each in parents} for stream, parents in alive.items()}

    def _read(
        self, fetching: Fetching, answers: HistoryAnswers, verification: Verification, of: Backfill
    ) -> None:
        parts, report = self._parts, self._report
        balance = parts.ledger.balance(parts.clock.now())
        lists = backfills.lists(parts.database, of.id)
        answers.take_up(lists)
        self._request_all(fetching, answers, refused=balance.refused)
        # A list of parents that is read over several runs passes by those that are put on top meanwhile.
        begun = [each for each in lists if not each.to_verify]
        moved = {} if answers.left else decisions.passed_by(parts.catalogue, self._moved(of.began_at), begun)
        while moved and not report.stopped and answers.follow_up(moved):
            self._request_all(fetching, answers, refused=False)
            last = max(date for names in moved.values() for date in names.values())
            moved = {} if answers.left else decisions.later(self._moved(of.began_at), last)
        fetching.check_permissions()
        while not answers.left and not report.stopped and verification.compare_again():
            self._request_all(fetching, answers, refused=False)
        if not answers.left and not report.stopped:
            verification.conclude()

    def _request_all(self, fetching: Fetching, answers: HistoryAnswers, *, refused: bool) -> None:
        fetching.run(refused=refused)
        # Lists that failed do not keep the others from being read.
        while answers.feed() and not self._report.stopped:
            fetching.run(refused=False)

    def _moved(self, since: datetime) -> decisions.Redated:
        """The parents that syncs have seen before the date that they have now, which is later than that."""
        known = progress.load_readonly(self._parts.database, self._parts.identity.name).parents
        return decisions.moved_to(known, since.replace(microsecond=0))

    @property
    def _most(self) -> float:
        """How many messages may wait."""
        return self._parts.most_waiting * SHARE_OF_WAITING

    @property
    def _full(self) -> int:
        """How many messages are sent together while reading goes on."""
        return max(1, int(min(MOST_MESSAGES, self._most)))

    def _accepted(self, work: Work, lease: Lease, worker: DeliveryWorker, of: Backfill) -> None:
        """Deliver while reading; read no faster than that, nor much while Segment is away."""
        parts, most = self._parts, self._most
        if self._order.deliver and not worker.error:
            if self._report.backlog >= self._full:
                worker.go()
            renewed = parts.clock.now()
            while self._report.backlog >= ENOUGH and not worker.error and not parts.clock.stopped:
                parts.clock.sleep(PAUSE)
                if parts.clock.now() - renewed > RENEWED:
                    renewed = parts.clock.now()
                    leases.renew(parts.database, lease, renewed)
        _raised(worker.error, only_busy=True)
        if (worker.error or not self._order.deliver) and self._report.backlog >= most:
            work.stop(
                f"{self._report.backlog:,} messages wait for Segment; the backfill continues after they "
                "are sent"
            )
        self._on_progress(self._report, of)


def _raised(error: BaseException | None, *, only_busy: bool = False) -> ConnectorError | None:
    """The deliveries' error, for the summary; one that ends the run at once is raised."""
    if error is not None and (isinstance(error, Busy) or not isinstance(error, ConnectorError)):
        raise error
    return None if only_busy else error


def judging(policy: Policy) -> str:
    """What the settings that hold rows back are known by."""
    return f"anonymous={policy.privacy.anonymous} team={policy.team_comments}"

"""What a run works with, and its state while it is in progress."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from connector.beamer.streams import Stream
from connector.clock import Clock
from connector.domain.hints import Hint, Hints, ReadHint
from connector.domain.state import ChildState, Effects, ParentState, Progress, StreamState
from connector.errors import ConfigurationError, Forbidden
from connector.segment.messages import MOST_BYTES, MOST_MESSAGES
from connector.state.connections import ApiKeys, Identity, KeyChange
from connector.state.engine import Database
from connector.state.leases import LASTS, Lease
from connector.state.ledger import Ledger
from connector.state.outbox import POSSIBLE_DOUBLE_AFTER, Outbox
from connector.state.page_writer import PageWriter
from connector.state.runs import KEPT
from connector.sync.planning.arrival import Observations
from connector.sync.planning.hinted import requests_for_hints
from connector.sync.planning.planner import Planner
from connector.sync.planning.probes import HINTS, PlanInputs
from connector.sync.planning.queue import ProbeQueue
from connector.sync.policy import Policy
from connector.sync.report import Report
from connector.sync.threads import Pool

if TYPE_CHECKING:
    from connector.beamer.client import BeamerClient
    from connector.segment.client import SegmentClient


@dataclass(frozen=True, slots=True)
class Constants:
    """Limits of a run that no setting changes; the simulation varies them.

    A request to Segment holds at most `batch` messages of `batch_bytes` together. A message without an answer
    for `double_after` may arrive twice when it is sent again. Runs and dead letters are kept for `retention`.
    A run reads at most `most_pages` of one list, so that an endless list leaves requests for the others.
    """

    batch: int = MOST_MESSAGES
    batch_bytes: int = MOST_BYTES
    double_after: timedelta = POSSIBLE_DOUBLE_AFTER
    lease: timedelta = LASTS
    retention: timedelta = KEPT
    most_pages: int = 500


@dataclass(frozen=True, slots=True)
class RunContext:
    """Everything that a run works with, put together in one place."""

    catalogue: Mapping[str, Stream]
    identity: Identity
    policy: Policy
    database: Database
    beamer: "BeamerClient"
    segment: "SegmentClient"
    ledger: Ledger
    clock: Clock
    pool: Pool
    most_waiting: int = 100_000
    most_bytes: int = 200_000_000
    # The rate to Segment of all runs of the database together; None: as fast as Segment accepts.
    events_per_second: int | None = None
    planner: Planner | None = None
    # The keys and addresses in use, and how they differ from those of the last run.
    api_keys: ApiKeys = field(default_factory=dict)
    change: KeyChange = field(default_factory=KeyChange)
    constants: Constants = field(default_factory=Constants)

    @property
    def write_key(self) -> str:
        """Return the digest of the write key that messages are made for."""
        segment = self.api_keys.get("segment")
        return segment.digest if segment else ""

    @property
    def first_page(self) -> int | None:
        """Return the number of the API's first page, as it is set or was learnt."""
        return self.identity.first_page if self.policy.first_page is None else self.policy.first_page

    def outbox(self, lease: Lease) -> Outbox:
        """Return the outbox of a lease."""
        destination, double_after = self.identity.destination, self.constants.double_after
        return Outbox(self.database, lease, destination, self.write_key, double_after=double_after)


ALWAYS = datetime.max.replace(tzinfo=UTC)
log = structlog.get_logger()

# The clocks of this machine and of Beamer are both right if they differ by less.
APART = timedelta(days=1)
# This number of answers in a row must agree before Beamer's clock is believed against this machine's.
ANSWERS = 3
# A permission that a key lacked is tried again after this time.
FILTERS_TRIED_AGAIN = timedelta(days=7)


@dataclass(slots=True)
class RunState:
    """The state of one run, changed only by its own methods.

    `ignore_filters`: whether the key may do that, None if unknown; `filters_refused`: this run was refused
    it, which is stored. `careful`: one request at a time. `per_day`: how many requests the budget gains a
    day, `available`: how many may be spent now; None without a limit. `disagreed`: how many answers of a
    first sync were dated more than a day off this machine's clock. `troubled` streams failed in this run.
    `hints` are not read yet; at most `hint_requests` may be sent for them.
    """

    catalogue: Mapping[str, Stream]
    identity: Identity
    policy: Policy
    progress: Progress
    ledger: Ledger
    writer: PageWriter
    clock: Clock
    report: Report
    first_page: int | None
    ignore_filters: bool | None
    constants: Constants = field(default_factory=Constants)
    careful: bool = True
    per_day: float | None = None
    available: float | None = None
    queue: ProbeQueue = field(default_factory=ProbeQueue)
    observations: Observations = field(default_factory=Observations)
    troubled: set[str] = field(default_factory=set)
    disagreed: int = 0
    filters_refused: bool = False
    hints: dict[str, dict[str, Hint]] = field(default_factory=dict)
    hint_requests: int | None = None

    @classmethod
    def begin(cls, context: RunContext, progress: Progress, writer: PageWriter, report: Report) -> "RunState":
        """Return the state of a run that begins; settings about the API override what was learnt of it."""
        identity, policy = context.identity, context.policy
        setting = policy.ignore_filters
        if identity.first_days and policy.start == identity.start_date:
            # By Beamer's clock the start may be earlier: no row after it may be left out.
            policy = replace(policy, start=policy.start - APART)
        return cls(
            catalogue=context.catalogue,
            identity=identity,
            policy=policy,
            progress=progress,
            ledger=context.ledger,
            writer=writer,
            clock=context.clock,
            report=report,
            first_page=context.first_page,
            ignore_filters=identity.ignore_filters if setting is None else setting,
            constants=context.constants,
        )

    def may_spend(self, queue: ProbeQueue, per_day: float | None, available: float | None) -> None:
        """Set what the run may spend, and the queue for that budget."""
        self.queue, self.per_day, self.available = queue, per_day, available

    @property
    def beamer_now(self) -> datetime:
        """Return the time by Beamer's clock, as its answers show it: rows' dates are compared with it."""
        return self.clock.now() + self.ledger.ahead

    @property
    def earliest(self) -> datetime:
        """Return Beamer's earliest possible time: a row must be old enough even by this."""
        return min(self.beamer_now, self.ledger.beamer_now(self.clock.now()))

    @property
    def latest(self) -> datetime:
        """Return when the future begins by both clocks; the latest date if only one clock is known."""
        furthest = self.ledger.furthest
        return ALWAYS if furthest is None else self.clock.now() + furthest

    def note_beamer_time(self, date: datetime | None) -> bool:
        """Set Beamer's time by an answer's date; return False if the request must be repeated first.

        The first date also settles a provisional start date, for good. Raises ConfigurationError if this
        machine's clock is too far off for that.
        """
        now = self.clock.now()
        if self.identity.provisional:
            if date and abs(date - now) > APART:
                self.disagreed += 1
                if self.disagreed >= ANSWERS:
                    raise _apart(date, now)
                log.warning("clocks_apart", beamer=str(date), here=str(now))
                return False
            self._settle_start(date or now)
        self.ledger.note_beamer_time(date, now)
        return True

    def _settle_start(self, beamer_now: datetime) -> None:
        identity = self.identity
        start = identity.start_date
        if identity.first_days:
            start = beamer_now - identity.first_days
            # A backfill begins elsewhere, and keeps its own start.
            if self.policy.start == identity.start_date - APART:
                self.policy = replace(self.policy, start=start)
        self.writer.settle_start(start, self.clock.now())
        self.identity = replace(identity, start_date=start, provisional=False)

    @property
    def inputs(self) -> PlanInputs:
        """Return the current input of a plan."""
        return PlanInputs(
            self.catalogue,
            self.policy,
            self.progress,
            self.first_page,
            self.per_day,
            self.available,
            self.hints,
            self.hint_requests,
        )

    def use_hints(self, hints: Hints, level: float | None, now: datetime) -> None:
        """Set the hints, and how many of the available requests may be sent for them."""
        self.hints = {stream: dict(lists) for stream, lists in hints.items()}
        if hints and level is not None:
            on_hints, spent = self.ledger.spent_lately(HINTS, now)
            self.hint_requests = requests_for_hints(self.policy.hint_share, on_hints, spent, level)

    def hints_read(self, hints: Iterable[ReadHint]) -> None:
        """Remove the hints whose lists were read, as the database does."""
        for hint in hints:
            self.hints.get(hint.stream, {}).pop(hint.parent, None)

    def stop(self, why: str, until: datetime | None = None) -> None:
        """Send nothing more in this run."""
        # Each request in flight reports the stop itself.
        if why != self.report.stopped:
            log.info("stopping", why=why)
        self.report.stop(why, until)

    def interrupt(self, what: str = "") -> None:
        """Stop early because of a signal."""
        self.report.interrupted = True
        self.stop(f"stopped by a signal{what}")

    def slow_down(self) -> None:
        """Send one request at a time, until Beamer answers normally."""
        self.careful = True

    def answered(self) -> None:
        """Note that Beamer answers: several requests at once may be sent."""
        self.careful = False

    def doubt_filters(self, now: datetime) -> None:
        """Try again to ignore filters if the last refusal is old enough."""
        refused_at = self.identity.filters_at
        settled = refused_at is not None and now - refused_at <= FILTERS_TRIED_AGAIN
        if self.policy.ignore_filters is None and self.ignore_filters is False and not settled:
            self.ignore_filters = None

    def go_on_filtered(self) -> None:
        """Request a list with filters, because Beamer answered 403 without them."""
        self.ignore_filters = False

    def filters_settled(self, allowed: bool) -> None:
        """Note whether an answer shows that the key may ignore filters.

        A permission counts as lost only when a second run is refused it as well.
        """
        self.ignore_filters = allowed
        identity = self.identity
        # A value set by hand is never changed, and a refusal is noted once in a run.
        if self.policy.ignore_filters is not None or (self.filters_refused and not allowed):
            return
        may = allowed or (identity.ignore_filters is True and identity.filters_at is None)
        now = self.clock.now()
        at = None if allowed else now
        self.filters_refused = not allowed
        if (may, at) == (identity.ignore_filters, identity.filters_at):
            return
        self.writer.note((), now, ignore_filters=may, doubted=not allowed)
        self.identity = replace(identity, ignore_filters=may, filters_at=at)

    # --- what is known, in the database first ---

    def page_written(self, stream: str, effects: Effects) -> None:
        """Update the state with what a page changed in the database."""
        for parent in effects.parents:
            self.progress.parents.setdefault(stream, {})[parent.id] = parent
        names = {state.scope: name for name, state in self.progress.streams.items()}
        for child in effects.children:
            self.progress.children.setdefault(names[child.scope], {})[child.parent] = child
        if effects.stream:
            self.progress.streams[stream] = effects.stream
        if effects.first_page is not None:
            self.first_page = effects.first_page
        self.report.count(stream, effects.tally)

    def keep_stream(self, state: StreamState) -> None:
        """Keep a stream's state, which is stored with its next page or at the end of the run."""
        self.progress.streams[state.name] = state

    def keep_list(self, stream: str, child: ChildState) -> None:
        """Store a child list's state outside of a page."""
        self.writer.settle(child, self.clock.now())
        self.progress.children[stream][child.parent] = child

    def keep_parents(self, stream: str, parents: Sequence[ParentState]) -> None:
        """Store parents' states outside of a page."""
        self.writer.settle_block(self.progress.streams[stream].scope, parents, self.clock.now())
        self.progress.parents[stream].update((parent.id, parent) for parent in parents)

    def keep_streams(self, streams: Iterable[str]) -> None:
        """Store what a run learnt about its streams."""
        self.writer.note([self.progress.streams[name] for name in streams], self.clock.now())

    def note_trouble(self, stream: str, what: str, code: str | None = None) -> None:
        """Note a stream's problem in the summary and in its state; `code` if later runs need it."""
        log.warning("stream_trouble", stream=stream, error=what)
        self.troubled.add(stream)
        self.report.trouble(f"{stream}: {what}", unread=code != Forbidden.trouble_code)
        state = self.progress.streams[stream]
        self.keep_stream(replace(state, trouble=what, trouble_code=code, trouble_at=self.clock.now()))


def _apart(date: datetime, now: datetime) -> ConfigurationError:
    ahead, days = now > date, abs(now - date) / timedelta(days=1)
    return ConfigurationError(
        f"This machine's clock is {days:,.1f} days {'ahead of' if ahead else 'behind'} Beamer's: "
        f"{now:%Y-%m-%d %H:%M} UTC here, {date:%Y-%m-%d %H:%M} UTC there.",
        means="Nothing was sent, and no start date was stored.",
        todo="Set this machine's clock, preferably with NTP, and sync again. If the clock is right, check "
        "the proxy or gateway between this machine and Beamer: it changes the Date header of answers.",
    )

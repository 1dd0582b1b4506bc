"""What a run works with, and its state while it runs."""

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
from connector.sync.planning.probes import HINTS, Picture
from connector.sync.planning.queue import ProbeQueue
from connector.sync.policy import Policy
from connector.sync.report import Report
from connector.sync.threads import Pool

if TYPE_CHECKING:
    from connector.beamer.client import BeamerClient
    from connector.segment.client import SegmentClient


@dataclass(frozen=True, slots=True)
class Constants:
    """What runs keep to and no setting changes; the simulation draws it.

    A request to Segment holds at most `batch` messages of `batch_bytes` together. What has no answer after
    `double_after` may be doubled when it is sent again. Runs and dead letters are `kept`. No list is read
    further in one run than `most_pages`: one that never ends must leave the others their turn.
    """

    batch: int = MOST_MESSAGES
    batch_bytes: int = MOST_BYTES
    double_after: timedelta = POSSIBLE_DOUBLE_AFTER
    lease: timedelta = LASTS
    kept: timedelta = KEPT
    most_pages: int = 500


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a run works with, put together in one place."""

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
    # To Segment, by all runs of the database together; None: as fast as it accepts them.
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
        """Return the number of the API's first page, as it is set or was seen."""
        return self.identity.first_page if self.policy.first_page is None else self.policy.first_page

    def outbox(self, lease: Lease) -> Outbox:
        """Return the messages that are delivered under a lease."""
        destination, double_after = self.identity.destination, self.constants.double_after
        return Outbox(self.database, lease, destination, self.write_key, double_after=double_after)


ALWAYS = datetime.max.replace(tzinfo=UTC)
log = structlog.get_logger()

# This machine's clock and Beamer's are both right if they are no further apart.
APART = timedelta(days=1)
# So many answers in a row say the same before it is believed against this machine's clock.
ANSWERS = 3
# A permission that a key did not have is asked about again.
FILTERS_TRIED_AGAIN = timedelta(days=7)


@dataclass(slots=True)
class RunState:
    """The state of one run, which only its own methods change.

    `ignore_filters`: whether the key may, None while that is unknown; `filters_refused`: that it may was
    refused in this run, which is stored. `careful`: one request at a time. `per_day` and `available`:
    the budget's fill, and what of it may be spent, None without a limit. `disagreed`: so many answers were
    dated more than a day off this machine's clock, at a first sync. `troubled` streams failed in this run.
    `hints` are not read yet, and `hint_requests` may be sent for their sake.
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
    def begin(cls, parts: Parts, progress: Progress, writer: PageWriter, report: Report) -> "RunState":
        """Return a run's state at its beginning; what is set about the API outweighs what was seen of it."""
        identity, policy = parts.identity, parts.policy
        setting = policy.ignore_filters
        if identity.first_days and policy.start == identity.start_date:
            # By Beamer's clock it may turn out to lie earlier: nothing of it may be left out.
            policy = replace(policy, start=policy.start - APART)
        return cls(
            catalogue=parts.catalogue,
            identity=identity,
            policy=policy,
            progress=progress,
            ledger=parts.ledger,
            writer=writer,
            clock=parts.clock,
            report=report,
            first_page=parts.first_page,
            ignore_filters=identity.ignore_filters if setting is None else setting,
            constants=parts.constants,
        )

    def may_spend(self, queue: ProbeQueue, per_day: float | None, available: float | None) -> None:
        """Set what the run may spend, and the queue that was made for it."""
        self.queue, self.per_day, self.available = queue, per_day, available

    @property
    def beamer_now(self) -> datetime:
        """Return the time by Beamer's clock, as its answers show it: dates of rows are judged by it."""
        return self.clock.now() + self.ledger.ahead

    @property
    def earliest(self) -> datetime:
        """Return the earliest that it may be at Beamer: a row is old enough only if it is so by this."""
        return min(self.beamer_now, self.ledger.beamer_now(self.clock.now()))

    @property
    def latest(self) -> datetime:
        """What is later than this is in the future by both clocks; while only one was seen, nothing is."""
        furthest = self.ledger.furthest
        return ALWAYS if furthest is None else self.clock.now() + furthest

    def note_beamer_time(self, date: datetime | None) -> bool:
        """Take the time from an answer; False: ask again before anything is made of it.

        A start date that is not settled yet is settled by it, once for all. Raises ConfigurationError where
        this machine's clock is too far off for that.
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
            # A backfill begins elsewhere, and keeps to that.
            if self.policy.start == identity.start_date - APART:
                self.policy = replace(self.policy, start=start)
        self.writer.settle_start(start, self.clock.now())
        self.identity = replace(identity, start_date=start, provisional=False)

    @property
    def picture(self) -> Picture:
        """Return what a plan is made from, as it stands now."""
        return Picture(
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
        """Set what was announced, and how many of the available requests may be sent for that."""
        self.hints = {stream: dict(lists) for stream, lists in hints.items()}
        if hints and level is not None:
            on_hints, spent = self.ledger.spent_lately(HINTS, now)
            self.hint_requests = requests_for_hints(self.policy.hint_share, on_hints, spent, level)

    def hints_read(self, hints: Iterable[ReadHint]) -> None:
        """Forget hints whose lists were read, as the database has it."""
        for hint in hints:
            self.hints.get(hint.stream, {}).pop(hint.parent, None)

    def stop(self, why: str, until: datetime | None = None) -> None:
        """Send nothing more in this run."""
        # Each request under way says so for itself.
        if why != self.report.stopped:
            log.info("stopping", why=why)
        self.report.stop(why, until)

    def interrupt(self, what: str = "") -> None:
        """A signal asks for the end before everything is done."""
        self.report.interrupted = True
        self.stop(f"stopped by a signal{what}")

    def slow_down(self) -> None:
        """Send one request at a time, until Beamer answers well."""
        self.careful = True

    def answered(self) -> None:
        """Beamer is there: several requests at once may be sent."""
        self.careful = False

    def doubt_filters(self, now: datetime) -> None:
        """Ask again whether the key may ignore filters, once the last refusal is old enough."""
        refused_at = self.identity.filters_at
        settled = refused_at is not None and now - refused_at <= FILTERS_TRIED_AGAIN
        if self.policy.ignore_filters is None and self.ignore_filters is False and not settled:
            self.ignore_filters = None

    def go_on_filtered(self) -> None:
        """Beamer answered 403 to a list that was asked without filters: ask with them."""
        self.ignore_filters = False

    def filters_settled(self, allowed: bool) -> None:
        """An answer has shown whether the key may ignore filters.

        What it may do is given up only when it is refused in a second run as well.
        """
        self.ignore_filters = allowed
        identity = self.identity
        # Of what is set by hand nothing is learnt, and of a refusal once a run.
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
        """Take over what a page changed in the database."""
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
        """Note in the summary and in the stream's state what went wrong; `code` where later runs need it."""
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

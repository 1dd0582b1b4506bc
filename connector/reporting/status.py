"""The status of each connection, read from the database only; it sends no request."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

from connector.beamer.streams import CATALOGUE
from connector.domain.budget import Balance, Limits
from connector.domain.period import PERIOD_DAYS
from connector.domain.state import Progress, StreamState
from connector.errors import StateDamaged
from connector.state import backfills, deliveries, outbox, progress, runs, spending, suspensions
from connector.state.backfills import Backfill
from connector.state.connections import Identity, KeyChange, known
from connector.state.deliveries import LastProof
from connector.state.engine import Database
from connector.state.hints import Sums, sums
from connector.state.leases import Holder, holders, this_process
from connector.state.ledger import Ledger
from connector.state.outbox import Waiting
from connector.state.runs import PastRun
from connector.state.suspensions import Refusal
from connector.sync.fetch import stored
from connector.sync.forecast import FirstReads, first_reads, read_by
from connector.sync.lists.counters import moved
from connector.sync.planning.probes import PlanInputs
from connector.sync.policy import Policy

# How many runs the strip of letters shows, and from how many the time between runs is known.
LAST_RUNS, RUNS = 40, 50
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
# Late is this many times the usual time between runs; if that is unknown, more than a day.
LATE_TIMES, LATE_AT_FIRST = 3, timedelta(hours=25)
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream: up to when it is complete, the verdicts on its rows, and what waits to be read.

    `lists_unread`: how many of its lists have rows and were never read. `discovering`: its own list was not
    yet read to its end. `counters_trusted` is None without counters. `checked_at`: when Beamer last answered
    about it, also by its counters. `delay`: how late its newest row was read, in seconds. `listed`: whether
    its rows are sent (BEAMER_STREAMS).
    """

    name: str
    complete_through: datetime | None
    newest: datetime | None
    counts: Mapping[str, int]
    lists_waiting: int
    quarantined: Mapping[str, int]
    trouble: str | None
    lists_unread: int = 0
    discovering: bool = False
    counters_trusted: bool | None = None
    checked_at: datetime | None = None
    delay: float | None = None
    trouble_at: datetime | None = None
    trouble_code: str | None = None
    in_part: bool = False
    listed: bool = True


@dataclass(frozen=True, slots=True)
class Status:
    """One connection; `identity` is None before its first run.

    `read_by`: when all lists will have been read once; None if there are none to read, or if it is unknown.
    `runs`: the last ones, newest first. `every`: the usual time between two syncs. `began`: when the account
    was first charged. `untried`: the Beamer key was never used. `change`: how the keys and addresses of the
    settings differ from those of the last run. `damaged`: why nothing can be read. `unreadable`: where the
    database has values that cannot be read, but are created again. `proof`: the result of the last
    comparison with Segment's counts.
    """

    name: str
    identity: Identity | None
    limit_text: str
    streams: tuple[StreamStatus, ...] = ()
    balance: Balance | None = None
    outbox: Mapping[str, int] | None = None
    last_run: Mapping[str, Any] | None = None
    unread: FirstReads | None = None
    read_by: datetime | None = None
    suspended: Refusal | None = None
    now: datetime = NEVER
    runs: Sequence[PastRun] = ()
    succeeded: datetime | None = None
    every: timedelta | None = None
    waiting: Sequence[Waiting] = ()
    backfills: Sequence[Backfill] = ()
    holders: Sequence[Holder] = ()
    began: datetime | None = None
    untried: bool = False
    change: KeyChange = field(default_factory=KeyChange)
    damaged: StateDamaged | None = None
    unreadable: Sequence[str] = ()
    proof: LastProof = field(default_factory=LastProof)
    hints: Mapping[str, Sums] = field(default_factory=dict)

    @property
    def newest(self) -> StreamStatus | None:
        """Return the stream with the newest row."""
        dated = [stream for stream in self.streams if stream.newest]
        return max(dated, key=lambda stream: stream.newest or NEVER, default=None)

    @property
    def messages_waiting(self) -> int:
        return sum(waiting.messages for waiting in self.waiting)

    @property
    def dead(self) -> int:
        """Return the number of messages that Segment refused."""
        return (self.outbox or {}).get(outbox.DEAD, 0)

    @property
    def lists_waiting(self) -> int:
        """Return how many lists have new rows according to their counters."""
        return sum(stream.lists_waiting for stream in self.streams)

    @property
    def under_way(self) -> Sequence[str]:
        """Return the kinds of work in progress."""
        return [holder.work for holder in self.holders if not holder.dead]

    def at_work(self, work: str) -> bool:
        return work in self.under_way

    @property
    def patience(self) -> timedelta:
        """Return the time without a successful run after which a connection is late."""
        return max(LATE_TIMES * self.every, HOUR) if self.every else LATE_AT_FIRST

    @property
    def usable(self) -> int | None:
        """Return the requests usable in the month; None without a limit."""
        balance = self.balance
        if balance is None or balance.left is None:
            return None
        return balance.used + balance.assumed + balance.left - balance.over

    @property
    def even(self) -> float | None:
        """Return the part of the month that has passed (the even pace of spending); None without a limit.

        If the month's first day is unknown, the part of 31 days; they begin with the account at the earliest.
        """
        if self.balance is None or self.balance.left is None:
            return None
        if self.balance.until:
            since, lasts = self.balance.since, self.balance.until - self.balance.since
        else:
            since, lasts = max(self.balance.since, self.began or NEVER), PERIOD_DAYS * DAY
        return min(max((self.now - since) / lasts, 0.0), 1.0)


def read_status(
    database: Database, name: str, limits: Limits, limit_text: str, policy: Policy | None, now: datetime
) -> Status:
    """Read a connection's status; it has a policy after its first run."""
    identity = known(database, name)
    if identity is None or policy is None:
        return Status(name, None, limit_text, now=now)
    state = stored.readable(progress.load_readonly(database, name), policy.start)
    last = runs.recent(database, name, 1)
    balance = Ledger(database, identity.account, name, limits).balance(now)
    past = runs.last_runs(database, name, LAST_RUNS)
    checked = any(stream.checked_at for stream in state.streams.values())
    tried = suspensions.tried(database, name)
    unread = first_reads([PlanInputs(CATALOGUE, policy, state, None)])
    return Status(
        name,
        identity,
        limit_text,
        tuple(_streams(database, name, state, unread, policy)),
        balance,
        outbox.sizes(database, name),
        last[0] if last else None,
        unread,
        read_by(unread, now, balance) if unread.lists else None,
        suspensions.listed(database).get(name),
        now,
        past,
        runs.last_success(database, name),
        between_runs(database, name),
        outbox.waiting(database, name),
        backfills.unfinished(database, name),
        holders(database, name, this_process(), now),
        spending.account_began(database, identity.account),
        tried is False or (tried is None and not checked and any(run.finished_at for run in past)),
        proof=deliveries.last(database, name, now),
        hints=sums(database, name),
    )


def between_runs(database: Database, name: str) -> timedelta | None:
    """Return the usual time between two syncs; None after too few."""
    starts = [run["started_at"] for run in runs.recent(database, name, RUNS) if run["command"] == "sync"]
    gaps = [(later - earlier) / HOUR for later, earlier in pairwise(starts)]
    return max(median(gaps) * HOUR, MINUTE) if gaps else None


def _streams(
    database: Database, name: str, state: Progress, unread: FirstReads, policy: Policy
) -> Iterator[StreamStatus]:
    """Yield the streams that are read, and those with rows from before they were switched off."""
    read = policy.streams | {CATALOGUE[stream_name].parent for stream_name in policy.streams}
    counts, quarantined = progress.sums(database, name), progress.quarantined(database, name)
    newest_rows = progress.newest(database, name)
    for stream in (state.streams[stream_name] for stream_name in CATALOGUE if stream_name in state.streams):
        if stream.name not in read and not counts.get(stream.name):
            continue
        lists = state.children.get(stream.name, {}).values()
        marks = [child.watermark for child in lists if child.watermark]
        newest, delay = newest_rows.get(stream.name, (None, None))
        yield StreamStatus(
            stream.name,
            stream.complete_through,
            max(filter(None, (newest, stream.watermark or max(marks, default=None))), default=None),
            counts.get(stream.name, {}),
            sum(moved(child.counter, child.read_counter) for child in lists),
            quarantined.get(stream.name, {}),
            stream.problem,
            unread.lists.get(stream.name, 0),
            stream.name in unread.discovering,
            not stream.distrusted if CATALOGUE[stream.name].counters else None,
            _checked_at(stream, state),
            delay,
            stream.trouble_at,
            stream.trouble_code,
            stream.unread is not None,
            stream.name in policy.streams,
        )


def _checked_at(stream: StreamState, progress: Progress) -> datetime | None:
    """Return when Beamer last answered about it: by its own list, its parents' counters, or list by list."""
    parent_stream = CATALOGUE[stream.name].parent
    moments = [stream.checked_at]
    moments += [child.read_at for child in progress.children.get(stream.name, {}).values()]
    if parent_stream is None or not stream.distrusted:
        parents = progress.parents.get(parent_stream or stream.name, {})
        moments += [parent.checked_at for parent in parents.values()]
    return max(filter(None, moments), default=None)

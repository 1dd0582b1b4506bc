"""The status of each connection, read from the database only: it sends no request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from connector.beamer.streams import CATALOGUE
from connector.domain.period import PERIOD_DAYS
from connector.domain.state import Progress, StreamState
from connector.errors import StateDamaged
from connector.reporting.spend_rate import DAY, HOUR, between_runs
from connector.reporting.summary import WHY_HELD
from connector.state import backfills, outbox, progress, queries, runs, suspensions
from connector.state.backfills import Backfill
from connector.state.connections import Identity, known
from connector.state.credentials import Change
from connector.state.engine import Database
from connector.state.leases import this_process
from connector.state.ledger import Balance, Ledger, Limits
from connector.state.queries import Holder, PastRun, Waiting
from connector.state.suspensions import Refusal
from connector.sync.fetch import stored
from connector.sync.forecast import FirstReads, first_reads, read_by
from connector.sync.lists.counters import moved
from connector.sync.planning.probes import Picture
from connector.sync.policy import Policy

# What the strip shows.
LAST_RUNS = 40
# Late is what took so many times as long as usual; where nothing is usual yet, more than a day.
LATE_TIMES, LATE_AT_FIRST = 3, timedelta(hours=25)
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream: how far it is complete, what came of its rows, and what waits to be read.

    `lists_unread` of its lists hold rows and were never read; `discovering`: its own list was not yet read
    to the far end. `counters_trusted` is None where no counter speaks for it. `checked_at` is when Beamer
    was last asked about it, be it by its counters; `delay`, in seconds, how late its newest row was read.
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


@dataclass(frozen=True, slots=True)
class Status:
    """One connection; `identity` is None before its first run.

    `read_by` says when the lists never read will have been; None where there are none, or no telling.
    `runs` are the last ones, newest first; `every` lies between two syncs as a rule. `began` is when the
    account was first charged. `untried`: no request was made yet with the Beamer key. `change`: how the keys
    and addresses of the settings differ from those of the last run.
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
    change: Change = field(default_factory=Change)
    # Why nothing can be told; and where the database holds what cannot be read, but is made anew.
    damaged: StateDamaged | None = None
    unreadable: Sequence[str] = ()

    @property
    def held(self) -> Mapping[str, int]:
        """Return how many rows are excluded, by reason."""
        return {why: total for why in WHY_HELD if (total := sum(s.counts.get(why, 0) for s in self.streams))}

    @property
    def newest(self) -> StreamStatus | None:
        """The stream with the newest row of all."""
        dated = [stream for stream in self.streams if stream.newest]
        return max(dated, key=lambda stream: stream.newest or NEVER, default=None)

    @property
    def messages_waiting(self) -> int:
        return sum(each.messages for each in self.waiting)

    @property
    def dead(self) -> int:
        """How many messages Segment refused."""
        return (self.outbox or {}).get(outbox.DEAD, 0)

    @property
    def lists_waiting(self) -> int:
        """Return how many lists have new rows according to their counters."""
        return sum(stream.lists_waiting for stream in self.streams)

    @property
    def under_way(self) -> Sequence[str]:
        """The kinds of work that are being done."""
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
        """The share of the month that has gone by: where spending evenly would stand; None without a limit.

        Until the month's first day is told it is one of the 31 days before, or of those since the account
        began.
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
    """Look a connection up; it has a policy once it has run."""
    identity = known(database, name)
    if identity is None or policy is None:
        return Status(name, None, limit_text, now=now)
    state = stored.readable(progress.load_readonly(database, name), policy.start)
    last = runs.recent(database, name, 1)
    balance = Ledger(database, identity.account, name, limits).balance(now)
    ran = queries.last_runs(database, name, LAST_RUNS)
    checked = any(state.checked_at for state in state.streams.values())
    tried = suspensions.tried(database, name)
    unread = first_reads([Picture(CATALOGUE, policy, state, None)])
    seen = StoredState(
        state,
        unread,
        queries.sums(database, name),
        queries.quarantined(database, name),
        queries.newest(database, name),
    )
    return Status(
        name,
        identity,
        limit_text,
        tuple(_stream(state.streams[each], seen) for each in CATALOGUE if each in state.streams),
        balance,
        queries.outbox_sizes(database, name),
        last[0] if last else None,
        unread,
        read_by(unread, now, balance) if unread.lists else None,
        suspensions.listed(database).get(name),
        now,
        ran,
        queries.last_success(database, name),
        between_runs(database, name),
        queries.waiting(database, name),
        backfills.unfinished(database, name),
        queries.holders(database, name, this_process(), now),
        queries.account_began(database, identity.account),
        tried is False or (tried is None and not checked and any(run.finished_at for run in ran)),
    )


@dataclass(frozen=True, slots=True)
class StoredState:
    """What the streams of a connection are told from."""

    progress: Progress
    unread: FirstReads
    counts: Mapping[str, Mapping[str, int]]
    bad: Mapping[str, Mapping[str, int]]
    newest: Mapping[str, tuple[datetime, float]]


def _stream(state: StreamState, seen: StoredState) -> StreamStatus:
    lists = seen.progress.children.get(state.name, {}).values()
    marks = [child.watermark for child in lists if child.watermark]
    newest, delay = seen.newest.get(state.name, (None, None))
    return StreamStatus(
        state.name,
        state.complete_through,
        max(filter(None, (newest, state.watermark or max(marks, default=None))), default=None),
        seen.counts.get(state.name, {}),
        sum(moved(child.counter, child.read_counter) for child in lists),
        seen.bad.get(state.name, {}),
        state.problem,
        seen.unread.lists.get(state.name, 0),
        state.name in seen.unread.discovering,
        not state.distrusted if CATALOGUE[state.name].counters else None,
        _checked_at(state, seen.progress),
        delay,
        state.trouble_at,
        state.trouble_code,
        state.unread is not None,
    )


def _checked_at(state: StreamState, of: Progress) -> datetime | None:
    """When Beamer was last asked: by its own list, by its parents' counters, or list by list."""
    above = CATALOGUE[state.name].parent
    moments = [state.checked_at]
    moments += [child.read_at for child in of.children.get(state.name, {}).values()]
    if above is None or not state.distrusted:
        moments += [parent.checked_at for parent in of.parents.get(above or state.name, {}).values()]
    return max(filter(None, moments), default=None)

"""Whole months in virtual time: one account, one seed, one way of spending the quota."""

import json
import shutil
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from pathlib import Path
from random import Random
from statistics import fmean
from time import process_time

from connector.beamer.webhooks import hints_of
from connector.sandbox import Row
from connector.sandbox.webhooks import WebhookSwitches
from connector.state import connections, hints
from connector.sync.context import RunContext
from connector.sync.planning.planner import Planner
from connector.sync.run import Run
from tests import harness
from tests.benchmarks.quota_accounts import Account
from tests.benchmarks.quota_methods import Passes
from tests.sandbox import Sandbox

MONTH = timedelta(days=31)
JITTER = 10.0  # seconds by which cron may be late
MINUTE = timedelta(minutes=1)
# What webhooks announce, by event.
ANNOUNCED = frozenset(harness.EVENT[stream] for stream in ("comments", "reactions", "nps"))
MEMORY = Path("/dev/shm")  # noqa: S108 - a place in memory, where there is one

Make = Callable[[Sandbox], Planner | None]


@dataclass(frozen=True)
class Measured:
    """A month as it went.

    Delays are in hours between a row's appearance and its arrival at Segment. `undelivered` rows are in
    them with their age at the end, the largest of which is `oldest`; `behind` counts the rows from before
    these days that had not arrived at their end. `announced` and `others` are the mean delays of what
    webhooks announce (comments, reactions, NPS) and of the rest. `most` is what 31 days in a row spent at the
    most, `runs` how many runs were made, `cpu` how many seconds of a processor all of it took.
    """

    rows: int
    mean: float
    p95: float
    undelivered: int
    oldest: float
    requests: int
    most: int
    behind: int
    runs: int
    cpu: float
    announced: float = 0.0
    others: float = 0.0


class Month:
    """A connector at its cron rhythm over some days of an account's life."""

    def __init__(
        self,
        account: Account,
        seed: int,
        make: Make,
        folder: Path,
        *,
        length: timedelta = MONTH,
        skip_idle: bool = True,
        webhooks: WebhookSwitches | None = None,
    ) -> None:
        self.account, self.length = account, length
        self._skip_idle = skip_idle
        self.sandbox = harness.sandbox(company=account.company(seed))
        limits = account.limits
        self.sandbox.monthly_limit = limits.requests
        self.since = self.sandbox.now()
        self.rig = harness.Rig(
            self.sandbox, f"sqlite:///{folder / 'state.sqlite'}", days=account.history, limits=limits
        )
        self._planner = make(self.sandbox)
        self._rng = Random(f"{seed}/cron")
        self.runs = 0
        self._webhooks = self.sandbox.start_webhooks(webhooks) if webhooks else None
        # The newest hint that a run has seen.
        self._newest: datetime | None = None

    def go(self) -> None:
        """Let the days pass."""
        context = replace(self.rig.context(), planner=self._planner)
        rests: datetime | None = None
        for tick in self._ticks():
            self._take_webhooks(context, tick)
            self.sandbox.advance(max(timedelta(0), tick - self.sandbox.now()))
            if rests is None or self.sandbox.now() >= rests:
                rests = self._run(context)
        self.sandbox.advance(max(timedelta(0), self.since + self.length - self.sandbox.now()))

    def _take_webhooks(self, context: RunContext, until: datetime) -> None:
        """As the daemon: a minute at a time, a run where hints can be read and a request is available."""
        while self._webhooks and self.sandbox.now() + MINUTE < until:
            self.sandbox.advance(MINUTE)
            bodies = self._webhooks.due(self.sandbox.now().timestamp())
            for body in bodies:
                new = hints_of(json.dumps(body).encode())
                hints.add(context.database, context.identity.name, new, self.sandbox.now())
            newest = hints.newest(context.database, self.sandbox.now()).get(context.identity.name)
            if (
                newest
                and newest != self._newest
                and context.ledger.balance(self.sandbox.now()).refusal is None
            ):
                self._run(context)
            self._newest = newest

    def _ticks(self) -> Iterator[datetime]:
        for number in range(ceil(self.length / self.account.every)):
            late = timedelta(seconds=round(self._rng.uniform(0, JITTER), 3))
            yield self.since + number * self.account.every + late

    def _run(self, context: RunContext) -> datetime | None:
        """One run; until when the next ones could ask nothing, and so need not be made."""
        # As each process finds it: what the runs before it learnt.
        known = connections.known(context.database, context.identity.name)
        outcome = Run(replace(context, identity=known or context.identity)).go()
        assert outcome.error is None, outcome.error
        self.runs += 1
        if not self._skip_idle:
            return None
        if isinstance(self._planner, Passes) and self._planner.rests_until:
            return self._planner.rests_until
        return outcome.report.next_try

    def close(self) -> None:
        self.rig.close()

    # --- what came of it ---

    def delays(self, events: Container[str] = harness.ID) -> list[tuple[float, bool]]:
        """Of each row that should have come in these days: its delay in hours, and whether it arrived."""
        arrived = self._arrived()
        end = self.since + self.length
        rows: dict[tuple[str, str], Row] = harness.expected(self.sandbox, self.rig.start, deleted=True)
        found: list[tuple[float, bool]] = []
        for key, row in rows.items():
            appears, at = shown(row), arrived.get(key)
            if key[0] not in events or not self.since.timestamp() <= appears < end.timestamp():
                continue
            if at is not None:
                found.append(((at.timestamp() - appears) / 3600, True))
            elif row.deleted_s is None:
                found.append(((end.timestamp() - appears) / 3600, False))
        return found

    def behind(self) -> int:
        """How many rows from before these days should have come and have not."""
        rows: dict[tuple[str, str], Row] = harness.expected(self.sandbox, self.rig.start)
        arrived = self._arrived()
        return sum(key not in arrived and shown(row) < self.since.timestamp() for key, row in rows.items())

    def _arrived(self) -> dict[tuple[str, str], datetime]:
        """When each row first arrived at Segment."""
        arrived: dict[tuple[str, str], datetime] = {}
        for landed in self.sandbox.segment.landed:
            event = landed.message["event"]
            if event in harness.ID:
                arrived.setdefault((event, landed.message["properties"][harness.ID[event]]), landed.at)
        return arrived

    def asked(self) -> list[datetime]:
        """When each request to Beamer was made."""
        return [seen.at for seen in self.sandbox.requests if seen.api == "beamer"]

    def measured(self, cpu: float) -> Measured:
        delays, asked = self.delays(), self.asked()
        hours = sorted(delay for delay, _ in delays)
        late = [delay for delay, arrived in delays if not arrived]
        others = [delay for delay, _ in self.delays(harness.ID.keys() - ANNOUNCED)]
        announced = [delay for delay, _ in self.delays(ANNOUNCED)]
        return Measured(
            rows=len(hours),
            mean=sum(hours) / len(hours) if hours else 0.0,
            p95=percentile(hours, 0.95),
            undelivered=len(late),
            oldest=max(late, default=0.0),
            requests=len(asked),
            most=most_within(asked, MONTH),
            behind=self.behind(),
            runs=self.runs,
            cpu=cpu,
            announced=fmean(announced) if announced else 0.0,
            others=fmean(others) if others else 0.0,
        )


def shown(row: Row) -> float:
    """Since when a row could be sent, in epoch seconds: a draft since it was published, and likewise a
    scheduled post.
    """
    return max(row.appears_s, row.starts_s) if row.stream == "posts" else row.appears_s


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else 0.0


def most_within(moments: Iterable[datetime], span: timedelta) -> int:
    """How many of the moments, which rise, lie within the fullest span."""
    window: list[datetime] = []
    most = first = 0
    for moment in moments:
        window.append(moment)
        while moment - window[first] >= span:
            first += 1
        most = max(most, len(window) - first)
    return most


def run_month(
    account: Account,
    seed: int,
    make: Make,
    *,
    length: timedelta = MONTH,
    skip_idle: bool = True,
    webhooks: WebhookSwitches | None = None,
) -> Measured:
    """Live through a month, and measure it."""
    folder = Path(tempfile.mkdtemp(prefix="benchq-", dir=MEMORY if MEMORY.is_dir() else None))
    began = process_time()
    try:
        month = Month(account, seed, make, folder, length=length, skip_idle=skip_idle, webhooks=webhooks)
        try:
            month.go()
            return month.measured(process_time() - began)
        finally:
            month.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)

"""A connector put together around a sandbox, without sockets and without threads."""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from connector.beamer.client import BeamerClient
from connector.beamer.pagination import Answer
from connector.beamer.streams import CATALOGUE, Stream
from connector.domain.budget import Limits
from connector.sandbox import Company
from connector.segment.client import SegmentClient
from connector.segment.shaping import Naming, Privacy
from connector.state import connections, schema
from connector.state.backfills import Backfill, Range
from connector.state.connections import Identity
from connector.state.engine import Database, open_database
from connector.state.ledger import Ledger
from connector.sync.backfill.run import BackfillOrder, BackfillRun, judging
from connector.sync.context import Constants, RunContext
from connector.sync.policy import Policy
from connector.sync.run import Outcome, Run
from tests.events.recording import keep
from tests.sandbox import Sandbox

ALL = frozenset(CATALOGUE)


class SandboxClock:
    """The sandbox's time as the connector's clock; waiting lets it pass."""

    def __init__(self, sandbox: Sandbox, ahead: timedelta = timedelta(0)) -> None:
        self._sandbox = sandbox
        self._ahead = ahead
        self.slept = 0.0
        self.stopped = False

    def now(self) -> datetime:
        return self._sandbox.now() + self._ahead

    def sleep(self, seconds: float) -> None:
        if seconds > 0 and not self.stopped:
            self.slept += seconds
            self._sandbox.advance(timedelta(seconds=seconds))


class SerialPool:
    """A pool that runs each fetch at once, in the order in which they come."""

    size = 4

    def submit(self, fetch: Callable[[], Answer]) -> Future[Answer]:
        future: Future[Answer] = Future()
        try:
            future.set_result(fetch())
        except BaseException as error:
            future.set_exception(error)
        return future

    def landed(self, flights: Collection[Future[Answer]], timeout: float) -> set[Future[Answer]]:  # noqa: ARG002
        return {next(iter(flights))}


@dataclass
class Rig:
    """One connection to one sandbox."""

    sandbox: Sandbox
    url: str
    streams: frozenset[str] = ALL
    days: int = 30
    limits: Limits = field(default_factory=lambda: Limits(None, 0, 30))
    settings: dict[str, Any] = field(default_factory=dict)
    privacy: Privacy = field(default_factory=Privacy)
    api_key: str | None = None
    name: str = "default"
    ahead: timedelta = timedelta(0)
    catalogue: Mapping[str, Stream] = field(default_factory=lambda: CATALOGUE)
    transport: httpx.BaseTransport | None = None
    most_waiting: int = 100_000
    most_bytes: int = 200_000_000
    events_per_second: int | None = None
    constants: Constants = field(default_factory=Constants)
    database: Database = field(init=False)

    def __post_init__(self) -> None:
        self.clock = SandboxClock(self.sandbox, self.ahead)
        self.database = open_database(self.url)
        schema.ready(self.database, self.clock.now())
        self.start = self.clock.now() - timedelta(days=self.days)

    def context(self) -> RunContext:
        now = self.clock.now()
        first = Identity(self.name, "acct", "dest", self.start)
        identity = connections.settle(self.database, first, now)
        naming = Naming(identity.destination, identity.account, identity.name)
        policy = Policy(self.streams, identity.start_date, naming, self.privacy, **self.settings)
        beamer = BeamerClient(
            self.api_key or self.sandbox.api_key,
            "http://127.0.0.1/v0",
            self.clock,
            transport=self.transport or self.sandbox.beamer_transport(),
        )
        segment = SegmentClient(self.sandbox.write_key, "http://127.0.0.1:1", post=self.sandbox.segment_post)
        ledger = Ledger(self.database, identity.account, identity.name, self.limits)
        return RunContext(
            self.catalogue,
            identity,
            policy,
            self.database,
            beamer,
            segment,
            ledger,
            self.clock,
            SerialPool(),
            self.most_waiting,
            self.most_bytes,
            self.events_per_second,
            constants=self.constants,
        )

    def sync(self, **options: Any) -> Outcome:
        before = len(self.sandbox.segment.received)
        try:
            return Run(self.context(), **options).go()
        finally:
            keep(self.sandbox.segment.received[before:])

    def backfill(
        self,
        days: int = 3650,
        *,
        until: datetime | None = None,
        resend: bool = False,
        again: bool = False,
        most_requests: int | None = None,
        deliver: bool = True,
        integrations: Mapping[str, Any] | None = None,
    ) -> tuple[Outcome, Backfill]:
        """Bring the history of so many days before the start."""
        before = len(self.sandbox.segment.received)
        context = self.context()
        wanted = Range(
            self.start - timedelta(days=days),
            until,
            tuple(name for name in self.catalogue if name in self.streams),
            judging(context.policy),
            resend,
        )
        order = BackfillOrder(wanted, integrations, most_requests, deliver=deliver, again=again)
        try:
            return BackfillRun(context, order).go()
        finally:
            keep(self.sandbox.segment.received[before:])

    @property
    def beamer_requests(self) -> int:
        return sum(seen.api == "beamer" for seen in self.sandbox.requests)

    def close(self) -> None:
        self.database.close()

    def check(self, streams: Collection[str] = ALL, *, segmented: bool = True) -> None:
        """Everything that the settings send has landed once, and nothing else."""
        found = landed(self.sandbox)
        due = expected(self.sandbox, self.start, streams, segmented=segmented)
        ever = expected(self.sandbox, self.start, streams, deleted=True, segmented=segmented)
        assert set(found.values()) <= {1}, "doubled"
        assert not set(due) - set(found), "lost"
        assert not set(found) - set(ever), "never to be sent"
        ids = {message["messageId"] for message in self.sandbox.segment.received}
        assert len(ids) == len(self.sandbox.segment.messages), "a row with two messageIds"


NO_USER = {"", "undefined", "null", "0", "-1", "none"}


def expected(
    sandbox: Sandbox,
    start: datetime,
    streams: Collection[str] = ALL,
    *,
    deleted: bool = False,
    segmented: bool = True,
) -> dict[tuple[str, str], Any]:
    """Every row that the default settings send, by (event, id): what an oracle knows of the world.

    `deleted` ones may have been sent before they went; `segmented` posts show only with ignoreFilters.
    """
    now = sandbox.now()
    rows: dict[tuple[str, str], Any] = {}
    for stream in streams:
        for row in sandbox.world.rows(stream):
            if row.date < start or row.appears > now or row.hidden:
                continue
            if row.deleted_at is not None and not deleted:
                continue
            if not segmented and (row.parent or row).fields.get("filter"):
                continue
            if _sent(stream, row.fields, row.date, now):
                rows[EVENT[stream], row.id] = row
    return rows


EVENT = {
    "posts": "Post Published",
    "comments": "Post Commented",
    "reactions": "Post Reacted To",
    "nps": "NPS Response Sent",
    "feature_requests": "Feature Request Submitted",
    "feature_request_comments": "Feature Request Commented",
    "feature_request_votes": "Feature Request Voted",
}
ID = {
    "Post Published": "post_id",
    "Post Commented": "comment_id",
    "Post Reacted To": "reaction_id",
    "NPS Response Sent": "nps_id",
    "Feature Request Submitted": "request_id",
    "Feature Request Commented": "comment_id",
    "Feature Request Voted": "vote_id",
}


def _sent(stream: str, fields: dict[str, Any], date: datetime, now: datetime) -> bool:
    if stream == "posts":
        return str(fields.get("published", "true")).lower() == "true" and date <= now
    team = bool(fields.get("internalUserEmail")) and not fields.get("userId")
    if stream == "feature_requests" and team:
        return date <= now
    if stream == "feature_request_comments":
        hidden = str(fields.get("visible", "true")).lower() == "false"
        automatic = str(fields.get("actionComment", "false")).lower() == "true"
        if team or hidden or automatic:
            return False
    if stream == "nps" and not fields.get("feedback") and date > now - timedelta(minutes=15):
        return False
    return str(fields.get("userId") or "").strip().lower() not in NO_USER


def landed(sandbox: Sandbox) -> dict[tuple[str, str], int]:
    """What is in the warehouse, by (event, id): how many times."""
    found: dict[tuple[str, str], int] = {}
    for message in sandbox.segment.messages:
        if message["event"] in ID:
            key = (message["event"], message["properties"][ID[message["event"]]])
            found[key] = found.get(key, 0) + 1
    return found


def sandbox(**options: Any) -> Sandbox:
    company = options.pop("company", None) or Company(seed=options.pop("seed", 7))
    return Sandbox(company, now=datetime(2026, 3, 1, tzinfo=UTC), **options)


def idle_cost(sandbox: Sandbox, *, segmented: bool = True) -> int:
    """What a sync with nothing to do spends: a request for every ten posts and requests, and one for NPS."""
    now = sandbox.now()
    posts = [row for row in sandbox.world.posts_shown() if row.date <= now]
    shown = [row for row in posts if segmented or not row.fields.get("filter")]
    requests = sandbox.world.row_list("feature_requests").rows
    return max(1, -(-len(shown) // 10)) + max(1, -(-len(requests) // 10)) + 1


def hold_still(sandbox: Sandbox) -> None:
    """From now on nothing new happens by itself."""
    sandbox.world.company = replace(sandbox.world.company, quiet=True)
    sandbox.world._pending.clear()

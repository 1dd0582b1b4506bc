"""A connector put together around a sandbox, without sockets and without threads."""

from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from connector.beamer.catalogue import CATALOGUE
from connector.beamer.door import Answer, Beamer
from connector.sandbox import Company, Sandbox
from connector.segment.door import Segment
from connector.segment.shape import Naming, Privacy
from connector.state import connections, schema
from connector.state.connections import Identity
from connector.state.engine import Store, open_store
from connector.state.ledger import Ledger, Limits
from connector.sync.policy import Policy
from connector.sync.run import Outcome, Parts, Run

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

    def landed(self, flights: Collection[Future[Answer]], timeout: float) -> set[Future[Answer]]:
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

    def __post_init__(self) -> None:
        self.clock = SandboxClock(self.sandbox, self.ahead)
        self.store: Store = open_store(self.url)
        schema.ready(self.store, self.clock.now())

    def parts(self) -> Parts:
        now = self.clock.now()
        first = Identity(self.name, "acct", "dest", now - timedelta(days=self.days))
        identity = connections.settle(self.store, first, now)
        naming = Naming(identity.destination, identity.account, identity.name)
        policy = Policy(self.streams, identity.start_date, naming, self.privacy, **self.settings)
        beamer = Beamer(
            self.api_key or self.sandbox.api_key,
            "http://127.0.0.1/v0",
            self.clock,
            transport=self.sandbox.beamer_transport(),
        )
        segment = Segment(self.sandbox.write_key, "http://127.0.0.1:1", post=self.sandbox.segment_post)
        ledger = Ledger(self.store, identity.account, identity.name, self.limits)
        return Parts(
            CATALOGUE, identity, policy, self.store, beamer, segment, ledger, self.clock, SerialPool()
        )

    def sync(self, **options: Any) -> Outcome:
        return Run(self.parts(), **options).go()

    @property
    def beamer_requests(self) -> int:
        return sum(seen.api == "beamer" for seen in self.sandbox.requests)


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

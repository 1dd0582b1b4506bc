"""One process of the connector: a run, with what it holds in memory, until its end or its death."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from connector.beamer.client import BeamerClient
from connector.errors import ConnectorError
from connector.segment.client import SegmentClient
from connector.segment.shaping import Naming, Privacy
from connector.state import connections
from connector.state.connections import Identity
from connector.state.ledger import Ledger
from connector.sync.context import RunContext
from connector.sync.policy import Policy
from connector.sync.report import Report
from connector.sync.run import Run
from tests.simulation.crashes import Death, Slot
from tests.simulation.network import BeamerWay, SegmentWay
from tests.simulation.plan import Member
from tests.simulation.pool import DisorderlyPool

if TYPE_CHECKING:
    from tests.simulation.storage import Trouble
    from tests.simulation.universe import Universe

ACCOUNT = "acct"
# What only the holder of the lease may write. Runs, leases and the account's closing are everybody's, and
# a stream's first row is written by whoever comes first.
FENCED = frozenset({"row", "outbox", "quarantine", "parent", "child", "tally", "day", "spend"})


@dataclass(slots=True)
class Fate:
    """Where a process dies: at the n-th moment of a kind (None: of any)."""

    kind: str | None
    left: int

    def strikes(self, kind: str) -> bool:
        if self.kind not in (None, kind):
            return False
        self.left -= 1
        return self.left == 0


@dataclass(slots=True)
class Ending:
    """How a run ended: `exit` is None for a death."""

    exit: int | None
    said: str = ""
    report: Report | None = None


@dataclass(slots=True)
class Clock:
    """The connector's clock in one process: the simulated time, off by what this machine's clock is off."""

    universe: "Universe"
    ahead: timedelta
    stopped: bool = False
    read_at: datetime | None = None

    def now(self) -> datetime:
        self.read_at = self.universe.now()
        return self.read_at + self.ahead

    def sleep(self, seconds: float) -> None:
        if seconds > 0 and not self.stopped:
            self.universe.box.advance(timedelta(seconds=seconds))


@dataclass
class Process:
    """`pause` is where others may go on."""

    universe: "Universe"
    member: Member
    name: str
    number: int
    ahead: timedelta
    fate: Fate | None = None
    pause: Callable[[str], None] = lambda _: None
    slot: Slot = field(init=False)
    dead: bool = False
    ended: bool = False
    passed: Counter[str] = field(default_factory=Counter)
    """How often each kind of moment has come."""
    mishaps: int = 0
    asked: int = 0
    held_at: datetime | None = None
    in_transaction: bool = False
    trouble: "Trouble | None" = None
    partner: "Process | None" = None
    """The other one of two at once."""
    suspended: str = ""
    """At which moment it was suspended while the other one went on, and at which it died."""
    died_at: str = ""
    _touched: set[str] = field(default_factory=set)
    _acquired: bool = False
    _released: bool = False

    def __post_init__(self) -> None:
        self.clock = Clock(self.universe, self.ahead)
        self._rng = Random(f"{self.universe.plan.seed}/p{self.number}")
        self.slot = self.universe.disk.slot()
        self.slot.witness = self

    # --- what is told to it as a witness ---

    def moment(self, kind: str) -> None:
        if self.dead:
            raise Death
        self.passed[kind] += 1
        census = self.universe.census
        census.passed[kind] += 1
        if self.trouble:
            self.universe.storage.moment(self, self.trouble, kind)
        if self.fate and self.fate.strikes(kind):
            self.dead, self.died_at = True, kind
            census.struck[kind] += 1
            self.universe.choices.settle(f"{self.name} dies", (kind, self.passed[kind]))
            self.universe.tell(f"{self.name} is killed {kind} ({self.passed[kind]})")
        if not self.dead:
            self.pause(kind)
        if self.dead:
            # Also where the machine went down while this process was suspended.
            self.slot.roll_back()
            raise Death

    def begun(self) -> None:
        self.in_transaction = True
        self._touched.clear()
        self._acquired = self._released = False

    def over(self) -> None:
        self.in_transaction = False

    def wrote(self, verb: str, table: str, statement: str, rows: int) -> None:
        # SQLite counts rows that are returned once they are read; a renewal of none is rolled back.
        if rows or (table == "lease" and "RETURNING" in statement):
            self._touched.add(table)
        if table == "lease":
            # Renewing and giving back leave the owner as it is; renewing leaves the token, too.
            self._acquired |= verb == "insert" or "host=" in statement
            self._released |= "token=" in statement and "host=" not in statement

    def committed(self) -> None:
        if self._acquired:
            self.universe.acquired(self)
        elif self.held_at is not None and self._touched & FENCED:
            self.universe.fenced_write(self, self._touched & FENCED)
        if "lease" in self._touched:
            # A lease is renewed from the moment at which its holder looked at the clock.
            self.held_at = None if self._released else self.clock.read_at

    def mishap(self, what: str) -> bool:
        universe = self.universe
        if universe.network.calm:
            return False
        self.mishaps += 1
        name = f"{self.name}, the store fails at {what} {self.mishaps}"
        if not universe.choices.choose(name, False, self._drawn_mishap):
            return False
        universe.network.faults += 1
        universe.census.sums[f"store failed at {what}"] += 1
        universe.tell(f"{self.name} store fails at {what}")
        return True

    def _drawn_mishap(self) -> bool:
        return self._rng.random() < self.universe.plan.troubles.database

    # --- its life ---

    @property
    def moments(self) -> int:
        return self.passed.total()

    def run(self, **options: Any) -> Ending:
        """Run to the end, or to death."""
        self.universe.tell(f"{self.name} starts")
        try:
            ending = self._run(**options)
        except Death:
            ending = Ending(None, "died")
        except ConnectorError as error:
            ending = Ending(int(error.exit), error.what)
        self.ended = True
        self.slot.clear()
        for process, its_ending in self.universe.storage.ended(self, ending):
            self.universe.ended(process, its_ending)
        return ending

    def _run(self, **options: Any) -> Ending:
        context = self.context()
        if planner := options.pop("planner", None):
            context = replace(context, planner=planner)
        outcome = Run(context, **options).go()
        said = outcome.error.what if outcome.error else outcome.report.stopped or ""
        return Ending(int(outcome.exit), said, outcome.report)

    def context(self) -> RunContext:
        member, universe, database = self.member, self.universe, self.slot.database
        drawn = universe.drawn
        destination = universe.destinations[member.name]
        first = Identity(member.name, ACCOUNT, destination, universe.starts[member.name])
        identity = connections.settle(database, first, self.clock.now())
        if identity.destination != destination:
            connections.set_destination(database, member.name, destination)
            identity = replace(identity, destination=destination)
        threads = universe.choices.choose(f"{self.name}, threads", 1, lambda: self._rng.choice(drawn.threads))
        pool = DisorderlyPool(universe.choices, self.name, self._rng, threads, self.moment)
        ledger = Ledger(database, ACCOUNT, member.name, universe.limits)
        return RunContext(
            drawn.catalogue,
            identity,
            replace(policy_of(member, identity), max_age=drawn.max_age, hint_share=drawn.hint_share),
            database,
            BeamerClient(
                universe.box.api_key,
                "http://127.0.0.1/v0",
                self.clock,
                per_second=drawn.per_second,
                transport=BeamerWay(universe.network, self.name, self._asks),
            ),
            SegmentClient(
                f"key-of-{destination}",
                "http://127.0.0.1:1",
                post=SegmentWay(universe.network, self.name, self.moment),
            ),
            ledger,
            self.clock,
            pool,
            drawn.most_waiting,
            drawn.most_bytes,
            drawn.events_per_second,
            constants=drawn.constants,
        )

    def _asks(self, kind: str) -> None:
        self.moment(kind)
        self.asked += kind.startswith("before")


def policy_of(member: Member, identity: Identity) -> Policy:
    """The connector's settings for a member's plain values."""
    return Policy(
        frozenset(member.streams),
        identity.start_date,
        Naming(identity.destination, identity.account, identity.name),
        Privacy(
            anonymous=member.anonymous,  # type: ignore[arg-type]
            traits=member.traits,  # type: ignore[arg-type]
            ref_url=member.ref_url,  # type: ignore[arg-type]
            texts=member.texts,  # type: ignore[arg-type]
        ),
        lookback=member.lookback,
        nps_settle=member.nps_settle,
        team_comments=member.team_comments,
        metrics=member.metrics,
        sync_event=member.sync_event,
        ignore_filters=member.ignore_filters,
        first_page=member.first_page,
    )

"""All that one life has in common: the account, the network, the database's file, and the rules for runs."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from random import Random

from connector.beamer.webhooks import hints_of
from connector.domain.budget import Limits
from connector.errors import Exit
from connector.sandbox import Row, Switches
from connector.sandbox.webhooks import Webhooks, WebhookSwitches
from connector.state import hints
from tests.sandbox import RequestSeen, Sandbox
from tests.simulation.census import Census
from tests.simulation.choices import Choices
from tests.simulation.crashes import Disk
from tests.simulation.happenings import Happenings
from tests.simulation.network import Network
from tests.simulation.plan import MOVED, START, Plan
from tests.simulation.process import Ending, Process
from tests.simulation.storage import StorageFaults
from tests.simulation.trace import Trace
from tests.simulation.wrong import Wrong

TIME = "%m-%d %H:%M:%S"
PROCESS = re.compile(r" \(process .*\)")


# A lease that ends so much later than it may is taken to be from before a clock was set back.
STALE = timedelta(hours=1)


def key_of(destination: str) -> str:
    return f"key-of-{destination}"


class Universe:
    """One life's world; `wrong` takes what must not be."""

    def __init__(self, plan: Plan, choices: Choices, disk: Disk, trace: Trace) -> None:
        self.plan = plan
        self.choices = choices
        self.disk = disk
        self.trace = trace
        self.census = Census()
        switches = Switches(**plan.switches, lists_lag=plan.strange.lists_lag)
        # Nothing that is printed, and nothing that is gone through, depends on the order of a set.
        switches.may_read = {*switches.may_read}
        if plan.strange.slow_counters is not None:
            switches.counters_lag = 3 * plan.rhythm
        # Time stands still but for what advances it, and so does the limiters'.
        self.box = Sandbox(plan.company, switches=switches, now=START, limiter_clock=self._seconds)
        self.box.segment.rate_limit = None
        self.box.monthly_limit = plan.monthly
        self.webhooks = None
        if plan.webhooks is not None:
            self.webhooks = Webhooks(plan.seed, WebhookSwitches(**plan.webhooks))
        self._appeared: list[Row] = []
        self.box.world.on_appearance = self._appears
        self.destinations = {member.name: member.destination for member in plan.members}
        self.box.segment.write_keys = {key_of(each) for each in (*self.destinations.values(), MOVED)}
        self.happenings = Happenings(plan, self.box, choices)
        self.network = Network(plan, self.box, choices, self.happenings, self.tell)
        self.drawn = plan.drawn
        self.limits = Limits(
            plan.monthly, plan.reserve, self.drawn.per_second, plan.period_day, self.drawn.startup
        )
        self.ahead = plan.ahead
        self.dropped: set[str] = set()
        """messageIds of dead letters that may have been deleted for their age."""
        self.starts = {m.name: START + self.ahead - timedelta(days=m.days) for m in plan.members}
        self.rng = Random(f"{plan.seed}/life")
        self.hinted: set[tuple[str, str]] = set()
        """Streams and ids of the rows that webhooks announced since the last run, and of their parents."""
        self.processes = 0
        self.deaths = 0
        self.storage = StorageFaults(self)
        self._holders: dict[str, Process] = {}
        self._logged = 0
        self.after_run: list[Callable[[Process, Ending], None]] = []
        self._clocks: list[tuple[datetime, timedelta]] = []
        disk.fresh(self.now())

    def now(self) -> datetime:
        return self.box.now()

    def ours(self, at: datetime) -> datetime:
        """What the connector's clock showed at a moment."""
        for since, ahead in reversed(self._clocks):
            if at >= since:
                return at + ahead
        return at + self.plan.ahead

    def step(self, by: timedelta) -> None:
        """Somebody sets the machine's clock."""
        self.ahead += by
        self._clocks.append((self.now(), self.ahead))
        self.tell(f"the clock is set by {by}")

    def _seconds(self) -> float:
        return self.box.now().timestamp()

    def _appears(self, row: Row) -> None:
        self._appeared.append(row)
        if self.webhooks:
            self.webhooks.appeared(row)

    def deliver_webhooks(self) -> bool:
        """Whoever receives them stores them as hints; return whether there were any."""
        bodies = self.webhooks.due(self._seconds()) if self.webhooks else []
        for body in bodies:
            new = hints_of(json.dumps(body).encode())
            self.hinted |= {(hint.stream, hint.row) for hint in new}
            self.hinted |= {(hint.parents, hint.parent) for hint in new}
            self.tell(f"webhooks: {[(hint.stream, hint.row) for hint in new]}")
            for member in self.plan.members:
                wanted = [hint for hint in new if hint.stream in member.streams]
                hints.add(self.disk.slot().database, member.name, wanted, self.now() + self.ahead)
        return bool(bodies)

    # --- what the processes do ---

    def log(self) -> None:
        """Put what has appeared and what was asked since into the trace."""
        lines = [*_appearances(self._appeared), *map(_request, self.box.requests[self._logged :])]
        for at, line in sorted(lines, key=itemgetter(0)):
            self.trace(f"{at:{TIME}} {line}")
        self._appeared.clear()
        self._logged = len(self.box.requests)

    def tell(self, line: str) -> None:
        """Put a line into the trace, behind what was asked before."""
        self.log()
        self.trace(f"{self.now():{TIME}} {line}")

    def acquired(self, process: Process) -> None:
        """A process has taken the lease; a run that was at work must not have lost it."""
        before = self._holders.get(process.member.name)
        self._holders[process.member.name] = process
        self.tell(f"{process.name} holds the lease")
        if before is None or before.ended or before.held_at is None:
            return
        self.census.sums["takeovers of runs that were suspended"] += 1
        if process.clock.read_at and self.now() - process.clock.read_at > STALE:
            # Suspended between its look at the clock and the lease, it takes the other's for one from before
            # a clock was set back. Fencing keeps the two apart; it is counted, as it is not as it should be.
            self.census.sums["takeovers by a run that was suspended with the time in hand"] += 1
            return
        idle = self.now() - before.held_at + (process.ahead - before.ahead)
        if idle < self.drawn.constants.lease:
            raise Wrong(f"{process.name} took the lease of {before.name}, which had worked {idle} before")

    def fenced_write(self, process: Process, tables: set[str]) -> None:
        """A process that held the lease once has written."""
        holder = self._holders.get(process.member.name)
        if holder is not process:
            raise Wrong(f"{process.name} wrote {sorted(tables)} though it had lost its lease")

    def ended(self, process: Process, ending: Ending) -> None:
        # Neither this process nor its folder belongs to what the seed decides.
        words = PROCESS.sub("", ending.said).replace(str(self.disk.file), "the file")
        said = f" ({words})" if words else ""
        self.tell(f"{process.name} ends with {ending.exit}{said}")
        sums = self.census.sums
        sums["deaths" if ending.exit is None else f"runs that ended with {ending.exit}"] += 1
        if "took over this run's lease" in ending.said:
            sums["runs fenced when they woke"] += 1
        if ending.report and ending.report.possible_doubles:
            self.tell(f"{process.name} reports {ending.report.possible_doubles} possible doubles")
        if ending.report is None and ending.exit in (None, Exit.UNREACHABLE):
            # Whose store failed behind what it sent cannot report it either.
            self.deaths += 1
        for look in self.after_run:
            look(process, ending)
        if ending.exit is None:
            self._gone(process)

    def _gone(self, process: Process) -> None:
        """The next run may be on the same machine, and see that the owner of the lease is no more."""
        name = f"{process.name} is seen to be gone"
        seen = self.choices.choose(name, False, lambda: self.rng.random() < 0.5)
        if seen and self._holders.get(process.member.name) is process:
            with closing(self.disk.opened()) as db:
                db.execute(
                    "UPDATE beamer_segment_lease SET started = 'gone' WHERE connection = ?",
                    [process.member.name],
                )
                db.commit()


def _appearances(rows: list[Row]) -> Iterator[tuple[datetime, str]]:
    for (at, stream, parent), group in groupby(rows, lambda row: (row.appears, row.stream, row.parent_id)):
        ids = [row.id for row in group]
        below = f" of {parent}" if parent else ""
        yield at, f"{stream} {', '.join(ids)}{below} {'appears' if len(ids) == 1 else 'appear'}"


def _request(seen: RequestSeen) -> tuple[datetime, str]:
    query = "&".join(f"{name}={value}" for name, value in sorted(seen.params.items()))
    asked = f"{seen.path}?{query}" if query else seen.path
    return seen.at, f"{seen.api} answers {asked} with {seen.status}" if seen.status else f"{asked} breaks off"

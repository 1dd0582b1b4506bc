"""One life: syncs, crashes, overlapping runs, and in the end quiet in which everything arrives."""

import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from connector.domain.budget import Limits
from connector.sandbox import STREAMS, Api, Row
from connector.state import outbox
from connector.sync.planning.audit import AuditEverything
from connector.sync.planning.start import HintedPlanner
from tests.sandbox import Step
from tests.simulation.census import Census
from tests.simulation.choices import Choices
from tests.simulation.crashes import Disk
from tests.simulation.due import List, half_read, missing, waiting
from tests.simulation.judge import Judge
from tests.simulation.model import Model
from tests.simulation.network import AWAY, REFUSED, Spell, path_of
from tests.simulation.pair import Overlap, Pair
from tests.simulation.plan import DAY, HOUR, MOVED, START, Member, Plan, plan
from tests.simulation.process import Ending, Fate, Process
from tests.simulation.quota import judge_quota
from tests.simulation.snapshot import taken
from tests.simulation.sometimes import Sometimes
from tests.simulation.story import Story
from tests.simulation.trace import Trace
from tests.simulation.universe import Universe
from tests.simulation.wrong import Wrong

# The kind of a moment (None: any), and how many of it have to come.
Where = tuple[str | None, int]
# Which API is away from when until when, after the life's beginning, and what it does meanwhile.
Away = tuple[Api, timedelta, timedelta, tuple[Step, ...]]
BUSY, DENIED = 75, 77
FIRST_PAGE = {name: 100 if name == "nps" else 10 for name in STREAMS}
ROOTS = {
    "posts": "posts",
    "comments": "posts",
    "reactions": "posts",
    "nps": "nps",
    "feature_requests": "feature_requests",
    "feature_request_comments": "feature_requests",
    "feature_request_votes": "feature_requests",
}


@dataclass(frozen=True, slots=True)
class Result:
    """`wrong` is the first promise that was broken, or how the connector fell over."""

    seed: int
    digest: str
    census: Census
    wrong: str | None
    syncs: int
    crashes: int
    overlaps: int
    story: Story | None
    """How it came to what is wrong; None where all is well."""


def live(of: int | Story, disk: Disk, shown: Callable[[str], None] | None = None) -> Result:
    """Live a seed's or a story's life to its end, or to the first thing that is wrong."""
    drawn, choices = (of.plan, Choices(of.events)) if isinstance(of, Story) else (plan(of), Choices())
    # The connector's jitter is drawn from the global generator.
    random.seed(f"{drawn.seed}/jitter")
    life = Life(drawn, choices, disk, Trace(shown))
    wrong = None
    try:
        life.go()
    except Wrong as error:
        wrong = str(error)
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
        if shown:
            shown(traceback.format_exc())
    life.universe.log()
    life.universe.tell(f"wrong: {wrong}" if wrong else "all is well")
    sums = life.universe.census.sums
    return Result(
        drawn.seed,
        life.universe.trace.digest,
        life.universe.census,
        wrong,
        life.syncs,
        sums["deaths"],
        sums["overlaps"],
        Story.of(drawn, choices, wrong) if wrong else None,
    )


class Life:
    def __init__(self, plan: Plan, choices: Choices, disk: Disk, trace: Trace) -> None:
        self.plan = plan
        self.choices = choices
        self.universe = Universe(plan, choices, disk, trace)
        self.judge = Judge(self.universe)
        self.model = Model(self.universe)
        self.sometimes = Sometimes(self.universe)
        self.universe.after_run.append(self._look)
        self.rng = self.universe.rng
        self.syncs = 0
        self._usual = 60
        # The runs of this part of the life are numbered.
        self._place = ""
        self._runs: Counter[str] = Counter()
        self._often = 0.0
        self._hinted = random.Random(f"{plan.seed}/hinted")
        # From when until when which lists were half read.
        self._half_read: list[tuple[datetime, datetime, set[List]]] = []
        trace(repr(plan))
        rows = {name: len(self.universe.box.world.rows(name)) for name in STREAMS}
        self.universe.tell(", ".join(f"{number} {name}" for name, number in rows.items()) + " are there")

    def go(self) -> None:
        self._outages()
        for number in range(self.plan.syncs):
            self._place = f"sync {number}"
            at = self.choices.choose(self._place, None, self._drawn_time)
            if at is None:
                continue
            if number == self.plan.syncs // 2 and self.plan.step:
                self.universe.step(self.plan.step)
            self.universe.box.advance(max(START + at - self.universe.now(), timedelta(0)))
            self._between(f"before sync {number}")
            self.universe.storage.before(number)
            self._went_back()
            self._strange(number)
            self._move(number)
            with self._wrong_clock(number):
                self._sync(number)
            self.judge.check()
        self.judge.books()
        judge_quota(self.universe)
        self._end()

    def _look(self, process: Process, ending: Ending) -> None:
        """A run has ended: count what it came to, and take each row's step in the model."""
        self._went_back()
        self.model.check(self.sometimes.look(process, ending))

    def _went_back(self) -> None:
        """What the database does not have any more may come again, with the ids that it had."""
        universe = self.universe
        before, universe.storage.lost = universe.storage.lost, None
        if before is None:
            return
        self.judge.check()
        now = taken(universe.disk)
        self.judge.went_back(before, now)
        self.model.restart(now)
        self.sometimes.restart(now)
        # A reading goes on where it stood when the copy was made.
        self._half_read.append((START, universe.now(), half_read(universe)))

    # --- the everyday ---

    def _outages(self) -> None:
        for number in range(self.plan.troubles.outages):
            none: tuple[Away, ...] = ()
            for api, start, end, steps in self.choices.choose(f"outage {number}", none, self._drawn_outage):
                self.universe.network.spells.append(Spell(api, START + start, START + end, steps))

    def _drawn_outage(self) -> tuple[Away, ...]:
        api: Api = "beamer" if self.rng.random() < 0.33 else "segment"
        start = self.rng.random() * self.plan.syncs * self.plan.rhythm
        end = start + self.rng.choice((2, 7, 30, 60)) * HOUR
        steps = AWAY if self.rng.random() < 0.8 or api == "beamer" else (REFUSED,)
        away = api, start, end, steps
        if api == "segment" and self.rng.random() < 0.5:
            # What is sent at the beginning arrives, and nobody hears of it.
            return (api, start - HOUR, start, ("reset_after", "hang")), away
        return (away,)

    @contextmanager
    def _wrong_clock(self, number: int) -> Iterator[None]:
        """A battery is empty, or two machines take turns of which one is wrong."""
        every, by = self.plan.wrong_clock or (0, timedelta(0))
        if not every or number % every != every - 1:
            yield
            return
        self.universe.step(by)
        try:
            yield
        finally:
            self.universe.step(-by)

    def _drawn_time(self) -> timedelta:
        """When a sync begins, if those before it have not gone on until then."""
        return self.universe.now() - START + self.plan.rhythm * (0.8 + 0.4 * self.rng.random())

    def _between(self, before: str) -> None:
        universe, choose = self.universe, self.choices.choose
        universe.box.monthly_used += choose(f"elsewhere {before}", 0, self._drawn_elsewhere)
        if universe.deliver_webhooks():
            self._sync_hinted(choose(f"hinted run {before}", None, self._drawn_hinted))
        for number in self.choices.numbers(before, lambda: self.rng.random() < self.plan.happenings):
            if happened := universe.happenings.between(number, before):
                universe.tell(happened)
        if choose(f"retry {before}", False, lambda: self.rng.random() < 0.02):
            retried = outbox.retry(self.universe.disk.slot().database, None, [])
            universe.tell(f"{retried} dead letters wait again")

    def _drawn_elsewhere(self) -> int:
        return self.rng.randint(0, self.plan.elsewhere) if self.plan.elsewhere else 0

    def _drawn_hinted(self) -> str | None:
        return self._hinted.choice(self.plan.members).name if self._hinted.random() < 0.3 else None

    def _sync_hinted(self, name: str | None) -> None:
        """As `schedule` runs it without a monthly limit; with one it may be run as well."""
        if (member := self._member(name)) is None:
            return
        process = self._process(member)
        self._doom(process, self._drawn_fate_of_hinted)
        self._after(process, process.run(planner=HintedPlanner()))
        self.syncs += 1

    def _drawn_fate_of_hinted(self) -> Where | None:
        return self._drawn_fate() if self._hinted.random() < self.plan.troubles.crashes else None

    def _member(self, name: str | None) -> Member | None:
        return next((member for member in self.plan.members if member.name == name), None)

    def _move(self, number: int) -> None:
        """The first connection is told to send elsewhere; what waits stays bound to where it was to go."""
        if self.plan.moves and number in self.plan.moves:
            first = self.plan.members[0]
            self._sends_to(MOVED if number == self.plan.moves[0] else first.destination)

    def _strange(self, number: int) -> None:
        """Pages hold less from now on; one row spoils every page that holds it."""
        universe, strange = self.universe, self.plan.strange
        if strange.slow_counters is not None:
            universe.tell(universe.happenings.popular())
        if number == strange.slow_counters:
            universe.box.switches.counters_lag = timedelta(0)
            universe.tell("from now on counters are as new as their lists")
        if number == strange.shrinks:
            universe.box.switches.page_share = strange.page_share
            universe.tell(f"from now on a page holds {strange.page_share:.0%} of the rows")
        if strange.poisons is None or number < strange.poisons:
            return
        bad = universe.network.bad_row
        if bad:
            # What comes behind a page that fails is what may be lost.
            universe.tell(universe.happenings.beside(bad))
        elif bad := self._bad_row():
            universe.network.bad_row = bad
            universe.tell(f"from now on each page with {bad.stream} {bad.id} fails")

    def _bad_row(self) -> Row | None:
        def draw() -> tuple[str, str] | None:
            return (row.stream, row.id) if (row := self._some_row()) else None

        chosen = self.choices.choose(f"bad row in {self._place}", None, draw)
        return self.universe.box.world.find(*chosen) if chosen else None

    def _some_row(self) -> Row | None:
        """A row that does not stand on its list's first page, so that what is new stands before it."""
        world = self.universe.box.world
        lists = sorted({(row.stream, row.parent_id or "") for name in STREAMS for row in world.rows(name)})
        since = self.universe.starts[self.plan.members[0].name]
        behind = (
            [
                row
                for row in world.row_list(stream, parent or None).rows[: -FIRST_PAGE[stream]]
                if row.date > since
            ]
            for stream, parent in lists
        )
        deep = [rows for rows in behind if rows]
        return self.rng.choice(self.rng.choice(deep)) if deep else None

    def _sends_to(self, destination: str) -> None:
        self.universe.destinations[self.plan.members[0].name] = destination
        self.universe.tell(f"from now on it sends to {destination}")

    def _sync(self, number: int) -> None:
        dies, meets = self.plan.sure or (None, None)
        for member in self.plan.members:
            crash = self.rng.random() < self.plan.troubles.crashes
            name = f"{self._place} of {member.name} overlaps"
            overlap = self.choices.choose(name, None, partial(self._drawn_overlap, sure=number == meets))
            if overlap is not None:
                self._overlap(name, member, Overlap(*overlap), crash=crash)
                continue
            process = self._process(member)
            self._doom(process, partial(self._drawn_fate_if, crash, sure=number == dies))
            crash = process.fate is not None
            trouble = self.universe.network.faults
            asked = process.moments
            unfinished, began = self._note_half_read(), self.universe.now()
            ending = process.run(**self._options(process))
            self.syncs += 1
            if ending.exit == 0 and not crash and self.universe.network.faults == trouble:
                self._usual = max(20, process.moments - asked)
                self._clean(member, ending, unfinished, self.universe.now() - began)
            self.judge.check()
            self._beside_the_bad_page(member)
            self._after(process, ending)

    def _note_half_read(self) -> set[List]:
        unfinished, now = half_read(self.universe), self.universe.box.now()
        if unfinished:
            self._half_read.append((now - 2 * self.plan.rhythm, now, unfinished))
        return unfinished

    def _options(self, process: Process) -> dict[str, object]:
        none: dict[str, object] = {}
        return self.choices.choose(f"{process.name}, options", none, self._drawn_options)

    def _drawn_options(self) -> dict[str, object]:
        if self.rng.random() < 0.1:
            return {"most_requests": self.rng.randint(1, 6)}
        return {"deliver": False} if self.rng.random() < 0.03 else {}

    def _process(self, member: Member, ahead: timedelta = timedelta(0)) -> Process:
        universe = self.universe
        universe.processes += 1
        self._runs[self._place] += 1
        name = f"{self._place}, run {self._runs[self._place]}"
        process = Process(universe, member, name, universe.processes, universe.ahead + ahead)
        process.trouble = universe.storage.trouble()
        return process

    def _doom(self, process: Process, draw: Callable[[], Where | None]) -> None:
        """Choose whether and where a process dies."""
        fate = self.choices.choose(f"{process.name} dies", None, draw)
        process.fate = Fate(*fate) if fate else None

    def _drawn_fate_if(self, crash: bool, *, sure: bool) -> Where | None:
        if sure:
            return None, self.rng.randint(1, 9)
        return self._drawn_fate() if crash else None

    def _drawn_fate(self) -> Where:
        """Half of the deaths come at any moment, half at one of a kind: rare kinds have to be met, too."""
        if self.rng.random() < 0.4:
            return None, 1 + int(self._usual * self.rng.random() ** 2)
        kinds = sorted(self.universe.census.passed) or ["before commit"]
        return self.rng.choice(kinds), self.rng.choice((1, 1, 1, 2, 3, 5))

    def _after(self, process: Process, ending: Ending) -> None:
        """Whoever supervises a process may start it again soon."""
        if ending.exit == DENIED and not self.universe.network.refused and self._all_may_be_read():
            raise Wrong(f"a run ends with {DENIED}, and nobody but a gateway refused anything")
        if ending.exit is None:
            self.judge.check()
            self.judge.books()
            again = self.choices.choose(f"{process.name} is started again", None, self._drawn_restart)
            if again and (member := self._member(again[1])):
                self.universe.box.advance(timedelta(seconds=again[0]))
                self._process(member).run()
                self.syncs += 1

    def _drawn_restart(self) -> tuple[int, str] | None:
        """After how many seconds, and for which connection."""
        if self.rng.random() >= 0.5:
            return None
        return self.rng.choice((1, 20, 70)), self.rng.choice(self.plan.members).name

    def _clean(self, member: Member, ending: Ending, unfinished: set[List], took: timedelta) -> None:
        """After a sync without any trouble, what was there for all to see has arrived."""
        report = ending.report
        if self.plan.monthly or report is None or report.stopped or report.troubles or report.incomplete:
            return
        self.judge.check()
        lag = self._lag() + timedelta(minutes=2)
        if self.plan.drawn.absurd:
            # Pages of one row, or a request a second: what comes meanwhile is the next run's.
            lag += took
        if self.plan.strange.dates:
            # By an answer's wrong date a score is not settled yet: it is sent by the next run.
            lag += 6 * HOUR
        # Nor is it by a clock that is behind, until three answers have told the time: in a first run, or when
        # the clock was set.
        lag += max(timedelta(0), -self.universe.ahead)
        found = missing(self.universe, self.judge.found, lag=lag, half_read=unfinished, sure=self._sure_now)
        mine = [each for each in found if each.startswith(f"{member.name}:")]
        if mine:
            raise Wrong(f"lost after a sync without trouble: {mine[0]} ({len(mine)} in all)")

    def _lag(self) -> timedelta:
        """How long after its counter has moved a row may come: it is asked for the last time a day after."""
        lists_lag = self.plan.strange.lists_lag
        last_asked = DAY + 2 * self.plan.rhythm if lists_lag else timedelta(0)
        return self.universe.box.switches.counters_lag + lists_lag + last_asked

    def _sure(self, row: Row, *, but_children: bool = False) -> bool:
        """Whether nothing strange has been said of a row's list, or of the one that shows its parent.

        `but_children`: that a child list was denied is no excuse, since its counter says what is in it.
        """
        network = self.universe.network
        rows = [each for each in (row, row.parent) if each and not (but_children and each.parent)]
        paths = [path_of(each) for each in rows]
        bad = path_of(network.bad_row) if network.bad_row else None
        return bad not in paths and not any(lie.endswith(path) for path in paths for lie in network.lied)

    def _sure_now(self, row: Row) -> bool:
        return self._sure(row) and not self._unannounced(row)

    def _sure_in_quiet(self, row: Row) -> bool:
        # What is left at the bound of a run rests like what failed.
        spoilt = self._capped or any(path.endswith(path_of(row)) for path in self.universe.network.spoilt)
        return not spoilt and not self._came_behind(row) and self._sure_in_a_week(row)

    def _hidden_at_first(self, row: Row) -> bool:
        """Whether somebody else may have answered when its list was first read back to the start date.

        How many of the rows that its counter counts are older is not known: an audit finds it.
        """
        lied = any(lie.endswith(path_of(row)) for lie in self.universe.network.lied)
        return lied and self._read_in_part(row)

    def _read_in_part(self, row: Row) -> bool:
        """Whether its list began before the start date, so that not all that its counter counts is read."""
        return row.parent is not None and row.parent.date <= max(self.universe.starts.values())

    def _came_behind(self, row: Row) -> bool:
        """Whether it came with an older date, where only an audit looks for it.

        That is behind the page at which a reading stands, and where a page that holds less than before ends
        with known rows, behind that page.
        """
        if row.appears <= row.date + timedelta(minutes=1):
            return False
        if row.stream == "nps" and self.universe.box.switches.page_share < 1:
            return True
        lists = {(name, row.stream, row.parent_id or "") for name in self.universe.starts}
        return any(
            since <= row.appears <= until and lists & unfinished
            for since, until, unfinished in self._half_read
        )

    @property
    def _capped(self) -> bool:
        """Whether runs may end before they have read all there is."""
        return self.plan.drawn != self.plan.drawn.patient

    def _sure_in_a_week(self, row: Row) -> bool:
        unannounced = self._unannounced(row) or self._hidden_at_first(row)
        if self._capped and self._came_behind(row):
            # A list that takes several runs is read in parts; what comes to one that was read is found by an
            # audit.
            return False
        return not unannounced and self._sure(row, but_children=True)

    def _unannounced(self, row: Row) -> bool:
        """Whether its list may not have shown it yet when it was first read back to the start date.

        How many rows a counter has counted since then is not known before the second reading.
        """
        if not self.plan.strange.lists_lag or not self._read_in_part(row):
            return False
        if len(self.plan.members) > 1:
            # Requests do not tell whose they are.
            return True
        path, back_at = path_of(row), self.universe.storage.back_at or START
        firsts = (
            seen.at
            for seen in self.universe.box.requests
            if seen.path.endswith(path) and "page" not in seen.params and seen.at >= back_at
        )
        # The second reading may show older rows, late at the first, in a new one's place.
        second = sorted(firsts)[1:2] or [self.universe.now()]
        return row.appears <= second[0]

    def _beside_the_bad_page(self, member: Member) -> None:
        """What stands before a page that always fails still comes, if not at once."""
        network = self.universe.network
        bad = network.bad_row
        switches = self.universe.box.switches
        usual = switches.order == "newest" and not switches.pinned_first and not switches.filters_after_page
        away = any(spell.api == "beamer" for spell in network.spells)
        if bad is None or self.plan.monthly or self.plan.strange.foreign or away or self._capped or not usual:
            return
        rows = self.universe.box.world.row_list(bad.stream, bad.parent_id).rows
        if bad not in rows:
            return
        before_it = rows[rows.index(bad) + FIRST_PAGE[bad.stream] :]
        patience = self._lag() + DAY + 4 * self.plan.rhythm
        if self.universe.now() - (self.universe.storage.back_at or START) < patience:
            # Rows older than the first run have waited for no run.
            return
        lost = missing(self.universe, self.judge.found, lag=patience, sure=lambda row: row in before_it)
        mine = [each for each in lost if each.startswith(f"{member.name}:")]
        if mine:
            raise Wrong(f"never read beside a page that fails: {mine[0]} ({len(mine)} in all)")

    # --- overlapping runs ---

    def _drawn_overlap(self, *, sure: bool) -> Overlap | None:
        if not (self.rng.random() < self.plan.troubles.overlaps or sure):
            return None
        other = self.rng.choice(self.plan.members).name
        kind, moment = (None, self.rng.randint(1, 9)) if sure else self._drawn_fate()
        self._often = self.rng.choice((0.0, 0.02, 0.2))
        anywhere = self.rng.random() < 0.1
        seconds = self.rng.choice((0, 5, 50, 59, 61, 61, 90, 600, 3_600, 6 * 3_600))
        return Overlap(other, kind, moment, timedelta(seconds=seconds), anywhere)

    def _overlap(self, name: str, member: Member, overlap: Overlap, *, crash: bool) -> None:
        """One run is suspended somewhere, another one starts, and they go on in turns."""
        first, second = self._process(member), self._process(self._member(overlap.other) or member)
        pair = Pair(self.universe, name, first, second, overlap, self._often)
        fate = self._drawn_fate() if crash else None
        doomed = self.rng.choice((first, second)) if crash else None
        self._doom(first, lambda: fate if doomed is first else None)
        self._doom(second, lambda: fate if doomed is second else None)
        endings = pair.run()
        self.syncs += 2
        for process, ending in endings:
            self._after(process, ending)

    # --- the end ---

    def _end(self) -> None:
        """Quiet, budget and time enough: first what counters show, then what only an audit finds."""
        universe = self.universe
        self._place = "the quiet end"
        universe.network.quiet()
        universe.storage.quiet()
        box = universe.box
        box.world.company = replace(box.world.company, quiet=True)
        box.world._pending.clear()
        box.monthly_limit = None
        universe.limits = Limits(None, 0, universe.drawn.per_second)
        universe.drawn = universe.drawn.patient
        box.advance(self._lag() + 2 * HOUR)
        if self.plan.strange.foreign:
            # What was refused is asked for once a day.
            box.advance(DAY)
        # An account that 429 had closed opens again.
        box.advance(8 * HOUR)
        outbox.retry(universe.disk.slot().database, None, [])
        for destination in (MOVED, self.plan.members[0].destination):
            if self.plan.moves:
                self._sends_to(destination)
            box.advance(6 * HOUR)
            self._quiet_sync()
        self._all_there("in quiet", parents=False, sure=self._sure_in_quiet)
        for wait in (8 * DAY, DAY):
            box.advance(wait)
            self._quiet_sync()
        self._all_there("after a week of quiet", parents=True, sure=self._sure_in_a_week)
        box.advance(2 * DAY)
        self._quiet_sync(planner=AuditEverything(universe.now() + universe.ahead - DAY), command="audit")
        self._all_there("after an audit", parents=True, everything=True)
        self.judge.verdicts()
        self.judge.books()
        self.judge.end()

    def _quiet_sync(self, **options: object) -> None:
        for member in self.plan.members:
            ending = self._process(member).run(**options)
            if ending.exit and (ending.exit != DENIED or self._reads_something(member)):
                raise Wrong(f"in quiet a run ends with {ending.exit}: {ending.said}")
            self.syncs += 1
        self.judge.check()

    def _reads_something(self, member: Member) -> bool:
        """Whether the key may read any of the lists on which the member's streams hang."""
        return any(ROOTS[name] in self.universe.box.switches.may_read for name in member.streams)

    def _all_may_be_read(self) -> bool:
        return {*STREAMS} <= self.universe.box.switches.may_read

    def _all_there(
        self,
        when: str,
        *,
        parents: bool,
        everything: bool = False,
        sure: Callable[[Row], bool] = lambda _: True,
    ) -> None:
        lost = missing(
            self.universe,
            self.judge.found,
            lag=timedelta(0),
            parents=parents,
            everything=everything,
            sure=sure,
        )
        if lost:
            raise Wrong(f"lost {when}: {lost[0]} ({len(lost)} in all)")
        if waits := waiting(self.universe):
            raise Wrong(f"{when} {len(waits)} messages wait still")

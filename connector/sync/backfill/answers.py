"""What a backfill asks and what it does with the answers; as many requests at once as the pool has threads.

Of the lists of posts and requests no more is read ahead than keeps the pool busy, so that what is held in
memory does not grow with the history.
"""

from collections.abc import Mapping
from dataclasses import replace

import structlog

from connector.beamer.asking import Answer
from connector.beamer.catalogue import Stream
from connector.errors import Transient
from connector.state.backfills import HistoryEffects, HistoryIntake, Range, Reading
from connector.state.effects import Page
from connector.state.progress import StreamState
from connector.state.verdicts import Verdict
from connector.sync.backfill import deciding
from connector.sync.judging.pages import judged_page
from connector.sync.lists import resuming
from connector.sync.lists.sweeps import SweepStep
from connector.sync.planning import candidates
from connector.sync.planning.probes import NO_PARENT, Probe
from connector.sync.reading.work import Work

log = structlog.get_logger()

# Lists ready to be asked, for each thread of the pool: enough to be busy while the next parents come.
READY = 4
# So many requests on their way are enough for 30 a second at a latency of 0.3 s, and some to spare.
BUSY = 12
# Asked before any child list: what there is to ask comes from there.
PARENTS_FIRST = 1.0


class HistoryAnswers:
    """Accepts the answers of one run of a backfill, and keeps its agenda filled."""

    def __init__(
        self, work: Work, intake: HistoryIntake, wanted: Range, threads: int, redated: deciding.Redated
    ) -> None:
        self._work = work
        self._intake = intake
        self._wanted = wanted
        self._threads = threads
        self._redated = redated
        self._readings: dict[int, Reading] = {}
        self._parked: list[Probe] = []

    def take_up(self, readings: list[Reading]) -> None:
        """Put lists on the agenda as they were left."""
        for reading in readings:
            self._add(reading, resumed=True)
        self.feed()

    def follow_up(self, moved: deciding.Redated) -> bool:
        """Put on the agenda what is below parents that have moved; False if nothing of that is wanted."""
        work, self._redated = self._work, moved
        readings = deciding.follow_ups(work.catalogue, self._wanted, moved)
        self.take_up(self._intake.open(readings, work.clock.now()))
        return bool(readings)

    @property
    def left(self) -> bool:
        """Whether lists are left that are not read to their end."""
        return bool(self._readings)

    def feed(self) -> bool:
        """Ask for more parents where not enough lists are ready; False if there are none to ask for."""
        if not self._parked:
            return False
        while self._parked and self._work.agenda.ready < READY * self._threads:
            self._work.agenda.onward(self._parked.pop(0))
        return True

    def _add(self, reading: Reading, *, resumed: bool = False) -> None:
        work = self._work
        self._readings[reading.id] = reading
        stream = work.catalogue[reading.stream]
        sweep = resuming.restore(reading.place)
        if resumed and sweep.pages:
            habits = candidates.habits_of(work.progress.streams[stream.name], work.first_page)
            sweep = resuming.resumed(sweep, habits)
        why = "go on where the last run stopped" if resumed and sweep.pages else "its history"
        probe = Probe(stream, why, reading.parent, sweep=sweep, of=reading.id)
        if stream.parent is None:
            probe.worth = PARENTS_FIRST
            self._park(probe)
        else:
            # Older parents first: what a user did first comes first, as far as lists allow.
            probe.worth = -reading.date.timestamp() if reading.date else 0.0
            work.agenda.onward(probe)

    def _park(self, probe: Probe) -> None:
        if deciding.read_for(self._work.catalogue, self._wanted.streams, probe.stream):
            self._parked.append(probe)
        else:
            self._work.agenda.onward(probe)

    def accept(self, probe: Probe, answer: Answer) -> None:
        """Accept one page; raises Transient, or BadAnswer, where it is none."""
        work = self._work
        if answer.date:
            work.ahead = answer.date - work.clock.now()
        if not isinstance(answer.body, list):
            raise Transient("Beamer's answer was not a list of rows.")
        if probe.stream.filtered:
            work.filters_settled(probe.ignore_filters)
        of, stream = self._readings[probe.of], probe.stream
        page = judged_page(answer.body, stream, work.policy, work.beamer_now)
        page = deciding.judged_within(page, of, probe.list_sweep, stream, self._wanted)
        state, context = work.progress.streams[stream.name], self._context()
        steps: list[SweepStep] = []

        def decide(fresh: set[str], before: Mapping[str, Verdict], unusable: int) -> HistoryEffects:
            effects, step = deciding.decide(context, probe, of, page, state, fresh, before, unusable)
            steps[:] = [step]
            return effects

        here = Page(stream.name, state.scope, probe.parent)
        effects, opened = self._intake.accept_history(
            here, of, page.judged, page.rejected, decide, work.clock.now()
        )
        work.report.count(stream.name, effects.tally)
        self._learn(stream, state, effects)
        self._go_on(probe, effects, opened, steps[0])

    def _context(self) -> deciding.HistoryContext:
        work = self._work
        idle = work.agenda.ready + len(work.agenda.flights) + len(self._parked) < min(BUSY, self._threads)
        return deciding.HistoryContext(
            work.catalogue,
            work.policy,
            self._wanted,
            work.identity.start_date,
            work.beamer_now,
            idle,
            self._redated,
        )

    def _learn(self, stream: Stream, state: StreamState, effects: HistoryEffects) -> None:
        work = self._work
        if effects.habits:
            order, ends = effects.habits
            work.progress.streams[stream.name] = replace(state, list_order=order, short_ends=ends)
        if effects.first_page is not None:
            work.first_page = effects.first_page

    def _go_on(self, probe: Probe, effects: HistoryEffects, opened: list[Reading], step: SweepStep) -> None:
        probe.failures, probe.not_before = 0, None
        # First, since the store may give its number to a list that this page has opened.
        del self._readings[probe.of]
        for reading in opened:
            self._add(reading)
        if effects.reading is not None:
            self._readings[probe.of] = effects.reading
            probe.sweep = step.sweep
            if probe.parent == NO_PARENT:
                self._park(probe)
            else:
                self._work.agenda.first(probe)
        self.feed()

    def plan_again(self, probe: Probe) -> None:  # noqa: ARG002
        """A list of history is asked as it was found."""
        self._intake.asked += 1

    def skip(self, probe: Probe) -> bool:
        """404: the parent was deleted while its children were waiting to be read."""
        if probe.parent == NO_PARENT:
            return False
        self._work.report.skipped_parents += 1
        self._intake.close(self._readings.pop(probe.of), self._work.clock.now())
        self.feed()
        return True

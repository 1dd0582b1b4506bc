"""A page of history that arrived: judged, decided, written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from connector.beamer.request import Answer
from connector.beamer.streams import Stream
from connector.domain.changes import Page
from connector.domain.state import StreamState
from connector.domain.verdicts import Verdict
from connector.errors import Transient
from connector.state.backfills import HistoryEffects, HistoryIntake, Range, Reading
from connector.sync.backfill import decisions
from connector.sync.context import Work
from connector.sync.lists import passes
from connector.sync.lists.passes import PassStep
from connector.sync.planning import candidates
from connector.sync.planning.probes import NO_PARENT, Probe
from connector.sync.rows.pages import judge_page

log = structlog.get_logger()

# Lists ready to be asked, for each thread of the pool: enough to be busy while the next parents come.
READY = 4
# So many requests on their way are enough for 30 a second at a latency of 0.3 s, and some to spare.
BUSY = 12
# Asked before any child list: what there is to ask comes from there.
PARENTS_FIRST = 1.0


class HistoryAnswers:
    """Accepts the answers of one run of a backfill, and keeps its queue filled."""

    def __init__(
        self, work: Work, intake: HistoryIntake, wanted: Range, threads: int, redated: decisions.Redated
    ) -> None:
        self._work = work
        self._intake = intake
        self._wanted = wanted
        self._threads = threads
        self._redated = redated
        self._readings: dict[int, Reading] = {}
        # Lists that were read to their end, and are still to be compared.
        self.ended: dict[int, Reading] = {}
        self._parked: list[Probe] = []
        self._gone_of: dict[str, Sequence[str]] = {}

    def take_up(self, readings: list[Reading]) -> None:
        """Put lists into the queue as they were left."""
        for reading in readings:
            if reading.to_verify:
                self.ended[reading.id] = reading
            else:
                self._add(reading, resumed=True)
        self.feed()

    def once_more(self, reading: Reading) -> None:
        """Read a list again that showed less than there should be."""
        self.ended.pop(reading.id, None)
        self._add(reading)
        self.feed()

    def follow_up(self, moved: decisions.Redated) -> bool:
        """Put into the queue what is below parents that have moved; False if nothing of that is wanted."""
        work, self._redated = self._work, moved
        readings = decisions.follow_ups(work.catalogue, self._wanted, moved)
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
        while self._parked and self._work.queue.ready < READY * self._threads:
            self._work.queue.onward(self._parked.pop(0))
        return True

    def _add(self, reading: Reading, *, resumed: bool = False) -> None:
        work = self._work
        self._readings[reading.id] = reading
        stream = work.catalogue[reading.stream]
        pass_ = passes.restored(reading.cursor) or decisions.begun_again(reading)
        if resumed and pass_.pages:
            habits = candidates.habits_of(work.progress.streams[stream.name], work.first_page)
            pass_ = passes.resumed(pass_, habits)
        why = "continue where the last run stopped" if resumed and pass_.pages else "read its history"
        probe = Probe(stream, why, reading.parent, list_pass=pass_, of=reading.id)
        if stream.parent is None:
            probe.priority = PARENTS_FIRST
            self._park(probe)
        else:
            # Older parents first: what a user did first comes first, as far as lists allow.
            probe.priority = -reading.date.timestamp() if reading.date else 0.0
            work.queue.onward(probe)

    def _park(self, probe: Probe) -> None:
        if decisions.read_for(self._work.catalogue, self._wanted.streams, probe.stream):
            self._parked.append(probe)
        else:
            self._work.queue.onward(probe)

    def accept(self, probe: Probe, answer: Answer) -> None:
        """Accept one page; raises Transient, or BadAnswer, where it is none."""
        work = self._work
        if not isinstance(answer.body, list):
            raise Transient("Beamer's answer was not a list of rows.")
        if probe.stream.filtered:
            work.filters_settled(probe.ignore_filters)
        of, stream = self._readings[probe.of], probe.stream
        page = judge_page(answer.body, stream, work.policy, work.earliest)
        page = decisions.verdicts_within(page, of, probe.required_pass, stream, self._wanted)
        state, context = work.progress.streams[stream.name], self._context()
        here = Page(stream.name, state.scope, probe.parent)
        if stream.parent:
            page = page.without(self._intake.moved(here, page.rows.keys(), self._gone(stream.parent)))
        steps: list[PassStep] = []

        def decide(fresh: set[str], before: Mapping[str, Verdict], quarantined: int) -> HistoryEffects:
            effects, step = decisions.decide(context, probe, of, page, state, fresh, before, quarantined)
            steps[:] = [step]
            return effects

        effects, opened = self._intake.accept_history(
            here, of, page.row_verdicts, page.rejected, decide, work.clock.now()
        )
        work.report.count(stream.name, effects.tally)
        self._learn(stream, state, effects)
        self._go_on(probe, effects, opened, steps[0])

    def _gone(self, stream: str) -> Sequence[str]:
        """The parents that are not shown any more: what was below one may have been moved elsewhere."""
        if stream not in self._gone_of:
            self._gone_of[stream] = self._intake.gone(self._work.progress.streams[stream].scope)
        return self._gone_of[stream]

    def _context(self) -> decisions.HistoryContext:
        work = self._work
        idle = work.queue.ready + len(work.queue.flights) + len(self._parked) < min(BUSY, self._threads)
        return decisions.HistoryContext(
            work.catalogue,
            work.policy,
            self._wanted,
            work.identity.start_date,
            work.beamer_now,
            work.latest,
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

    def _go_on(self, probe: Probe, effects: HistoryEffects, opened: list[Reading], step: PassStep) -> None:
        probe.failures, probe.not_before = 0, None
        # First, since the database may give its number to a list that this page has opened.
        del self._readings[probe.of]
        for reading in opened:
            self._add(reading)
        if effects.reading is not None:
            if step.done:
                self.ended[probe.of] = effects.reading
                self.feed()
                return
            self._readings[probe.of] = effects.reading
            probe.list_pass = step.list_pass
            if probe.parent == NO_PARENT:
                self._park(probe)
            else:
                self._work.queue.first(probe)
        self.feed()

    def plan_again(self, probe: Probe) -> None:  # noqa: ARG002
        """A list of history is asked as it was found."""
        self._intake.requests += 1

    def skip(self, probe: Probe) -> bool:
        """404: the parent may have been deleted while its children were waiting to be read.

        Whether it was, is looked at again at the end.
        """
        if probe.parent == NO_PARENT:
            return False
        of, now = self._readings.pop(probe.of), self._work.clock.now()
        of = replace(of, cursor=decisions.anew(of), seen=0, found=None, doubted_at=of.doubted_at or now)
        self._intake.keep(of, now)
        self.ended[of.id] = of
        self.feed()
        return True

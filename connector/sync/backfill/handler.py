"""Handle a page of history: verdicts, decision, writing."""

from collections.abc import Sequence
from dataclasses import replace

from connector.beamer.pagination import Answer
from connector.domain.state import Page
from connector.errors import Transient
from connector.state.backfills import BackfillWriter, Key, Range, Reading, Stage
from connector.sync.backfill import decisions
from connector.sync.backfill.decisions import HistoryContext, ParentDates
from connector.sync.context import RunState
from connector.sync.lists import passes, stored_pass
from connector.sync.lists.passes import ListPass
from connector.sync.planning import candidates
from connector.sync.planning.probes import Job, Probe
from connector.sync.rows.pages import judge_page

# Lists that are ready to be requested, for each thread of the pool: enough until the next parents arrive.
READY = 4
# This number of requests in flight is enough for 30 a second at a latency of 0.3 s.
BUSY = 12
# The priority of lists of parents before any child list: they show the child lists.
PARENTS_FIRST = 1.0


class HistoryHandler:
    """Handles the answers of one run of a backfill, and keeps its queue filled.

    `ended` are the lists that were read to their end and must still be compared; `read_twice` those of
    them that were read a second time in this run. `moved`: see `moved_parents`.
    """

    def __init__(self, run: RunState, writer: BackfillWriter, wanted: Range, threads: int) -> None:
        self._run = run
        self._writer = writer
        self._wanted = wanted
        self._threads = threads
        self._open: dict[Key, Reading] = {}
        self.ended: dict[Key, Reading] = {}
        self.read_twice: set[Key] = set()
        self.moved: ParentDates = {}
        # Lists of parents whose next page is requested when more child lists are needed.
        self._parked: list[Job] = []
        self._gone_of: dict[str, Sequence[str]] = {}

    @property
    def left(self) -> bool:
        """Return whether any list is not read to its end."""
        return bool(self._open)

    def take_up(self, readings: list[Reading]) -> None:
        """Put lists into the queue, each at its cursor."""
        for reading in readings:
            if reading.stage == Stage.ENDED:
                self.ended[reading.key] = reading
            else:
                self._add(reading)
        self.feed()

    def follow_moved(self, moved: ParentDates) -> bool:
        """Read the parents that have `moved`, and their child lists; return False if that was done before."""
        run, self.moved = self._run, moved
        parts = [
            decisions.moved_part(stream, dates.values())
            for stream, dates in moved.items()
            if dates and decisions.child_streams(run.catalogue, self._wanted, stream)
        ]
        new = self._writer.add(parts, run.clock.now()) if parts else []
        self.take_up(new)
        return bool(new)

    def read_again(self, reading: Reading) -> None:
        """Read a list again from its first row."""
        reading = decisions.read_again(reading)
        self._writer.keep(reading, self._run.clock.now())
        del self.ended[reading.key]
        self.take_up([reading])

    def feed(self) -> bool:
        """Request more parents if too few lists are ready; return False if there are none to request."""
        if not self._parked:
            return False
        while self._parked and self._run.queue.ready < READY * self._threads:
            self._run.queue.put(self._parked.pop(0))
        return True

    def _add(self, reading: Reading) -> None:
        run, stream = self._run, self._run.catalogue[reading.stream]
        list_pass, why = self._resumed(reading), "continue where the last run stopped"
        if list_pass is None:
            has_children = bool(decisions.child_streams(run.catalogue, self._wanted, stream.name))
            # If the cursor cannot be read, the list is read from its first row.
            reading = replace(reading, cursor=None, seen=0)
            list_pass, why = decisions.begin_pass(reading, has_children=has_children), "read its history"
        self._open[reading.key] = reading
        priority = PARENTS_FIRST
        if reading.has_parent:
            # Older parents first, so that a user's events come in order as far as the lists allow.
            priority = -reading.date.timestamp() if reading.date else 0.0
        self._put(Job(Probe(stream, why, reading.parent, None, list_pass, priority, reading=reading.key)))

    def _resumed(self, reading: Reading) -> ListPass | None:
        list_pass = stored_pass.restored(reading.cursor) if reading.cursor else None
        if list_pass is None or not list_pass.progress.pages:
            return list_pass
        run = self._run
        habits = candidates.habits_of(run.progress.streams[reading.stream], run.first_page)
        return passes.resumed(list_pass, habits)

    def _put(self, job: Job) -> None:
        """Put a list into the queue; a list of parents waits until more child lists are needed."""
        if decisions.child_streams(self._run.catalogue, self._wanted, job.probe.stream.name):
            self._parked.append(job)
        else:
            self._run.queue.put(job)

    def accept(self, job: Job, answer: Answer) -> None:
        """Accept one page; raises Transient, or BadAnswer, if the answer is not a page."""
        run, stream, now = self._run, job.probe.stream, self._run.clock.now()
        if not isinstance(answer.body, list):
            raise Transient("Beamer's answer was not a list of rows.")
        if stream.filtered:
            run.filters_settled(job.ignore_filters)
        reading, state = self._reading(job), run.progress.streams[stream.name]
        page = Page(stream.name, state.scope, reading.parent)
        verdicts = judge_page(answer.body, stream, run.policy, run.earliest)
        verdicts = decisions.restricted(verdicts, reading, job.probe.required_pass, stream, self._wanted)
        if stream.parent:
            moved = self._writer.moved(page, verdicts.rows.keys(), self._gone(stream.parent))
            verdicts = verdicts.without(moved)
        with self._writer.page(page, verdicts.row_verdicts, verdicts.rejected, now) as open_page:
            # Read after the ids are inserted: a parallel sync may have excluded one of them just now.
            before = self._writer.verdicts_before(page, verdicts.row_verdicts)
            effects, list_pass = decisions.decide(
                self._context(), job, reading, verdicts, state, open_page.new, before
            )
            open_page.write(effects)
        if effects.habits:
            order, ends = effects.habits
            run.keep_stream(replace(state, list_order=order, short_ends=ends))
        run.page_written(stream.name, effects)
        for new in effects.new_readings:
            self._add(new)
        assert effects.reading is not None  # noqa: S101 - decided for each page
        self._go_on(job, reading, effects.reading, list_pass)

    def _reading(self, job: Job) -> Reading:
        assert job.probe.reading is not None  # noqa: S101 - each job of a backfill has one
        return self._open[job.probe.reading]

    def _gone(self, stream: str) -> Sequence[str]:
        """Return the parents that are not listed any more: their rows may have moved to another one."""
        if stream not in self._gone_of:
            self._gone_of[stream] = self._writer.gone(self._run.progress.streams[stream].scope)
        return self._gone_of[stream]

    def _context(self) -> HistoryContext:
        run = self._run
        busy = run.queue.ready + run.queue.in_flight + len(self._parked)
        return HistoryContext(
            run.catalogue,
            run.policy,
            self._wanted,
            run.identity.start_date,
            run.beamer_now,
            run.latest,
            busy < min(BUSY, self._threads),
            self.moved,
        )

    def _go_on(self, job: Job, before: Reading, after: Reading, list_pass: ListPass) -> None:
        """Put a list back into the queue, unless its end is reached."""
        if after.stage == Stage.OPEN:
            self._open[after.key] = after
            job.recovered()
            job.go_on(list_pass)
            if after.has_parent:
                self._run.queue.put_first(job)
            else:
                self._put(job)
        else:
            self._end(before, after)
        self.feed()

    def _end(self, before: Reading, after: Reading) -> None:
        del self._open[after.key]
        if after.stage == Stage.ENDED:
            self.ended[after.key] = after
        if before.doubted_at:
            self.read_twice.add(after.key)

    def plan_again(self, job: Job) -> None:
        """Change nothing: a list of history is requested as it was queued."""

    def skip(self, job: Job) -> bool:
        """Note a 404: the parent may have been deleted before its list was read.

        The final comparison checks whether it was.
        """
        reading, now = self._reading(job), self._run.clock.now()
        if not reading.has_parent:
            return False
        doubted_at = reading.doubted_at or now
        after = replace(reading, stage=Stage.ENDED, cursor=None, seen=0, found=None, doubted_at=doubted_at)
        self._writer.keep(after, now)
        self._end(reading, after)
        self.feed()
        return True

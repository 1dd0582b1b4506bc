"""What went wrong with a request, and what to do next: again, later, without it, or not at all."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import structlog

from connector.errors import BadAnswer, ConnectorError, Forbidden, TooMany, Transient, Unreachable
from connector.state.progress import ChildState, ParentState, StreamState
from connector.sync.lists import resting
from connector.sync.planning.probes import Probe
from connector.sync.reading.work import Work
from connector.sync.retries import wait_before

log = structlog.get_logger()

# So many probes in a row that fail for good: of one stream, and it is left alone for this run; of
# several, and Beamer counts as out of reach.
FAILURES_IN_A_ROW = 3


class Troubles:
    """Counts what fails in one run. `refused`: 429 had closed the account, and nothing was answered since."""

    def __init__(self, work: Work, chance: Callable[[], float], *, refused: bool) -> None:
        self._work = work
        self._chance = chance
        self._refused = refused
        self._answered = False
        self._of_stream: Counter[str] = Counter()
        self._in_a_row: list[str] = []
        # What is to be tried once more in this run.
        self._again: dict[int, tuple[Probe, Transient]] = {}

    def answered(self, probe: Probe) -> None:
        """Beamer is there, whatever it said: from now on several requests may be on their way at once."""
        self._again.pop(id(probe), None)
        self._answered = True
        self._work.careful = False
        if self._refused:
            self._work.ledger.opened()
            self._refused = False

    def went_well(self, probe: Probe) -> None:
        self._in_a_row.clear()
        self._of_stream.pop(probe.stream.name, None)

    def forbidden(self, probe: Probe) -> None:
        """403: the other collections go on. It may be the parameter that is forbidden, not the list."""
        work, name = self._work, probe.stream.name
        if probe.counts:
            self.not_counted(probe)
            return
        if probe.ignore_filters:
            work.ignore_filters = False
            work.agenda.first(probe)
            return
        if name not in work.report.forbidden:
            work.report.forbidden.append(name)
        work.note_trouble(name, Forbidden.told)
        work.agenda.release(probe)
        work.agenda.drop(name)
        self._again = {key: each for key, each in self._again.items() if each[0].stream.name != name}

    def too_many(self, probe: Probe, error: TooMany) -> None:
        """Somebody else spends, too: slow down; after a few more, close the account for a while."""
        work = self._work
        if work.report.stopped:
            return
        work.careful = True
        wait = None if self._refused else wait_before(probe.failures + 1, error, self._chance())
        if wait is not None:
            self._retry(probe, error, wait)
            return
        until = work.ledger.close(work.clock.now())
        work.stop("Beamer keeps answering 429: the account is closed for now", until)

    def transient(self, probe: Probe, error: Transient) -> None:
        wait = wait_before(probe.failures + 1, error, self._chance())
        # What failed in the runs before, too, is worth one request of a limited month now and then.
        if wait is None or (self._work.per_day is not None and self._state(probe).failures > resting.FREE):
            self.give_up(probe, error)
        else:
            self._again[id(probe)] = (probe, error)
            self._retry(probe, error, wait)

    def cut_short(self) -> None:
        """The run ends before what failed could be tried again: that is no less of a failure."""
        for probe, error in self._again.values():
            self._work.note_trouble(probe.stream.name, error.what)
            self._note_failure(probe)

    def not_counted(self, probe: Probe) -> None:
        """A key that may list rows need not be allowed to count them: the audit does without."""
        work, name = self._work, probe.stream.name
        log.warning("audit_without_counts", stream=name)
        done = replace(work.progress.streams[name], audited_at=work.beamer_now, windows=None)
        work.progress.streams[name] = done
        work.agenda.close(probe)

    def not_known(self, probe: Probe) -> None:
        if probe.counts:
            self.not_counted(probe)
            return
        self.give_up(probe, BadAnswer("Beamer does not know this list (404)"))

    def give_up(self, probe: Probe, error: ConnectorError) -> None:
        """Leave a probe for the next run; the others go on, unless nothing gets through any more."""
        name = probe.stream.name
        alone = self._may_always_fail(probe)
        self._work.agenda.release(probe)
        self._work.note_trouble(name, error.what)
        self._again.pop(id(probe), None)
        self._note_failure(probe)
        if not isinstance(error, Transient):
            return
        self._of_stream[name] += 1
        self._in_a_row.append(name)
        everywhere = len(self._in_a_row) >= FAILURES_IN_A_ROW and len(set(self._in_a_row)) > 1
        if everywhere or not (self._answered or alone):
            raise Unreachable(f"Beamer cannot be reached: {error.what}")
        if self._of_stream[name] >= FAILURES_IN_A_ROW:
            self._work.agenda.drop(name)

    def _may_always_fail(self, probe: Probe) -> bool:
        """Whether it may be the first that is asked in every run: then another one tells if Beamer is away.

        A backfill keeps where its lists stand, and not that they failed: it tries one more.
        """
        if probe.of:
            return not self._in_a_row
        return self._state(probe).failures > resting.FREE and {*self._in_a_row} <= {probe.stream.name}

    def _block(self, probe: Probe) -> list[ParentState]:
        """The parents that are known in the block which a probe reads."""
        known = self._work.progress.parents.get(probe.stream.name, {})
        return [known[name] for name in probe.look.block.members if name in known] if probe.look else []

    def _state(self, probe: Probe) -> StreamState | ParentState | ChildState:
        """That of the list or the block which a probe reads, or else of its stream."""
        progress, name = self._work.progress, probe.stream.name
        if block := resting.of_block(self._block(probe)):
            return block
        return progress.children.get(name, {}).get(probe.parent) or progress.streams[name]

    def _note_failure(self, probe: Probe) -> None:
        """Write down that a list failed, so that the runs to come leave it alone for a while."""
        if probe.window or probe.of:
            # Counts have a share of their own, and a backfill keeps where it stands itself.
            return
        work, name, now = self._work, probe.stream.name, self._work.beamer_now
        state = self._state(probe)
        answered = self._answered or resting.answered_since(work.progress, state.failed_at)
        if isinstance(state, ChildState):
            child = resting.failed(state, now, answered=answered)
            work.intake.settle(child, work.clock.now())
            work.progress.children[name][probe.parent] = child
            return
        stream, block = work.progress.streams[name], self._block(probe)
        if block:
            after = [resting.failed(parent, now, answered=answered) for parent in block]
            work.intake.settle_block(stream.scope, after, work.clock.now())
            work.progress.parents[name].update((parent.id, parent) for parent in after)
        # One block that always fails is not the stream, whose others are still to be looked at.
        counts = not block or not state.failures or stream.failures > resting.FREE
        if probe.stream.parent is None and counts:
            work.progress.streams[name] = resting.failed(stream, now, answered=answered)

    def _retry(self, probe: Probe, error: Transient, wait: float) -> None:
        log.info("retry", stream=probe.stream.name, error=error.what, seconds=round(wait, 1))
        probe.failures += 1
        probe.not_before = self._work.clock.now() + timedelta(seconds=wait)
        self._work.agenda.first(probe)

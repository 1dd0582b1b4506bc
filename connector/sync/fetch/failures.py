"""What a failed request means for its list: retry, skip a part, leave for later, or forbidden."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import structlog

from connector.domain.state import ChildState, ParentState, StreamState
from connector.errors import (
    BadAnswer,
    ConnectorError,
    Forbidden,
    KeyRefused,
    TooMany,
    Transient,
    Unreachable,
)
from connector.sync.context import RunState
from connector.sync.lists import backoff, blocks, passes, stored_pass
from connector.sync.lists.backoff import wait_before
from connector.sync.lists.blocks import CUT_FROM, BlockCheck, Part
from connector.sync.planning import candidates
from connector.sync.planning.probes import NO_PARENT, Job, Probe
from connector.text import counted

# Also under a monthly limit, an ordinary list fits: 300 posts are 34 pages.
MOST_PAGES_LIMITED = 100


def most_pages(run: RunState) -> int:
    """Return how many pages of one list a run reads at most."""
    most = run.constants.most_pages
    return most if run.per_day is None else min(most, max(MOST_PAGES_LIMITED, int(run.per_day)))


def without(run: RunState, job: Job, *, patient: bool) -> str:
    """Return the cursor of a list whose next page is left for later; see `blocks.failed` for `patient`."""
    pass_, start = job.probe.required_pass, run.policy.start
    left = passes.given_up(pass_, job.habits, run.beamer_now, start, patient=patient)
    job.go_on(left)
    return stored_pass.dump(left)


def _keep_cursor(run: RunState, probe: Probe, cursor: str) -> None:
    """Keep where a list is to be read on."""
    name = probe.stream.name
    if child := run.progress.child(name, probe.parent):
        run.keep_list(name, replace(child, cursor=cursor))
    else:
        run.keep_stream(replace(run.progress.streams[name], cursor=cursor))


def keep_resting(run: RunState, probe: Probe) -> None:
    """Restart the backoff of a failed part, without prolonging it, if nothing else was answered.

    Then it is unknown whether Beamer is unavailable. But if a run has a single request, the part must not
    take it every time: the newest rows of its list come next.
    """
    name, now = probe.stream.name, run.beamer_now
    state, check, pass_ = run.progress.streams[name], probe.check, probe.list_pass
    if check and check.part and check.part.failures:
        cursor = stored_pass.instead(state.cursor, check.part, (replace(check.part, failed_at=now),), now)
        run.keep_stream(replace(state, cursor=cursor))
    elif pass_:
        _keep_cursor(run, probe, stored_pass.dump(passes.resting(pass_, now)))


def leave_parents(run: RunState, probe: Probe, part: Part, *, patient: bool) -> tuple[Part, ...]:
    """Leave a part of a list of parents for later; return the parts that it was split into."""
    name, now, check = probe.stream.name, run.beamer_now, probe.required_check
    state, instead_of, after = run.progress.streams[name], check.part or part, tuple[Part, ...]()
    for newest in stored_pass.parts_of(state.cursor):
        if part.cursor.since and part.cursor.since == newest.cursor.until and part.cursor.until is None:
            # The newest rows fail like those next to them.
            instead_of, after = newest, (blocks.grown(newest, now),)
    after = after or blocks.failed(part, now, run.policy.start, patient=patient)
    cursor = stored_pass.instead(state.cursor, instead_of, after, now)
    run.keep_stream(replace(state, cursor=cursor))
    return after


def leave_at_bound(run: RunState, job: Job) -> bool:
    """Count a page of a list; at the run's limit of pages, leave the rest for later and return True."""
    job.pages += 1
    if job.pages < most_pages(run):
        return False
    probe = job.probe
    run.note_trouble(probe.stream.name, f"a list did not end after {counted(job.pages, 'page')} in one run")
    run.queue.release(job)
    if probe.check:
        leave_parents(run, probe, blocks.left_of(probe.check), patient=True)
    elif not probe.window:
        _keep_cursor(run, probe, without(run, job, patient=True))
    return True


log = structlog.get_logger()

# After this number of failed probes in a row, a stream is skipped for this run; with several streams,
# Beamer counts as unreachable.
FAILURES_IN_A_ROW = 3
# This number of failed parts of one list is tried in a run without a monthly limit.
PARTS_TRIED = 8
# A stream that could be read before is forbidden only when a second run is refused as well.
DOUBTED, DOUBTED_CODE = "Beamer answered 403, although the key could read it before", "doubted"
DOUBTED_IN_PART = "Beamer answered 403 to a part of it"


class FailureHandler:
    """Counts the failures of a run. `refused`: 429 closed the account, and nothing was answered since."""

    def __init__(self, run: RunState, chance: Callable[[], float], *, refused: bool) -> None:
        self._run = run
        self._chance = chance
        self._refused = refused
        self._answered = False
        # Failed windows of parents, by stream.
        self._tries: Counter[str] = Counter()
        self._of_stream: Counter[str] = Counter()
        self._in_a_row: list[str] = []
        # The jobs to try once more in this run.
        self._again: dict[int, tuple[Job, Transient]] = {}
        # Streams that were refused (403) although they could be read before, and those read since.
        self._doubted: dict[str, str | None] = {}
        self._read: set[str] = set()
        self._key_refused = False

    def answered(self, job: Job) -> None:
        """Note that Beamer answers, with whatever status: several requests at once may be sent."""
        self._again.pop(id(job), None)
        self._answered = True
        self._run.answered()
        if self._refused:
            self._run.ledger.opened()
            self._refused = False

    def succeeded(self, job: Job) -> None:
        name = job.probe.stream.name
        self._in_a_row.clear()
        self._of_stream.pop(name, None)
        self._read.add(name)
        self._key_refused = False

    def key_refused(self, job: Job, error: KeyRefused) -> None:
        """Handle 401: the key is refused; a single one among good answers is tried once more."""
        if not self._run.report.pages:
            raise error
        if self._key_refused:
            means = "Rows that were read before are kept; nothing else was requested."
            raise KeyRefused(error.what, means=means, todo=error.todo)
        self._key_refused = True
        self._run.slow_down()
        wait = wait_before(1, Transient(error.what), self._chance())
        self._retry(job, error, wait or 0.0)

    def forbidden(self, job: Job) -> None:
        """Handle 403: other streams continue. The parameter may be forbidden, not the list."""
        run, name = self._run, job.probe.stream.name
        if job.probe.counts:
            self.not_counted(job)
            return
        if job.ignore_filters:
            run.go_on_filtered()
            run.queue.put_first(job)
            return
        run.queue.release(job)
        if name in self._read or self._could_be_read(name):
            self._doubt(job)
            return
        self._forbid(name)

    def _could_be_read(self, name: str) -> bool:
        """Return whether a stream was ever read, by what was learnt of it."""
        state = self._run.progress.streams[name]
        if state.trouble_code == Forbidden.trouble_code:
            return False
        return bool(state.complete or state.watermark or state.short_ends is not None or state.verdict_count)

    def _doubt(self, job: Job) -> None:
        """Note that one list is refused: the stream's others continue, unless that repeats."""
        probe, name = job.probe, job.probe.stream.name
        self._doubted.setdefault(name, self._run.progress.streams[name].trouble_code)
        self._again.pop(id(job), None)
        self._note_failure(job)
        self._of_stream[name] += 1
        if self._of_stream[name] >= FAILURES_IN_A_ROW or (probe.parent == NO_PARENT and not probe.check):
            self._run.queue.drop(name)

    def settle_doubts(self) -> None:
        """Decide at the end of a run about the streams that were refused in it."""
        for name, before in self._doubted.items():
            if name in self._read:
                self._run.note_trouble(name, DOUBTED_IN_PART)
            elif before == DOUBTED_CODE:
                self._forbid(name)
            else:
                self._run.note_trouble(name, DOUBTED, DOUBTED_CODE)
        self._doubted.clear()

    def _forbid(self, name: str) -> None:
        run = self._run
        if name not in run.report.forbidden:
            run.report.forbidden.append(name)
        run.note_trouble(name, Forbidden.trouble_text, Forbidden.trouble_code)
        run.queue.drop(name)
        self._again = {key: entry for key, entry in self._again.items() if entry[0].probe.stream.name != name}

    def too_many(self, job: Job, error: TooMany) -> None:
        """Handle 429: others use the quota, too. Slow down; after a few more, close the account."""
        run = self._run
        if run.report.stopped:
            return
        run.slow_down()
        wait = None if self._refused else wait_before(job.failures + 1, error, self._chance())
        if wait is not None:
            self._retry(job, error, wait)
            return
        until = run.ledger.close(run.clock.now())
        run.stop("Beamer answers 429 repeatedly: requests of the account are paused", until)

    def transient(self, job: Job, error: Transient) -> None:
        if self._run.clock.stopped:
            # The wait was interrupted, which is not a failure of Beamer's.
            self._run.interrupt()
            return
        probe = job.probe
        wait = wait_before(job.failures + 1, error, self._chance())
        # A list that failed in earlier runs gets only one request now and then of a limited month.
        before = self._run.per_day is not None and self._state(probe).failures > backoff.FREE
        if wait is None or before or self._failed_before(probe):
            self.give_up(job, error)
        else:
            self._again[id(job)] = (job, error)
            self._retry(job, error, wait)

    def cut_short(self) -> None:
        """Note that the run ends before the failed jobs were tried again: they count as failed."""
        for job, error in self._again.values():
            self._run.note_trouble(job.probe.stream.name, error.what)
            self._note_failure(job)

    def not_counted(self, job: Job) -> None:
        """Note that the key may not count this list's rows, though it may list them: the audit skips it."""
        run, name = self._run, job.probe.stream.name
        log.warning("audit_without_counts", stream=name)
        run.keep_stream(replace(run.progress.streams[name], audited_at=run.beamer_now, windows=None))
        run.queue.close(job)

    def not_known(self, job: Job) -> None:
        if job.probe.counts:
            self.not_counted(job)
            return
        self.give_up(job, BadAnswer("Beamer answered 404 to this list"))

    def give_up(self, job: Job, error: ConnectorError) -> None:
        """Leave a job for the next run; the others continue, unless nothing is answered any more."""
        probe = job.probe
        shown = probe.begun or bool(probe.check and (probe.check.part or probe.check.seen_ids))
        name, part = probe.stream.name, shown and self._answered and not probe.reading
        may_always_fail = self._may_always_fail(probe)
        self._run.queue.release(job)
        self._run.note_trouble(name, error.what)
        self._again.pop(id(job), None)
        self._note_failure(job, slow=isinstance(error, Transient) and error.slow)
        # A failed part says nothing about the stream or Beamer: the list itself was just shown.
        if part or not isinstance(error, Transient):
            return
        self._of_stream[name] += 1
        self._in_a_row.append(name)
        everywhere = len(self._in_a_row) >= FAILURES_IN_A_ROW and len(set(self._in_a_row)) > 1
        if everywhere or not (self._answered or may_always_fail):
            raise Unreachable(f"Beamer cannot be reached: {error.what}")
        if self._of_stream[name] >= FAILURES_IN_A_ROW:
            self._run.queue.drop(name)

    def _may_always_fail(self, probe: Probe) -> bool:
        """Return whether every run may request it first: then another probe shows if Beamer is unavailable.

        A backfill stores the cursors of its lists, but not their failures: it tries one more.
        """
        if probe.reading:
            return not self._in_a_row
        if self._failed_before(probe):
            return {*self._in_a_row} <= {probe.stream.name}
        return self._state(probe).failures > backoff.FREE and {*self._in_a_row} <= {probe.stream.name}

    def _failed_before(self, probe: Probe) -> bool:
        """Return whether the probe reads a part of a list that has failed in an earlier run."""
        if probe.check:
            return probe.check.part is not None and not probe.check.seen_ids
        return probe.begun and probe.required_pass.part.failures > 0

    def _block(self, probe: Probe) -> list[ParentState]:
        """Return the known parents of the block that a probe reads."""
        known = self._run.progress.parents.get(probe.stream.name, {})
        return [known[name] for name in probe.check.block.members if name in known] if probe.check else []

    def _state(self, probe: Probe) -> StreamState | ParentState | ChildState:
        """Return the state of the list or the block that a probe reads, or else of its stream."""
        progress, name = self._run.progress, probe.stream.name
        if block := backoff.of_block(self._block(probe)):
            return block
        return progress.child(name, probe.parent) or progress.streams[name]

    def _note_failure(self, job: Job, *, slow: bool = False) -> None:
        """Store that a list failed, so that the next runs skip it for a while.

        Of a request that took a whole time-out (`slow`), the next runs try smaller parts.
        """
        probe = job.probe
        if probe.window or probe.reading:
            # Counts have their own share of requests, and a backfill stores its own progress.
            return
        run, name, now = self._run, probe.stream.name, self._run.beamer_now
        state, limited = self._state(probe), run.per_day is not None
        if probe.begun:
            self._give_up_part(job, slow=slow)
            return
        answered = self._answered or backoff.answered_since(run.progress, state.failed_at)
        if isinstance(state, ChildState):
            child = backoff.failed(state, now, answered=answered)
            if answered and child.failures >= CUT_FROM:
                child = replace(child, cursor=without(run, job, patient=limited))
            run.keep_list(name, child)
            return
        block = self._block(probe)
        if probe.check and self._give_up_window(probe, probe.check, answered=answered, slow=slow):
            stream = run.progress.streams[name]
            if _all_fails(probe.check, block, stream):
                run.keep_stream(backoff.failed(stream, now, answered=answered))
            return
        stream = run.progress.streams[name]
        if block:
            run.keep_parents(name, [backoff.failed(parent, now, answered=answered) for parent in block])
        # One block that always fails is not the stream, whose other blocks are still to be checked.
        counts = not block or not state.failures or stream.failures > backoff.FREE
        if probe.stream.parent is None and counts:
            stream = backoff.failed(stream, now, answered=answered)
            if answered and probe.list_pass and stream.failures >= CUT_FROM:
                stream = replace(stream, cursor=without(run, job, patient=limited))
            run.keep_stream(stream)

    def _give_up_window(self, probe: Probe, check: BlockCheck, *, answered: bool, slow: bool) -> bool:
        """Skip a window of parents that fails again and again, or of which a page was shown."""
        run, name, now = self._run, probe.stream.name, self._run.beamer_now
        state, limited = run.progress.streams[name], run.per_day is not None
        block = backoff.of_block(self._block(probe))
        before = block.failures if block else state.failures
        if check.part and not (self._answered or backoff.answered_since(run.progress, check.part.failed_at)):
            keep_resting(run, probe)
            return True
        if check.part and state.failures and limited:
            # Nothing of the list was shown since it failed itself: a smaller part would fail as well.
            keep_resting(run, probe)
            return True
        if not (answered or check.part) or not (check.part or check.seen_ids or before + 1 >= CUT_FROM):
            return False
        part = blocks.left_of(check)
        if not (check.part or check.seen_ids):
            part = replace(part, failures=CUT_FROM - 1)
        after = leave_parents(run, probe, part, patient=limited)
        self._tries[name] += 1
        if limited or slow or self._tries[name] >= PARTS_TRIED or not part.failures:
            return True
        known = run.progress.parents.get(name, {}).values()
        alive = [(parent.date, parent.id) for parent in known if not parent.gone]
        for smaller in after:
            if smaller.ready(now):
                run.queue.add(Probe(probe.stream, candidates.HOLE, check=blocks.again(smaller, alive)))
        return True

    def _give_up_part(self, job: Job, *, slow: bool) -> None:
        """Skip a page of a list whose first page was answered, and continue with the rest."""
        run, probe, limited = self._run, job.probe, self._run.per_day is not None
        part = probe.required_pass.part
        if not (self._answered or backoff.answered_since(run.progress, part.failed_at)):
            keep_resting(run, probe)
            return
        _keep_cursor(run, probe, without(run, job, patient=limited))
        job.parts_tried += 1
        ready = job.probe.required_pass.part.ready(run.beamer_now)
        if not (limited or slow) and ready and part.failures and job.parts_tried < PARTS_TRIED:
            job.recovered()
            run.queue.put_first(job)

    def _retry(self, job: Job, error: ConnectorError, wait: float) -> None:
        log.info("retry", stream=job.probe.stream.name, error=error.what, seconds=round(wait, 1))
        job.failures += 1
        job.not_before = self._run.clock.now() + timedelta(seconds=wait)
        self._run.queue.put_first(job)


def _all_fails(check: BlockCheck, block: list[ParentState], stream: StreamState) -> bool:
    """Return whether the list fails, not only a part of it: nothing was shown since its last failure.

    The newest rows, of which none is known yet, represent the list.
    """
    if check.part:
        return stream.failures > 0
    return not check.seen_ids and (not block or stream.failures > backoff.FREE)

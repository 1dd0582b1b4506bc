"""What a failed request means for its list: retried, stepped past, left for later, or forbidden."""

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

# Under a monthly limit, too, an ordinary list fits in: 300 posts are 34 pages.
MOST_PAGES_LIMITED = 100


def most_pages(work: RunState) -> int:
    """Return how many pages of one list a run reads at most."""
    most = work.constants.most_pages
    return most if work.per_day is None else min(most, max(MOST_PAGES_LIMITED, int(work.per_day)))


def without(work: RunState, job: Job, *, patient: bool) -> str:
    """Return what is kept of a list whose next page is left for later; see `blocks.failed` for `patient`."""
    pass_, start = job.probe.required_pass, work.policy.start
    left = passes.given_up(pass_, job.habits, work.beamer_now, start, patient=patient)
    job.go_on(left)
    return stored_pass.dump(left)


def _keep_cursor(work: RunState, probe: Probe, cursor: str) -> None:
    """Keep where a list is to be read on."""
    name = probe.stream.name
    if child := work.progress.child(name, probe.parent):
        work.keep_list(name, replace(child, cursor=cursor))
    else:
        work.keep_stream(replace(work.progress.streams[name], cursor=cursor))


def keep_resting(work: RunState, probe: Probe) -> None:
    """Leave alone a part that fails, as long as it was before, where nothing else was answered.

    Nothing tells then whether Beamer is away. But where a run has one request at hand, the part must not be
    all that is ever asked: of its list, the newest rows come next.
    """
    name, now = probe.stream.name, work.beamer_now
    state, check, pass_ = work.progress.streams[name], probe.check, probe.list_pass
    if check and check.part and check.part.failures:
        cursor = stored_pass.instead(state.cursor, check.part, (replace(check.part, failed_at=now),), now)
        work.keep_stream(replace(state, cursor=cursor))
    elif pass_:
        pass_ = replace(pass_, failures=max(1, pass_.failures), failed_at=now, front_read=False)
        _keep_cursor(work, probe, stored_pass.dump(passes.hole(pass_.unread, now) if pass_.hole else pass_))


def leave_parents(work: RunState, probe: Probe, part: Part, *, patient: bool) -> tuple[Part, ...]:
    """Leave a part of a list of parents for later; return the parts that it was cut in."""
    name, now, check = probe.stream.name, work.beamer_now, probe.required_check
    state, instead_of, after = work.progress.streams[name], check.part or part, tuple[Part, ...]()
    for newest in stored_pass.parts_of(state.cursor):
        if part.cursor.since and part.cursor.since == newest.cursor.until and part.cursor.until is None:
            # The newest rows fail like those next to them.
            instead_of, after = newest, (blocks.grown(newest, now),)
    after = after or blocks.failed(part, now, work.policy.start, patient=patient)
    cursor = stored_pass.instead(state.cursor, instead_of, after, now)
    work.keep_stream(replace(state, cursor=cursor))
    return after


def leave_at_bound(work: RunState, job: Job) -> bool:
    """Count a page of a list; at the bound of a run, leave the rest of it for later and return True."""
    job.pages += 1
    if job.pages < most_pages(work):
        return False
    probe = job.probe
    work.note_trouble(probe.stream.name, f"a list did not end after {counted(job.pages, 'page')} in one run")
    work.queue.release(job)
    if probe.check:
        leave_parents(work, probe, blocks.left_of(probe.check), patient=True)
    elif not probe.window:
        _keep_cursor(work, probe, without(work, job, patient=True))
    return True


log = structlog.get_logger()

# So many probes in a row that fail for good: of one stream, and it is left alone for this run; of
# several, and Beamer counts as out of reach.
FAILURES_IN_A_ROW = 3
# So many parts of one list that fail are tried in a run, where requests are not limited.
PARTS_TRIED = 8
# What could be read before is forbidden only when it is refused in a second run as well.
DOUBTED, DOUBTED_CODE = "Beamer answered 403, although the key could read it before", "doubted"
DOUBTED_IN_PART = "Beamer answered 403 to a part of it"


class FailureHandler:
    """Counts what fails in one run. `refused`: 429 had closed the account, and nothing was answered since."""

    def __init__(self, work: RunState, chance: Callable[[], float], *, refused: bool) -> None:
        self._work = work
        self._chance = chance
        self._refused = refused
        self._answered = False
        # Windows of parents that failed, by stream.
        self._tries: Counter[str] = Counter()
        self._of_stream: Counter[str] = Counter()
        self._in_a_row: list[str] = []
        # What is to be tried once more in this run.
        self._again: dict[int, tuple[Job, Transient]] = {}
        # Streams that were refused (403) although they could be read before, and those read since.
        self._doubted: dict[str, str | None] = {}
        self._read: set[str] = set()
        self._key_refused = False

    def answered(self, job: Job) -> None:
        """Beamer is there, whatever it said: from now on several requests may be on their way at once."""
        self._again.pop(id(job), None)
        self._answered = True
        self._work.answered()
        if self._refused:
            self._work.ledger.opened()
            self._refused = False

    def succeeded(self, job: Job) -> None:
        name = job.probe.stream.name
        self._in_a_row.clear()
        self._of_stream.pop(name, None)
        self._read.add(name)
        self._key_refused = False

    def key_refused(self, job: Job, error: KeyRefused) -> None:
        """401: the key is refused; one answer among good ones is asked for once more."""
        if not self._work.report.pages:
            raise error
        if self._key_refused:
            means = "Rows that were read before are kept; nothing else was requested."
            raise KeyRefused(error.what, means=means, todo=error.todo)
        self._key_refused = True
        self._work.slow_down()
        wait = wait_before(1, Transient(error.what), self._chance())
        self._retry(job, error, wait or 0.0)

    def forbidden(self, job: Job) -> None:
        """403: the other streams go on. It may be the parameter that is forbidden, not the list."""
        work, name = self._work, job.probe.stream.name
        if job.probe.counts:
            self.not_counted(job)
            return
        if job.ignore_filters:
            work.go_on_filtered()
            work.queue.put_first(job)
            return
        work.queue.release(job)
        if name in self._read or self._could_be_read(name):
            self._doubt(job)
            return
        self._forbid(name)

    def _could_be_read(self, name: str) -> bool:
        """Return whether a stream was ever read, as far as what was learnt of it tells."""
        state = self._work.progress.streams[name]
        if state.trouble_code == Forbidden.trouble_code:
            return False
        return bool(state.complete or state.watermark or state.short_ends is not None or state.verdict_count)

    def _doubt(self, job: Job) -> None:
        """One list is refused: the others of the stream go on, unless it is refused again and again."""
        probe, name = job.probe, job.probe.stream.name
        self._doubted.setdefault(name, self._work.progress.streams[name].trouble_code)
        self._again.pop(id(job), None)
        self._note_failure(job)
        self._of_stream[name] += 1
        if self._of_stream[name] >= FAILURES_IN_A_ROW or (probe.parent == NO_PARENT and not probe.check):
            self._work.queue.drop(name)

    def settle_doubts(self) -> None:
        """Say at the end of a run what came of the streams that were refused in it."""
        for name, before in self._doubted.items():
            if name in self._read:
                self._work.note_trouble(name, DOUBTED_IN_PART)
            elif before == DOUBTED_CODE:
                self._forbid(name)
            else:
                self._work.note_trouble(name, DOUBTED, DOUBTED_CODE)
        self._doubted.clear()

    def _forbid(self, name: str) -> None:
        work = self._work
        if name not in work.report.forbidden:
            work.report.forbidden.append(name)
        work.note_trouble(name, Forbidden.trouble_text, Forbidden.trouble_code)
        work.queue.drop(name)
        self._again = {key: kept for key, kept in self._again.items() if kept[0].probe.stream.name != name}

    def too_many(self, job: Job, error: TooMany) -> None:
        """Somebody else spends, too: slow down; after a few more, close the account for a while."""
        work = self._work
        if work.report.stopped:
            return
        work.slow_down()
        wait = None if self._refused else wait_before(job.failures + 1, error, self._chance())
        if wait is not None:
            self._retry(job, error, wait)
            return
        until = work.ledger.close(work.clock.now())
        work.stop("Beamer answers 429 repeatedly: requests of the account are paused", until)

    def transient(self, job: Job, error: Transient) -> None:
        if self._work.clock.stopped:
            # An answer was waited for no longer, which is no failure of Beamer's.
            self._work.interrupt()
            return
        probe = job.probe
        wait = wait_before(job.failures + 1, error, self._chance())
        # What failed in the runs before, too, is worth one request of a limited month now and then.
        before = self._work.per_day is not None and self._state(probe).failures > backoff.FREE
        if wait is None or before or self._failed_before(probe):
            self.give_up(job, error)
        else:
            self._again[id(job)] = (job, error)
            self._retry(job, error, wait)

    def cut_short(self) -> None:
        """The run ends before what failed could be tried again: that is no less of a failure."""
        for job, error in self._again.values():
            self._work.note_trouble(job.probe.stream.name, error.what)
            self._note_failure(job)

    def not_counted(self, job: Job) -> None:
        """A key that may list rows need not be allowed to count them: the audit does without."""
        work, name = self._work, job.probe.stream.name
        log.warning("audit_without_counts", stream=name)
        work.keep_stream(replace(work.progress.streams[name], audited_at=work.beamer_now, windows=None))
        work.queue.close(job)

    def not_known(self, job: Job) -> None:
        if job.probe.counts:
            self.not_counted(job)
            return
        self.give_up(job, BadAnswer("Beamer answered 404 to this list"))

    def give_up(self, job: Job, error: ConnectorError) -> None:
        """Leave a job for the next run; the others go on, unless nothing gets through any more."""
        probe = job.probe
        shown = probe.begun or bool(probe.check and (probe.check.part or probe.check.seen_ids))
        name, part = probe.stream.name, shown and self._answered and not probe.reading
        alone = self._may_always_fail(probe)
        self._work.queue.release(job)
        self._work.note_trouble(name, error.what)
        self._again.pop(id(job), None)
        self._note_failure(job, slow=isinstance(error, Transient) and error.slow)
        # A part of a list is not the stream, nor is it Beamer: the list itself has just been shown.
        if part or not isinstance(error, Transient):
            return
        self._of_stream[name] += 1
        self._in_a_row.append(name)
        everywhere = len(self._in_a_row) >= FAILURES_IN_A_ROW and len(set(self._in_a_row)) > 1
        if everywhere or not (self._answered or alone):
            raise Unreachable(f"Beamer cannot be reached: {error.what}")
        if self._of_stream[name] >= FAILURES_IN_A_ROW:
            self._work.queue.drop(name)

    def _may_always_fail(self, probe: Probe) -> bool:
        """Whether it may be the first that is asked in every run: then another one tells if Beamer is away.

        A backfill keeps where its lists stand, and not that they failed: it tries one more.
        """
        if probe.reading:
            return not self._in_a_row
        if self._failed_before(probe):
            return {*self._in_a_row} <= {probe.stream.name}
        return self._state(probe).failures > backoff.FREE and {*self._in_a_row} <= {probe.stream.name}

    def _failed_before(self, probe: Probe) -> bool:
        """Return whether what is asked is a part of a list that has failed in an earlier run."""
        if probe.check:
            return probe.check.part is not None and not probe.check.seen_ids
        return probe.begun and probe.required_pass.failures > 0

    def _block(self, probe: Probe) -> list[ParentState]:
        """Return the parents that are known in the block which a probe reads."""
        known = self._work.progress.parents.get(probe.stream.name, {})
        return [known[name] for name in probe.check.block.members if name in known] if probe.check else []

    def _state(self, probe: Probe) -> StreamState | ParentState | ChildState:
        """That of the list or the block which a probe reads, or else of its stream."""
        progress, name = self._work.progress, probe.stream.name
        if block := backoff.of_block(self._block(probe)):
            return block
        return progress.child(name, probe.parent) or progress.streams[name]

    def _note_failure(self, job: Job, *, slow: bool = False) -> None:
        """Write down that a list failed, so that the runs to come leave it alone for a while.

        Of what took a whole time-out (`slow`), smaller parts are tried in the runs to come.
        """
        probe = job.probe
        if probe.window or probe.reading:
            # Counts have a share of their own, and a backfill keeps where it stands itself.
            return
        work, name, now = self._work, probe.stream.name, self._work.beamer_now
        state, limited = self._state(probe), work.per_day is not None
        if probe.begun:
            self._give_up_part(job, slow=slow)
            return
        answered = self._answered or backoff.answered_since(work.progress, state.failed_at)
        if isinstance(state, ChildState):
            child = backoff.failed(state, now, answered=answered)
            if answered and child.failures >= CUT_FROM:
                child = replace(child, cursor=without(work, job, patient=limited))
            work.keep_list(name, child)
            return
        block = self._block(probe)
        if probe.check and self._give_up_window(probe, probe.check, answered=answered, slow=slow):
            stream = work.progress.streams[name]
            if _all_fails(probe.check, block, stream):
                work.keep_stream(backoff.failed(stream, now, answered=answered))
            return
        stream = work.progress.streams[name]
        if block:
            work.keep_parents(name, [backoff.failed(parent, now, answered=answered) for parent in block])
        # One block that always fails is not the stream, whose others are still to be looked at.
        counts = not block or not state.failures or stream.failures > backoff.FREE
        if probe.stream.parent is None and counts:
            stream = backoff.failed(stream, now, answered=answered)
            if answered and probe.list_pass and stream.failures >= CUT_FROM:
                stream = replace(stream, cursor=without(work, job, patient=limited))
            work.keep_stream(stream)

    def _give_up_window(self, probe: Probe, check: BlockCheck, *, answered: bool, slow: bool) -> bool:
        """Leave out a window of parents that fails again and again, or one of which a page was shown."""
        work, name, now = self._work, probe.stream.name, self._work.beamer_now
        state, limited = work.progress.streams[name], work.per_day is not None
        block = backoff.of_block(self._block(probe))
        before = block.failures if block else state.failures
        if check.part and not (self._answered or backoff.answered_since(work.progress, check.part.failed_at)):
            keep_resting(work, probe)
            return True
        if check.part and state.failures and limited:
            # Nothing of the list was shown since it failed itself: no smaller part of it would be.
            keep_resting(work, probe)
            return True
        if not (answered or check.part) or not (check.part or check.seen_ids or before + 1 >= CUT_FROM):
            return False
        part = blocks.left_of(check)
        if not (check.part or check.seen_ids):
            part = replace(part, failures=CUT_FROM - 1)
        after = leave_parents(work, probe, part, patient=limited)
        self._tries[name] += 1
        if limited or slow or self._tries[name] >= PARTS_TRIED or not part.failures:
            return True
        known = work.progress.parents.get(name, {}).values()
        alive = [(parent.date, parent.id) for parent in known if not parent.gone]
        for smaller in after:
            if smaller.ready(now):
                work.queue.add(Probe(probe.stream, candidates.HOLE, check=blocks.again(smaller, alive)))
        return True

    def _give_up_part(self, job: Job, *, slow: bool) -> None:
        """Leave out a page of a list whose first one was answered, and go on with the rest of it."""
        work, probe, limited = self._work, job.probe, self._work.per_day is not None
        answered_since = backoff.answered_since(work.progress, probe.required_pass.failed_at)
        if not (self._answered or answered_since):
            keep_resting(work, probe)
            return
        failed_before = probe.required_pass.failures > 0
        _keep_cursor(work, probe, without(work, job, patient=limited))
        job.parts_tried += 1
        ready = job.probe.required_pass.part.ready(work.beamer_now)
        if not (limited or slow) and ready and failed_before and job.parts_tried < PARTS_TRIED:
            job.recovered()
            work.queue.put_first(job)

    def _retry(self, job: Job, error: ConnectorError, wait: float) -> None:
        log.info("retry", stream=job.probe.stream.name, error=error.what, seconds=round(wait, 1))
        job.failures += 1
        job.not_before = self._work.clock.now() + timedelta(seconds=wait)
        self._work.queue.put_first(job)


def _all_fails(check: BlockCheck, block: list[ParentState], stream: StreamState) -> bool:
    """Return whether it is the list that fails, and no part of it: nothing was shown since it failed before.

    The newest rows, of which none is known yet, stand for the list.
    """
    if check.part:
        return stream.failures > 0
    return not check.seen_ids and (not block or stream.failures > backoff.FREE)

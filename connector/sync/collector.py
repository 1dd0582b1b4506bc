"""The loop: take a request out of the budget, fetch a page, judge it, accept it, and see what follows."""

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import structlog

from connector.beamer.catalogue import Stream, children
from connector.beamer.door import Answer, Beamer
from connector.beamer.pages import Habits
from connector.clock import Clock
from connector.errors import (
    BadAnswer,
    Busy,
    ConnectorError,
    Forbidden,
    Gone,
    KeyRefused,
    NoBudget,
    Stopped,
    TooMany,
    Transient,
    Unreachable,
)
from connector.state.connections import Identity
from connector.state.intake import Effects, Intake, Page
from connector.state.leases import Fence
from connector.state.ledger import Ledger
from connector.state.progress import Progress, StreamState
from connector.sync import counters, planner
from connector.sync.accepting import Context, decide_block, decide_list
from connector.sync.looks import LookStep
from connector.sync.pages import JudgedPage, judged_page
from connector.sync.policy import Policy
from connector.sync.pool import Pool
from connector.sync.probes import Probe, ask
from connector.sync.report import Report
from connector.sync.retries import wait_before
from connector.sync.sweeps import SweepStep

log = structlog.get_logger()

# So many probes in a row that fail for good, and Beamer counts as out of reach.
FAILURES_IN_A_ROW = 3
# How long a run that was asked to stop waits for the pages in hand.
GRACE = 2.5


class Collector:
    """Collects what is new for one connection, in one run."""

    def __init__(
        self,
        *,
        catalogue: Mapping[str, Stream],
        identity: Identity,
        policy: Policy,
        progress: Progress,
        beamer: Beamer,
        ledger: Ledger,
        intake: Intake,
        fence: Fence,
        clock: Clock,
        pool: Pool,
        report: Report,
        most_requests: int | None = None,
        accepted: Callable[[Report], None] = lambda _: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._catalogue = catalogue
        self._identity = identity
        self._policy = policy
        self._progress = progress
        self._beamer = beamer
        self._ledger = ledger
        self._intake = intake
        self._fence = fence
        self._clock = clock
        self._pool = pool
        self._report = report
        self._most = most_requests
        self._accepted = accepted
        self._chance = chance
        self._first_page = identity.first_page if policy.first_page is None else policy.first_page
        told = policy.ignore_filters
        self._ignore_filters = identity.ignore_filters if told is None else told
        self._ahead = timedelta(0)
        self._queue: deque[Probe] = deque()
        self._flights: dict[Future[Answer], Probe] = {}
        self._titles: dict[tuple[str, str], str] = {}
        self._looks_left: dict[str, int] = {}
        self._troubled: set[str] = set()
        self._failures = 0
        self._answered = False
        self._cautious = False

    # --- the loop ---

    def run(self, started: datetime) -> None:
        """Ask everything there is to ask, until all is answered, the budget ends, or a stop is asked for.

        Raises KeyRefused or Unreachable when it makes no sense to go on, Busy when the lease is lost.
        """
        self._cautious = self._ledger.balance(started).refused
        probes = planner.first_probes(
            self._catalogue, self._policy, self._progress, self._first_page, started
        )
        for probe in probes:
            self._enqueue(probe)
        try:
            while self._turn():
                pass
        finally:
            self._finish(started)

    def _turn(self) -> bool:
        """One round: send what may be sent, then settle what has landed."""
        self._dispatch()
        if not self._flights:
            return False
        landed = self._pool.landed(self._flights.keys(), GRACE if self._clock.stopped else 3600)
        if not landed:
            log.warning("requests_abandoned", requests=len(self._flights))
            self._report.stopped = "asked to stop; requests in flight were abandoned"
            return False
        for flight in sorted(landed, key=list(self._flights).index):
            self._settle(self._flights.pop(flight), flight)
        return True

    def _dispatch(self) -> None:
        while self._may_send() and (probe := self._next_probe()):
            probe.habits = self._habits(probe)
            filters = self._ignore_filters is not False
            request = ask(probe, probe.habits, ignore_filters=filters)
            try:
                at = self._ledger.take(probe.stream.name, self._clock.now(), self._fence)
            except NoBudget as none:
                self._stop(none.what, none.until)
                return
            self._report.requests[probe.stream.name] += 1
            due = max(filter(None, (at, probe.not_before)))
            log.debug("request", stream=probe.stream.name, parent=probe.parent, reason=probe.reason)
            self._flights[self._pool.submit(partial(self._beamer.get, request, due))] = probe

    def _may_send(self) -> bool:
        if self._report.stopped or not self._queue:
            return False
        if self._clock.stopped:
            self._stop("asked to stop")
            return False
        if self._most is not None and self._report.asked >= self._most:
            self._stop(f"--max-requests {self._most} reached")
            return False
        return len(self._flights) < (1 if self._cautious else self._pool.size)

    def _next_probe(self) -> Probe | None:
        """The next probe in order; while a stream's habits are unknown, one of its lists at a time is asked.

        Otherwise a first run would make every thread look behind a short page for the same answer.
        """
        busy = {probe.stream.name for probe in self._flights.values() if self._unlearnt(probe)}
        for index, probe in enumerate(self._queue):
            if probe.stream.name not in busy or not self._unlearnt(probe):
                del self._queue[index]
                return probe
        return None

    def _unlearnt(self, probe: Probe) -> bool:
        return self._progress.streams[probe.stream.name].short_ends is None

    def _habits(self, probe: Probe) -> Habits:
        return planner.habits_of(self._progress.streams[probe.stream.name], self._first_page)

    def _stop(self, why: str, until: datetime | None = None) -> None:
        log.info("stopping", why=why)
        self._report.stopped, self._report.next_try = why, until

    # --- what came back ---

    def _settle(self, probe: Probe, flight: Future[Answer]) -> None:
        try:
            answer = flight.result()
            self._read_clock(answer)
            self._page(probe, answer)
        except Stopped:
            self._stop("asked to stop")
        except Gone:
            self._skip(probe)
        except Forbidden:
            self._forbidden(probe)
        except TooMany as error:
            self._too_many(probe, error)
        except Transient as error:
            self._again(probe, error)
        except (KeyRefused, Busy, Unreachable):
            raise
        except BadAnswer as error:
            self._trouble(probe, error)
        else:
            self._failures, self._answered = 0, True
            if self._cautious:
                self._ledger.opened()
                self._cautious = False

    def _read_clock(self, answer: Answer) -> None:
        """Dates are judged by Beamer's clock, which may be off ours."""
        if answer.date:
            self._ahead = answer.date - self._clock.now()

    @property
    def beamer_now(self) -> datetime:
        """The time by Beamer's clock, as its last answer showed it."""
        return self._clock.now() + self._ahead

    def _page(self, probe: Probe, answer: Answer) -> None:
        if not isinstance(answer.body, list):
            raise Transient("Beamer's answer was not a list of rows.")
        if probe.stream.filtered and self._ignore_filters is None:
            self._learn_filters(True)
        page = judged_page(answer.body, probe.stream, self._policy, self.beamer_now)
        if probe.look:
            self._accept_block(probe, page)
        else:
            self._accept_list(probe, page)
        self._accepted(self._report)

    def _accept_list(self, probe: Probe, page: JudgedPage) -> None:
        stream, context = probe.stream, self._context(probe)
        child = self._progress.children.get(stream.name, {}).get(probe.parent)
        title = self._titles.get((stream.parent or "", probe.parent))
        steps: list[SweepStep] = []

        def decide(fresh: set[str], unusable: int) -> Effects:
            effects, step = decide_list(context, probe, page, child, title, fresh, unusable)
            steps[:] = [step]
            return effects

        self._write(probe, page, context, decide)
        probe.failures, probe.not_before = 0, None
        if not steps[0].done:
            probe.sweep = steps[0].sweep
            self._queue.appendleft(probe)
        elif child:
            self._enqueue_child(stream, probe.parent, unless=steps[0].sweep.began)

    def _accept_block(self, probe: Probe, page: JudgedPage) -> None:
        stream, context = probe.stream, self._context(probe)
        known = self._progress.parents.setdefault(stream.name, {})
        below = [
            child for child in children(self._catalogue, stream.name) if child.name in self._policy.streams
        ]
        scopes = [(child, self._progress.streams[child.name].scope) for child in below]
        steps: list[LookStep] = []

        def decide(fresh: set[str], unusable: int) -> Effects:
            effects, step = decide_block(
                context, probe, page, known, self._progress.children, scopes, fresh, unusable
            )
            steps[:] = [step]
            if step.next is None and probe.look and probe.look.block.since is None and probe.look.proving:
                effects.stream = replace(effects.stream or context.state, complete=True)
            return effects

        self._write(probe, page, context, decide)
        probe.failures, probe.not_before = 0, None
        for row, _ in page.rows.values():
            if row.fields.get("title"):
                self._titles[(stream.name, row.id)] = row.fields["title"]
            for child in below:
                self._enqueue_child(child, row.id)
        if steps[0].next:
            probe.look = steps[0].next
            self._queue.appendleft(probe)
        else:
            self._looks_left[stream.name] -= 1

    def _write(
        self,
        probe: Probe,
        page: JudgedPage,
        context: Context,
        decide: Callable[[set[str], int], Effects],
    ) -> None:
        """Accept a page in the store first, then in memory."""
        here = Page(probe.stream.name, context.state.scope, probe.parent)
        effects = self._intake.accept(here, page.judged, page.rejected, decide, self._clock.now())
        by_scope = {state.scope: name for name, state in self._progress.streams.items()}
        for parent in effects.parents:
            self._progress.parents.setdefault(probe.stream.name, {})[parent.id] = parent
        for child in effects.children:
            self._progress.children.setdefault(by_scope[child.scope], {})[child.parent] = child
        if effects.stream:
            self._progress.streams[probe.stream.name] = effects.stream
        if effects.first_page is not None:
            self._first_page = effects.first_page
        self._count(probe.stream.name, effects)

    def _count(self, stream: str, effects: Effects) -> None:
        for what, count in effects.tally.items():
            if what == "rows":
                self._report.new[stream] += count
            elif what == "events":
                self._report.events[stream] += count
            elif what == "quarantined":
                self._report.quarantined[stream] += count
            else:
                self._report.held[what] += count

    def _context(self, probe: Probe) -> Context:
        return Context(self._policy, self._progress.streams[probe.stream.name], self.beamer_now)

    # --- what is asked next ---

    def _enqueue(self, probe: Probe) -> None:
        if probe.look:
            self._looks_left[probe.stream.name] = self._looks_left.get(probe.stream.name, 0) + 1
        self._queue.append(probe)

    def _enqueue_child(self, stream: Stream, parent: str, unless: str | None = None) -> None:
        """Ask a child list whose counter has moved since it was last swept, unless that is under way."""
        child = self._progress.children.get(stream.name, {}).get(parent)
        above = self._progress.parents[stream.parent or ""][parent]
        if child is None or child.counter == unless or not counters.moved(child.counter, child.swept):
            return
        if stream.name in self._report.forbidden or (stream.name, parent) in self._under_way():
            return
        state = self._progress.streams[stream.name]
        self._queue.append(
            planner.child_probe(stream, child, above.date, state, self._policy, self._first_page)
        )

    def _under_way(self) -> Iterator[tuple[str, str]]:
        for probe in (*self._queue, *self._flights.values()):
            yield probe.stream.name, probe.parent

    # --- what went wrong ---

    def _skip(self, probe: Probe) -> None:
        """404: the parent was deleted while its children were waiting to be read."""
        child = self._progress.children.get(probe.stream.name, {}).get(probe.parent)
        if child is None:
            self._trouble(probe, BadAnswer("Beamer does not know this list (404)"))
            return
        self._report.skipped_parents += 1
        child = replace(child, swept=child.counter, place=None)
        self._intake.settle(child, self._clock.now())
        self._progress.children[probe.stream.name][probe.parent] = child

    def _forbidden(self, probe: Probe) -> None:
        if probe.stream.filtered and self._ignore_filters is not False:
            # It may be the parameter that is forbidden, not the list.
            self._learn_filters(False)
            self._queue.appendleft(probe)
            return
        name = probe.stream.name
        if name not in self._report.forbidden:
            self._report.forbidden.append(name)
        self._note_trouble(name, "the key may not read it (403)")
        self._queue = deque(waiting for waiting in self._queue if waiting.stream.name != name)

    def _learn_filters(self, allowed: bool) -> None:
        self._ignore_filters = allowed
        self._intake.note((), self._clock.now(), ignore_filters=allowed)

    def _too_many(self, probe: Probe, error: TooMany) -> None:
        wait = None if self._cautious else wait_before(probe.failures + 1, error, self._chance())
        if wait is not None:
            self._retry(probe, error, wait)
            return
        until = self._ledger.close(self._clock.now())
        self._queue.appendleft(probe)
        self._stop("Beamer keeps answering 429: the account is closed for now", until)

    def _again(self, probe: Probe, error: Transient) -> None:
        wait = wait_before(probe.failures + 1, error, self._chance())
        if wait is not None:
            self._retry(probe, error, wait)
            return
        self._trouble(probe, error)

    def _retry(self, probe: Probe, error: Transient, wait: float) -> None:
        log.info("retry", stream=probe.stream.name, error=error.what, seconds=round(wait, 1))
        probe.failures += 1
        probe.not_before = self._clock.now() + timedelta(seconds=wait)
        self._queue.appendleft(probe)

    def _trouble(self, probe: Probe, error: ConnectorError) -> None:
        """Give a probe up for this run; the others go on, unless nothing gets through any more."""
        self._note_trouble(probe.stream.name, error.what)
        self._failures += 1
        if isinstance(error, Transient) and (self._failures >= FAILURES_IN_A_ROW or not self._answered):
            raise Unreachable(f"Beamer cannot be reached: {error.what}")

    def _note_trouble(self, stream: str, what: str) -> None:
        log.warning("stream_trouble", stream=stream, error=what)
        self._troubled.add(stream)
        said = f"{stream}: {what}"
        if said not in self._report.troubles:
            self._report.troubles.append(said)
        state = replace(self._progress.streams[stream], trouble=what, trouble_at=self._clock.now())
        self._progress.streams[stream] = state

    # --- before and after ---

    def _finish(self, started: datetime) -> None:
        """Write down how far each stream is complete now."""
        whole = not self._report.stopped and not self._queue and not self._flights
        states = []
        for stream in planner.wanted(self._catalogue, self._policy):
            state = self._progress.streams[stream.name]
            if whole and stream.name not in self._troubled:
                state = self._completed(state, started)
            states.append(state)
            self._progress.streams[stream.name] = state
        self._report.segmented_hidden = self._ignore_filters is False and "posts" in self._looks_left
        self._intake.note(states, self._clock.now())
        log.debug("collected", **self._report.as_dict())

    def _completed(self, state: StreamState, started: datetime) -> StreamState:
        through = started + self._ahead
        proved = state.proved_at
        if (
            state.name in self._looks_left
            and self._looks_left[state.name] == 0
            and self._doubted(state, started)
        ):
            proved = started
        newest = [parent.date for parent in self._progress.parents.get(state.name, {}).values()]
        mark = max((date for date in newest if date <= through), default=state.watermark)
        return replace(
            state, complete_through=through, proved_at=proved, watermark=mark, trouble=None, trouble_at=None
        )

    def _doubted(self, state: StreamState, started: datetime) -> bool:
        return state.proved_at is None or started - state.proved_at > planner.PROOF_LASTS

"""A page that arrived: judged, decided, written, and what to request next."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from connector.beamer.request import Answer
from connector.beamer.streams import CATALOGUE, Stream, children
from connector.domain.state import ChildState, ParentState
from connector.errors import Gone, Transient
from connector.state.page_writer import Effects, Page
from connector.sync.context import Work
from connector.sync.fetch import failures
from connector.sync.fetch.decisions import Context, decide_block, decide_list
from connector.sync.lists import backoff, count_windows, counters
from connector.sync.lists.blocks import CheckStep
from connector.sync.lists.count_windows import Window
from connector.sync.lists.passes import PassStep
from connector.sync.planning import candidates
from connector.sync.planning.planner import Planner
from connector.sync.planning.probes import Probe
from connector.sync.rows.pages import PageVerdicts, judge_page

log = structlog.get_logger()


class Answers:
    """Accepts the answers of one run."""

    def __init__(self, work: Work, planner: Planner) -> None:
        self._work = work
        self._planner = planner
        self._titles: dict[tuple[str, str], str] = {}

    def accept(self, probe: Probe, answer: Answer) -> None:
        """Accept one page; raises Transient, or BadAnswer, where it is none."""
        work = self._work
        if probe.counts:
            self._count(probe, answer)
            return
        if not isinstance(answer.body, list):
            raise Transient("Beamer's answer was not a list of rows.")
        if probe.stream.filtered:
            work.filters_settled(probe.ignore_filters)
        page = judge_page(answer.body, probe.stream, work.policy, work.earliest)
        if probe.check:
            self._block(probe, page)
        else:
            self._list(probe, page)

    def _count(self, probe: Probe, answer: Answer) -> None:
        """Compare a count with what is held; where they differ, halve the window down to what is read."""
        work, window = self._work, probe.window
        count = counters.counted(answer.body)
        if window is None or count is None:
            # The same next time: the audit does without, as where the count is not known at all (404).
            raise Gone("Beamer's answer was not a count.")
        state = work.progress.streams[probe.stream.name]
        work.queue.close(probe)
        work.report.audited[probe.stream.name] += 1
        parts = candidates.behind_count(probe, window, count, work.intake.held(state.scope))
        self._on_with_audit(probe, window, parts)
        for part in parts:
            work.queue.first(part)

    def _on_with_audit(self, probe: Probe, done: Window, parts: Sequence[Probe] = ()) -> None:
        """Keep what is left of an audit by counts, for the next run if need be; at its end, when that was."""
        work, name = self._work, probe.stream.name
        state = work.progress.streams[name]
        kept = count_windows.restore(state.windows, work.policy.start)
        begun = count_windows.Round(thorough=probe.thorough) if probe.whole else kept
        left = [
            count_windows.Left(part.window, part.list_pass.counted if part.list_pass else None)
            for part in parts
            if part.window
        ]
        text = begun.after(done, left).dump()
        ended = state.audited_at if text else work.beamer_now
        work.progress.streams[name] = replace(state, windows=text, audited_at=ended)

    def _audited(self, probe: Probe) -> None:
        """A list, or a window, was read again whole; what was new in it was missing."""
        work = self._work
        if not probe.audit or probe.list_pass is None:
            return
        work.report.audited[probe.stream.name] += not probe.window
        found = probe.list_pass.found
        if found:
            work.report.missing[probe.stream.name] += found
            log.warning("audit_found_missing", stream=probe.stream.name, parent=probe.parent, rows=found)
        if probe.window:
            self._on_with_audit(probe, probe.window)
        if probe.window and probe.window.single and probe.list_pass.counted is not None:
            scope = work.progress.streams[probe.stream.name].scope
            work.intake.recount(scope, probe.window.first, probe.list_pass.counted, work.clock.now())

    def _list(self, probe: Probe, page: PageVerdicts) -> None:
        stream, context = probe.stream, self._context(probe)
        child = self._work.progress.children.get(stream.name, {}).get(probe.parent)
        title = self._titles.get((stream.parent or "", probe.parent))
        page = self._without_moved(probe, page, child, context)
        steps: list[PassStep] = []

        def decide(fresh: set[str], quarantined: int) -> Effects:
            effects, step = decide_list(context, probe, page, child, title, fresh, quarantined)
            steps[:] = [step]
            return effects

        self._write(probe, page, context, decide)
        if not steps[0].done:
            probe.list_pass = steps[0].list_pass
            if not failures.leave_at_bound(self._work, probe):
                self._work.queue.first(probe)
            return
        self._work.queue.close(probe)
        probe.list_pass = steps[0].list_pass
        self._audited(probe)
        if child and not steps[0].list_pass.hole:
            self._follow(stream, probe.parent, unless=steps[0].list_pass.began)
        self._on_with_hole(probe)

    def _on_with_hole(self, probe: Probe) -> None:
        """After a list, ask once more what could not be read of it, where it is time for that."""
        work, name = self._work, probe.stream.name
        child = work.progress.children.get(name, {}).get(probe.parent)
        cursor = child.cursor if child else work.progress.streams[name].cursor
        if probe.window or cursor is None:
            return
        hole = candidates.hole_probe(probe.stream, cursor, probe.parent)
        hole.priority, hole.turn, hole.overdue = probe.priority, probe.turn, probe.overdue
        if hole.required_pass.hole and hole.required_pass.part.ready(work.beamer_now):
            work.queue.add(hole)

    def _without_moved(
        self, probe: Probe, page: PageVerdicts, child: ChildState | None, context: Context
    ) -> PageVerdicts:
        """The page, with the rows known that came here from another parent (see `PageVerdicts.without`).

        Only of rows that are older than they can be here is it worth to ask: than the last reading of the
        list, or where there was none, than its parent.
        """
        parent = self._work.progress.parents.get(probe.stream.parent or "", {}).get(probe.parent)
        if child is None or parent is None:
            return page
        since = child.read_at if child.read_counter is not None and child.read_at else parent.date
        here = Page(probe.stream.name, context.state.scope, probe.parent)
        return page.without(self._work.intake.moved(here, page.dated_before(since)))

    def _block(self, probe: Probe, page: PageVerdicts) -> None:
        work, stream, context = self._work, probe.stream, self._context(probe)
        known = work.progress.parents.setdefault(stream.name, {})
        child_streams = self._counted_on(stream)
        scopes = [(child, work.progress.streams[child.name].scope) for child in child_streams]
        steps: list[CheckStep] = []

        def decide(fresh: set[str], quarantined: int) -> Effects:
            effects, step = decide_block(
                context, probe, page, known, work.progress.children, scopes, fresh, quarantined
            )
            steps[:] = [step]
            return effects

        before = {name: known[name] for name in page.parents if name in known}
        counted = {
            child.name: {
                name: found
                for name in before
                if (found := work.progress.children.get(child.name, {}).get(name))
            }
            for child in child_streams
        }
        self._write(probe, page, context, decide)
        self._learn(child_streams, before, counted)
        for name in page.parents:
            if name in page.rows and (title := page.rows[name][0].fields.get("title")):
                self._titles[(stream.name, name)] = title
            for child in work.picture.child_streams(stream):
                self._follow(child, name)
        if steps[0].next:
            # It was begun: what it was to wait for is at hand.
            probe.check, probe.needs = steps[0].next, 1.0
            if failures.leave_at_bound(work, probe):
                return
            if probe.check.cursor.behind_short or probe.kept:
                # Begun anew in the next run, a check would be half a check for ever.
                work.queue.first(probe)
            else:
                work.queue.onward(self._planner.onward(work.picture, probe, work.beamer_now))
        else:
            work.queue.close(probe)

    def _counted_on(self, stream: Stream) -> Sequence[Stream]:
        """The child streams whose counters are put down.

        A run may have been asked for one of them only; of the others, the check counts as well.
        """
        work = self._work
        child_streams = children({**CATALOGUE, **work.catalogue}, stream.name)
        return [
            each for each in child_streams if each.name in work.policy.streams & work.progress.streams.keys()
        ]

    def _learn(
        self,
        child_streams: Sequence[Stream],
        before: Mapping[str, ParentState],
        lists: Mapping[str, Mapping[str, ChildState]],
    ) -> None:
        """Put down what came at each list since its parent was seen before."""
        work = self._work
        for stream in child_streams:
            for name, parent in before.items():
                if (child := lists[stream.name].get(name)) and not parent.gone:
                    after = work.progress.children[stream.name][name]
                    work.observations.note(stream.name, parent, child, after, work.beamer_now)

    def _write(
        self,
        probe: Probe,
        page: PageVerdicts,
        context: Context,
        decide: Callable[[set[str], int], Effects],
    ) -> None:
        """Accept a page in the database first, then in memory."""
        work, name = self._work, probe.stream.name
        here = Page(name, context.state.scope, probe.parent)
        new: list[set[str]] = []

        def decided(fresh: set[str], quarantined: int) -> Effects:
            new[:] = [fresh]
            return decide(fresh, quarantined)

        effects = work.intake.accept(here, page.row_verdicts, page.rejected, decided, work.clock.now())
        work.report.late.note(self._ages(page, new[0], context.now))
        for parent in effects.parents:
            work.progress.parents.setdefault(name, {})[parent.id] = parent
        by_scope = {state.scope: stream for stream, state in work.progress.streams.items()}
        for child in effects.children:
            work.progress.children.setdefault(by_scope[child.scope], {})[child.parent] = child
        if effects.stream:
            work.progress.streams[name] = effects.stream
        if effects.first_page is not None:
            work.first_page = effects.first_page
        work.report.count(name, effects.tally)
        probe.failures, probe.not_before = 0, None

    def _ages(self, page: PageVerdicts, fresh: set[str], now: datetime) -> Iterator[float]:
        """How old new rows are, in seconds; what was there before the connection was made is not late."""
        since = self._work.identity.created_at
        for row in (page.rows[name][0] for name in fresh):
            if since is None or row.date >= since:
                yield (now - row.date).total_seconds()

    def _context(self, probe: Probe) -> Context:
        return Context(
            self._work.policy,
            self._work.progress.streams[probe.stream.name],
            self._work.earliest,
            self._work.latest,
        )

    def _follow(self, stream: Stream, parent: str, unless: str | None = None) -> None:
        """Ask a child list if there is reason to; not again if its counter is still what it was read for."""
        work = self._work
        child = work.progress.children.get(stream.name, {}).get(parent)
        if child is not None and child.counter == unless:
            return
        if probe := self._planner.follow(work.picture, stream, parent, work.beamer_now):
            work.queue.add(probe)

    def plan_again(self, probe: Probe) -> None:
        """A list not begun yet is read by what was learnt since it was put into the queue."""
        work, pass_ = self._work, probe.list_pass
        child = work.progress.children.get(probe.stream.name, {}).get(probe.parent)
        if child is None or pass_ is None or pass_.pages or pass_.again or pass_.resumed:
            return
        if probe.thorough:
            parent = work.progress.parents[probe.stream.parent or ""][probe.parent]
            probe.list_pass = candidates.audit_probe(probe.stream, child, work.policy, parent.date).list_pass
            return
        planned = candidates.list_probe(work.picture, probe.stream, child, work.beamer_now)
        probe.list_pass = planned.list_pass

    def skip(self, probe: Probe) -> bool:
        """404: the parent was deleted while its children were waiting to be read. False if it has none.

        Whether it is gone the next check shows; if it is not, the list is still to be read.
        """
        work = self._work
        child = work.progress.children.get(probe.stream.name, {}).get(probe.parent)
        if child is None or (probe.list_pass and probe.list_pass.failures):
            return False
        work.report.skipped_parents += 1
        if probe.begun:
            # Its first page was shown: a page that is not there need not mean that the list is not.
            child = replace(child, cursor=failures.without(work, probe, patient=work.per_day is not None))
        else:
            child = backoff.failed(child, work.beamer_now, answered=True, at_least=backoff.UNKNOWN)
        failures.settle(work, probe.stream.name, child)
        work.queue.close(probe)
        return True

"""What came back: a page is judged, accepted in one transaction, and what follows from it is asked."""

from collections.abc import Callable
from dataclasses import replace

from connector.beamer.catalogue import Stream, children
from connector.beamer.door import Answer
from connector.errors import Transient
from connector.state.intake import Effects, Page
from connector.sync import counters, planner
from connector.sync.accepting import decide_block, decide_list
from connector.sync.looks import LookStep
from connector.sync.pages import JudgedPage, judged_page
from connector.sync.parents import Context
from connector.sync.probes import Probe
from connector.sync.sweeps import SweepStep
from connector.sync.work import Work


class Answers:
    """Accepts the answers of one run."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._titles: dict[tuple[str, str], str] = {}

    def accept(self, probe: Probe, answer: Answer) -> None:
        """Accept one page; raises Transient, or BadAnswer, where it is none."""
        work = self._work
        if answer.date:
            # Dates are judged by Beamer's clock, which may be off ours.
            work.ahead = answer.date - work.clock.now()
        if not isinstance(answer.body, list):
            raise Transient("Beamer's answer was not a list of rows.")
        if probe.stream.filtered:
            work.filters_settled(probe.ignore_filters)
        page = judged_page(answer.body, probe.stream, work.policy, work.beamer_now)
        if probe.look:
            self._block(probe, page)
        else:
            self._list(probe, page)

    def _list(self, probe: Probe, page: JudgedPage) -> None:
        stream, context = probe.stream, self._context(probe)
        child = self._work.progress.children.get(stream.name, {}).get(probe.parent)
        title = self._titles.get((stream.parent or "", probe.parent))
        steps: list[SweepStep] = []

        def decide(fresh: set[str], unusable: int) -> Effects:
            effects, step = decide_list(context, probe, page, child, title, fresh, unusable)
            steps[:] = [step]
            return effects

        self._write(probe, page, context, decide)
        if not steps[0].done:
            probe.sweep = steps[0].sweep
            self._work.agenda.first(probe)
            return
        self._work.agenda.close(probe)
        if child:
            self._follow(stream, probe.parent, unless=steps[0].sweep.began)

    def _block(self, probe: Probe, page: JudgedPage) -> None:
        work, stream, context = self._work, probe.stream, self._context(probe)
        known = work.progress.parents.setdefault(stream.name, {})
        below = [
            child for child in children(work.catalogue, stream.name) if child.name in work.policy.streams
        ]
        scopes = [(child, work.progress.streams[child.name].scope) for child in below]
        steps: list[LookStep] = []

        def decide(fresh: set[str], unusable: int) -> Effects:
            effects, step = decide_block(
                context, probe, page, known, work.progress.children, scopes, fresh, unusable
            )
            steps[:] = [step]
            return effects

        self._write(probe, page, context, decide)
        for row, _ in page.rows.values():
            if row.fields.get("title"):
                self._titles[(stream.name, row.id)] = row.fields["title"]
            for child in below:
                self._follow(child, row.id)
        if steps[0].next:
            probe.look = steps[0].next
            work.agenda.first(probe)
        else:
            work.agenda.close(probe)

    def _write(
        self,
        probe: Probe,
        page: JudgedPage,
        context: Context,
        decide: Callable[[set[str], int], Effects],
    ) -> None:
        """Accept a page in the store first, then in memory."""
        work, name = self._work, probe.stream.name
        here = Page(name, context.state.scope, probe.parent)
        effects = work.intake.accept(here, page.judged, page.rejected, decide, work.clock.now())
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

    def _context(self, probe: Probe) -> Context:
        return Context(
            self._work.policy, self._work.progress.streams[probe.stream.name], self._work.beamer_now
        )

    def _follow(self, stream: Stream, parent: str, unless: str | None = None) -> None:
        """Ask a child list whose counter has moved since it was last swept."""
        work = self._work
        child = work.progress.children.get(stream.name, {}).get(parent)
        if child is None or child.counter == unless or not counters.moved(child.counter, child.swept):
            return
        above = work.progress.parents[stream.parent or ""][parent]
        state = work.progress.streams[stream.name]
        work.agenda.add(planner.child_probe(stream, child, above.date, state, work.policy, work.first_page))

    def plan_again(self, probe: Probe) -> None:
        """A list not begun yet is read by what was learnt since it was put on the agenda."""
        work, sweep = self._work, probe.sweep
        child = work.progress.children.get(probe.stream.name, {}).get(probe.parent)
        if child is None or sweep is None or sweep.pages or sweep.resumed:
            return
        above = work.progress.parents[probe.stream.parent or ""][probe.parent]
        state = work.progress.streams[probe.stream.name]
        planned = planner.child_probe(probe.stream, child, above.date, state, work.policy, work.first_page)
        probe.sweep = planned.sweep

    def skip(self, probe: Probe) -> bool:
        """404: the parent was deleted while its children were waiting to be read. False if it has none."""
        work = self._work
        child = work.progress.children.get(probe.stream.name, {}).get(probe.parent)
        if child is None:
            return False
        work.report.skipped_parents += 1
        child = replace(child, swept=child.counter, place=None)
        work.intake.settle(child, work.clock.now())
        work.progress.children[probe.stream.name][probe.parent] = child
        work.agenda.close(probe)
        return True

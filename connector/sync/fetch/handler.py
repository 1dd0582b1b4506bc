"""Handle an answered page: verdicts, decision, writing, and what to request next."""

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime

import structlog

from connector.beamer.pagination import Answer
from connector.beamer.streams import CATALOGUE, Stream, children
from connector.domain.state import ChildState, Effects, NewRows, Page, ParentState
from connector.errors import Gone, Transient
from connector.state.page_writer import OpenPage
from connector.sync.context import RunState
from connector.sync.fetch import failures
from connector.sync.fetch.decisions import Context, decide_block, decide_list
from connector.sync.lists import backoff, count_windows, counters
from connector.sync.lists.count_windows import Window
from connector.sync.planning import candidates
from connector.sync.planning.planner import Planner
from connector.sync.planning.probes import Job, Probe
from connector.sync.rows.pages import PageVerdicts, judge_page

log = structlog.get_logger()


class PageHandler:
    """Accepts the pages of one run."""

    def __init__(self, run: RunState, planner: Planner) -> None:
        self._run = run
        self._planner = planner
        self._titles: dict[tuple[str, str], str] = {}

    def accept(self, job: Job, answer: Answer) -> None:
        """Accept one page; raises Transient, or BadAnswer, if the answer is not a page."""
        run, probe = self._run, job.probe
        if probe.counts:
            self._accept_count(job, answer)
            return
        if not isinstance(answer.body, list):
            raise Transient("Beamer's answer was not a list of rows.")
        if probe.stream.filtered:
            run.filters_settled(job.ignore_filters)
        page = judge_page(answer.body, probe.stream, run.policy, run.earliest)
        if probe.check:
            self._accept_block(job, page)
        else:
            self._accept_list(job, page)

    # --- the audit ---

    def _accept_count(self, job: Job, answer: Answer) -> None:
        """Compare a count with the stored rows; if they differ, halve the window until it is small enough."""
        run, probe = self._run, job.probe
        count = counters.counted(answer.body)
        if probe.window is None or count is None:
            # It would be the same next time: the audit skips it, as if the count were unknown (404).
            raise Gone("Beamer's answer was not a count.")
        state = run.progress.streams[probe.stream.name]
        run.queue.close(job)
        run.report.audited[probe.stream.name] += 1
        parts = candidates.behind_count(probe, probe.window, count, run.writer.held(state.scope))
        self._keep_windows(probe, probe.window, parts)
        for part in parts:
            run.queue.put_first(Job(part))

    def _keep_windows(self, probe: Probe, done: Window, parts: Sequence[Probe] = ()) -> None:
        """Store what is left of an audit by counts for the next run; at its end, the time of the end."""
        run = self._run
        state = run.progress.streams[probe.stream.name]
        stored_round = count_windows.restore(state.windows, run.policy.start)
        audit = count_windows.Round(thorough=probe.thorough) if probe.whole else stored_round
        left = [
            count_windows.Left(part.window, part.list_pass.plan.counted if part.list_pass else None)
            for part in parts
            if part.window
        ]
        text = audit.after(done, left).dump()
        ended = state.audited_at if text else run.beamer_now
        run.keep_stream(replace(state, windows=text, audited_at=ended))

    def _note_audited(self, probe: Probe) -> None:
        """Note that a list, or a window, was completely read again; new rows in it were missing."""
        run, stream = self._run, probe.stream.name
        if not probe.audit or probe.list_pass is None:
            return
        run.report.audited[stream] += not probe.window
        if missing := probe.list_pass.progress.new_rows:
            run.report.missing[stream] += missing
            log.warning("audit_found_missing", stream=stream, parent=probe.parent, rows=missing)
        if probe.window:
            self._keep_windows(probe, probe.window)
        if probe.window and probe.window.single and (counted := probe.list_pass.plan.counted) is not None:
            scope = run.progress.streams[stream].scope
            run.writer.recount(scope, probe.window.first, counted, run.clock.now())

    # --- a page of a child list, or of a list without parents ---

    def _accept_list(self, job: Job, page: PageVerdicts) -> None:
        run, probe, context = self._run, job.probe, self._context(job)
        stream = probe.stream
        child = run.progress.child(stream.name, probe.parent)
        title = self._titles.get((stream.parent or "", probe.parent))
        page = self._without_moved(probe, page, child, context)
        with self._open(probe, page, context) as open_page:
            effects, step = decide_list(context, job, page, child, title, open_page.new, self._seen_at(probe))
            open_page.write(effects)
        self._written(job, page, open_page.new, effects, context)
        job.go_on(step.list_pass)
        if not step.done:
            if not failures.leave_at_bound(run, job):
                run.queue.put_first(job)
            return
        run.queue.close(job)
        self._note_audited(job.probe)
        run.hints_read(effects.hints)
        if child and not step.list_pass.hole:
            self._follow(stream, probe.parent, unless=step.list_pass.plan.counter)
        self._request_hole(probe)

    def _seen_at(self, probe: Probe) -> datetime | None:
        """Return when the counter of a list was last seen."""
        parent = self._run.progress.parents.get(probe.stream.parent or "", {}).get(probe.parent)
        return parent.checked_at if parent else None

    def _request_hole(self, probe: Probe) -> None:
        """After a list, request a failed part of it again if its backoff is over."""
        run, name = self._run, probe.stream.name
        child = run.progress.child(name, probe.parent)
        cursor = child.cursor if child else run.progress.streams[name].cursor
        if probe.window or cursor is None:
            return
        hole = candidates.hole_probe(probe.stream, cursor, probe.parent)
        if hole.required_pass.hole and hole.required_pass.part.ready(run.beamer_now):
            run.queue.add(replace(hole, priority=probe.priority, tier=probe.tier, overdue=probe.overdue))

    def _without_moved(
        self, probe: Probe, page: PageVerdicts, child: ChildState | None, context: Context
    ) -> PageVerdicts:
        """Return the page with those rows marked that were moved here from another parent.

        Only rows that are too old for this list are looked up: older than its last reading, or than the
        parent if it was never read.
        """
        parent = self._run.progress.parents.get(probe.stream.parent or "", {}).get(probe.parent)
        if child is None or parent is None:
            return page
        since = child.read_at if child.read_counter is not None and child.read_at else parent.date
        page_key = Page(probe.stream.name, context.state.scope, probe.parent)
        return page.without(self._run.writer.moved(page_key, page.dated_before(since)))

    # --- a page of parents ---

    def _accept_block(self, job: Job, page: PageVerdicts) -> None:
        run, probe, context = self._run, job.probe, self._context(job)
        stream, child_streams = probe.stream, self._counted_on(probe.stream)
        known, lists = run.progress.parents.get(stream.name, {}), run.progress.children
        parents_before = {name: known[name] for name in page.parents if name in known}
        lists_before = {
            child.name: {
                name: state for name in parents_before if (state := run.progress.child(child.name, name))
            }
            for child in child_streams
        }
        scopes = [(child, run.progress.streams[child.name].scope) for child in child_streams]
        with self._open(probe, page, context) as open_page:
            effects, step = decide_block(context, job, page, known, lists, scopes, open_page.new)
            open_page.write(effects)
        self._written(job, page, open_page.new, effects, context)
        self._observe(child_streams, parents_before, lists_before)
        for name in page.parents:
            if name in page.rows and (title := page.rows[name][0].fields.get("title")):
                self._titles[(stream.name, name)] = title
            for child in run.inputs.child_streams(stream):
                self._follow(child, name)
        # What follows may be what these hints announced.
        run.hints_read(effects.hints)
        if step.next is None:
            run.queue.close(job)
            return
        # It has started: the requests that it waited for are available.
        job.probe = replace(probe, check=step.next, needs=1.0)
        if failures.leave_at_bound(run, job):
            return
        if step.next.cursor.behind_short or job.further_requests:
            # A check that starts anew in each run would never be finished.
            run.queue.put_first(job)
        else:
            job.probe = self._planner.onward(run.inputs, job.probe, run.beamer_now)
            run.queue.put(job)

    def _counted_on(self, stream: Stream) -> Sequence[Stream]:
        """Return the child streams whose counters are stored.

        A run may be limited to one of them; the check counts for the others as well.
        """
        run = self._run
        child_streams = children({**CATALOGUE, **run.catalogue}, stream.name)
        return [
            child for child in child_streams if child.name in run.policy.streams & run.progress.streams.keys()
        ]

    def _observe(
        self,
        child_streams: Sequence[Stream],
        parents: Mapping[str, ParentState],
        lists: Mapping[str, Mapping[str, ChildState]],
    ) -> None:
        """Note how many rows came at each list since its parent was seen before."""
        run = self._run
        for stream in child_streams:
            for name, parent in parents.items():
                if (child := lists[stream.name].get(name)) and not parent.gone:
                    after = run.progress.children[stream.name][name]
                    run.observations.note(stream.name, parent, child, after, run.beamer_now)

    # --- any page ---

    def _open(self, probe: Probe, page: PageVerdicts, context: Context) -> AbstractContextManager[OpenPage]:
        page_key = Page(probe.stream.name, context.state.scope, probe.parent)
        return self._run.writer.page(page_key, page.row_verdicts, page.rejected, self._run.clock.now())

    def _written(
        self, job: Job, page: PageVerdicts, new: NewRows, effects: Effects, context: Context
    ) -> None:
        """Update the state in memory as in the database."""
        run = self._run
        run.report.late.note(self._ages(page, new.ids, context.now))
        run.page_written(job.probe.stream.name, effects)
        job.recovered()

    def _ages(self, page: PageVerdicts, new_ids: Set[str], now: datetime) -> Iterator[float]:
        """Yield the delays of new rows, in seconds; rows from before the connection are not late."""
        since = self._run.identity.created_at
        for row in (page.rows[name][0] for name in new_ids):
            if since is None or row.date >= since:
                yield (now - row.date).total_seconds()

    def _context(self, job: Job) -> Context:
        run = self._run
        state, limited = run.progress.streams[job.probe.stream.name], run.per_day is not None
        hinted = {name for name, stream in run.progress.streams.items() if limited and stream.hint_share}
        return Context(run.policy, state, run.earliest, run.latest, limited, run.hints, hinted)

    def _follow(self, stream: Stream, parent: str, unless: str | None = None) -> None:
        """Queue a child list if there is reason to, unless its counter is that of its last reading."""
        run = self._run
        child = run.progress.child(stream.name, parent)
        if child is not None and child.counter == unless:
            return
        if probe := self._planner.follow(run.inputs, stream, parent, run.beamer_now):
            run.queue.add(probe)

    # --- before a request, and instead of a page ---

    def plan_again(self, job: Job) -> None:
        """Plan a list not begun yet by what was learnt since it was put into the queue."""
        run, probe = self._run, job.probe
        child = run.progress.child(probe.stream.name, probe.parent)
        progress = probe.list_pass.progress if probe.list_pass else None
        if child is None or progress is None or progress.pages or progress.restarts or progress.resumed:
            return
        if probe.thorough:
            parent = run.progress.parents[probe.stream.parent or ""][probe.parent]
            planned = candidates.audit_probe(probe.stream, child, run.policy, parent.date)
        else:
            planned = candidates.list_probe(
                run.inputs, probe.stream, child, run.beamer_now, hinted=probe.hinted
            )
        job.go_on(planned.required_pass)

    def skip(self, job: Job) -> bool:
        """Handle 404: the parent was deleted while its child list waited. Return False if it has none.

        The next check shows whether it is gone; if it is not, the list is read later.
        """
        run, probe = self._run, job.probe
        child = run.progress.child(probe.stream.name, probe.parent)
        if child is None or (probe.list_pass and probe.list_pass.part.failures):
            return False
        run.report.skipped_parents += 1
        if probe.begun:
            # Its first page was shown: a missing later page does not mean that the list is missing.
            child = replace(child, cursor=failures.without(run, job, patient=run.per_day is not None))
        else:
            child = backoff.failed(child, run.beamer_now, answered=True, at_least=backoff.UNKNOWN)
        run.keep_list(probe.stream.name, child)
        run.queue.close(job)
        return True

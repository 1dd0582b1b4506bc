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

    def __init__(self, work: RunState, planner: Planner) -> None:
        self._work = work
        self._planner = planner
        self._titles: dict[tuple[str, str], str] = {}

    def accept(self, job: Job, answer: Answer) -> None:
        """Accept one page; raises Transient, or BadAnswer, if the answer is not a page."""
        work, probe = self._work, job.probe
        if probe.counts:
            self._accept_count(job, answer)
            return
        if not isinstance(answer.body, list):
            raise Transient("Beamer's answer was not a list of rows.")
        if probe.stream.filtered:
            work.filters_settled(job.ignore_filters)
        page = judge_page(answer.body, probe.stream, work.policy, work.earliest)
        if probe.check:
            self._accept_block(job, page)
        else:
            self._accept_list(job, page)

    # --- the audit ---

    def _accept_count(self, job: Job, answer: Answer) -> None:
        """Compare a count with the stored rows; if they differ, halve the window until it is small enough."""
        work, probe = self._work, job.probe
        count = counters.counted(answer.body)
        if probe.window is None or count is None:
            # It would be the same next time: the audit skips it, as if the count were unknown (404).
            raise Gone("Beamer's answer was not a count.")
        state = work.progress.streams[probe.stream.name]
        work.queue.close(job)
        work.report.audited[probe.stream.name] += 1
        parts = candidates.behind_count(probe, probe.window, count, work.writer.held(state.scope))
        self._keep_windows(probe, probe.window, parts)
        for part in parts:
            work.queue.put_first(Job(part))

    def _keep_windows(self, probe: Probe, done: Window, parts: Sequence[Probe] = ()) -> None:
        """Store what is left of an audit by counts for the next run; at its end, the time of the end."""
        work = self._work
        state = work.progress.streams[probe.stream.name]
        stored_round = count_windows.restore(state.windows, work.policy.start)
        audit = count_windows.Round(thorough=probe.thorough) if probe.whole else stored_round
        left = [
            count_windows.Left(part.window, part.list_pass.counted if part.list_pass else None)
            for part in parts
            if part.window
        ]
        text = audit.after(done, left).dump()
        ended = state.audited_at if text else work.beamer_now
        work.keep_stream(replace(state, windows=text, audited_at=ended))

    def _note_audited(self, probe: Probe) -> None:
        """Note that a list, or a window, was completely read again; new rows in it were missing."""
        work, stream = self._work, probe.stream.name
        if not probe.audit or probe.list_pass is None:
            return
        work.report.audited[stream] += not probe.window
        if missing := probe.list_pass.new_rows:
            work.report.missing[stream] += missing
            log.warning("audit_found_missing", stream=stream, parent=probe.parent, rows=missing)
        if probe.window:
            self._keep_windows(probe, probe.window)
        if probe.window and probe.window.single and probe.list_pass.counted is not None:
            scope = work.progress.streams[stream].scope
            work.writer.recount(scope, probe.window.first, probe.list_pass.counted, work.clock.now())

    # --- a page of a child list, or of a list without parents ---

    def _accept_list(self, job: Job, page: PageVerdicts) -> None:
        work, probe, context = self._work, job.probe, self._context(job)
        stream = probe.stream
        child = work.progress.child(stream.name, probe.parent)
        title = self._titles.get((stream.parent or "", probe.parent))
        page = self._without_moved(probe, page, child, context)
        with self._open(probe, page, context) as open_page:
            effects, step = decide_list(context, job, page, child, title, open_page.new, self._seen_at(probe))
            open_page.write(effects)
        self._written(job, page, open_page.new, effects, context)
        job.go_on(step.list_pass)
        if not step.done:
            if not failures.leave_at_bound(work, job):
                work.queue.put_first(job)
            return
        work.queue.close(job)
        self._note_audited(job.probe)
        work.hints_read(effects.hints)
        if child and not step.list_pass.hole:
            self._follow(stream, probe.parent, unless=step.list_pass.counter)
        self._request_hole(probe)

    def _seen_at(self, probe: Probe) -> datetime | None:
        """Return when the counter of a list was last seen."""
        parent = self._work.progress.parents.get(probe.stream.parent or "", {}).get(probe.parent)
        return parent.checked_at if parent else None

    def _request_hole(self, probe: Probe) -> None:
        """After a list, request a failed part of it again if its backoff is over."""
        work, name = self._work, probe.stream.name
        child = work.progress.child(name, probe.parent)
        cursor = child.cursor if child else work.progress.streams[name].cursor
        if probe.window or cursor is None:
            return
        hole = candidates.hole_probe(probe.stream, cursor, probe.parent)
        if hole.required_pass.hole and hole.required_pass.part.ready(work.beamer_now):
            work.queue.add(replace(hole, priority=probe.priority, turn=probe.turn, overdue=probe.overdue))

    def _without_moved(
        self, probe: Probe, page: PageVerdicts, child: ChildState | None, context: Context
    ) -> PageVerdicts:
        """Return the page with those rows marked that were moved here from another parent.

        Only rows that are too old for this list are looked up: older than its last reading, or than the
        parent if it was never read.
        """
        parent = self._work.progress.parents.get(probe.stream.parent or "", {}).get(probe.parent)
        if child is None or parent is None:
            return page
        since = child.read_at if child.read_counter is not None and child.read_at else parent.date
        page_key = Page(probe.stream.name, context.state.scope, probe.parent)
        return page.without(self._work.writer.moved(page_key, page.dated_before(since)))

    # --- a page of parents ---

    def _accept_block(self, job: Job, page: PageVerdicts) -> None:
        work, probe, context = self._work, job.probe, self._context(job)
        stream, child_streams = probe.stream, self._counted_on(probe.stream)
        known, lists = work.progress.parents.get(stream.name, {}), work.progress.children
        parents_before = {name: known[name] for name in page.parents if name in known}
        lists_before = {
            child.name: {
                name: state for name in parents_before if (state := work.progress.child(child.name, name))
            }
            for child in child_streams
        }
        scopes = [(child, work.progress.streams[child.name].scope) for child in child_streams]
        with self._open(probe, page, context) as open_page:
            effects, step = decide_block(context, job, page, known, lists, scopes, open_page.new)
            open_page.write(effects)
        self._written(job, page, open_page.new, effects, context)
        self._observe(child_streams, parents_before, lists_before)
        for name in page.parents:
            if name in page.rows and (title := page.rows[name][0].fields.get("title")):
                self._titles[(stream.name, name)] = title
            for child in work.picture.child_streams(stream):
                self._follow(child, name)
        # What follows may be what these hints announced.
        work.hints_read(effects.hints)
        if step.next is None:
            work.queue.close(job)
            return
        # It has started: the requests that it waited for are available.
        job.probe = replace(probe, check=step.next, needs=1.0)
        if failures.leave_at_bound(work, job):
            return
        if step.next.cursor.behind_short or job.further_requests:
            # A check that starts anew in each run would never be finished.
            work.queue.put_first(job)
        else:
            job.probe = self._planner.onward(work.picture, job.probe, work.beamer_now)
            work.queue.put(job)

    def _counted_on(self, stream: Stream) -> Sequence[Stream]:
        """Return the child streams whose counters are stored.

        A run may be limited to one of them; the check counts for the others as well.
        """
        work = self._work
        child_streams = children({**CATALOGUE, **work.catalogue}, stream.name)
        return [
            child
            for child in child_streams
            if child.name in work.policy.streams & work.progress.streams.keys()
        ]

    def _observe(
        self,
        child_streams: Sequence[Stream],
        parents: Mapping[str, ParentState],
        lists: Mapping[str, Mapping[str, ChildState]],
    ) -> None:
        """Note how many rows came at each list since its parent was seen before."""
        work = self._work
        for stream in child_streams:
            for name, parent in parents.items():
                if (child := lists[stream.name].get(name)) and not parent.gone:
                    after = work.progress.children[stream.name][name]
                    work.observations.note(stream.name, parent, child, after, work.beamer_now)

    # --- any page ---

    def _open(self, probe: Probe, page: PageVerdicts, context: Context) -> AbstractContextManager[OpenPage]:
        page_key = Page(probe.stream.name, context.state.scope, probe.parent)
        return self._work.writer.page(page_key, page.row_verdicts, page.rejected, self._work.clock.now())

    def _written(
        self, job: Job, page: PageVerdicts, new: NewRows, effects: Effects, context: Context
    ) -> None:
        """Update the state in memory as in the database."""
        work = self._work
        work.report.late.note(self._ages(page, new.ids, context.now))
        work.page_written(job.probe.stream.name, effects)
        job.recovered()

    def _ages(self, page: PageVerdicts, new_ids: Set[str], now: datetime) -> Iterator[float]:
        """Yield the delays of new rows, in seconds; rows from before the connection are not late."""
        since = self._work.identity.created_at
        for row in (page.rows[name][0] for name in new_ids):
            if since is None or row.date >= since:
                yield (now - row.date).total_seconds()

    def _context(self, job: Job) -> Context:
        work = self._work
        state, limited = work.progress.streams[job.probe.stream.name], work.per_day is not None
        hinted = {name for name, other in work.progress.streams.items() if limited and other.hint_share}
        return Context(work.policy, state, work.earliest, work.latest, limited, work.hints, hinted)

    def _follow(self, stream: Stream, parent: str, unless: str | None = None) -> None:
        """Queue a child list if there is reason to, unless its counter is that of its last reading."""
        work = self._work
        child = work.progress.child(stream.name, parent)
        if child is not None and child.counter == unless:
            return
        if probe := self._planner.follow(work.picture, stream, parent, work.beamer_now):
            work.queue.add(probe)

    # --- before a request, and instead of a page ---

    def plan_again(self, job: Job) -> None:
        """Plan a waiting list again by what was learnt since it was put into the queue."""
        work, probe = self._work, job.probe
        child, list_pass = work.progress.child(probe.stream.name, probe.parent), probe.list_pass
        if child is None or list_pass is None or list_pass.pages or list_pass.restarts or list_pass.resumed:
            return
        if probe.thorough:
            parent = work.progress.parents[probe.stream.parent or ""][probe.parent]
            planned = candidates.audit_probe(probe.stream, child, work.policy, parent.date)
        else:
            planned = candidates.list_probe(
                work.picture, probe.stream, child, work.beamer_now, hinted=probe.hinted
            )
        job.go_on(planned.required_pass)

    def skip(self, job: Job) -> bool:
        """Handle 404: the parent was deleted while its child list waited. Return False if it has none.

        The next check shows whether it is gone; if it is not, the list is read later.
        """
        work, probe = self._work, job.probe
        child = work.progress.child(probe.stream.name, probe.parent)
        if child is None or (probe.list_pass and probe.list_pass.failures):
            return False
        work.report.skipped_parents += 1
        if probe.begun:
            # Its first page was shown: a missing later page does not mean that the list is missing.
            child = replace(child, cursor=failures.without(work, job, patient=work.per_day is not None))
        else:
            child = backoff.failed(child, work.beamer_now, answered=True, at_least=backoff.UNKNOWN)
        work.keep_list(probe.stream.name, child)
        work.queue.close(job)
        return True

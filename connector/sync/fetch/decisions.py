"""Decide what a page changes, from plain data, before anything is written."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from connector.beamer.pagination import Habits
from connector.beamer.streams import Stream
from connector.domain.hints import ANYWHERE, Hint, Hints, ReadHint, title_digest
from connector.domain.period import SECOND, day_of
from connector.domain.state import ChildState, Effects, NewRows, ParentState, StreamState, Verdict
from connector.segment.shaping import Fact, plain
from connector.sync.lists import backoff, blocks, counter_trust, counters, passes, stored_pass
from connector.sync.lists.blocks import BlockCheck, CheckStep
from connector.sync.lists.passes import Depth, ListPass, PassKind, PassStep
from connector.sync.planning import arrival, estimates
from connector.sync.planning.arrival import faded
from connector.sync.planning.probes import NO_PARENT, Job, Probe
from connector.sync.policy import Policy
from connector.sync.rows import judging
from connector.sync.rows.judging import is_forgotten
from connector.sync.rows.pages import PageVerdicts, enqueue, enqueue_changes

METRICS = ("views", "unique_views", "clicks")


@dataclass(slots=True)
class Context:
    """What a decision depends on: settings, the stream's state, and Beamer's time.

    `latest`: a later date is in the future by this machine's clock, too, and is sent as this one.
    `limited`: by a monthly limit. `hints` announced rows; under a limit, most rows of `hinted` streams are.
    """

    policy: Policy
    state: StreamState
    now: datetime
    latest: datetime
    limited: bool = False
    hints: Hints = field(default_factory=dict)
    hinted: Set[str] = frozenset()

    def hint(self, stream: str, parent: str) -> Hint | None:
        return self.hints.get(stream, {}).get(parent)


def parent_after(
    before: ParentState | None, row: Any, context: Context, stream: Stream
) -> tuple[ParentState, list[Fact]]:
    status, now = _status(row), context.now
    # Texts of users are not stored, and webhooks name posts only.
    title = None if stream.by_user else title_digest(row.fields.get("title") or "")
    if before is None:
        after = ParentState(
            row.id, row.date, status, metrics=_metrics(row), known_at=now, checked_at=now, proved_at=now
        )
        return replace(after, title=title), []
    after = replace(backoff.recovered(before), date=row.date, gone=False, checked_at=now, title=title)
    facts: list[Fact] = []
    sent = stream.name in context.policy.streams
    if status:
        # Where status changes are not sent, one check is enough.
        after = judging.after(after, status) if sent else replace(after, status=status)
        if before.status and before.status != after.status and sent and not is_forgotten(row, context.policy):
            after = replace(after, changes=after.changes + 1)
            fields = {**row.fields, "previous_status": before.status}
            facts.append(Fact("status", row.id, NO_PARENT, context.now, fields, after.changes))
    if context.policy.metrics and sent and row.date >= context.policy.start:
        after, more = _metrics_after(after, row, context)
        facts += more
    return after, facts


def parent_by_id(
    before: ParentState | None, name: str, date: datetime | None, check: BlockCheck, now: datetime
) -> ParentState:
    """Return a parent whose row is unusable except for its id: its child lists are read nevertheless.

    It keeps its date as long as its block shows it.
    """
    if before is not None and not before.gone:
        return replace(backoff.recovered(before), checked_at=now)
    # On a page without a date, any date in the block will do.
    until = check.block.until
    date = date or (min(now, until - SECOND) if until else now)
    if before is None:
        return ParentState(name, date, known_at=now, checked_at=now, proved_at=now)
    return replace(backoff.recovered(before), date=date, gone=False, checked_at=now)


def _status(row: Any) -> str | None:
    # As much as the database stores; PostgreSQL refuses NUL and lone surrogates in text.
    status = row.fields.get("status")
    return plain(status)[:100] if status else None


def _metrics(row: Any) -> str | None:
    values = [row.fields.get(name) for name in METRICS]
    return None if None in values else ",".join(map(str, values))


def _metrics_after(before: ParentState, row: Any, context: Context) -> tuple[ParentState, list[Fact]]:
    """Return totals that have changed, at most once per post and UTC day.

    A lagging copy of Beamer's data shows lower totals: they are believed after a whole day.
    """
    metrics, day = _metrics(row), context.now.toordinal()
    if metrics is None or metrics == before.metrics:
        return before, []
    # A stored day after today comes from a clock that was ahead: wait for one day, not for a later one.
    if before.metrics_day is not None and 0 <= before.metrics_day - day <= 1:
        return before, []
    if before.metrics_day is not None and day == before.metrics_day + 1 and _fell(before.metrics, metrics):
        return before, []
    after = replace(before, metrics=metrics, metrics_day=day, changes=before.changes + 1)
    old = dict(zip(METRICS, map(int, before.metrics.split(",")), strict=True)) if before.metrics else {}
    change = {f"{name}_change": row.fields[name] - old[name] for name in METRICS if name in old}
    fact = Fact("metrics", row.id, NO_PARENT, context.now, {**row.fields, **change}, after.changes)
    return after, [fact]


def _fell(before: str | None, metrics: str) -> bool:
    """Return whether any total is lower than before."""
    pairs = zip((before or metrics).split(","), metrics.split(","), strict=False)
    return any(int(now) < int(was) for was, now in pairs)


def counter_after(
    child: ChildState | None,
    scope: int,
    parent: str,
    counter: str,
    before: datetime | None,
    now: datetime,
    *,
    nothing: bool = False,
) -> ChildState:
    """Return a child list after a check of its parent; `before` is when the parent was seen last.

    An empty list counts as read, and so does one in which `nothing` can be sent.
    """
    if child is None:
        empty = nothing or not counters.moved(counter, None)
        read_counter, at = (counter, now) if empty else (None, None)
        return ChildState(scope, parent, counter, read_counter=read_counter, read_at=at)
    if child.counter == counter:
        return child
    rise = counters.risen(counter, child.counter)
    lately = faded(child.recent, child.recent_at, now)
    read_counter = None if child.read_counter is None else counters.lowered(child.read_counter, counter)
    fell = child.fell or read_counter != child.read_counter
    return replace(
        child,
        counter=counter,
        read_counter=read_counter,
        fell=fell,
        recent=lately + rise,
        recent_at=now,
        waits_since=_waits_since(child, counter, before or now, now),
    )


# A new list with so few expected rows since the start date is left to the audit.
NO_HISTORY = 0.01


def _nothing_since(counter: str, date: datetime | None, context: Context) -> bool:
    """Return whether a list has hardly a row since the start date; at the first sync, most have none.

    Assumes an even rate of rows; in fact most arrive while a post is young.
    """
    start, now = context.policy.start, context.now
    if not context.limited or date is None or date >= start or counters.UNKNOWN in counter:
        return False
    since, age = max(now - start, timedelta(0)), max(now - date, SECOND)
    return counters.total(counter) * (since / age) < NO_HISTORY


def _waits_since(child: ChildState, counter: str, before: datetime, now: datetime) -> datetime | None:
    """Return when the first waiting row appeared: about halfway between the two checks.

    None if no row waits: the counter only fell, or now includes rows that were read before. If it still
    does not include them one check later, it never will; a further rise then means a new row.
    """
    rise = counters.risen(counter, child.counter)
    caught_up = child.read_counter is not None and counters.risen(counter, child.read_counter) <= child.early
    if not rise or (caught_up and child.read_at is not None and child.read_at >= before):
        return child.waits_since
    return child.waits_since or now - (now - before) / 2


def gone(
    step: CheckStep, probe: Probe, known: Mapping[str, ParentState], just_seen: set[str]
) -> list[ParentState]:
    """Return parents that their window no longer shows: deleted or hidden, until they are seen again."""
    missing = [known[name] for name in step.missing if name in known and name not in just_seen]
    # A parent with a changed date is shown in another window.
    return [
        replace(parent, gone=True) for parent in missing if probe.required_check.block.covers(parent.date)
    ]


def proved(
    probe: Probe, known: Mapping[str, ParentState], changed: Iterable[ParentState], now: datetime
) -> list[ParentState]:
    """Return the parents of a window that was read to its end; `changed` by its last page."""
    check = probe.required_check
    mine = {name: known[name] for name in {*check.block.members, *check.seen_ids} if name in known}
    mine |= {parent.id: parent for parent in changed}
    return [replace(parent, proved_at=now) for parent in mine.values()]


def tally(page: PageVerdicts, new: NewRows, effects: Effects) -> Counter[str]:
    """Count the verdicts on a page's rows."""
    counts = Counter(
        {
            "rows": len(new.ids),
            "events": len(effects.events),
            "quarantined": new.quarantined + len(effects.rejected),
        }
    )
    counts.update(verdict.label for verdict in page.unsent(new.ids))
    return +counts


def first_page_of(habits: Habits, habits_before: Habits) -> int | None:
    """Return the number of a list's first page, if this answer has shown it."""
    return habits.first_page if habits_before.first_page is None else None


def learnt(
    state: StreamState,
    page: PageVerdicts,
    new: NewRows,
    habits: Habits,
    habits_before: Habits,
    effects: Effects,
) -> StreamState:
    """Return the stream's state after a page: its list's behaviour, and the share of rows that are sent."""
    effects.first_page = first_page_of(habits, habits_before)
    # Rows of a disabled stream say nothing: they may be sent as soon as it is enabled.
    silent = (Verdict.STREAM_OFF, Verdict.MOVED)
    counted = [verdict for verdict in page.verdicts(new.ids) if verdict not in silent]
    sent = counted.count(Verdict.EVENT)
    state = estimates.with_sent(state, sent, len(counted) - sent)
    return replace(
        state,
        list_order=str(habits.order),
        short_ends=habits.short_ends,
        page_rows=habits.page_rows,
    )


def decide_list(
    context: Context,
    job: Job,
    page: PageVerdicts,
    child: ChildState | None,
    title: str | None,
    new: NewRows,
    seen_at: datetime | None = None,
) -> tuple[Effects, PassStep]:
    """Decide a page of a child list, its counter last seen at `seen_at`, or of a list without parents."""
    effects, probe, habits = Effects(), job.probe, job.habits
    enqueue(effects, page.events(new.ids), probe.stream, probe.parent, context.policy, context.latest, title)
    effects.tally = tally(page, new, effects)
    seen = passes.PassPage(page.seen, len(new.ids), page.waits, new.quarantined, len(page.rejected))
    step = passes.after_page(probe.required_pass, seen, habits, probe.stream.cap, context.now)
    state = learnt(context.state, page, new, step.habits, habits, effects)
    if step.done and not (step.list_pass.hole or probe.window):
        state = _with_hint(state, child, step.list_pass, probe, context, effects)
    if child is not None:
        after = _child_after(child, step, context, seen_at)
        effects.children.append(after)
        effects.ahead = after.surplus - child.surplus
        if step.done and not step.list_pass.hole:
            state = counter_trust.after_pass(state, step.list_pass, child, after)
            state = counter_trust.with_late_share(state, child, step.list_pass)
        effects.stream = state if state != context.state else None
        return effects, step
    effects.days = Counter(day_of(page.rows[name][0].date) for name in new.ids)
    # A day that the audit reads again does not move the watermark.
    effects.stream = state if probe.window else _dated_after(state, step, context)
    return effects, step


def _with_hint(
    state: StreamState,
    child: ChildState | None,
    pass_: ListPass,
    probe: Probe,
    context: Context,
    effects: Effects,
) -> StreamState:
    """Note that a list with a hint was read; return the stream with its share of announced rows."""
    # Of a resumed pass, the newest rows may have been read before the hint came.
    all_new, unsettled = pass_.progress.all_new, pass_.progress.unsettled
    hint = None if pass_.progress.resumed else context.hint(probe.stream.name, probe.parent)
    announced = min(hint.count, all_new) if hint else 0
    if hint:
        read = ReadHint(probe.stream.name, probe.parent, hint.count, announced)
        if unsettled:
            after = context.policy.nps_settle - (context.now - unsettled)
            read = replace(read, left=hint.count - announced, after=after)
        effects.hints.append(read)
    # No hint announces rows from before the first reading.
    first = state.checked_at is None if child is None else child.read_counter is None
    return state if first else estimates.with_hinted(state, announced, all_new)


def _child_after(child: ChildState, step: PassStep, context: Context, seen_at: datetime | None) -> ChildState:
    pass_, now, child = step.list_pass, context.now, backoff.recovered(child)
    if not step.done:
        return replace(child, cursor=stored_pass.dump(pass_))
    left = stored_pass.left_of(pass_, now)
    if pass_.hole:
        return replace(child, cursor=left)
    # Rows older than the start date do not matter.
    shallow, counter, low = pass_.depth is Depth.SHALLOW, pass_.plan.counter, pass_.part.low
    whole = not (shallow or left) and (low is None or low <= context.policy.start)
    surplus, short_since = counter_trust.after_reading(child, pass_, context.state, now)
    # A pass with a hint that was not resumed has its own cursor.
    if left or (child.cursor and (pass_.progress.resumed or pass_.plan.kind is not PassKind.HINTED)):
        # Rows of a part that failed before are old; they are not ahead of their counter.
        surplus = min(surplus, max(0, child.surplus))
    announced = counter_trust.missing_rows(child) + (
        counters.risen(counter, child.read_counter) if child.read_counter else 0
    )
    ahead = 0 if child.read_counter is None else max(0, pass_.progress.new_rows - announced)
    if seen_at and child.read_at and child.read_at >= seen_at:
        # Because of hints, it was read more than once since its counter was seen.
        ahead += child.early
    return replace(
        child,
        cursor=left,
        read_counter=counter,
        surplus=surplus,
        short_since=short_since,
        # The lookback counts from its last complete pass: shallow passes must not skip a late row.
        watermark=child.watermark if shallow else passes.watermark_after(pass_, child.watermark, now),
        read_at=now,
        early=ahead,
        fell=False,
        deep_at=child.deep_at if shallow else now,
        whole_at=now if whole else child.whole_at,
        waits_since=None if child.counter == counter else now,
    )


def _dated_after(state: StreamState, step: PassStep, context: Context) -> StreamState:
    state = backoff.recovered(state)
    if not step.done:
        return replace(state, cursor=stored_pass.dump(step.list_pass))
    left = stored_pass.left_of(step.list_pass, context.now)
    if step.list_pass.hole:
        return replace(state, cursor=left)
    mark = passes.watermark_after(step.list_pass, state.watermark, context.now)
    if state.checked_at is None:
        recent = step.list_pass.progress.all_new * arrival.remembered(context.now - context.policy.start)
    else:
        recent = arrival.faded(state.recent, state.checked_at, context.now) + step.list_pass.progress.all_new
    return replace(state, cursor=left, watermark=mark, complete=True, checked_at=context.now, recent=recent)


def decide_block(
    context: Context,
    job: Job,
    page: PageVerdicts,
    known: Mapping[str, ParentState],
    lists: Mapping[str, Mapping[str, ChildState]],
    child_streams: Sequence[tuple[Stream, int]],
    new: NewRows,
) -> tuple[Effects, CheckStep]:
    """Decide a page of parents: `known` parents and their child `lists` are as they were before it."""
    effects, probe, habits = Effects(), job.probe, job.habits
    check = probe.required_check
    enqueue(effects, page.events(new.ids), probe.stream, NO_PARENT, context.policy, context.latest)
    for name, (date, raw) in page.parents.items():
        before = known.get(name)
        if before and (name in check.block.also or name in check.seen_ids):
            # Only its own block decides about it: a status on two pages of one run was not seen twice.
            after = replace(before, checked_at=context.now)
        elif name in page.rows:
            after, facts = parent_after(before, page.rows[name][0], context, probe.stream)
            enqueue_changes(effects, facts, raw, context.policy, context.latest)
        else:
            after = parent_by_id(before, name, date, check, context.now)
        if after != before:
            effects.parents.append(after)
        checked_at = before.checked_at if before else None
        for stream, scope in child_streams:
            child = lists.get(stream.name, {}).get(name)
            counter = counters.read(raw, stream.counters)
            nothing = child is None and _nothing_since(counter, date, context)
            moved = counter_after(child, scope, name, counter, checked_at, context.now, nothing=nothing)
            if stream.name in context.hinted and _has_caught_up(moved):
                effects.caught_up.append((scope, name, moved.surplus))
                moved = replace(moved, read_counter=counter, surplus=0, early=0)
            if moved != child:
                effects.children.append(moved)
    effects.tally = tally(page, new, effects)
    step = blocks.after_page(check, page.seen, habits, probe.stream.cap)
    effects.parents += gone(step, probe, known, {parent.id for parent in effects.parents})
    if step.next is None and check.proving:
        effects.parents = proved(probe, known, effects.parents, context.now)
    state = backoff.recovered(learnt(context.state, page, new, step.habits, habits, effects))
    state = replace(state, checked_at=context.now)
    if step.next is None and check.proving and check.block.since is None:
        state = replace(state, complete=True)
    if step.next is None and check.block.until is None and not check.part:
        state = _with_hints(state, probe, context, lists, child_streams, effects)
    if step.next is None and check.part:
        state = replace(state, cursor=stored_pass.instead(state.cursor, check.part, (), context.now))
    effects.stream = state if state != context.state else None
    return effects, step


def _with_hints(
    state: StreamState,
    probe: Probe,
    context: Context,
    lists: Mapping[str, Mapping[str, ChildState]],
    child_streams: Sequence[tuple[Stream, int]],
    effects: Effects,
) -> StreamState:
    """Note that the newest block was read to its end: hints without a place are settled."""
    name, rows = probe.stream.name, effects.tally["rows"]
    for stream, scope in child_streams:
        before = lists.get(stream.name, {})
        came = sum(
            _came(child, before.get(child.parent)) for child in effects.children if child.scope == scope
        )
        _seen_through(context, stream.name, came, effects)
    announced = _seen_through(context, name, rows, effects)
    return state if context.state.checked_at is None else estimates.with_hinted(state, announced, rows)


def _has_caught_up(child: ChildState) -> bool:
    """Return whether a counter has risen by exactly the rows that hints announced before it changed.

    As with any counter, a deletion may hide one more row: the audit finds it.
    """
    if child.read_counter is None or child.waits_since or child.cursor or child.fell:
        return False
    rise = counters.total(child.counter) - counters.total(child.read_counter)
    known = counters.UNKNOWN not in child.counter + child.read_counter
    return known and 0 < rise == child.surplus == counters.risen(child.counter, child.read_counter)


def _came(child: ChildState, before: ChildState | None) -> int:
    return counters.risen(child.counter, before.counter) if before else counters.total(child.counter)


def _seen_through(context: Context, stream: str, came: int, effects: Effects) -> int:
    """Note that hints without a parent are settled; return how many of the new rows they announced."""
    hint = context.hint(stream, ANYWHERE)
    if hint is None:
        return 0
    confirmed = min(hint.count, came)
    effects.hints.append(ReadHint(stream, ANYWHERE, hint.count, confirmed))
    return confirmed

"""What a page changes: decided inside the transaction that accepts it, from data alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from connector.beamer.catalogue import Stream
from connector.beamer.pages import Habits
from connector.state.intake import Effects
from connector.state.period import day_of
from connector.state.progress import ChildState, ParentState, StreamState
from connector.state.verdicts import Verdict
from connector.sync.judging.pages import JudgedPage
from connector.sync.judging.shaping import enqueue, enqueue_changes
from connector.sync.lists import counters, looks, resting, resuming, sweeps, trust
from connector.sync.lists.looks import LookStep
from connector.sync.lists.sweeps import SweepStep
from connector.sync.planning import curves, sending
from connector.sync.planning.probes import NO_PARENT, Probe
from connector.sync.reading.parents import Context, counter_after, gone, parent_after, proved


def tally(page: JudgedPage, fresh: set[str], unusable: int, effects: Effects) -> Counter[str]:
    """What became of a page's rows; so many `unusable` ones are new in quarantine."""
    found = Counter(
        {
            "rows": len(fresh),
            "events": len(effects.events),
            "quarantined": unusable + len(effects.rejected),
        }
    )
    found.update(verdict.label for verdict in page.held(fresh))
    return +found


def first_page_of(habits: Habits, asked: Habits) -> int | None:
    """The number of a list's first page, where this answer has shown it."""
    return habits.first_page if asked.first_page is None else None


def learnt(
    state: StreamState, page: JudgedPage, fresh: set[str], habits: Habits, asked: Habits, effects: Effects
) -> StreamState:
    """The stream's state with what this page taught: the list's habits, and how many of its rows are sent."""
    effects.first_page = first_page_of(habits, asked)
    # Of a stream that is off nothing is known: its rows may be sent as soon as it is on.
    told = [verdict for verdict in page.verdicts(fresh) if verdict is not Verdict.STREAM_OFF]
    sent = told.count(Verdict.EVENT)
    state = sending.after(state, sent, len(told) - sent)
    return replace(state, list_order=str(habits.order), short_ends=habits.short_ends)


def decide_list(
    context: Context,
    probe: Probe,
    page: JudgedPage,
    child: ChildState | None,
    title: str | None,
    fresh: set[str],
    unusable: int,
) -> tuple[Effects, SweepStep]:
    """Decide a page of a child list, or of a list without parents."""
    effects = Effects()
    enqueue(effects, page.events(fresh), probe.stream, probe.parent, context.policy, context.now, title)
    effects.tally = tally(page, fresh, unusable, effects)
    seen = sweeps.SweptPage(page.seen, len(fresh), page.waits, unusable)
    sweep = probe.list_sweep
    sweep = sweep if sweep.begun else replace(sweep, begun=context.now)
    step = sweeps.after_page(sweep, seen, probe.habits, probe.stream.cap)
    state = learnt(context.state, page, fresh, step.habits, probe.habits, effects)
    if child is not None:
        after = _child_after(child, step, context)
        effects.children.append(after)
        effects.ahead = after.surplus - child.surplus
        if step.done:
            state = trust.after_sweep(state, step.sweep, child, after)
        effects.stream = state if state != context.state else None
        return effects, step
    effects.days = Counter(day_of(page.rows[name][0].date) for name in fresh)
    # A day that the audit reads again moves no mark.
    effects.stream = state if probe.window else _dated_after(state, step, context)
    return effects, step


def _child_after(child: ChildState, step: SweepStep, context: Context) -> ChildState:
    sweep, now, child = step.sweep, context.now, resting.well(child)
    if not step.done:
        return replace(child, place=resuming.dump(sweep))
    # Nothing older than the start date is of interest.
    whole = not sweep.shallow and (sweep.low is None or sweep.low <= context.policy.start)
    return replace(
        child,
        place=None,
        swept=sweep.began,
        surplus=sweeps.surplus_after(sweep, child.swept, child.surplus),
        # The lookback counts from where it was read over last: a late row must not slip past shallow ones.
        watermark=child.watermark if sweep.shallow else sweeps.watermark_after(sweep, child.watermark, now),
        swept_at=now,
        early=0 if child.swept is None else max(0, sweep.found - counters.risen(sweep.began, child.swept)),
        fell=False,
        deep_at=child.deep_at if sweep.shallow else now,
        whole_at=now if whole else child.whole_at,
        waits_since=None if child.counter == sweep.began else now,
    )


def _dated_after(state: StreamState, step: SweepStep, context: Context) -> StreamState:
    state = resting.well(state)
    if not step.done:
        return replace(state, place=resuming.dump(step.sweep))
    mark = sweeps.watermark_after(step.sweep, state.watermark, context.now)
    if state.looked_at is None:
        recent = step.sweep.brought * curves.remembered(context.now - context.policy.start)
    else:
        recent = curves.faded(state.recent, state.looked_at, context.now) + step.sweep.brought
    return replace(state, place=None, watermark=mark, complete=True, looked_at=context.now, recent=recent)


def decide_block(
    context: Context,
    probe: Probe,
    page: JudgedPage,
    known: Mapping[str, ParentState],
    lists: Mapping[str, Mapping[str, ChildState]],
    child_streams: Sequence[tuple[Stream, int]],
    fresh: set[str],
    unusable: int,
) -> tuple[Effects, LookStep]:
    """Decide a page of parents: `known` parents and their child `lists` as they stood before it."""
    effects, look = Effects(), probe.block_look
    enqueue(effects, page.events(fresh), probe.stream, NO_PARENT, context.policy, context.now)
    for row, raw in page.rows.values():
        before = known.get(row.id)
        after, facts = parent_after(before, row, context, probe.stream)
        if after != before:
            effects.parents.append(after)
        enqueue_changes(effects, facts, raw, context.policy, context.now)
        looked = before.looked_at if before else None
        for stream, scope in child_streams:
            child = lists.get(stream.name, {}).get(row.id)
            counter = counters.read(raw, stream.counters)
            moved = counter_after(child, scope, row.id, counter, looked, context.now)
            if moved != child:
                effects.children.append(moved)
    effects.tally = tally(page, fresh, unusable, effects)
    alive = {name for name, parent in known.items() if not parent.gone}
    step = looks.after_page(look, page.seen, alive, probe.habits, probe.stream.cap)
    effects.parents += gone(step, probe, known, {parent.id for parent in effects.parents})
    if step.next is None and look.proving:
        effects.parents = proved(probe, known, effects.parents, context.now)
    state = resting.well(learnt(context.state, page, fresh, step.habits, probe.habits, effects))
    state = replace(state, looked_at=context.now)
    if step.next is None and look.proving and look.block.since is None:
        state = replace(state, complete=True)
    effects.stream = state if state != context.state else None
    return effects, step

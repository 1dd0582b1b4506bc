"""What there is to ask, from what is known; without I/O. In which order is for the planner to say."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from connector.beamer.pagination import Cursor, Habits, Order
from connector.beamer.streams import Stream, children
from connector.domain.period import SECOND, within
from connector.domain.state import ChildState, ParentState, Progress, StreamState
from connector.sync.lists import blocks, counter_trust, passes, stored_pass
from connector.sync.lists.blocks import SIZE, Block, Part, cut, in_order
from connector.sync.lists.count_windows import Left, Window
from connector.sync.lists.counters import UNKNOWN, moved, waiting
from connector.sync.lists.passes import ListPass, PassPlan
from connector.sync.planning.probes import NO_PARENT, PlanInputs, Probe
from connector.sync.policy import Policy
from connector.text import counted

# Under a monthly limit, a list is read back over its whole lookback no oftener than this.
DEEP_EVERY = timedelta(days=1)
GO_ON = "continue where the last run stopped"
HOLE = "some of its rows could not be read"
HINTED = "a hint announced rows"
# A list that was cut short is asked for what is new only: its lookback is read meanwhile.
NEW_ONLY = timedelta(minutes=1)
BEGINNING = datetime.min.replace(tzinfo=UTC)
# How long a full page's proof that nothing hides behind it is believed.
PROOF_LASTS = timedelta(days=7)


def wanted(catalogue: Mapping[str, Stream], policy: Policy) -> tuple[Stream, ...]:
    """Return the lists that have to be read for the streams that are sent; any other costs no request."""
    return tuple(
        stream
        for stream in catalogue.values()
        if stream.name in policy.streams
        or any(child.name in policy.streams for child in children(catalogue, stream.name))
    )


def first_probes(
    catalogue: Mapping[str, Stream], policy: Policy, progress: Progress, first_page: int | None, now: datetime
) -> list[Probe]:
    """Return what to ask before any page has been seen: lists without parents, then the blocks.

    Child lists follow from the blocks' pages, those that already waited included.
    """
    probes: list[Probe] = []
    for stream in wanted(catalogue, policy):
        if stream.parent is not None:
            continue
        if children(catalogue, stream.name):
            probes += block_probes(stream, progress, now)
        else:
            probes.insert(0, dated_probe(stream, progress.streams[stream.name], policy, first_page, now))
    return probes


def block_probes(
    stream: Stream, progress: Progress, now: datetime, proof_lasts: timedelta = PROOF_LASTS
) -> list[Probe]:
    """Return one probe for each block, newest block first."""
    state = progress.streams[stream.name]
    known = progress.parents.get(stream.name, {})
    alive = [(parent.date, parent.id) for parent in known.values() if not parent.gone]
    holes = stored_pass.parts_of(state.cursor)
    # A block is what a page shows.
    all_blocks = _around(alive, holes, min(SIZE, state.page_rows or SIZE))
    if not state.complete and all_blocks and all_blocks[-1].since is None:
        # A first reading cut short goes on where it stopped, or it would start again for ever.
        all_blocks.insert(0, all_blocks.pop())
    probes = []
    for block in all_blocks:
        far_end = block.since is None and not state.complete
        check = blocks.begin(block, proving=far_end or doubted(block, known, now - proof_lasts))
        probes.append(Probe(stream, _why(block, check.proving), check=check))
    ready = (part for part in holes if part.ready(now))
    return probes + [Probe(stream, HOLE, check=blocks.again(part, alive)) for part in ready]


def _around(alive: Sequence[tuple[datetime, str]], holes: Iterable[Part], size: int) -> list[Block]:
    """Cut parents into blocks, newest block first, none of which reaches into a part that failed."""
    all_blocks: list[Block] = []
    since: datetime | None = None
    first = True
    for part in sorted(holes, key=lambda part: part.cursor.since or BEGINNING):
        if part.cursor.since and (first or (since and since < part.cursor.since)):
            all_blocks = _between(alive, since, part.cursor.since, first, size) + all_blocks
        since, first = max(filter(None, (since, part.cursor.until)), default=None), False
    return _between(alive, since, None, first or since is not None, size) + all_blocks


def _between(
    alive: Sequence[tuple[datetime, str]],
    since: datetime | None,
    until: datetime | None,
    empty: bool,
    size: int,
) -> list[Block]:
    """The blocks between two parts that failed; `empty`: one is wanted although no parent is known there."""
    inside = [parent for parent in alive if within(parent[0], since, until)]
    if not (inside or empty):
        return []
    all_blocks = cut(inside, size)
    all_blocks[0] = replace(all_blocks[0], until=until)
    all_blocks[-1] = replace(all_blocks[-1], since=since)
    return all_blocks


def doubted(block: Block, known: Mapping[str, ParentState], since: datetime) -> bool:
    """Return whether it is time to make sure again that nothing hides behind the block's full page."""
    proofs = [known[name].proved_at for name in block.members]
    return any(proof is None or proof < since for proof in proofs)


def has_news(child: ChildState) -> bool:
    """Return whether a list's counter has moved, or its reading was cut short."""
    if child.counter == child.read_counter and child.cursor is None:
        return child.fell or UNKNOWN in child.counter
    return child.cursor is not None or moved(child.counter, child.read_counter)


def due(child: ChildState, now: datetime) -> bool:
    """Return whether there is something to ask of a list now.

    Parts of it that failed, and rows that its counter announced earlier, wait their turn.
    """
    if child.cursor is None or counter_trust.reread_due(child, now):
        return has_news(child) or counter_trust.reread_due(child, now)
    stored = stored_pass.restore(child.cursor)
    return not stored.hole or stored.part.ready(now) or has_news(replace(child, cursor=None))


def is_history(child: ChildState) -> bool:
    """Return whether a list was never read, and its counter has not moved since it was first seen."""
    return child.read_counter is None and not child.recent


def _why(block: Block, proving: bool) -> str:
    if not block.members:
        return "read it for the first time"
    return "look behind full pages" if proving else "compare its counters"


def dated_probe(
    stream: Stream, state: StreamState, policy: Policy, first_page: int | None, now: datetime
) -> Probe:
    """Return the probe of a list without parents, such as NPS: back to the lookback before its watermark."""
    habits, why = habits_of(state, first_page), "look for new rows"
    stored = stored_pass.restore(state.cursor) if state.cursor else None
    mark, lookback = state.watermark, policy.lookback
    if stored and not stored.hole:
        mark, lookback = _read_through(stored), NEW_ONLY
    low = passes.lowest(policy.start, mark, lookback)
    # A list that was empty has no mark, and was read: what is there now is new, however short the page.
    first = mark is None and not state.complete
    pass_ = passes.begin_dated(low, habits, first=first, bound=policy.start - SECOND)
    if stored is None:
        return Probe(stream, why, list_pass=pass_)
    if stored.hole:
        return Probe(stream, why, list_pass=passes.beside(pass_, stored.unread))
    return Probe(stream, GO_ON, list_pass=passes.taken_up(stored, habits, now, pass_, moved=True))


def _read_through(stored: ListPass) -> datetime | None:
    """Return the newest date up to which a list was read that was cut short, but for what it left."""
    progress = stored.progress
    bounds = (progress.newest or progress.started_at, progress.unsettled, progress.started_at)
    return min(filter(None, bounds), default=None)


def hole_probe(stream: Stream, cursor: str, parent: str = NO_PARENT) -> Probe:
    """Return the probe that reads again what failed of a list; `cursor` is what is kept of it."""
    return Probe(stream, HOLE, parent, list_pass=stored_pass.restore(cursor))


def waiting_children(
    catalogue: Mapping[str, Stream],
    policy: Policy,
    progress: Progress,
    first_page: int | None,
    now: datetime,
) -> list[Probe]:
    """Child lists whose counters had moved already when the last run stopped, youngest parents first."""
    dated: list[tuple[datetime, Probe]] = []
    for stream in wanted(catalogue, policy):
        if stream.parent is None:
            continue
        parents = progress.parents.get(stream.parent, {})
        for child in progress.children.get(stream.name, {}).values():
            parent = parents.get(child.parent)
            if parent and not parent.gone and due(child, now):
                state = progress.streams[stream.name]
                probe = child_probe(stream, child, parent.date, state, policy, first_page, now)
                dated.append((parent.date, probe))
    return [probe for _, probe in sorted(dated, key=lambda pair: pair[0], reverse=True)]


def child_probe(
    stream: Stream,
    child: ChildState,
    parent_date: datetime,
    state: StreamState,
    policy: Policy,
    first_page: int | None,
    now: datetime,
    *,
    thrifty: bool = False,
    hinted: bool = False,
) -> Probe:
    """Return the probe of a child list; `thrifty`: it is read no further than its counter asks.

    `hinted`: a hint announced rows, whatever the counter shows.
    """
    habits = habits_of(state, first_page)
    stored = stored_pass.restore(child.cursor) if child.cursor else None
    moved_on = (
        has_news(replace(child, cursor=None)) or state.distrusted or counter_trust.reread_due(child, now)
    )
    if stored and stored.hole and not moved_on:
        return hole_probe(stream, child.cursor or "", child.parent)
    short = counter_trust.missing_rows(child)
    still = child.read_counter == child.counter and not child.fell and stored is None and not short
    if still and not hinted:
        return audit_probe(stream, child, policy, parent_date)
    mark, lookback = child.watermark, policy.lookback
    if stored and not stored.hole:
        mark, lookback = _read_through(stored), NEW_ONLY
    low = passes.lowest(policy.start, mark, lookback)
    oldest = counter_trust.oldest_missing(child, policy.lookback)
    pass_ = passes.begin_child(
        child.counter,
        child.read_counter,
        child.surplus,
        min(low, max(policy.start, oldest)) if oldest else low,
        habits,
        stream.cap,
        young=parent_date >= policy.start,
        hinted=still,
        thrifty=still or (thrifty and not state.distrusted and not short),
        trusted=not state.distrusted,
    )
    if stored and stored.hole:
        pass_ = passes.beside(pass_, in_order(stored.unread, now))
        return Probe(stream, "some of its rows are not read yet", child.parent, list_pass=pass_)
    if stored:
        moved_on = child.counter != stored.plan.counter or UNKNOWN in child.counter or state.distrusted
        pass_ = passes.taken_up(stored, habits, now, pass_, moved=moved_on)
        return Probe(stream, GO_ON, child.parent, list_pass=pass_)
    return Probe(stream, HINTED if hinted else _why_read(child), child.parent, list_pass=pass_)


def _why_read(child: ChildState) -> str:
    if child.read_counter is None:
        return "its rows were never read"
    if child.read_counter == child.counter and (missing := counter_trust.missing_rows(child)):
        return f"its counter shows {counted(missing, 'row')} more than were read"
    return f"counter {child.read_counter} → {child.counter}"


def list_probe(
    inputs: PlanInputs, stream: Stream, child: ChildState, now: datetime, *, hinted: bool = False
) -> Probe:
    """Return the probe of a child list, as it stands now."""
    parent = inputs.progress.parents[stream.parent or ""][child.parent]
    state = inputs.progress.streams[stream.name]
    return child_probe(
        stream,
        child,
        parent.date,
        state,
        inputs.policy,
        inputs.first_page,
        now,
        # Once a day the whole lookback is read: a row that came late may be behind known ones.
        thrifty=inputs.per_day is not None and child.deep_at is not None and now - child.deep_at < DEEP_EVERY,
        hinted=hinted,
    )


def audit_probe(stream: Stream, child: ChildState, policy: Policy, parent_date: datetime) -> Probe:
    """Return the probe that reads a child list whole, whatever its counter, to compare its ids."""
    announced = 0 if child.read_counter is None else waiting(child.counter, child.read_counter, child.surplus)
    young = parent_date >= policy.start
    pass_ = passes.begin_audit(child.counter, policy.start, young=young, expected=announced)
    return Probe(stream, "audit: compare its ids", child.parent, list_pass=pass_)


def count_probe(stream: Stream, window: Window, *, thorough: bool = False) -> Probe:
    """Return the probe that counts the rows of a window: the audit of a list without counters."""
    return Probe(stream, "audit: compare the count", audit=True, window=window, thorough=thorough)


def left_probe(stream: Stream, left: Left, *, thorough: bool) -> Probe:
    """Return what an earlier run's audit had still to count or to read."""
    if left.count is None:
        return count_probe(stream, left.window, thorough=thorough)
    return window_probe(stream, left.window, left.count)


def behind_count(probe: Probe, window: Window, count: int, by_day: Mapping[int, int]) -> list[Probe]:
    """Return what to ask when Beamer counts so many rows in a window and so many are held there, by day.

    A row that has gone hides one that has come late. What fits on a page costs no more to read than to
    count once more, so it is read in any case, and by a thorough audit everything is, page by page.
    Where the figures of many rows differ, single days are read: only they are counted anew.
    """
    stream, held, cap = probe.stream, window.holds(by_day), probe.stream.cap
    equal, fits = count == held, max(count, held) <= cap
    if equal and (not held or not (fits or probe.thorough)):
        return []
    if window.single or (fits and (equal or probe.whole)):
        return [window_probe(stream, window, count)]
    parts = []
    for half in window.halves():
        own = half.holds(by_day)
        read = equal and own <= cap
        parts.append(
            window_probe(stream, half, own) if read else count_probe(stream, half, thorough=probe.thorough)
        )
    return parts


def window_probe(stream: Stream, window: Window, count: int) -> Probe:
    """Return the probe that reads a window again, in which Beamer counts so many rows."""
    pass_ = ListPass(Part(Cursor.around(window.since, window.until)), PassPlan(counted=count))
    return Probe(stream, "audit: compare the ids", audit=True, window=window, list_pass=pass_)


def habits_of(state: StreamState, first_page: int | None) -> Habits:
    return Habits(Order(state.list_order), first_page, state.short_ends, state.page_rows)


def cost(probes: Iterable[Probe]) -> dict[str, int]:
    """Requests by stream that the probes cost at the least: one each."""
    costs: dict[str, int] = {}
    for probe in probes:
        costs[probe.stream.name] = costs.get(probe.stream.name, 0) + 1
    return costs

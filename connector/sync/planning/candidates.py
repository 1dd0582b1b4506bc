"""What there is to ask, from what is known; without I/O. In which order is for the planner to say."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from connector.beamer.catalogue import Stream, children
from connector.beamer.pages import Habits, Order, Place
from connector.clock import SECOND
from connector.state.progress import ChildState, ParentState, Progress, StreamState
from connector.sync.lists import looks, resuming, sweeps
from connector.sync.lists.blocks import Block, cut
from connector.sync.lists.counters import UNKNOWN, moved, waiting
from connector.sync.lists.sweeps import Sweep
from connector.sync.lists.windows import Left, Window
from connector.sync.planning.picture import Picture
from connector.sync.planning.probes import Probe
from connector.sync.policy import Policy

# Under a monthly limit, a list is read back over its whole lookback no oftener than this.
DEEP_EVERY = timedelta(days=1)
# How long a full page's proof that nothing hides behind it is believed.
PROOF_LASTS = timedelta(days=7)


def wanted(catalogue: Mapping[str, Stream], policy: Policy) -> tuple[Stream, ...]:
    """The lists that have to be read for the streams that are sent; any other costs no request."""
    return tuple(
        stream
        for stream in catalogue.values()
        if stream.name in policy.streams
        or any(child.name in policy.streams for child in children(catalogue, stream.name))
    )


def first_probes(
    catalogue: Mapping[str, Stream], policy: Policy, progress: Progress, first_page: int | None, now: datetime
) -> list[Probe]:
    """What to ask before any page has been seen: lists without parents, then the blocks.

    Child lists follow from the blocks' pages, those that already waited included.
    """
    probes: list[Probe] = []
    for stream in wanted(catalogue, policy):
        if stream.parent is not None:
            continue
        if children(catalogue, stream.name):
            probes += block_probes(stream, progress, now)
        else:
            probes.insert(0, dated_probe(stream, progress.streams[stream.name], policy, first_page))
    return probes


def block_probes(
    stream: Stream, progress: Progress, now: datetime, proof_lasts: timedelta = PROOF_LASTS
) -> list[Probe]:
    """One probe for each block, newest block first."""
    state = progress.streams[stream.name]
    known = progress.parents.get(stream.name, {})
    blocks = cut((parent.date, parent.id) for parent in known.values() if not parent.gone)
    if not state.complete:
        # A first reading cut short goes on where it stopped, or it would start again for ever.
        blocks.insert(0, blocks.pop())
    probes = []
    for block in blocks:
        far_end = block.since is None and not state.complete
        look = looks.begin(block, proving=far_end or doubted(block, known, now - proof_lasts))
        probes.append(Probe(stream, _why(block, look.proving), look=look))
    return probes


def doubted(block: Block, known: Mapping[str, ParentState], since: datetime) -> bool:
    """Whether it is time to make sure again that nothing hides behind the block's full page."""
    proofs = [known[name].proved_at for name in block.members]
    return any(proof is None or proof < since for proof in proofs)


def asks(child: ChildState) -> bool:
    """Whether a list's counter has moved, or its reading was cut short."""
    if child.counter == child.swept and child.place is None:
        return child.fell or UNKNOWN in child.counter
    return child.place is not None or moved(child.counter, child.swept)


def is_history(child: ChildState) -> bool:
    """A list that was never read, and that has not moved since: what is new there, a look shows."""
    return child.swept is None and not child.recent


def _why(block: Block, proving: bool) -> str:
    if not block.members:
        return "nothing is known yet"
    return "make sure that nothing hides behind full pages" if proving else "have counters moved?"


def dated_probe(stream: Stream, state: StreamState, policy: Policy, first_page: int | None) -> Probe:
    """A list without parents and counters, such as NPS: back to the lookback before its watermark."""
    if state.place:
        sweep = resuming.resumed(resuming.restore(state.place), habits_of(state, first_page))
        return Probe(stream, "go on where the last run stopped", sweep=sweep)
    low = sweeps.lowest(policy.start, state.watermark, policy.lookback)
    habits = habits_of(state, first_page)
    first = state.watermark is None
    bound = policy.start - SECOND
    sweep = sweeps.begin_dated(low, habits, first=first, bound=bound)
    return Probe(stream, "is there anything new?", sweep=sweep)


def waiting_children(
    catalogue: Mapping[str, Stream], policy: Policy, progress: Progress, first_page: int | None
) -> list[Probe]:
    """Child lists whose counters had moved already when the last run stopped, youngest parents first."""
    found: list[tuple[datetime, Probe]] = []
    for stream in wanted(catalogue, policy):
        if stream.parent is None:
            continue
        parents = progress.parents.get(stream.parent, {})
        for child in progress.children.get(stream.name, {}).values():
            parent = parents.get(child.parent)
            if parent and not parent.gone and asks(child):
                state = progress.streams[stream.name]
                probe = child_probe(stream, child, parent.date, state, policy, first_page)
                found.append((parent.date, probe))
    return [probe for _, probe in sorted(found, key=lambda pair: pair[0], reverse=True)]


def child_probe(
    stream: Stream,
    child: ChildState,
    parent_date: datetime,
    state: StreamState,
    policy: Policy,
    first_page: int | None,
    *,
    thrifty: bool = False,
) -> Probe:
    """A child list whose counter has moved; `thrifty`, it is read no further than the counter asks."""
    if child.place:
        sweep = resuming.resumed(resuming.restore(child.place), habits_of(state, first_page))
        return Probe(stream, "go on where the last run stopped", child.parent, sweep=sweep)
    if child.swept == child.counter and not child.fell:
        return audit_probe(stream, child, policy, parent_date)
    sweep = sweeps.begin_child(
        child.counter,
        child.swept,
        child.surplus,
        sweeps.lowest(policy.start, child.watermark, policy.lookback),
        habits_of(state, first_page),
        stream.cap,
        young=parent_date >= policy.start,
        thrifty=thrifty and not state.distrusted,
        sure=not state.distrusted,
    )
    reason = "its rows were never read" if child.swept is None else f"counter {child.swept} → {child.counter}"
    return Probe(stream, reason, child.parent, sweep=sweep)


def list_probe(picture: Picture, stream: Stream, child: ChildState, now: datetime) -> Probe:
    """The probe of a child list, as it stands now."""
    parent = picture.progress.parents[stream.parent or ""][child.parent]
    state = picture.progress.streams[stream.name]
    return child_probe(
        stream,
        child,
        parent.date,
        state,
        picture.policy,
        picture.first_page,
        # Once a day the whole lookback is read: a row that came late may be behind known ones.
        thrifty=picture.per_day is not None
        and child.deep_at is not None
        and now - child.deep_at < DEEP_EVERY,
    )


def audit_probe(stream: Stream, child: ChildState, policy: Policy, parent_date: datetime) -> Probe:
    """A child list that is read whole, whether or not its counter has moved, to compare its ids."""
    announced = 0 if child.swept is None else waiting(child.counter, child.swept, child.surplus)
    young = parent_date >= policy.start
    sweep = sweeps.begin_audit(child.counter, policy.start, young=young, expected=announced)
    return Probe(stream, "does it hold what is known of it?", child.parent, sweep=sweep)


def count_probe(stream: Stream, window: Window, *, thorough: bool = False) -> Probe:
    """How many rows a list without parents has in a window: the audit of what has no counter."""
    return Probe(stream, "are there as many as are held?", audit=True, window=window, thorough=thorough)


def left_probe(stream: Stream, left: Left, *, thorough: bool) -> Probe:
    """What an earlier run's audit had still to count or to read."""
    if left.count is None:
        return count_probe(stream, left.window, thorough=thorough)
    return window_probe(stream, left.window, left.count)


def behind_count(probe: Probe, window: Window, count: int, by_day: Mapping[int, int]) -> list[Probe]:
    """What to ask when Beamer counts so many rows in a window and so many are held there, by day.

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
    """A window whose rows are read again; Beamer counts so many there."""
    sweep = Sweep(Place.around(window.since, window.until), None, counted=count)
    return Probe(stream, "are they those that are held?", audit=True, window=window, sweep=sweep)


def habits_of(state: StreamState, first_page: int | None) -> Habits:
    return Habits(Order(state.list_order), first_page, state.short_ends)


def cost(probes: Iterable[Probe]) -> dict[str, int]:
    """Requests by stream that the probes cost at the least: one each."""
    costs: dict[str, int] = {}
    for probe in probes:
        costs[probe.stream.name] = costs.get(probe.stream.name, 0) + 1
    return costs

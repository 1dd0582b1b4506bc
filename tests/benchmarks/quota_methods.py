"""What the planner is measured against: passes over the account, begun at fixed intervals."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from math import ceil, inf
from typing import Protocol

from connector.beamer.streams import Stream, children
from connector.domain.state import ChildState, ParentState
from connector.sync.lists import counters, passes
from connector.sync.lists.passes import Continued, PassProgress
from connector.sync.planning import candidates
from connector.sync.planning.probes import PlanInputs, Probe

# What the planner itself may spend on proving full pages, a share of the budget.
PROOF_SHARE = 0.05
# A list that was never read to its end is read on by so many pages at a time.
PAGES_TO_THE_END = 3.0
# Cron starts a few seconds early or late; a pass is not put off by a whole period for it.
SLACK = timedelta(minutes=1)


class Resting(Protocol):
    """A planner that knows until when it will ask nothing."""

    @property
    def rests_until(self) -> datetime | None:
        """None: it may ask something at once."""


class Passes:
    """Passes over the account. One that the budget cuts short goes on at the next run.

    What of a pass is done follows from when each thing was last looked at. The next pass begins when the
    one before is finished and the interval since its beginning is over.
    """

    def __init__(self) -> None:
        self._began: datetime | None = None
        self._interval = timedelta(0)
        self.rests_until: datetime | None = None

    def begin(self, inputs: PlanInputs, now: datetime) -> list[Probe]:
        left = self._left(inputs, now) if self._began else []
        if self._began is None or (not left and now >= self._began + self._interval - SLACK):
            # An answer's date has no fractions.
            self._began = now.replace(microsecond=0)
            self._interval = self.interval(inputs)
            left = self._left(inputs, now)
        self.rests_until = None if left else self._began + self._interval - SLACK
        return left

    def onward(self, inputs: PlanInputs, probe: Probe, now: datetime) -> Probe:  # noqa: ARG002
        return replace(probe, priority=inf)

    def interval(self, inputs: PlanInputs) -> timedelta:
        """How long after the beginning of this pass the next one begins."""
        raise NotImplementedError

    def _left(self, inputs: PlanInputs, now: datetime) -> list[Probe]:
        raise NotImplementedError

    def _since(self, at: datetime | None) -> bool:
        """Whether it was done in this pass."""
        return at is not None and self._began is not None and at >= self._began

    def _blocks(self, inputs: PlanInputs, stream: Stream, now: datetime) -> Iterator[Probe]:
        """The blocks of parents that this pass has not looked at yet."""
        known = inputs.progress.parents.get(stream.name, {})
        lasts = candidates.PROOF_LASTS
        if inputs.per_day:
            lasts = max(lasts, timedelta(days=len(known) / 10 / (PROOF_SHARE * inputs.per_day)))
        state = inputs.progress.streams[stream.name]
        whole = state.complete
        for probe in candidates.block_probes(stream, inputs.progress, now, lasts):
            assert probe.check is not None  # a block's probe
            members = probe.check.block.members
            unread = probe.check.block.since is None and not whole
            if not members and whole:
                if not self._since(state.checked_at):
                    yield probe
            elif unread or not members:
                # Kept together as the planner's are, or the first page would be asked for again and again.
                further = int(PAGES_TO_THE_END) - 1
                yield replace(probe, unseen=True, needs=PAGES_TO_THE_END, further_pages=further)
            elif not all(self._since(known[name].checked_at) for name in members):
                yield probe

    def _dated(self, inputs: PlanInputs, stream: Stream, now: datetime) -> Iterator[Probe]:
        """A list without parents, if this pass has not read it yet."""
        state = inputs.progress.streams[stream.name]
        if state.cursor or not self._since(state.checked_at):
            yield candidates.dated_probe(stream, state, inputs.policy, inputs.first_page, now)

    def _tops(self, inputs: PlanInputs, stream: Stream, now: datetime) -> Iterator[Probe]:
        """What is left to ask of a stream without a parent."""
        if children(inputs.catalogue, stream.name):
            yield from self._blocks(inputs, stream, now)
        else:
            yield from self._dated(inputs, stream, now)


class EveryParent(Passes):
    """What other connectors do: every block and every child list of every parent, stream after stream.

    The interval is the shortest that the quota allows: what the pass costs at the least, over the budget's
    fill. A list is read back to three days before its newest known row, as a careful connector does.
    """

    def interval(self, inputs: PlanInputs) -> timedelta:
        cost = 0
        for stream in candidates.wanted(inputs.catalogue, inputs.policy):
            alive = sum(not parent.gone for parent in inputs.progress.parents.get(stream.name, {}).values())
            below = len(children(inputs.catalogue, stream.name))
            cost += (ceil(alive / 10) + alive * below) if below else stream.parent is None
        return timedelta(days=cost / inputs.per_day) if inputs.per_day else timedelta(0)

    def _left(self, inputs: PlanInputs, now: datetime) -> list[Probe]:
        probes: list[Probe] = []
        for stream in candidates.wanted(inputs.catalogue, inputs.policy):
            if stream.parent is None:
                probes += self._tops(inputs, stream, now)
                continue
            parents = inputs.progress.parents.get(stream.parent, {}).values()
            lists = inputs.progress.children.get(stream.name, {})
            for parent in sorted(parents, key=lambda parent: parent.date, reverse=True):
                child = lists.get(parent.id)
                if child and not parent.gone and self._unread(child):
                    probes.append(_list_probe(inputs, stream, parent, child, now))
        return [replace(probe, priority=_position(inputs, probe.stream)) for probe in probes]

    def follow(self, inputs: PlanInputs, stream: Stream, parent: str, now: datetime) -> Probe | None:
        child = inputs.progress.children.get(stream.name, {}).get(parent)
        if child is None or not self._unread(child):
            return None
        above = inputs.progress.parents[stream.parent or ""][parent]
        return replace(_list_probe(inputs, stream, above, child, now), priority=_position(inputs, stream))

    def _unread(self, child: ChildState) -> bool:
        return child.cursor is not None or not self._since(child.read_at)


class FixedInterval(Passes):
    """Every block at a fixed interval, and the lists whose counter moved, each page's before the next page.

    What never was read of old parents, and has not moved, is history: it is read when a pass is over, from
    what is left of the budget, and keeps no pass from beginning.
    """

    def __init__(self, hours: float) -> None:
        super().__init__()
        self._hours = timedelta(hours=hours)

    def interval(self, inputs: PlanInputs) -> timedelta:  # noqa: ARG002
        return self._hours

    def begin(self, inputs: PlanInputs, now: datetime) -> list[Probe]:
        probes = super().begin(inputs, now)
        history = self._lists(inputs, now, history=True)
        if history:
            self.rests_until = None
        return probes + history

    def _left(self, inputs: PlanInputs, now: datetime) -> list[Probe]:
        tops: list[Probe] = []
        for stream in candidates.wanted(inputs.catalogue, inputs.policy):
            if stream.parent is None:
                tops += self._tops(inputs, stream, now)
        return self._lists(inputs, now, history=False) + tops

    def follow(self, inputs: PlanInputs, stream: Stream, parent: str, now: datetime) -> Probe | None:
        child = inputs.progress.children.get(stream.name, {}).get(parent)
        if child is None or not candidates.has_news(child):
            return None
        above = inputs.progress.parents[stream.parent or ""][parent]
        return self._list(inputs, stream, above, child, now)

    def _lists(self, inputs: PlanInputs, now: datetime, *, history: bool) -> list[Probe]:
        """The lists to be read, those of the youngest parents first; of history, some."""
        dated: list[tuple[datetime, Stream, ParentState, ChildState]] = []
        for stream in candidates.wanted(inputs.catalogue, inputs.policy):
            parents = inputs.progress.parents.get(stream.parent or "", {})
            for child in inputs.progress.children.get(stream.name, {}).values():
                parent = parents[child.parent]
                wanted = not parent.gone and candidates.has_news(child)
                if wanted and _is_history(inputs, parent, child) is history:
                    dated.append((parent.date, stream, parent, child))
        dated.sort(key=lambda waiting: waiting[0], reverse=True)
        most = HISTORY_AT_ONCE if history else None
        return [self._list(inputs, *waiting[1:], now) for waiting in dated[:most]]

    def _list(
        self, inputs: PlanInputs, stream: Stream, parent: ParentState, child: ChildState, now: datetime
    ) -> Probe:
        probe = _list_probe(inputs, stream, parent, child, now)
        return replace(probe, priority=HISTORY if _is_history(inputs, parent, child) else MOVED)


# What the fixed interval's probes are worth; blocks and NPS have no worth of their own.
MOVED, HISTORY = 1.0, -1.0
# No run has the budget for more; making probes of all of them takes time.
HISTORY_AT_ONCE = 250


def _is_history(inputs: PlanInputs, parent: ParentState, child: ChildState) -> bool:
    return candidates.is_history(child) and parent.date < inputs.policy.start


def _list_probe(
    inputs: PlanInputs, stream: Stream, parent: ParentState, child: ChildState, now: datetime
) -> Probe:
    """A list whose counter moved, or one that is asked anyway, from its newest row on."""
    state = inputs.progress.streams[stream.name]
    if candidates.has_news(child) or not counters.total(child.counter):
        return candidates.child_probe(
            stream, child, parent.date, state, inputs.policy, inputs.first_page, now
        )
    pass_ = passes.begin_child(
        child.counter,
        child.read_counter,
        child.surplus,
        passes.lowest(inputs.policy.start, child.watermark, inputs.policy.lookback),
        candidates.habits_of(state, inputs.first_page),
        stream.cap,
    )
    # "Resumed", or an unmoved list would be made an audit of, which reads it whole.
    pass_ = replace(pass_, progress=PassProgress(continued=Continued.REST))
    return Probe(stream, "every list is asked", child.parent, list_pass=pass_)


def _position(inputs: PlanInputs, stream: Stream) -> float:
    """In the order of the catalogue."""
    return -float(list(inputs.catalogue).index(stream.name))

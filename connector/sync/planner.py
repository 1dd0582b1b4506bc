"""How a month's quota is spent: what is asked, and in which order; without I/O.

The rule is one: the next request goes to the probe with the most row-hours per request. Where there is
no monthly limit, everything is asked at every run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import nsmallest
from math import ceil, inf, log
from typing import NamedTuple, Protocol

from connector.beamer.catalogue import Stream, children
from connector.state.progress import ChildState, ParentState, Progress, StreamState
from connector.sync import candidates, counters, rates, worth
from connector.sync.blocks import SIZE
from connector.sync.policy import Policy
from connector.sync.probes import Probe, Turn
from connector.sync.rates import HOUR
from connector.sync.worth import NOTHING, Expected

# Making sure that nothing hides behind full pages costs a page more for each block: no oftener than this
# under a monthly limit, and no more than this share of the budget.
PROOF_LASTS = timedelta(days=30)
PROOF_SHARE = 0.02
# A list that was read so lately needs no audit; and so many are considered at a time.
AUDIT_AFTER = timedelta(days=7)
AUDITS = 20
AUDIT_SHARE = 0.05
# One row in so many is guessed to have come unseen, behind a deletion that cancelled it out.
HIDDEN_SHARE = 0.01
# Ages that differ by less than one part in so many count as the same.
NEAR = 50
# A row behind a page that was never seen counts as one that has waited this long.
UNKNOWN_HOURS = 12.0
# So far ahead a list's rate is looked at.
AHEAD = timedelta(hours=48)


@dataclass(frozen=True, slots=True)
class Picture:
    """What a plan is made from; `per_day` is the budget's fill in requests, None without a limit."""

    catalogue: Mapping[str, Stream]
    policy: Policy
    progress: Progress
    first_page: int | None
    per_day: float | None = None

    def below(self, stream: Stream) -> tuple[Stream, ...]:
        """The child streams of a stream that are sent."""
        return tuple(
            child for child in children(self.catalogue, stream.name) if child.name in self.policy.streams
        )


class Planner(Protocol):
    """Says what a run asks, and what each probe is worth."""

    def begin(self, picture: Picture, now: datetime) -> list[Probe]:
        """What to ask before any page has been seen."""

    def follow(self, picture: Picture, stream: Stream, parent: str, now: datetime) -> Probe | None:
        """A child list after a page has shown its counter; None if there is nothing to ask."""

    def onward(self, picture: Picture, probe: Probe, now: datetime) -> Probe:
        """A block's next page."""


class Rates(Protocol):
    """How often rows come."""

    def births(self, stream: Stream) -> float:
        """Rows an hour of a stream without a parent."""

    def unseen(self, stream: Stream, parent: ParentState, child: ChildState, since: datetime) -> Expected:
        """What has come at a child list since a moment."""

    def coming(self, stream: Stream, parent: ParentState, child: ChildState) -> float:
        """Rows an hour that will come at a child list in the hours ahead."""

    def typical(self, stream: Stream, since: float, until: float) -> Expected:
        """What has come at a parent like the others between two ages in hours."""


class Ages(NamedTuple):
    """Hours of a parent's life: all of it, since a look, since the last look, watched before that one."""

    age: float
    unseen: float
    unlooked: float
    known: float
    near: tuple[int, ...]


class Shape(NamedTuple):
    """What a curve gives a list of some age: rows in all, rows lately, what is unseen, rows an hour ahead."""

    usual: float
    lately: float
    rows: float
    row_hours: float
    ahead: float


class Learnt:
    """Rates from what the store knows of the account."""

    def __init__(self, picture: Picture, now: datetime) -> None:
        self._progress, self._now, self._start = picture.progress, now, picture.policy.start
        streams = picture.progress.streams
        self._curves = {name: rates.restore(state.curve).curve for name, state in streams.items()}
        self._shapes: dict[str, dict[object, Shape]] = {name: {} for name in streams}
        self._of: tuple[ParentState | None, datetime | None, Ages] = (None, None, Ages(0, 0, 0, 0, ()))

    def births(self, stream: Stream) -> float:
        if stream.settles:
            state = self._progress.streams[stream.name]
            seen = state.looked_at or self._now
            return rates.steady_pace(
                rates.faded(state.recent, state.looked_at, self._now), (seen - self._start) / HOUR
            )
        parents = self._progress.parents.get(stream.name, {}).values()
        return rates.births((parent.date for parent in parents), self._now)

    def unseen(self, stream: Stream, parent: ParentState, child: ChildState, since: datetime) -> Expected:
        shape = self._shape_of(stream.name, parent, since)
        pace = self._pace(child, shape)
        return Expected(pace * shape.rows, pace * shape.row_hours)

    def coming(self, stream: Stream, parent: ParentState, child: ChildState) -> float:
        shape = self._shape_of(stream.name, parent, parent.looked_at or self._now)
        return self._pace(child, shape) * shape.ahead

    def _pace(self, child: ChildState, shape: Shape) -> float:
        recent = rates.faded(child.recent, child.recent_at, self._now) if child.recent else 0.0
        return rates.pace(counters.total(child.counter), shape.usual, recent, shape.lately)

    def _shape_of(self, name: str, parent: ParentState, since: datetime) -> Shape:
        """What the curve gives at a list; ages that are nearly the same are reckoned once."""
        if parent is not self._of[0] or since is not self._of[1]:
            # The lists of one parent are asked for one after the other.
            self._of = (parent, since, self._ages(parent, since))
        ages = self._of[2]
        shape = self._shapes[name].get(ages.near)
        if shape is None:
            shape = self._shapes[name][ages.near] = self._shape(self._curves[name], ages)
        return shape

    def _ages(self, parent: ParentState, since: datetime) -> Ages:
        now, looked = self._now, parent.looked_at or self._now
        # A scheduled post lies ahead: nothing has come at it.
        age, unseen = (now - parent.date) / HOUR, (now - since) / HOUR
        unlooked, known = (now - looked) / HOUR, (looked - (parent.known_at or looked)) / HOUR
        near = (
            int(log(max(age, 0.01)) * NEAR),
            int(log(max(unseen, 0.01)) * NEAR),
            int(unlooked),
            int(known) // 24,
        )
        return Ages(age, unseen, unlooked, known, near)

    def _shape(self, curve: rates.Curve, ages: Ages) -> Shape:
        looked = ages.age - ages.unlooked
        lately, _ = curve.arrivals(looked - min(ages.known, rates.REMEMBERED), looked)
        rows, row_hours = curve.arrivals(ages.age - ages.unseen, ages.age)
        hours = AHEAD / HOUR
        ahead = curve.arrivals(ages.age, ages.age + hours)[0] / hours
        return Shape(curve.total(looked), lately, rows, row_hours, ahead)

    def typical(self, stream: Stream, since: float, until: float) -> Expected:
        return Expected(*self._curves[stream.name].arrivals(since, until))


class LookEverywhere:
    """Ask every block, and every list whose counter has moved: there is no limit but the rate."""

    def begin(self, picture: Picture, now: datetime) -> list[Probe]:
        probes = candidates.first_probes(
            picture.catalogue, picture.policy, picture.progress, picture.first_page, now
        )
        audits = _audits(picture, now)
        # A small share of all requests, after everything else; -1 comes behind what is worth nothing.
        few = ceil(len(probes) * AUDIT_SHARE)
        return probes + [replace(audit, turn=Turn.WORTH, worth=-1.0) for audit in audits[:few]]

    def follow(self, picture: Picture, stream: Stream, parent: str, now: datetime) -> Probe | None:  # noqa: ARG002
        child = picture.progress.children.get(stream.name, {}).get(parent)
        if child is None:
            return None
        state = picture.progress.streams[stream.name]
        if not candidates.asks(child) and not state.distrusted:
            return None
        return _list_probe(picture, stream, child)

    def onward(self, picture: Picture, probe: Probe, now: datetime) -> Probe:  # noqa: ARG002
        return replace(probe, worth=inf)


class MostWorth:
    """Ask what clears the most waiting. `known_rates` takes the place of what is learnt."""

    def __init__(self, known_rates: Rates | None = None) -> None:
        self._told = known_rates
        self._rates: Rates | None = known_rates

    def begin(self, picture: Picture, now: datetime) -> list[Probe]:
        self._rates = self._told or Learnt(picture, now)
        probes: list[Probe] = []
        for stream in candidates.wanted(picture.catalogue, picture.policy):
            state = picture.progress.streams[stream.name]
            if stream.parent is not None:
                probes += self._lists(picture, stream, state, now)
            elif children(picture.catalogue, stream.name):
                probes += self._blocks(picture, stream, now)
            else:
                probes.append(self._dated(picture, stream, state, now))
        return probes + _audits(picture, now, self._rates)

    def follow(self, picture: Picture, stream: Stream, parent: str, now: datetime) -> Probe | None:
        child = picture.progress.children.get(stream.name, {}).get(parent)
        if child is None or not candidates.asks(child):
            return None
        return self._list(picture, stream, child, now)

    def onward(self, picture: Picture, probe: Probe, now: datetime) -> Probe:
        assert probe.look is not None  # noqa: S101 - lists are read on at once
        if picture.progress.streams[probe.stream.name].complete or not probe.look.found:
            return replace(probe, worth=inf)
        return replace(probe, worth=self._unknown(picture, probe.stream, now))

    # --- what each probe is worth ---

    def _blocks(self, picture: Picture, stream: Stream, now: datetime) -> Iterable[Probe]:
        known = picture.progress.parents.get(stream.name, {})
        days = len(known) / SIZE / (PROOF_SHARE * picture.per_day) if picture.per_day else 0.0
        lasts = max(PROOF_LASTS, timedelta(days=days))
        below = [(child, picture.progress.children.get(child.name, {})) for child in picture.below(stream)]
        for probe in candidates.block_probes(stream, picture.progress, now, lasts):
            assert probe.look is not None  # noqa: S101 - a block's probe
            members = [known[name] for name in probe.look.block.members]
            looked = min((parent.looked_at or parent.date for parent in members), default=None)
            if looked is None:
                probe.worth = inf
            elif probe.look.block.since is None and not picture.progress.streams[stream.name].complete:
                probe.worth = self._unknown(picture, stream, now)
            else:
                probe.worth = self._look(picture, stream, probe, members, below, now)
                _mark_overdue(probe, looked, picture, now)
            yield probe

    def _look(
        self,
        picture: Picture,
        stream: Stream,
        probe: Probe,
        members: Sequence[ParentState],
        below: Sequence[tuple[Stream, Mapping[str, ChildState]]],
        now: datetime,
    ) -> float:
        assert probe.look is not None and self._rates is not None  # noqa: S101, PT018 - see above
        unseen = self._rates.unseen
        own, lists = NOTHING, []
        for parent in members:
            since = parent.looked_at or now
            for child_stream, children_of in below:
                child = children_of.get(parent.id)
                if child and not candidates.asks(child):
                    lists.append(unseen(child_stream, parent, child, since))
        if probe.look.block.until is None:
            unlooked = now - max(parent.looked_at or parent.date for parent in members)
            own = worth.steady(self._rates.births(stream), unlooked)
            hours = unlooked / HOUR
            for child_stream, _ in below:
                # The mean over the ages that a parent born since may have (Simpson).
                half = self._rates.typical(child_stream, 0, hours / 2)
                whole = self._rates.typical(child_stream, 0, hours)
                rows = own.rows * (4 * half.rows + whole.rows) / 6
                lists.append(Expected(rows, own.rows * (4 * half.row_hours + whole.row_hours) / 6))
            if stream.name not in picture.policy.streams:
                own = NOTHING
        return worth.of_look(own, lists, 2.0 if probe.look.proving else 1.0)

    def _unknown(self, picture: Picture, stream: Stream, now: datetime) -> float:
        """A page of parents that were never seen, older than those that were."""
        assert self._rates is not None  # noqa: S101 - a run has begun
        known = picture.progress.parents.get(stream.name, {}).values()
        oldest = min((parent.date for parent in known), default=now)
        age, since = (now - oldest) / HOUR, (picture.policy.start - oldest) / HOUR
        lists = []
        for child in picture.below(stream):
            rows = self._rates.typical(child, max(0.0, since), age).rows
            lists += [Expected(rows, rows * UNKNOWN_HOURS)] * SIZE
        own = Expected(SIZE, SIZE * UNKNOWN_HOURS) if since <= 0 else NOTHING
        # Before it was seen, nothing at all is known of it: it is worth a look sooner or later.
        return max(worth.of_look(own, lists), UNKNOWN_HOURS)

    def _lists(self, picture: Picture, stream: Stream, state: StreamState, now: datetime) -> Iterable[Probe]:
        parents = picture.progress.parents.get(stream.parent or "", {})
        for child in picture.progress.children.get(stream.name, {}).values():
            parent = parents.get(child.parent)
            if parent and not parent.gone and (state.distrusted or candidates.asks(child)):
                yield self._list(picture, stream, child, now)

    def _list(self, picture: Picture, stream: Stream, child: ChildState, now: datetime) -> Probe:
        assert self._rates is not None  # noqa: S101 - a run has begun
        probe = _list_probe(picture, stream, child)
        parent = picture.progress.parents[stream.parent or ""][child.parent]
        known = parent.known_at or now
        looked = parent.looked_at or now
        if not candidates.asks(child):
            since = child.swept_at or known
            probe.worth = self._rates.unseen(stream, parent, child, since).row_hours
        else:
            if child.swept is None:
                history = self._history(picture, stream, parent, child)
                waiting = rates.faded(child.recent, child.recent_at, now)
                since = known
            else:
                history = 0.0
                waiting = counters.waiting(child.counter, child.swept, child.surplus) or worth.HALF_A_ROW
                since = child.waits_since or looked
            pages = max(1, ceil((history + waiting) / stream.cap))
            waiting += self._rates.unseen(stream, parent, child, looked).rows + history * worth.HISTORY
            probe.worth = worth.of_waiting(waiting, self._rates.coming(stream, parent, child), pages)
        _mark_overdue(probe, since, picture, now)
        return probe

    def _history(self, picture: Picture, stream: Stream, parent: ParentState, child: ChildState) -> float:
        """How many rows of a list never read are of interest: those since the start date."""
        assert self._rates is not None  # noqa: S101 - a run has begun
        count = counters.total(child.counter) or 1
        age = ((parent.known_at or parent.date) - parent.date) / HOUR
        since = (picture.policy.start - parent.date) / HOUR
        if since <= 0:
            return float(count)
        whole = self._rates.typical(stream, 0, age).rows
        return count * self._rates.typical(stream, since, age).rows / whole if whole else 0.0

    def _dated(self, picture: Picture, stream: Stream, state: StreamState, now: datetime) -> Probe:
        assert self._rates is not None  # noqa: S101 - a run has begun
        probe = candidates.dated_probe(stream, state, picture.policy, picture.first_page)
        if state.looked_at is None or state.place:
            # Up to a hundred rows for one request.
            probe.worth = inf
            return probe
        unlooked = now - state.looked_at
        pages = max(1, ceil(self._rates.births(stream) * (unlooked / HOUR) / stream.cap))
        probe.worth = worth.of_polling(self._rates.births(stream), unlooked, pages)
        _mark_overdue(probe, state.looked_at, picture, now)
        return probe


def _mark_overdue(probe: Probe, since: datetime, picture: Picture, now: datetime) -> None:
    """What has waited longer than `max_age` gets a turn whatever it is worth."""
    over = now - since - picture.policy.max_age
    if over > timedelta(0):
        probe.turn, probe.overdue = Turn.OVERDUE, over / HOUR


def _list_probe(picture: Picture, stream: Stream, child: ChildState) -> Probe:
    parent = picture.progress.parents[stream.parent or ""][child.parent]
    state = picture.progress.streams[stream.name]
    return candidates.child_probe(stream, child, parent.date, state, picture.policy, picture.first_page)


def _audits(picture: Picture, now: datetime, known_rates: Rates | None = None) -> list[Probe]:
    """The lists that were read longest ago, though no counter has moved since."""
    horizon = now - AUDIT_AFTER
    due = [
        (child.swept_at, child.parent, stream)
        for stream in candidates.wanted(picture.catalogue, picture.policy)
        for child in picture.progress.children.get(stream.name, {}).values()
        if child.swept_at
        and child.swept_at < horizon
        and child.swept == child.counter
        and child.counter != "0"
    ]
    due = nsmallest(AUDITS, due, key=lambda each: each[:2])
    guess = known_rates or (Learnt(picture, now) if due else None)
    probes = []
    for swept, name, stream in due:
        child = picture.progress.children[stream.name][name]
        parent = picture.progress.parents[stream.parent or ""][name]
        if parent.gone or not counters.total(child.counter):
            continue
        probe = candidates.audit_probe(stream, child)
        probe.turn, probe.audit = Turn.AUDIT, True
        if guess:
            probe.worth = guess.unseen(stream, parent, child, swept).row_hours * HIDDEN_SHARE
        probes.append(probe)
    return probes

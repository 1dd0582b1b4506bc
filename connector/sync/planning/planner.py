"""How a month's quota is spent: what to request, and in which order; without I/O.

There is one rule: the next request goes to the probe that clears the most waiting per request. Without a
monthly limit, every run sends every probe (`UnlimitedPlanner` in start.py).
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import nlargest
from math import ceil, inf
from typing import Protocol

from connector.beamer.pagination import EMPTY_PAGES_THAT_END
from connector.beamer.streams import Stream, children
from connector.domain.budget import GATHERS
from connector.domain.state import ChildState, ParentState, StreamState
from connector.sync.lists import backoff, counter_trust, counters
from connector.sync.lists.blocks import SIZE, UNORDERED
from connector.sync.planning import arrival, candidates, estimates, hinted
from connector.sync.planning.arrival import HOUR
from connector.sync.planning.audit import audits
from connector.sync.planning.estimates import NOTHING, Expected, LearnedRates, Rates
from connector.sync.planning.probes import PlanInputs, Probe, Tier
from connector.sync.planning.queue import ANNOUNCED

# Reading past full pages, to prove that nothing follows, costs one more page for each block: under a
# monthly limit it is done no more often than this, and with no more than this share of the budget.
PROOF_LASTS_LIMITED = timedelta(days=30)
PROOF_SHARE = 0.02
# A row on a page that was never seen counts as if it had waited for twelve hours.
UNKNOWN = float(12.0**estimates.POWER)
# For this number of blocks the priority is computed list by list.
CLOSELY = 350
# More requests may become available during a run.
MARGIN = 20
# How many pages a check to the end of a list needs, by whether short pages were seen to end lists. The
# requests are not saved between runs: with one at a time, the first page would be requested for ever.
TO_THE_END = {True: 2, None: 3, False: 2 + EMPTY_PAGES_THAT_END}


class Planner(Protocol):
    """Decides what a run requests, and the priority of each probe."""

    def begin(self, inputs: PlanInputs, now: datetime) -> list[Probe]:
        """Return what to request before any page has been seen."""

    def follow(self, inputs: PlanInputs, stream: Stream, parent: str, now: datetime) -> Probe | None:
        """Return a child list after a page has shown its counter; None if there is nothing to request."""

    def onward(self, inputs: PlanInputs, probe: Probe, now: datetime) -> Probe:
        """Return a block's next page."""


@dataclass(frozen=True, slots=True)
class Rank:
    """The priority of a probe, and its tier; `overdue` in hours.

    `announced`: see `Probe`.
    """

    priority: float
    tier: Tier = Tier.PRIORITY
    overdue: float = 0.0
    announced: bool = False

    @property
    def sort_key(self) -> float:
        if self.announced:
            return ANNOUNCED + self.overdue
        return self.overdue if self.tier is Tier.OVERDUE else self.priority

    def by_age(self, since: datetime, inputs: PlanInputs, now: datetime) -> "Rank":
        """Put what has waited longer than `max_age` into the overdue tier, whatever its priority."""
        over = now - since - inputs.policy.max_age
        return Rank(self.priority, Tier.OVERDUE, over / HOUR) if over > timedelta(0) else self

    def announced_at(self, since: datetime, inputs: PlanInputs, now: datetime) -> "Rank":
        """Put rows that a counter announced longer ago than `max_age` before anything else."""
        over = now - since - inputs.policy.max_age
        return replace(self, overdue=over / HOUR, announced=True) if over > timedelta(0) else self

    def given(self, probe: Probe) -> Probe:
        """Return the probe with this rank."""
        return replace(
            probe, priority=self.priority, tier=self.tier, overdue=self.overdue, announced=self.announced
        )


class LimitedPlanner:
    """Request what clears the most waiting. `known_rates` replaces the learnt rates."""

    def __init__(self, known_rates: Rates | None = None) -> None:
        self._known_rates = known_rates
        # Set at the start of a run.
        self._rates: Rates
        self._unannounced: Mapping[str, float]
        self._hints: hinted.Unplaced
        self._known_since: Mapping[str, datetime]

    def begin(self, inputs: PlanInputs, now: datetime) -> list[Probe]:
        self._rates = self._known_rates or LearnedRates(inputs, now)
        self._unannounced = {
            name: hinted.unannounced(state) for name, state in inputs.progress.streams.items()
        }
        self._known_since = {
            name: min((parent.known_at for parent in known.values() if parent.known_at), default=now)
            for name, known in inputs.progress.parents.items()
        }
        probes: list[Probe] = []
        lists: list[tuple[Rank, Stream, ChildState]] = []
        for stream in candidates.wanted(inputs.catalogue, inputs.policy):
            state = inputs.progress.streams[stream.name]
            if backoff.is_skipped(inputs.progress, stream, now):
                continue
            if stream.parent is not None:
                lists += self._lists(inputs, stream, state, now)
            else:
                of_stream = (
                    self._blocks(inputs, stream, now)
                    if children(inputs.catalogue, stream.name)
                    else [self._dated(inputs, stream, state, now)]
                )
                last = backoff.comes_last(inputs.progress, state)
                probes += [
                    replace(probe, tier=Tier.LAST) if last or self._passed_over(inputs, probe) else probe
                    for probe in of_stream
                ]
        for_hints = hinted.probes(inputs, probes, now)
        # Each is requested once; of lists, the queue takes the first.
        blocks = [probe.check for probe in for_hints if probe.check]
        probes = for_hints + [probe for probe in probes if probe.check not in blocks]
        self._hints = hinted.Unplaced.begin(inputs, len(for_hints))
        # The queue gets no more probes than can be requested.
        most = len(lists) if inputs.available is None else MARGIN + int(inputs.available)
        for tier in Tier:
            due = (entry for entry in lists if entry[0].tier is tier)
            for rank, stream, child in nlargest(most, due, key=lambda entry: entry[0].sort_key):
                probes.append(rank.given(candidates.list_probe(inputs, stream, child, now)))
        return probes + audits(inputs, now, self._rates)

    def follow(self, inputs: PlanInputs, stream: Stream, parent: str, now: datetime) -> Probe | None:
        child = inputs.progress.child(stream.name, parent)
        if child is None or not candidates.due(child, now) or backoff.in_backoff(child, now):
            return None
        if backoff.is_skipped(inputs.progress, stream, now):
            return None
        rank = self._rank(inputs, stream, child, now)
        probe = rank.given(candidates.list_probe(inputs, stream, child, now))
        return hinted.first(probe) if self._hints.take(inputs, stream, child) else probe

    def onward(self, inputs: PlanInputs, probe: Probe, now: datetime) -> Probe:
        if inputs.progress.streams[probe.stream.name].complete or not probe.required_check.seen_ids:
            return replace(probe, priority=inf)
        return replace(probe, priority=self._unknown(inputs, probe.stream, now))

    # --- the priority of each probe ---

    def _passed_over(self, inputs: PlanInputs, probe: Probe) -> bool:
        """Return whether a page of parents failed again and again, so that everything else comes first."""
        if probe.check is None or not probe.check.block.members:
            return False
        known = inputs.progress.parents[probe.stream.name]
        block = backoff.of_block(known[name] for name in probe.check.block.members)
        return block is not None and backoff.comes_last(inputs.progress, block)

    def _blocks(self, inputs: PlanInputs, stream: Stream, now: datetime) -> Iterable[Probe]:
        known = inputs.progress.parents.get(stream.name, {})
        days = len(known) / SIZE / (PROOF_SHARE * inputs.per_day) if inputs.per_day else 0.0
        lasts = max(PROOF_LASTS_LIMITED, timedelta(days=days))
        child_lists = [
            (child, inputs.progress.children.get(child.name, {})) for child in inputs.child_streams(stream)
        ]
        state = inputs.progress.streams[stream.name]
        whole, unordered = state.complete, state.list_order in UNORDERED
        to_the_end = TO_THE_END[state.short_ends]
        begun = any(inputs.progress.parents.values())
        # The bucket never holds more than that.
        most = max(1.0, (inputs.per_day or 0.0) * (GATHERS / timedelta(days=1)))
        blocks: list[tuple[float, Probe, list[ParentState], datetime, int]] = []
        probes = candidates.block_probes(stream, inputs.progress, now, lasts)
        # These are checked with the newest block, too.
        also = {name for probe in probes for name in probe.required_check.block.also}
        for probe in probes:
            check = probe.required_check
            members = [known[name] for name in check.block.members]
            if check.part:
                # While nothing of the list is shown, its newest rows show when it works again.
                if state.failures > backoff.FREE:
                    continue
                # Its number of rows is unknown; it is in backoff after each failure.
                probe = replace(probe, priority=UNKNOWN)
                yield _save_up(probe, to_the_end, most)
                continue
            if (block := backoff.of_block(members)) and backoff.in_backoff(block, now):
                continue
            # A list that was read to its end and is empty was checked, too.
            check_dates = (parent.checked_at or parent.date for parent in members)
            checked_at = min(check_dates, default=state.checked_at if whole else None)
            if checked_at is None:
                # An empty list needs one page more to prove it; the very first check shows more.
                pages = to_the_end if begun else 1
                yield _save_up(replace(probe, priority=inf, unseen=True), pages, most)
            elif check.block.since is None and not whole:
                probe = replace(probe, priority=self._unknown(inputs, stream, now), unseen=True)
                yield _save_up(probe, to_the_end, most)
            else:
                guess = inf
                if check.block.until is not None and members:
                    guess = self._guess(
                        members[0], checked_at, [child for child, _ in child_lists], now
                    ) * len(members)
                # A parent that the last check did not show is searched for after a short page.
                needs_end = unordered or check.proving or _partly_seen(members, also)
                blocks.append((guess, probe, members, checked_at, to_the_end if needs_end else 1))
        # Of very many blocks, only the most promising are computed closely.
        blocks.sort(key=lambda entry: entry[0], reverse=True)
        for number, (guess, probe, members, checked_at, pages) in enumerate(blocks):
            value = guess
            if number < CLOSELY:
                shown = [*members, *(known[name] for name in probe.required_check.block.also)]
                value = self._check_value(inputs, stream, probe, shown, child_lists, now)
            ranked = Rank(value).by_age(checked_at, inputs, now).given(probe)
            yield _save_up(ranked, pages, most)

    def _guess(
        self, parent: ParentState, checked_at: datetime, child_streams: Iterable[Stream], now: datetime
    ) -> float:
        """Return how much the delays at a parent count, if it is like others of its age."""
        since, age = (checked_at - parent.date) / HOUR, (now - parent.date) / HOUR
        return sum(
            self._unannounced[child.name] * self._rates.typical(child, since, age).delay
            for child in child_streams
        )

    def _check_value(
        self,
        inputs: PlanInputs,
        stream: Stream,
        probe: Probe,
        members: Sequence[ParentState],
        child_lists: Sequence[tuple[Stream, Mapping[str, ChildState]]],
        now: datetime,
    ) -> float:
        unseen = self._rates.unseen
        parent_rows, lists = NOTHING, []
        for parent in members:
            since = parent.checked_at or now
            for child_stream, children_of in child_lists:
                child = children_of.get(parent.id)
                if child and (not candidates.has_news(child) or candidates.is_history(child)):
                    unannounced = self._unannounced[child_stream.name]
                    # A list that was read since because of a hint holds only later rows.
                    read = unannounced < 1 and child.read_at is not None and child.read_at > since
                    last = child.read_at if read and child.read_at else since
                    lists.append(unseen(child_stream, parent, child, last).times(unannounced))
        if probe.required_check.block.until is None:
            before = inputs.progress.streams[stream.name].checked_at or now
            unchecked = now - max((parent.checked_at or parent.date for parent in members), default=before)
            parent_rows = estimates.steady(self._rates.births(stream), unchecked).times(
                self._unannounced[stream.name], self._rates.weight(stream)
            )
            hours = unchecked / HOUR
            for child_stream, _ in child_lists:
                # The mean over the possible ages of a parent born since (Simpson).
                half = self._rates.typical(child_stream, 0, hours / 2)
                whole = self._rates.typical(child_stream, 0, hours)
                rows, delay = 4 * half.rows + whole.rows, 4 * half.delay + whole.delay
                lists.append(Expected(rows, delay).times(parent_rows.rows / 6))
            if stream.name not in inputs.policy.streams:
                parent_rows = NOTHING
        return estimates.of_check(parent_rows, lists, 2.0 if probe.required_check.proving else 1.0)

    def _unknown(self, inputs: PlanInputs, stream: Stream, now: datetime) -> float:
        """Return the priority of a page of parents that were never seen, older than the seen ones."""
        known = inputs.progress.parents.get(stream.name, {}).values()
        oldest = min((parent.date for parent in known), default=now)
        age, since = (now - oldest) / HOUR, (inputs.policy.start - oldest) / HOUR
        lists = []
        for child in inputs.child_streams(stream):
            rows = self._rates.typical(child, max(0.0, since), age).rows
            lists += [Expected(rows, self._rates.weight(child) * rows * UNKNOWN)] * SIZE
        parent_rows = Expected(SIZE, self._rates.weight(stream) * SIZE * UNKNOWN) if since <= 0 else NOTHING
        # Before it is seen, nothing is known about it: it must be checked sooner or later.
        return max(estimates.of_check(parent_rows, lists), UNKNOWN)

    def _lists(
        self, inputs: PlanInputs, stream: Stream, state: StreamState, now: datetime
    ) -> Iterable[tuple[Rank, Stream, ChildState]]:
        parents = inputs.progress.parents.get(stream.parent or "", {})
        for child in inputs.progress.children.get(stream.name, {}).values():
            # Most of very many lists have not changed: test that first.
            if not (state.distrusted or candidates.due(child, now)) or backoff.in_backoff(child, now):
                continue
            parent = parents.get(child.parent)
            if parent and not parent.gone:
                rank = self._rank(inputs, stream, child, now)
                if backoff.comes_last(inputs.progress, child):
                    rank = Rank(rank.priority, Tier.LAST)
                yield rank, stream, child

    def _rank(self, inputs: PlanInputs, stream: Stream, child: ChildState, now: datetime) -> Rank:
        parent = inputs.progress.parents[stream.parent or ""][child.parent]
        known = parent.known_at or now
        checked_at = parent.checked_at or now
        if not candidates.has_news(child):
            since = child.read_at or known
            value = self._unannounced[stream.name] * self._rates.unseen(stream, parent, child, since).delay
            if short := counter_trust.missing_rows(child):
                # Like a list that is polled: each hour since the last reading counts.
                share = max(inputs.progress.streams[stream.name].late_share, estimates.HIDDEN_ROW)
                value += self._rates.weight(stream) * estimates.waited(short * share, since, now)
                since = child.short_since or since
            return Rank(value).by_age(since, inputs, now)
        unseen, weight = self._rates.unseen(stream, parent, child, checked_at), self._rates.weight(stream)
        if candidates.is_history(child):
            history = self._history(inputs, stream, parent, child)
            pages = max(1, ceil(history / stream.cap))
            rank = Rank(weight * history * estimates.HISTORY / pages, Tier.HISTORY)
            if parent.date <= self._known_since.get(stream.parent or "", now):
                return rank
            # All its rows are newer than the connection: they are announced, not history.
            return rank.announced_at(known, inputs, now)
        if child.read_counter is None:
            waiting = arrival.faded(child.recent, child.recent_at, now)
        else:
            waiting = counters.waiting(child.counter, child.read_counter, child.surplus)
        waiting = max(1, waiting) if child.waits_since else 0
        if child.cursor and child.read_counter == child.counter and not waiting:
            # Parts of it could not be read: their number of rows is unknown.
            return Rank(UNKNOWN)
        coming = self._rates.coming(stream, parent, child)
        if waiting:
            pages = max(1, ceil(waiting / stream.cap))
            age = max(0.0, (now - (child.waits_since or checked_at)) / HOUR)
            value = weight * estimates.of_waiting(waiting + unseen.rows, age, coming, pages)
        else:
            value = unseen.delay + weight * estimates.waited(estimates.HIDDEN_ROW, checked_at, now)
        rank = Rank(value).by_age(child.waits_since or checked_at, inputs, now)
        return rank.announced_at(child.waits_since or checked_at, inputs, now) if waiting else rank

    def _history(self, inputs: PlanInputs, stream: Stream, parent: ParentState, child: ChildState) -> float:
        """Return how many rows of a list never read matter: those since the start date."""
        count = counters.total(child.counter) or 1
        age = ((parent.known_at or parent.date) - parent.date) / HOUR
        since = (inputs.policy.start - parent.date) / HOUR
        if since <= 0:
            return float(count)
        whole = self._rates.typical(stream, 0, age).rows
        return count * self._rates.typical(stream, since, age).rows / whole if whole else 0.0

    def _dated(self, inputs: PlanInputs, stream: Stream, state: StreamState, now: datetime) -> Probe:
        probe = candidates.dated_probe(stream, state, inputs.policy, inputs.first_page, now)
        left = state.cursor and not any(part.failures for part in probe.required_pass.unread)
        if state.checked_at is None or left:
            # Up to a hundred rows for one request.
            return replace(probe, priority=inf)
        unchecked = now - state.checked_at
        births = self._rates.births(stream) * self._unannounced[stream.name]
        pages = max(1, ceil(births * (unchecked / HOUR) / stream.cap))
        value = self._rates.weight(stream) * estimates.of_polling(births, unchecked, pages)
        return Rank(value).by_age(state.checked_at, inputs, now).given(probe)


def _partly_seen(members: Iterable[ParentState], also: Container[str]) -> bool:
    """Return whether a block's last check left members out; the newest block shows those in `also`."""
    dates = {(parent.checked_at or parent.date, parent.id in also) for parent in members}
    return len(dates) > len({of for _, of in dates})


def _save_up(probe: Probe, pages: int, most: float) -> Probe:
    """Set how many requests a check needs before it begins, and how many are for further pages."""
    needs = min(pages, most)
    return replace(probe, needs=needs, further_pages=min(pages, int(needs)) - 1)

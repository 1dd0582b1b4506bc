"""How a month's quota is spent: what is asked, and in which order; without I/O.

The rule is one: the next request goes to the probe with the most row-hours per request. Where there is
no monthly limit, every probe is sent at every run (`UnlimitedPlanner` in start.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import nlargest
from math import ceil, inf
from typing import Protocol

from connector.beamer.pagination import EMPTY_PAGES_THAT_END
from connector.beamer.streams import Stream, children
from connector.domain.state import ChildState, ParentState, StreamState
from connector.state.budget import GATHERS
from connector.sync.lists import backoff, counter_trust, counters
from connector.sync.lists.blocks import SIZE, UNORDERED
from connector.sync.planning import arrival, candidates, estimates
from connector.sync.planning.arrival import HOUR
from connector.sync.planning.audit import audits
from connector.sync.planning.estimates import NOTHING, Expected, LearnedRates, Rates
from connector.sync.planning.probes import Picture, Probe, Turn
from connector.sync.planning.queue import ANNOUNCED

# Making sure that nothing hides behind full pages costs a page more for each block: no oftener than this
# under a monthly limit, and no more than this share of the budget.
PROOF_LASTS_LIMITED = timedelta(days=30)
PROOF_SHARE = 0.02
# A row behind a page that was never seen counts as one that has waited this long.
UNKNOWN_HOURS = 12.0
# So many blocks are reckoned closely, list by list.
CLOSELY = 350
# More may come in while a run is under way.
MARGIN = 20
# So many pages a check has that goes behind its first one, by whether short pages were seen to end lists. It
# is not kept between two runs: with a request at a time at hand, the first page would be asked for ever.
TO_THE_END = {True: 2, None: 3, False: 2 + EMPTY_PAGES_THAT_END}


class Planner(Protocol):
    """Says what a run asks, and the priority of each probe."""

    def begin(self, picture: Picture, now: datetime) -> list[Probe]:
        """What to ask before any page has been seen."""

    def follow(self, picture: Picture, stream: Stream, parent: str, now: datetime) -> Probe | None:
        """A child list after a page has shown its counter; None if there is nothing to ask."""

    def onward(self, picture: Picture, probe: Probe, now: datetime) -> Probe:
        """A block's next page."""


@dataclass(frozen=True, slots=True)
class Rank:
    """The priority of a probe, in row-hours per request, and when its turn comes; `overdue` in hours.

    `announced`: see `Probe`.
    """

    priority: float
    turn: Turn = Turn.PRIORITY
    overdue: float = 0.0
    announced: bool = False

    @property
    def sort_key(self) -> float:
        if self.announced:
            return ANNOUNCED + self.overdue
        return self.overdue if self.turn is Turn.OVERDUE else self.priority

    def by_age(self, since: datetime, picture: Picture, now: datetime) -> "Rank":
        """What has waited longer than `max_age` gets a turn whatever its priority."""
        over = now - since - picture.policy.max_age
        return Rank(self.priority, Turn.OVERDUE, over / HOUR) if over > timedelta(0) else self

    def announced_at(self, since: datetime, picture: Picture, now: datetime) -> "Rank":
        """What a counter showed longer ago than `max_age` comes before anything else."""
        over = now - since - picture.policy.max_age
        return replace(self, overdue=over / HOUR, announced=True) if over > timedelta(0) else self

    def given(self, probe: Probe) -> Probe:
        probe.priority, probe.turn, probe.overdue = self.priority, self.turn, self.overdue
        probe.announced = self.announced
        return probe


class LimitedPlanner:
    """Ask what clears the most waiting. `known_rates` takes the place of what is learnt."""

    def __init__(self, known_rates: Rates | None = None) -> None:
        self._known_rates = known_rates
        # Set as a run begins.
        self._rates: Rates
        self._known_since: Mapping[str, datetime]

    def begin(self, picture: Picture, now: datetime) -> list[Probe]:
        self._rates = self._known_rates or LearnedRates(picture, now)
        self._known_since = {
            name: min((parent.known_at for parent in known.values() if parent.known_at), default=now)
            for name, known in picture.progress.parents.items()
        }
        probes: list[Probe] = []
        lists: list[tuple[Rank, Stream, ChildState]] = []
        for stream in candidates.wanted(picture.catalogue, picture.policy):
            state = picture.progress.streams[stream.name]
            if backoff.is_skipped(picture.progress, stream, now):
                continue
            if stream.parent is not None:
                lists += self._lists(picture, stream, state, now)
            else:
                blocks = bool(children(picture.catalogue, stream.name))
                own = (
                    self._blocks(picture, stream, now)
                    if blocks
                    else [self._dated(picture, stream, state, now)]
                )
                last = backoff.comes_last(picture.progress, state)
                probes += [
                    replace(probe, priority=0.0) if last or self._passed_over(picture, probe) else probe
                    for probe in own
                ]
        # No more are put into the queue than can be asked.
        most = len(lists) if picture.available is None else MARGIN + int(picture.available)
        for turn in Turn:
            due = (each for each in lists if each[0].turn is turn)
            for rank, stream, child in nlargest(most, due, key=lambda each: each[0].sort_key):
                probes.append(rank.given(candidates.list_probe(picture, stream, child, now)))
        return probes + audits(picture, now, self._rates)

    def follow(self, picture: Picture, stream: Stream, parent: str, now: datetime) -> Probe | None:
        child = picture.progress.children.get(stream.name, {}).get(parent)
        if child is None or not candidates.due(child, now) or backoff.in_backoff(child, now):
            return None
        if backoff.is_skipped(picture.progress, stream, now):
            return None
        return self._rank(picture, stream, child, now).given(
            candidates.list_probe(picture, stream, child, now)
        )

    def onward(self, picture: Picture, probe: Probe, now: datetime) -> Probe:
        if picture.progress.streams[probe.stream.name].complete or not probe.required_check.found:
            return replace(probe, priority=inf)
        return replace(probe, priority=self._unknown(picture, probe.stream, now))

    # --- the priority of each probe ---

    def _passed_over(self, picture: Picture, probe: Probe) -> bool:
        """Whether a page of parents failed again and again, and all else comes first."""
        if probe.check is None or not probe.check.block.members:
            return False
        known = picture.progress.parents[probe.stream.name]
        block = backoff.of_block(known[name] for name in probe.check.block.members)
        return block is not None and backoff.comes_last(picture.progress, block)

    def _blocks(self, picture: Picture, stream: Stream, now: datetime) -> Iterable[Probe]:
        known = picture.progress.parents.get(stream.name, {})
        days = len(known) / SIZE / (PROOF_SHARE * picture.per_day) if picture.per_day else 0.0
        lasts = max(PROOF_LASTS_LIMITED, timedelta(days=days))
        child_lists = [
            (child, picture.progress.children.get(child.name, {})) for child in picture.child_streams(stream)
        ]
        state = picture.progress.streams[stream.name]
        whole, unordered = state.complete, state.list_order in UNORDERED
        to_the_end = TO_THE_END[state.short_ends]
        begun = any(picture.progress.parents.values())
        # More than that never gathers.
        most = max(1.0, (picture.per_day or 0.0) * (GATHERS / timedelta(days=1)))
        blocks: list[tuple[float, Probe, list[ParentState], datetime, int]] = []
        for probe in candidates.block_probes(stream, picture.progress, now, lasts):
            check = probe.required_check
            members = [known[name] for name in check.block.members]
            if check.part:
                # While nothing of the list is shown, its newest rows tell when it is back.
                if state.failures > backoff.FREE:
                    continue
                # How much is there, nobody knows; it rests after each failure.
                probe.priority = UNKNOWN_HOURS
                _save_up(probe, to_the_end, to_the_end, most)
                yield probe
                continue
            if (block := backoff.of_block(members)) and backoff.in_backoff(block, now):
                continue
            # A list that was read to its end and is empty was looked at, too.
            check_dates = {parent.checked_at or parent.date for parent in members}
            checked_at = min(check_dates, default=state.checked_at if whole else None)
            if checked_at is None:
                # An empty list shows that it is one behind its first page; the very first check shows more.
                probe.priority, probe.unseen, pages = inf, True, to_the_end if begun else 1
                _save_up(probe, pages, pages, most)
                yield probe
            elif check.block.since is None and not whole:
                probe.priority, probe.unseen = self._unknown(picture, stream, now), True
                _save_up(probe, to_the_end, to_the_end, most)
                yield probe
            else:
                guess = inf
                if check.block.until is not None and members:
                    guess = self._guess(
                        members[0], checked_at, [child for child, _ in child_lists], now
                    ) * len(members)
                # One that the last check did not show is looked for behind a short page.
                both = unordered or len(check_dates) > 1 or check.proving
                blocks.append((guess, probe, members, checked_at, to_the_end if both else 1))
        # Of very many, those are reckoned closely that may be worth most.
        blocks.sort(key=lambda each: each[0], reverse=True)
        for number, (guess, probe, members, checked_at, pages) in enumerate(blocks):
            value, lists = guess, list[Expected]()
            if number < CLOSELY:
                value, lists = self._check_value(picture, stream, probe, members, child_lists, now)
            Rank(value).by_age(checked_at, picture, now).given(probe)
            # On the smallest budgets a day's worth has to do.
            wanted = min(pages + estimates.lists_moved(lists), max(pages, picture.per_day or 1.0))
            _save_up(probe, pages, wanted, most)
            yield probe

    def _guess(
        self, parent: ParentState, checked_at: datetime, child_streams: Iterable[Stream], now: datetime
    ) -> float:
        """Row-hours at a parent, if it is like others of its age."""
        since, age = (checked_at - parent.date) / HOUR, (now - parent.date) / HOUR
        return sum(self._rates.typical(child, since, age).row_hours for child in child_streams)

    def _check_value(
        self,
        picture: Picture,
        stream: Stream,
        probe: Probe,
        members: Sequence[ParentState],
        child_lists: Sequence[tuple[Stream, Mapping[str, ChildState]]],
        now: datetime,
    ) -> tuple[float, list[Expected]]:
        unseen = self._rates.unseen
        own, lists = NOTHING, []
        for parent in members:
            since = parent.checked_at or now
            for child_stream, children_of in child_lists:
                child = children_of.get(parent.id)
                if child and (not candidates.has_news(child) or candidates.is_history(child)):
                    lists.append(unseen(child_stream, parent, child, since))
        if probe.required_check.block.until is None:
            before = picture.progress.streams[stream.name].checked_at or now
            unchecked = now - max((parent.checked_at or parent.date for parent in members), default=before)
            own = estimates.steady(self._rates.births(stream), unchecked).times(1.0, self._rates.sent(stream))
            hours = unchecked / HOUR
            for child_stream, _ in child_lists:
                # The mean over the ages that a parent born since may have (Simpson).
                half = self._rates.typical(child_stream, 0, hours / 2)
                whole = self._rates.typical(child_stream, 0, hours)
                rows, row_hours = 4 * half.rows + whole.rows, 4 * half.row_hours + whole.row_hours
                lists.append(Expected(rows, row_hours).times(own.rows / 6))
            if stream.name not in picture.policy.streams:
                own = NOTHING
        return estimates.of_check(own, lists, 2.0 if probe.required_check.proving else 1.0), lists

    def _unknown(self, picture: Picture, stream: Stream, now: datetime) -> float:
        """A page of parents that were never seen, older than those that were."""
        known = picture.progress.parents.get(stream.name, {}).values()
        oldest = min((parent.date for parent in known), default=now)
        age, since = (now - oldest) / HOUR, (picture.policy.start - oldest) / HOUR
        lists = []
        for child in picture.child_streams(stream):
            rows = self._rates.typical(child, max(0.0, since), age).rows
            lists += [Expected(rows, self._rates.sent(child) * rows * UNKNOWN_HOURS)] * SIZE
        own = Expected(SIZE, self._rates.sent(stream) * SIZE * UNKNOWN_HOURS) if since <= 0 else NOTHING
        # Before it was seen, nothing at all is known of it: it is worth a check sooner or later.
        return max(estimates.of_check(own, lists), UNKNOWN_HOURS)

    def _lists(
        self, picture: Picture, stream: Stream, state: StreamState, now: datetime
    ) -> Iterable[tuple[Rank, Stream, ChildState]]:
        parents = picture.progress.parents.get(stream.parent or "", {})
        for child in picture.progress.children.get(stream.name, {}).values():
            # Of very many lists most stand still: that is asked first.
            if not (state.distrusted or candidates.due(child, now)) or backoff.in_backoff(child, now):
                continue
            parent = parents.get(child.parent)
            if parent and not parent.gone:
                last = backoff.comes_last(picture.progress, child)
                rank = Rank(0.0) if last else self._rank(picture, stream, child, now)
                yield rank, stream, child

    def _rank(self, picture: Picture, stream: Stream, child: ChildState, now: datetime) -> Rank:
        parent = picture.progress.parents[stream.parent or ""][child.parent]
        known = parent.known_at or now
        checked_at = parent.checked_at or now
        if not candidates.has_news(child):
            since = child.read_at or known
            value = self._rates.unseen(stream, parent, child, since).row_hours
            if short := counter_trust.missing_rows(child):
                # As a list that is polled: each hour since the last reading counts for what may have come.
                share = max(picture.progress.streams[stream.name].late_share, estimates.HIDDEN_ROW)
                value += self._rates.sent(stream) * short * share * (now - since) / HOUR
                since = child.short_since or since
            return Rank(value).by_age(since, picture, now)
        unseen, sent = self._rates.unseen(stream, parent, child, checked_at), self._rates.sent(stream)
        if candidates.is_history(child):
            history = self._history(picture, stream, parent, child)
            pages = max(1, ceil(history / stream.cap))
            young = parent.date >= picture.policy.start
            value = sent * history * (estimates.HISTORY if young else estimates.OLD_HISTORY) / pages
            rank = Rank(value, Turn.HISTORY)
            if parent.date <= self._known_since.get(stream.parent or "", now):
                return rank
            # All its rows are newer than the connection: they are announced, and no history.
            return rank.announced_at(known, picture, now)
        if child.read_counter is None:
            waiting = arrival.faded(child.recent, child.recent_at, now)
        else:
            waiting = counters.waiting(child.counter, child.read_counter, child.surplus)
            waiting = max(1, waiting) if child.waits_since else 0
        if child.cursor and child.read_counter == child.counter and not waiting:
            # Parts of it could not be read: how much is there, nobody knows.
            return Rank(UNKNOWN_HOURS)
        coming = self._rates.coming(stream, parent, child)
        if waiting:
            pages = max(1, ceil(waiting / stream.cap))
            value = sent * estimates.of_waiting(waiting + unseen.rows, coming, pages)
        else:
            value = unseen.row_hours + sent * estimates.HIDDEN_ROW * (now - checked_at) / HOUR
        rank = Rank(value).by_age(child.waits_since or checked_at, picture, now)
        return rank.announced_at(child.waits_since or checked_at, picture, now) if waiting else rank

    def _history(self, picture: Picture, stream: Stream, parent: ParentState, child: ChildState) -> float:
        """How many rows of a list never read are of interest: those since the start date."""
        count = counters.total(child.counter) or 1
        age = ((parent.known_at or parent.date) - parent.date) / HOUR
        since = (picture.policy.start - parent.date) / HOUR
        if since <= 0:
            return float(count)
        whole = self._rates.typical(stream, 0, age).rows
        return count * self._rates.typical(stream, since, age).rows / whole if whole else 0.0

    def _dated(self, picture: Picture, stream: Stream, state: StreamState, now: datetime) -> Probe:
        probe = candidates.dated_probe(stream, state, picture.policy, picture.first_page, now)
        left = state.cursor and not any(part.failures for part in probe.required_pass.unread)
        if state.checked_at is None or left:
            # Up to a hundred rows for one request.
            probe.priority = inf
            return probe
        unchecked = now - state.checked_at
        pages = max(1, ceil(self._rates.births(stream) * (unchecked / HOUR) / stream.cap))
        value = self._rates.sent(stream) * estimates.of_polling(self._rates.births(stream), unchecked, pages)
        return Rank(value).by_age(state.checked_at, picture, now).given(probe)


def _save_up(probe: Probe, pages: int, wanted: float, most: float) -> None:
    """How much is to be at hand before a check begins, and how much of it is kept for its further pages."""
    probe.needs = min(wanted, most)
    probe.kept = min(pages, int(probe.needs)) - 1

"""Forecast how late rows will be on a request budget, and what was not read yet; without I/O.

The model: every block and every list without a counter is checked at one interval, and each list that
changed meanwhile is read. The interval is the shortest that the budget allows. A row waits half of it on
average. The planner checks busy blocks more often than quiet ones, which the model ignores. Times are hours.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import ceil, exp, inf, sqrt

from connector.beamer.streams import Stream, children
from connector.domain.budget import Balance
from connector.domain.state import ChildState, ParentState, StreamState
from connector.sync.lists import counters
from connector.sync.lists.blocks import cut
from connector.sync.planning import candidates
from connector.sync.planning.arrival import HOUR
from connector.sync.planning.audit import AUDIT_AFTER, AUDITS
from connector.sync.planning.estimates import LearnedRates, Rates
from connector.sync.planning.planner import PROOF_LASTS_LIMITED, PROOF_SHARE
from connector.sync.planning.probes import PlanInputs, Tier
from connector.sync.planning.queue import TIERS
from connector.sync.planning.start import AUDIT_SHARE

DAY, MONTH = 24.0, 365.25 / 12 * 24
# The longest interval, and how many halvings of the search are enough.
LONGEST, HALVINGS = 1e5, 40


@dataclass(slots=True)
class Activity:
    """The lists of some connections of one account, and how many rows arrive.

    `checks` requests, by stream, check everything once, `blocks` of them blocks of parents. `lists` counts
    the lists that are read when their counter changes, by rows an hour and rows a page; reading all of these
    takes `pages`. `rows` is how many rows each stream has in a month.
    """

    checks: Counter[str] = field(default_factory=Counter)
    blocks: int = 0
    lists: Counter[tuple[float, int]] = field(default_factory=Counter)
    pages: Counter[tuple[float, int]] = field(default_factory=Counter)
    rows: dict[str, float] = field(default_factory=dict)

    def expect(self, stream: Stream, per_hour: float) -> None:
        """Add rows that arrive in a stream."""
        self.rows[stream.name] = self.rows.get(stream.name, 0.0) + per_hour * MONTH

    def requests(self, interval: float) -> float:
        """Return the requests an hour for checking everything at this interval."""
        reads = (
            number * max(_reads(rate, interval), rate / cap) for (rate, cap), number in self.lists.items()
        )
        return self.checks.total() / interval + sum(reads)

    def left_to_audit(self, hours: float, interval: float) -> float:
        """Return the pages of the lists that are not read within so many hours at this interval."""
        return sum(pages * exp(-hours * _reads(rate, interval)) for (rate, _), pages in self.pages.items())


def _reads(rate: float, interval: float) -> float:
    """Return how often an hour a list has changed at a check, if rows arrive at this rate."""
    return (1 - exp(-rate * interval)) / interval


def activity(all_inputs: Sequence[PlanInputs], now: datetime, known_rates: Rates | None = None) -> Activity:
    """Return the lists and their arriving rows, by what is known of each connection."""
    watched = Activity()
    for inputs in map(with_every_stream, all_inputs):
        rates = known_rates or LearnedRates(inputs, now)
        for stream in candidates.wanted(inputs.catalogue, inputs.policy):
            if stream.parent is None:
                watched.expect(stream, rates.births(stream) * (stream.name in inputs.policy.streams))
                blocks = _blocks(inputs, stream) if children(inputs.catalogue, stream.name) else 0
                watched.blocks += blocks
                watched.checks[stream.name] += blocks or 1
                continue
            state = inputs.progress.streams[stream.name]
            parents = inputs.progress.parents.get(stream.parent, {})
            for child in inputs.progress.children.get(stream.name, {}).values():
                parent = parents.get(child.parent)
                if parent is None or parent.gone:
                    continue
                rate = rates.coming(stream, parent, child)
                watched.expect(stream, rate)
                if state.distrusted or counters.UNKNOWN in child.counter:
                    watched.checks[stream.name] += 1
                    continue
                # Nearly equal rates are counted together.
                alike = float(f"{rate:.1e}"), stream.cap
                watched.lists[alike] += 1
                watched.pages[alike] += ceil(counters.total(child.counter) / stream.cap)
    return watched


def _blocks(inputs: PlanInputs, stream: Stream) -> int:
    parents = inputs.progress.parents.get(stream.name, {}).values()
    return len(list(cut((parent.date, parent.id) for parent in parents if not parent.gone)))


def with_every_stream(inputs: PlanInputs) -> PlanInputs:
    """Return the inputs with a state for every stream, also before the first run."""
    blank = {name: StreamState(0, name) for name in inputs.catalogue}
    streams = {**blank, **inputs.progress.streams}
    return replace(inputs, progress=replace(inputs.progress, streams=streams))


@dataclass(frozen=True, slots=True)
class Forecast:
    """How late rows will be on average, in hours; None if none will arrive.

    `keeps_up` is False if more rows arrive than the budget can read: delays then grow without end.
    `audit_round`: the hours in which every list is read once, whether or not its counter changes; None if
    there is none to read.
    """

    per_day: float | None
    keeps_up: bool
    mean: float | None
    audit_round: float | None


def share(tier: Tier) -> float:
    """Return the share of all requests that is kept for this tier."""
    every, _ = TIERS[tier]
    return 1 / every


def forecast(watched: Activity, shortest: float, per_day: float | None, unread: int = 0) -> Forecast:
    """Return the forecast for a budget of so many requests a day; None: no limit but the runs.

    `shortest`: the hours between runs. `unread`: requests for reading what existed at first sight.
    """
    week = AUDIT_AFTER / HOUR
    weekly = watched.pages.total() / week
    interval, keeps_up = shortest, True
    if per_day is None:
        audit = min(weekly, min(AUDITS, ceil(watched.checks.total() * AUDIT_SHARE)) / shortest)
    else:
        per_hour = per_day / DAY
        proofs = min(watched.blocks / (PROOF_LASTS_LIMITED / HOUR), PROOF_SHARE * per_hour)
        history = min(unread / MONTH, per_hour * share(Tier.HISTORY))
        audit = min(weekly, per_hour * share(Tier.AUDIT))
        budget = per_hour - proofs - history - audit
        interval = _least(lambda hours: watched.requests(hours) <= budget, shortest)
        keeps_up = watched.requests(interval) <= budget
        audit = min(weekly, audit + max(0.0, budget - watched.requests(interval)))
    rows = sum(watched.rows.values())
    return Forecast(
        per_day,
        keeps_up,
        interval / 2 if rows and keeps_up else None,
        _least(lambda hours: watched.left_to_audit(hours, interval) <= audit * hours, week)
        if audit and keeps_up
        else None,
    )


def _least(enough: Callable[[float], bool], least: float) -> float:
    """Return the smallest sufficient number of hours, between `least` and the longest."""
    low, high = least, LONGEST
    if enough(low):
        return low
    for _ in range(HALVINGS):
        hours = sqrt(low * high)
        low, high = (low, hours) if enough(hours) else (hours, high)
    return high


# --- what was not read yet ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FirstReads:
    """How many lists of each stream held unread rows at first sight, and the requests for reading them.

    `discovering`: the streams not yet listed to their end, so that more lists may follow.
    """

    lists: Mapping[str, int]
    requests: int
    discovering: Sequence[str]


def first_reads(all_inputs: Sequence[PlanInputs]) -> FirstReads:
    """Return the lists with rows from before the account was known, and the requests to read them."""
    lists: Counter[str] = Counter()
    requests, discovering = 0, []
    for inputs in map(with_every_stream, all_inputs):
        for stream in candidates.wanted(inputs.catalogue, inputs.policy):
            if stream.parent is None:
                if (
                    children(inputs.catalogue, stream.name)
                    and not inputs.progress.streams[stream.name].complete
                ):
                    discovering.append(stream.name)
                continue
            parents = inputs.progress.parents.get(stream.parent, {})
            for child in inputs.progress.children.get(stream.name, {}).values():
                parent = parents.get(child.parent)
                # A list that changed since its parent is known waits like any other.
                unread = candidates.is_history(child) and candidates.has_news(child)
                if parent and not parent.gone and unread:
                    lists[stream.name] += 1
                    requests += _pages(inputs, stream, parent, child)
    return FirstReads(lists, requests, tuple(dict.fromkeys(discovering)))


def _pages(inputs: PlanInputs, stream: Stream, parent: ParentState, child: ChildState) -> int:
    """Return the pages of a first reading: one, if the parent is older than the start date."""
    young = parent.date >= inputs.policy.start
    return max(1, ceil(counters.total(child.counter) / stream.cap)) if young else 1


def read_by(first: FirstReads, now: datetime, balance: Balance) -> datetime | None:
    """Return by when all this will be read at the latest; None if not within a year."""
    if balance.level is None or first.requests <= balance.level:
        return now
    per_day = (balance.per_day or 0.0) * share(Tier.HISTORY)
    days = (first.requests - balance.level) / per_day if per_day else inf
    return now + timedelta(days=days) if days < 366 else None

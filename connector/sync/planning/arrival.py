"""How rows arrive as a post grows older, learnt from the rows that came."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from json import dumps, loads

from connector.beamer.streams import Stream
from connector.domain.state import ChildState, ParentState
from connector.sync.lists import counters
from connector.sync.planning import candidates
from connector.sync.planning.probes import PlanInputs

EDGES = (0.0, 3.0, 8.0, 24.0, 48.0, 96.0, 192.0, 384.0, 768.0, 1536.0, 3072.0)
# Only the curve's shape: the account's own counters give its height.
PRIOR = (0.12, 0.12, 0.11, 0.09, 0.06, 0.03, 0.012, 0.004, 0.002, 0.0015, 0.001)
# The prior weighs as much as this number of observed hours in each bin.
PRIOR_HOURS = 24.0
ROUNDS = 12
# A curve of another version, or with other bins, is learnt again.
VERSION = 1
# The record's weight after a day: its half-life is some two months.
KEPT_A_DAY = 0.989
# A fit uses at most this number of parents; of more, every n-th.
MOST_FITTED = 2_000
# Lists differ: the assumption that a list is like the others weighs as much as this number of rows.
ALIKE = 2.0
RECENT_ALIKE = 3.0
# After this number of hours, a row that came at a list counts half.
FORGETTING = 14 * 24.0
FORGOTTEN = 8 * FORGETTING
# Equal to counting only the rows of this number of hours (the half-life over ln 2).
REMEMBERED = FORGETTING * 1.4427
HOUR = timedelta(hours=1)
# No learnt number is larger.
MOST = 1e12


@dataclass(frozen=True)
class Curve:
    """Rows an hour at an average parent, by its age: one rate for each bin that begins at EDGES."""

    rates: tuple[float, ...]

    @cached_property
    def _sums(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        rows, moments = [0.0], [0.0]
        for rate, (start, end) in zip(self.rates, pairwise(EDGES), strict=False):
            rows.append(rows[-1] + rate * (end - start))
            moments.append(moments[-1] + rate * (end * end - start * start) / 2)
        return tuple(rows), tuple(moments)

    def total(self, age: float) -> float:
        """Return the rows expected from birth to an age."""
        if age <= 0:
            return 0.0
        bin_ = bisect_right(EDGES, age) - 1
        return self._sums[0][bin_] + self.rates[bin_] * (age - EDGES[bin_])

    def arrivals(self, since: float, until: float) -> tuple[float, float]:
        """Return the rows expected between two ages, and the row-hours they have waited at the later one."""
        if until <= 0 or until <= since:
            return 0.0, 0.0
        rows, moments = self._sums
        last = bisect_right(EDGES, until) - 1
        edge, rate = EDGES[last], self.rates[last]
        came = rows[last] + rate * (until - edge)
        moment = moments[last] + rate * (until * until - edge * edge) / 2
        if since > 0:
            first = bisect_right(EDGES, since) - 1
            edge, rate = EDGES[first], self.rates[first]
            came -= rows[first] + rate * (since - edge)
            moment -= moments[first] + rate * (since * since - edge * edge) / 2
        return came, max(0.0, until * came - moment)


PRIOR_CURVE = Curve(PRIOR)


@dataclass(frozen=True)
class Learning:
    """A curve, and its record: by bin, the rows that came between checks, and the observed hours."""

    curve: Curve = PRIOR_CURVE
    rows: tuple[float, ...] = (0.0,) * len(EDGES)
    hours: tuple[float, ...] = (0.0,) * len(EDGES)

    def observed(self, checks: Iterable[tuple[float, float, int]]) -> "Learning":
        """Add checks: two ages (hours) at which a parent was seen, and the rows that came in between."""
        rows, hours = list(self.rows), list(self.hours)
        # A run on a large account brings tens of thousands, most of which lie within one bin.
        for since, until, came in checks:
            spans = list(_bins(max(since, 0.0), until))
            whole = sum(self.curve.rates[bin_] * span for bin_, span in spans) or 1.0
            for bin_, span in spans:
                rows[bin_] += came * self.curve.rates[bin_] * span / whole
                hours[bin_] += span
        return Learning(self.curve, tuple(rows), tuple(hours))

    def refitted(self, parents: Sequence[tuple[float, int]]) -> "Learning":
        """Return the curve fitted again, a day later."""
        curve = fit(parents, self)
        return Learning(
            curve,
            tuple(rows * KEPT_A_DAY for rows in self.rows),
            tuple(hours * KEPT_A_DAY for hours in self.hours),
        )

    def dump(self) -> str:
        parts = {"rates": self.curve.rates, "rows": self.rows, "hours": self.hours}
        rounded = {key: [round(value, 8) for value in part] for key, part in parts.items()}
        return dumps({"version": VERSION, **rounded})


def restore(text: str | None) -> Learning:
    """Return the stored curve; the prior if there is none, or none that can be read."""
    return (restored(text) if text else None) or Learning()


def restored(text: str) -> Learning | None:
    """Return the stored curve; None if it cannot be read, or has other bins."""
    try:
        stored = loads(text)
        rates, rows, hours = (tuple(map(float, stored[key])) for key in ("rates", "rows", "hours"))
        version = stored["version"]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    if version != VERSION or any(len(part) != len(EDGES) for part in (rates, rows, hours)):
        return None
    known = all(0 <= value < MOST for part in (rates, rows, hours) for value in part)
    return Learning(Curve(rates), rows, hours) if known and any(rates) else None


def _bins(since: float, until: float) -> Iterator[tuple[int, float]]:
    """Yield the bins in which a parent was between two ages, and for how long."""
    bin_ = bisect_right(EDGES, since) - 1
    while since < until:
        end = min(until, EDGES[bin_ + 1]) if bin_ + 1 < len(EDGES) else until
        yield bin_, end - since
        bin_, since = bin_ + 1, end


def fit(parents: Sequence[tuple[float, int]], known: Learning = Learning()) -> Curve:
    """Fit a curve to (age, counter) of parents and to a record, beginning from the curve as it was."""
    step = -(-len(parents) // MOST_FITTED) or 1
    lived = [(age, count) for age, count in parents[::step] if age > 0]
    expected = sum(PRIOR_CURVE.total(age) for age, _ in lived)
    if not expected:
        return PRIOR_CURVE
    # One more parent like the prior is added, so that an account without rows still has a rate.
    scale = (sum(count for _, count in lived) + 1) / (expected + 1)
    prior = [rate * scale for rate in PRIOR]
    spans = [(_spans(age), count) for age, count in lived]
    fixed = [rate * PRIOR_HOURS + rows for rate, rows in zip(prior, known.rows, strict=True)]
    hours = [
        PRIOR_HOURS + watched + sum(span[i] for span, _ in spans if i < len(span))
        for i, watched in enumerate(known.hours)
    ]
    rates = prior if known.curve is PRIOR_CURVE else list(known.curve.rates)
    for _ in range(ROUNDS):
        rates = _round(spans, rates, fixed, hours)
    return Curve(tuple(rates))


def _spans(age: float) -> tuple[float, ...]:
    """Return how long a parent of this age was in each bin."""
    ends = (*EDGES[1:], age)
    return tuple(min(age, end) - start for start, end in zip(EDGES, ends, strict=True) if age > start)


def _round(
    spans: Iterable[tuple[tuple[float, ...], int]],
    rates: Sequence[float],
    fixed: Sequence[float],
    hours: Sequence[float],
) -> list[float]:
    rows = list(fixed)
    for span, count in spans:
        if not count:
            continue
        shares = [rate * hours for rate, hours in zip(rates, span, strict=False)]
        whole = sum(shares)
        for bin_, share in enumerate(shares):
            rows[bin_] += count * share / whole
    return [came / total for came, total in zip(rows, hours, strict=True)]


def pace(count: int, usual: float, recent: float, lately: float) -> float:
    """Return how much faster than the curve rows arrive at one list.

    `count` rows came there in all where the curve gives `usual`, and `recent` where it gives `lately`.
    """
    ever = (ALIKE + count) / (ALIKE + usual)
    return (RECENT_ALIKE * ever + recent) / (RECENT_ALIKE + lately)


def faded(recent: float, since: datetime | None, now: datetime) -> float:
    """Return what is left of a count of recent rows after some time."""
    if since is None or not recent:
        return 0.0
    return recent * halved(max(0.0, (now - since) / HOUR) / FORGETTING)


def remembered(span: timedelta) -> float:
    """Return the share of a span's evenly arriving rows that still counts at its end."""
    hours = span / HOUR
    return min(1.0, REMEMBERED * (1 - halved(hours / FORGETTING)) / hours) if hours > 0 else 1.0


def halved(times: float) -> float:
    """Return what is left of 1 after so many halvings."""
    return float(2.0**-times)


def births(dates: Iterable[datetime], now: datetime) -> float:
    """Return parents an hour, from the dates of the known ones; recent ones count most."""
    weight, oldest, horizon = 0.0, now, now - timedelta(hours=FORGOTTEN)
    for date in dates:
        if horizon < date <= now:
            weight += halved((now - date) / HOUR / FORGETTING)
        oldest = min(oldest, date)
    lived = REMEMBERED * (1 - halved((now - oldest) / HOUR / FORGETTING))
    return (weight + 0.5) / (lived + 7 * 24)


def steady_pace(recent: float, watched: float) -> float:
    """Return rows an hour of a list that was watched for so many hours; recent rows count most."""
    return (recent + 0.5) / (REMEMBERED * (1 - halved(max(0.0, watched) / FORGETTING)) + 24)


# The curves change slowly.
REFITTED = timedelta(days=1)


class Observations:
    """What the checks of one run showed: rows that came at a parent between two ages."""

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[float, float, int]]] = defaultdict(list)

    def note(
        self, stream: str, parent: ParentState, before: ChildState, after: ChildState, now: datetime
    ) -> None:
        """Note a check of a child list: `parent` and `before` are as they were before it."""
        if parent.checked_at:
            ages = (parent.checked_at - parent.date) / HOUR, (now - parent.date) / HOUR
            self._seen[stream].append((*ages, counters.risen(after.counter, before.counter)))

    def learn(self, inputs: PlanInputs, now: datetime) -> None:
        """Store what was observed, and fit the curves of the child streams again, once a day."""
        for stream in candidates.wanted(inputs.catalogue, inputs.policy):
            state = inputs.progress.streams[stream.name]
            if stream.parent is None:
                continue
            due = state.fitted_at is None or now - state.fitted_at >= REFITTED
            sample = _sample(inputs, stream) if due else []
            if not sample and not self._seen[stream.name]:
                continue
            known = restore(state.curve).observed(self._seen[stream.name])
            fitted_at = state.fitted_at
            if sample:
                known, fitted_at = known.refitted(sample), now
            inputs.progress.streams[stream.name] = replace(state, curve=known.dump(), fitted_at=fitted_at)


def _sample(inputs: PlanInputs, stream: Stream) -> list[tuple[float, int]]:
    parents = inputs.progress.parents.get(stream.parent or "", {})
    lists = inputs.progress.children.get(stream.name, {})
    return [
        ((parent.checked_at - parent.date) / HOUR, counters.total(lists[parent.id].counter))
        for parent in parents.values()
        if parent.checked_at and parent.id in lists and not parent.gone
    ]

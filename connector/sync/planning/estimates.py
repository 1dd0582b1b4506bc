"""What a request is expected to bring: rows, and the hours they have waited."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from math import exp, log
from typing import NamedTuple, Protocol

from connector.beamer.streams import Stream, children
from connector.domain.state import ChildState, ParentState, StreamState
from connector.sync.lists import counters
from connector.sync.planning import arrival
from connector.sync.planning.arrival import HOUR
from connector.sync.planning.probes import PlanInputs

# Each row reduces the weight of earlier ones a little: some hundred rows are remembered.
REMEMBERED = 0.99
# The assumption that all rows are sent weighs as much as this number of rows.
ALIKE = 10.0


def with_sent(state: StreamState, sent: int, held: int) -> StreamState:
    """Return the stream after `sent + held` new rows."""
    fading = REMEMBERED ** (sent + held)
    rows, to_send = state.verdict_count * fading + sent + held, state.to_send_count * fading + sent
    return replace(state, verdict_count=rows, to_send_count=to_send)


def sent_share(state: StreamState) -> float:
    """Return the expected share of future rows that will be sent."""
    return (ALIKE + state.to_send_count) / (ALIKE + state.verdict_count)


# Each row reduces the weight of earlier ones: some twenty rows are remembered.
HINTS_REMEMBERED = 0.95


def with_hinted(state: StreamState, announced: int, new: int) -> StreamState:
    """Return the stream after `new` rows, of which hints had announced some."""
    if not new:
        return state
    fading = HINTS_REMEMBERED**new
    return replace(state, hint_share=state.hint_share * fading + (1 - fading) * announced / new)


# A row that is older than the connection is worth next to nothing beside what is said today, or it would
# keep the connector from it for weeks: history is read by its own share of the requests.
HISTORY = 0.01
# The expected rows behind a counter that changed without rising, or rose only by rows that were read
# before: a deletion may hide a new row.
HIDDEN_ROW = 0.02
# No list's rate is taken to be lower than one row in this time.
QUIET_HOURS = 24.0 * 365


# Delays count to this power: one row that waits for a day counts more than two that wait for half a day;
# otherwise a few rows would wait very long for a better mean.
POWER = 1.5


class Expected(NamedTuple):
    """The estimated rows that have come at one list, and how much their delays count together.

    A delay counts in hours to the `POWER`. Only the delays of rows that will be sent count (`sent_share`).
    """

    rows: float
    delay: float

    def times(self, factor: float, sent: float = 1.0) -> "Expected":
        """Return so many times the rows, of which a share is sent."""
        return Expected(factor * self.rows, factor * sent * self.delay)


NOTHING = Expected(0.0, 0.0)


def expected(rows: float, row_hours: float) -> Expected:
    """Return rows that have waited for so many hours in all, as if they had arrived at an even rate."""
    if rows <= 0:
        return NOTHING
    return Expected(rows, POWER / (POWER + 1) * rows * (2 * max(0.0, row_hours) / rows) ** POWER)


def waited(rows: float, since: datetime, now: datetime) -> float:
    """Return how much the delay of so many rows since a moment counts."""
    return float(rows * max(0.0, (now - since) / HOUR) ** POWER)


def of_check(parent_rows: Expected, child_lists: Iterable[Expected], requests: float = 1.0) -> float:
    """Return the priority of checking a block of parents, and of reading the lists worth reading then.

    A changed list costs its own request. Its first row would cost one at any time; only rows that share
    a request save something by waiting, and only as far as that outweighs checking now.
    """
    cleared = parent_rows.delay
    lists = []
    for rows, delay in child_lists:
        if rows > 0:
            shared = 1.0 - exp(-rows) * (1.0 + rows)
            lists.append((delay / (shared + 1e-12), delay, shared))
    lists.sort(reverse=True)
    for ratio, delay, shared in lists:
        if ratio * requests <= cleared:
            break
        cleared += delay
        requests += shared
    return cleared / requests


def of_waiting(rows: float, age: float, per_hour: float, pages: int = 1) -> float:
    """Return the priority of reading a list whose first row has waited for `age` hours, while more come.

    The alternative is to wait until one more row shares the request.
    """
    until_next = min(1.0 / per_hour, QUIET_HOURS) if per_hour > 0 else QUIET_HOURS
    return float(rows * (rows + 1.0) / 2.0 * ((age + until_next) ** POWER - age**POWER) / pages)


def of_polling(per_hour: float, unchecked: timedelta, pages: int = 1) -> float:
    """Return the priority of reading a list that nothing announces rows of."""
    return steady(per_hour, unchecked).delay / pages


def steady(per_hour: float, unchecked: timedelta) -> Expected:
    """Return rows that arrive at an even rate."""
    hours = max(0.0, unchecked / HOUR)
    return expected(per_hour * hours, per_hour * hours * hours / 2)


# Ages that differ by less than one part in so many count as equal.
NEAR = 50
# How far ahead a list's rate is estimated.
AHEAD = timedelta(hours=48)


class Rates(Protocol):
    """How often rows arrive."""

    def births(self, stream: Stream) -> float:
        """Return rows an hour of a stream without a parent."""

    def weight(self, stream: Stream) -> float:
        """Return how much a stream's rows count: the share that is sent, times the setting's weight.

        The delays returned below are multiplied by it.
        """

    def unseen(self, stream: Stream, parent: ParentState, child: ChildState, since: datetime) -> Expected:
        """Return what has come at a child list since a moment."""

    def coming(self, stream: Stream, parent: ParentState, child: ChildState) -> float:
        """Return rows an hour that will come at a child list in the hours ahead."""

    def typical(self, stream: Stream, since: float, until: float) -> Expected:
        """Return what has come at a typical parent between two ages in hours."""


class Ages(NamedTuple):
    """Hours of a parent's life: all, since a check, since the last check, watched before the last check."""

    age: float
    unseen: float
    unchecked: float
    known: float
    near: tuple[int, ...]


class Shape(NamedTuple):
    """A curve at a list's age: rows in all, rows lately, unseen rows, rows an hour ahead."""

    usual: float
    lately: float
    unseen: Expected
    ahead: float


class LearnedRates:
    """Rates estimated from the account's data in the database."""

    def __init__(self, inputs: PlanInputs, now: datetime) -> None:
        self._catalogue = inputs.catalogue
        self._progress, self._now, self._start = inputs.progress, now, inputs.policy.start
        streams = inputs.progress.streams
        self._curves = {name: arrival.restore(state.curve).curve for name, state in streams.items()}
        self._weights = {
            name: sent_share(state) * inputs.policy.weights.get(name, 1.0) for name, state in streams.items()
        }
        self._shapes: dict[str, dict[object, Shape]] = {name: {} for name in streams}
        self._of: tuple[ParentState | None, datetime | None, Ages] = (None, None, Ages(0, 0, 0, 0, ()))

    def births(self, stream: Stream) -> float:
        if not children(self._catalogue, stream.name):
            state = self._progress.streams[stream.name]
            seen = state.checked_at or self._now
            return arrival.steady_pace(
                arrival.faded(state.recent, state.checked_at, self._now), (seen - self._start) / HOUR
            )
        parents = self._progress.parents.get(stream.name, {}).values()
        return arrival.births((parent.date for parent in parents), self._now)

    def weight(self, stream: Stream) -> float:
        return self._weights[stream.name]

    def unseen(self, stream: Stream, parent: ParentState, child: ChildState, since: datetime) -> Expected:
        shape = self._shape_of(stream.name, parent, since)
        pace = self._pace(child, shape)
        return shape.unseen.times(pace, self._weights[stream.name])

    def coming(self, stream: Stream, parent: ParentState, child: ChildState) -> float:
        shape = self._shape_of(stream.name, parent, parent.checked_at or self._now)
        return self._pace(child, shape) * shape.ahead

    def _pace(self, child: ChildState, shape: Shape) -> float:
        recent = arrival.faded(child.recent, child.recent_at, self._now) if child.recent else 0.0
        return arrival.pace(counters.total(child.counter), shape.usual, recent, shape.lately)

    def _shape_of(self, name: str, parent: ParentState, since: datetime) -> Shape:
        """Return the curve's values for a list; nearly equal ages are computed once."""
        if parent is not self._of[0] or since is not self._of[1]:
            # The lists of one parent are requested one after the other.
            self._of = (parent, since, self._ages(parent, since))
        ages = self._of[2]
        shape = self._shapes[name].get(ages.near)
        if shape is None:
            shape = self._shapes[name][ages.near] = self._shape(self._curves[name], ages)
        return shape

    def _ages(self, parent: ParentState, since: datetime) -> Ages:
        now, checked_at = self._now, parent.checked_at or self._now
        # A scheduled post is in the future: nothing has come there.
        age, unseen = (now - parent.date) / HOUR, (now - since) / HOUR
        unchecked, known = (now - checked_at) / HOUR, (checked_at - (parent.known_at or checked_at)) / HOUR
        near = (
            int(log(max(age, 0.01)) * NEAR),
            int(log(max(unseen, 0.01)) * NEAR),
            int(unchecked),
            int(known) // 24,
        )
        return Ages(age, unseen, unchecked, known, near)

    def _shape(self, curve: arrival.Curve, ages: Ages) -> Shape:
        checked_at = ages.age - ages.unchecked
        lately, _ = curve.arrivals(checked_at - min(ages.known, arrival.REMEMBERED), checked_at)
        rows, row_hours = curve.arrivals(ages.age - ages.unseen, ages.age)
        hours = AHEAD / HOUR
        ahead = curve.arrivals(ages.age, ages.age + hours)[0] / hours
        return Shape(curve.total(checked_at), lately, expected(rows, row_hours), ahead)

    def typical(self, stream: Stream, since: float, until: float) -> Expected:
        arrived = expected(*self._curves[stream.name].arrivals(since, until))
        return arrived.times(1.0, self._weights[stream.name])

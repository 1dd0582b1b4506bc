"""How often rows come, as far as the account has taught it; without I/O."""

from datetime import datetime, timedelta
from math import log
from typing import NamedTuple, Protocol

from connector.beamer.catalogue import Stream, children
from connector.state.progress import ChildState, ParentState
from connector.sync.lists import counters
from connector.sync.planning import curves, sending
from connector.sync.planning.curves import HOUR
from connector.sync.planning.picture import Picture
from connector.sync.planning.worth import Expected

# Ages that differ by less than one part in so many count as the same.
NEAR = 50
# So far ahead a list's rate is looked at.
AHEAD = timedelta(hours=48)


class Rates(Protocol):
    """How often rows come."""

    def births(self, stream: Stream) -> float:
        """Rows an hour of a stream without a parent."""

    def sent(self, stream: Stream) -> float:
        """What share of a stream's rows is sent; the row-hours below are those of that share."""

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
        self._catalogue = picture.catalogue
        self._progress, self._now, self._start = picture.progress, now, picture.policy.start
        streams = picture.progress.streams
        self._curves = {name: curves.restore(state.curve).curve for name, state in streams.items()}
        self._sent = {name: sending.share(state) for name, state in streams.items()}
        self._shapes: dict[str, dict[object, Shape]] = {name: {} for name in streams}
        self._of: tuple[ParentState | None, datetime | None, Ages] = (None, None, Ages(0, 0, 0, 0, ()))

    def births(self, stream: Stream) -> float:
        if not children(self._catalogue, stream.name):
            state = self._progress.streams[stream.name]
            seen = state.looked_at or self._now
            return curves.steady_pace(
                curves.faded(state.recent, state.looked_at, self._now), (seen - self._start) / HOUR
            )
        parents = self._progress.parents.get(stream.name, {}).values()
        return curves.births((parent.date for parent in parents), self._now)

    def sent(self, stream: Stream) -> float:
        return self._sent[stream.name]

    def unseen(self, stream: Stream, parent: ParentState, child: ChildState, since: datetime) -> Expected:
        shape = self._shape_of(stream.name, parent, since)
        pace = self._pace(child, shape)
        return Expected(pace * shape.rows, pace * self._sent[stream.name] * shape.row_hours)

    def coming(self, stream: Stream, parent: ParentState, child: ChildState) -> float:
        shape = self._shape_of(stream.name, parent, parent.looked_at or self._now)
        return self._pace(child, shape) * shape.ahead

    def _pace(self, child: ChildState, shape: Shape) -> float:
        recent = curves.faded(child.recent, child.recent_at, self._now) if child.recent else 0.0
        return curves.pace(counters.total(child.counter), shape.usual, recent, shape.lately)

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

    def _shape(self, curve: curves.Curve, ages: Ages) -> Shape:
        looked = ages.age - ages.unlooked
        lately, _ = curve.arrivals(looked - min(ages.known, curves.REMEMBERED), looked)
        rows, row_hours = curve.arrivals(ages.age - ages.unseen, ages.age)
        hours = AHEAD / HOUR
        ahead = curve.arrivals(ages.age, ages.age + hours)[0] / hours
        return Shape(curve.total(looked), lately, rows, row_hours, ahead)

    def typical(self, stream: Stream, since: float, until: float) -> Expected:
        arrived = Expected(*self._curves[stream.name].arrivals(since, until))
        return arrived.times(1.0, self._sent[stream.name])

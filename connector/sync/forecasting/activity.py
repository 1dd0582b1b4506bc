"""What goes on at an account, as a forecast needs it: at which rates rows come, what is watched; without I/O.

Times are in hours, rates in rows an hour.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate
from math import ceil, exp, log, log2
from typing import NamedTuple

from connector.beamer.catalogue import Stream, children
from connector.state.progress import StreamState
from connector.sync.lists import counters
from connector.sync.lists.blocks import Block, cut
from connector.sync.planning import candidates, worth
from connector.sync.planning.curves import HOUR
from connector.sync.planning.picture import Picture
from connector.sync.planning.rates import AHEAD, Learnt, Rates
from connector.sync.planning.worth import NOTHING, Expected

MONTH = 365.25 / 12 * 24
# Rates that differ by less than one part in so many count as the same.
NEAR, NEVER = 10, -10_000


class Lists(NamedTuple):
    """So many lists at each of which rows come at one rate, a share of which is `sent`.

    Of all of them together an audit reads `pages`; and whenever rows are read, so do the `overlap` latest
    ones that are known, as the lookback wants it.
    """

    stream: Stream
    per_hour: float
    number: int = 1
    pages: int = 0
    overlap: float = 0.0
    sent: float = 1.0


@dataclass(frozen=True, slots=True)
class Watched:
    """What one request asks: a block with the lists below it, or a list for which no counter speaks.

    `own` are the rows that it shows itself; `worths`, what asking is worth after each of the survey's times.
    """

    own: Lists
    worths: Sequence[float]
    below: Sequence[Lists] = ()
    block: bool = False


class Survey:
    """What is watched for some connections of one account, where runs lie `shortest` hours apart.

    `rows` is how many rows each stream will have in a month.
    """

    def __init__(
        self, pictures: Sequence[Picture], now: datetime, shortest: float, known_rates: Rates | None = None
    ) -> None:
        self.shortest = shortest
        ages = [picture.policy.max_age / HOUR for picture in pictures]
        self.max_age = max([shortest, *ages])
        # What a look is worth is reckoned after these times, each twice as long as the one before.
        self.times = [shortest * 2.0**number for number in range(2 + ceil(log2(self.max_age / shortest)))]
        self.watched: list[Watched] = []
        self.rows: dict[str, float] = {}
        for picture in map(whole, pictures):
            rates = known_rates or Learnt(picture, now)
            for stream in candidates.wanted(picture.catalogue, picture.policy):
                if stream.parent is None and children(picture.catalogue, stream.name):
                    self.watched += _Parents(self, picture, stream, rates, now).watched()
                elif stream.parent is None:
                    self.watched.append(self.polled(stream, rates.births(stream), rates.sent(stream)))
                    self.expect(stream, rates.births(stream) * MONTH)

    @property
    def blocks(self) -> int:
        return sum(each.block for each in self.watched)

    @property
    def a_pass(self) -> int:
        """Requests that a look everywhere takes, before any list is read."""
        return sum(each.own.stream.parent is None for each in self.watched)

    def expect(self, stream: Stream, rows: float) -> None:
        self.rows[stream.name] = self.rows.get(stream.name, 0.0) + rows

    def polled(self, stream: Stream, rate: float, sent: float) -> Watched:
        """A list that is asked without a word of any counter."""
        pages = (max(1, ceil(rate * time / stream.cap)) for time in self.times)
        worths = [
            sent * worth.of_polling(rate, time * HOUR, n) for time, n in zip(self.times, pages, strict=True)
        ]
        return Watched(Lists(stream, rate, sent=sent), _rising(worths))


class _Parents:
    """The posts or the feature requests of one connection."""

    def __init__(self, survey: Survey, picture: Picture, stream: Stream, rates: Rates, now: datetime) -> None:
        self._survey, self._picture, self._stream = survey, picture, stream
        self._rates, self._now = rates, now
        self._births = rates.births(stream)
        self._listed = stream.name in picture.policy.streams
        self._known = picture.progress.parents.get(stream.name, {})

    def watched(self) -> Iterator[Watched]:
        if self._listed:
            self._survey.expect(self._stream, self._births * MONTH)
        for child in self._picture.below(self._stream):
            self._survey.expect(child, self._newborn(child, self._births, MONTH).rows)
        alive = ((parent.date, parent.id) for parent in self._known.values() if not parent.gone)
        for block in cut(alive):
            yield from self._block(block)

    def _block(self, block: Block) -> Iterator[Watched]:
        found: dict[tuple[str, int], Lists] = {}
        every: list[tuple[float, float]] = []
        for parent in (self._known[name] for name in block.members):
            age = (self._now - parent.date) / HOUR
            for stream in self._picture.below(self._stream):
                child = self._picture.progress.children.get(stream.name, {}).get(parent.id)
                if child is None:
                    continue
                rate = self._rates.coming(stream, parent, child)
                self._survey.expect(stream, self._in_a_month(stream, rate, age))
                sent = self._rates.sent(stream)
                every.append((rate, sent))
                if (
                    self._picture.progress.streams[stream.name].distrusted
                    or counters.UNKNOWN in child.counter
                ):
                    yield self._survey.polled(stream, rate, sent)
                    continue
                near = round(log(rate) * NEAR) if rate else NEVER
                none = Lists(stream, exp(near / NEAR) if rate else 0.0, 0, sent=sent)
                so_far = found.get((stream.name, near), none)
                rows = counters.total(child.counter)
                # What fits on a page is read whole.
                overlap = min(rows, self._lately(stream, rate, age)) if rows > stream.cap else 0.0
                found[stream.name, near] = so_far._replace(
                    number=so_far.number + 1,
                    pages=so_far.pages + ceil(rows / stream.cap),
                    overlap=so_far.overlap + overlap,
                )
        births = self._births if block.until is None else 0.0
        worths = [self._worth(every, births, time) for time in self._survey.times]
        own = Lists(self._stream, births if self._listed else 0.0, sent=self._rates.sent(self._stream))
        yield Watched(own, _rising(worths), tuple(found.values()), block=True)

    def _worth(self, every: Sequence[tuple[float, float]], births: float, time: float) -> float:
        """What a look at a block is worth after some hours."""
        below = [Expected(rate * time, sent * rate * time * time / 2) for rate, sent in every]
        if births:
            below += [self._newborn(child, births, time) for child in self._picture.below(self._stream)]
        own = worth.steady(births, time * HOUR) if self._listed else NOTHING
        return worth.of_look(own.times(1.0, self._rates.sent(self._stream)), below)

    def _newborn(self, child: Stream, births: float, hours: float) -> Expected:
        """Rows at parents born in the hours ahead: the mean over the ages they may have (Simpson)."""
        half, whole = (self._rates.typical(child, 0, age) for age in (hours / 2, hours))
        parents = births * hours / 6
        return Expected(
            parents * (4 * half.rows + whole.rows), parents * (4 * half.row_hours + whole.row_hours)
        )

    def _in_a_month(self, stream: Stream, rate: float, age: float) -> float:
        """Rows in a month at a list where they come at a rate in the hours ahead, and fewer later on."""
        return self._between(stream, rate, age, age, age + MONTH)

    def _lately(self, stream: Stream, rate: float, age: float) -> float:
        lookback = self._picture.policy.lookback / HOUR
        return self._between(stream, rate, age, max(0.0, age - lookback), age)

    def _between(self, stream: Stream, rate: float, age: float, since: float, until: float) -> float:
        """Rows between two ages of a parent at a list where they come at a rate in the hours ahead."""
        ahead = AHEAD / HOUR
        soon = self._rates.typical(stream, age, age + ahead).rows
        return rate * ahead * self._rates.typical(stream, since, until).rows / soon if soon else 0.0


def whole(picture: Picture) -> Picture:
    """With a state for every stream, also before the first run."""
    blank = {name: StreamState(0, name) for name in picture.catalogue}
    streams = {**blank, **picture.progress.streams}
    return replace(picture, progress=replace(picture.progress, streams=streams))


def _rising(worths: Sequence[float]) -> Sequence[float]:
    return tuple(accumulate(worths, max))

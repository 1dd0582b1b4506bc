"""Life at a made-up company: which rows appear when, and when they change or are deleted."""

from dataclasses import dataclass
from math import exp, expm1, inf, log, log1p
from random import Random
from typing import Literal, NamedTuple

from connector.sandbox.rows import DAY, HOUR, SEGMENTS, Fields, People, Row, Writer


@dataclass(frozen=True)
class Company:
    """What the company is like; these figures decide all of its history."""

    seed: int = 7
    posts: int = 60
    requests: int = 30
    days: int = 120
    activity: float = 1.0
    quiet: bool = False
    posts_per_day: float = 0.4
    requests_per_day: float = 0.3
    nps_per_day: float = 4.0
    people: int = 400
    late: float = 0.02
    deletions: float = 0.01
    hidden: float = 0.0
    """The share of comments and reactions that no list shows."""
    visitors: float = 0.0
    """The share of reactions by visitors who are not logged in, as on a public site."""
    popularity: float = 0.6
    """How much posts and requests differ: sigma of a log-normal factor, whose mean stays the same."""
    ageing: float = 1.0
    """How many times as long as usual rows come at a new post; their number stays the same."""
    tail: float = 1.0
    """How many times as many rows as usual come at old posts and requests."""
    office_hours: float = 1.0
    """How many times as much happens from 8 to 18 h UTC, Monday to Friday, as at other hours."""

    @property
    def still(self) -> bool:
        """Return whether nothing happens by itself after the start."""
        return self.quiet or self.activity == 0

    @property
    def curves(self) -> dict[str, "Curve"]:
        """Return how many rows come at a parent of this company by its age, by stream."""
        return {
            stream: Curve(curve.peak / self.ageing, curve.half * self.ageing, curve.floor * self.tail)
            for stream, curve in CURVES.items()
        }

    @classmethod
    def empty(cls, seed: int = 7) -> "Company":
        """Return a company without rows."""
        return cls(seed=seed, posts=0, requests=0, days=0, activity=0.0, quiet=True)


LN2 = log(2)


@dataclass(frozen=True)
class Curve:
    """Rows per hour at a parent by its age: `peak` halves every `half` hours, and `floor` is added to it."""

    peak: float
    half: float
    floor: float

    @property
    def _decay(self) -> float:
        return LN2 / self.half

    def _burst(self, start: float, end: float) -> float:
        return self.peak / self._decay * exp(-self._decay * start) * -expm1(-self._decay * (end - start))

    def total(self, start: float, end: float) -> float:
        """Return the mean number of rows between two ages in hours."""
        return self._burst(start, end) + self.floor * (end - start)

    def draw(self, rng: Random, start: float, end: float) -> float:
        """Return a random age at which a row arrives, if one arrives between these two ages in hours."""
        share = rng.random()
        if rng.random() * self.total(start, end) >= self._burst(start, end):
            return start + share * (end - start)
        return start - log1p(share * expm1(-self._decay * (end - start))) / self._decay


CURVES = {
    "comments": Curve(0.06, 72.0, 0.0008),
    "reactions": Curve(0.25, 48.0, 0.002),
    "feature_request_comments": Curve(0.02, 168.0, 0.0008),
    "feature_request_votes": Curve(0.08, 168.0, 0.003),
}
# The mean appeal of a parent is exp(0.6² / 2), however much they differ.
MEAN_POPULARITY = 0.6**2 / 2
# Ten hours of five days, as a share of the week.
OFFICE_SHARE = 50 / 168
PARENTS = {
    "comments": "posts",
    "reactions": "posts",
    "feature_request_comments": "feature_requests",
    "feature_request_votes": "feature_requests",
}


def in_office_hours(at: int) -> bool:
    """Return whether an epoch second lies from 8 to 18 h UTC on a day from Monday to Friday."""
    return (at // DAY + 3) % 7 < 5 and 8 <= at % DAY // HOUR < 18  # 1970 began on a Thursday


def poisson(rng: Random, mean: float) -> int:
    """Return a random number with a Poisson distribution."""
    count = 0
    # A large mean is split, as exp(-mean) would be zero.
    while mean > 30:
        count += poisson(rng, 30)
        mean -= 30
    if mean <= 0:
        return count
    limit, product = exp(-mean), rng.random()
    while product > limit:
        product *= rng.random()
        count += 1
    return count


REACTIONS: tuple[Fields, ...] = tuple({"reaction": name} for name in ("positive", "neutral", "negative"))
STATUSES = ("planned", "in_progress", "complete")


class Change(NamedTuple):
    """A change of one row; changes are in the order of `at` and `seq`."""

    at: float
    seq: int
    kind: Literal["appears", "edited", "deleted"]
    row: Row
    fields: Fields | None = None


class Life:
    """Generates the changes of each day; they depend only on the seed, the stream and the day."""

    def __init__(self, company: Company, start: int) -> None:
        self.company = company
        self.start = start
        self.people = People(company.seed, company.people)
        self.write = Writer(company.seed, self.people, company.visitors)
        self.curves = company.curves
        self._seq = 0
        self._dates: set[int] = set()
        self._parents: dict[str, list[Row]] = {"posts": [], "feature_requests": []}
        span = company.days * DAY
        self._initial = {
            "posts": self._initial_dates("posts", company.posts, start - span, start),
            "feature_requests": self._initial_dates(
                "feature_requests", company.requests, start - span, start
            ),
        }

    def _initial_dates(self, stream: str, count: int, start: int, end: int) -> list[int]:
        rng = Random(f"{self.company.seed}/founding/{stream}")
        return sorted(rng.randrange(start, max(end, start + 1)) for _ in range(count))

    @property
    def first_day(self) -> int:
        return (self.start - self.company.days * DAY) // DAY

    def day(self, day: int) -> list[Change]:
        """Return the changes that are decided on a day; some of them happen on later days."""
        changes: list[Change] = []
        for stream, per_day in self.rates_per_day().items():
            rng = Random(f"{self.company.seed}/{stream}/{day}")
            for at in self._arrivals(rng, stream, day, per_day):
                self._arrive(rng, stream, at, changes)
        for stream in self.curves:
            rng = Random(f"{self.company.seed}/{stream}/{day}")
            for parent in self._parents[PARENTS[stream]]:
                self._children(rng, stream, parent, day, changes)
        return changes

    def rates_per_day(self) -> dict[str, float]:
        """Return the rows per day of the streams without a parent."""
        company = self.company
        return {
            "posts": company.posts_per_day * company.activity,
            "feature_requests": company.requests_per_day * company.activity,
            "nps": company.nps_per_day * company.activity,
        }

    def _arrivals(self, rng: Random, stream: str, day: int, per_day: float) -> list[int]:
        count = poisson(rng, per_day * self.busiest)
        random_times = sorted(day * DAY + rng.randrange(DAY) for _ in range(count))
        random_times = [at for at in random_times if self._happens(rng, at)]
        initial = self._initial.get(stream)
        if initial is None:
            first = self.start - self.company.days * DAY
            return [at for at in random_times if at >= first]
        return [at for at in initial if at // DAY == day] + [at for at in random_times if at > self.start]

    @property
    def busiest(self) -> float:
        """Return how many times as much as in the mean hour of a week happens in office hours."""
        ratio = self.company.office_hours
        return ratio / (OFFICE_SHARE * ratio + 1 - OFFICE_SHARE)

    def _happens(self, rng: Random, at: int) -> bool:
        """Return whether a possible row appears, which at night and at weekends is rare."""
        ratio = self.company.office_hours
        return ratio == 1 or in_office_hours(at) or rng.random() * ratio < 1

    def _arrive(self, rng: Random, stream: str, at: int, changes: list[Change]) -> None:
        row = self._row(stream, at, at)
        changes.append(Change(at, row.seq, "appears", row))
        if stream == "nps":
            row.text_s = at + (rng.randrange(10, 480) if rng.random() < 0.4 else 0)
            self._maybe_late(rng, row, 0)
            return
        spread = self.company.popularity
        row.appeal = rng.lognormvariate(MEAN_POPULARITY - spread**2 / 2, spread) * self.company.activity
        row.starts_s = at
        (self._set_up_post if stream == "posts" else self._set_up_request)(rng, row, changes)
        self._parents[stream].append(row)

    def _row(self, stream: str, at: int, date: int, parent: Row | None = None) -> Row:
        self._seq += 1
        return Row(stream, self._seq, date, at, self.write, parent)

    def _maybe_late(self, rng: Random, row: Row, earliest: float) -> None:
        if rng.random() < self.company.late:
            row.date_s = int(max(earliest, row.appears_s - rng.randrange(1, 72 * HOUR)))

    def _set_up_post(self, rng: Random, row: Row, changes: list[Change]) -> None:
        kind = rng.random()
        if kind < 0.06:
            row.overrides = {"published": "false"}
            row.starts_s = inf
            if rng.random() < 0.6:
                row.starts_s = row.appears_s + int(rng.expovariate(1 / (5 * DAY)))
                changes.append(self._edit(row, row.starts_s, {"published": "true"}))
        elif kind < 0.11:
            row.date_s = row.appears_s + rng.randrange(DAY, 10 * DAY)
            row.starts_s = row.date_s
        elif kind < 0.21:
            row.overrides = {"filter": rng.choice(SEGMENTS)}
        elif kind < 0.25:
            row.overrides = {"pinned": "true"}
        # No two posts have the same date, as in the real API.
        while row.date_s in self._dates:
            row.date_s -= 1
        self._dates.add(row.date_s)

    def _set_up_request(self, rng: Random, row: Row, changes: list[Change]) -> None:
        at = float(row.appears_s)
        for status in STATUSES:
            at += int(rng.expovariate(1 / (20 * DAY)))
            if rng.random() < 0.3:
                return
            changes.append(self._edit(row, at, {"status": status}))
            comment = self._row("feature_request_comments", int(at), int(at), row)
            comment.overrides = {"actionComment": "true", "text": f"Status changed to {status}"}
            changes.append(Change(at, comment.seq, "appears", comment))

    def _edit(self, row: Row, at: float, fields: Fields) -> Change:
        self._seq += 1
        return Change(at, self._seq, "edited", row, fields)

    def _children(self, rng: Random, stream: str, parent: Row, day: int, changes: list[Change]) -> None:
        curve = self.curves[stream]
        start = (max(day * DAY, parent.starts_s) - parent.starts_s) / HOUR
        end = ((day + 1) * DAY - parent.starts_s) / HOUR
        if not end > start:
            return
        for _ in range(poisson(rng, curve.total(start, end) * parent.appeal * self.busiest)):
            at = int(parent.starts_s + curve.draw(rng, start, end) * HOUR)
            if not self._happens(rng, at):
                continue
            row = self._row(stream, at, at, parent)
            if stream == "reactions":
                row.overrides = rng.choices(REACTIONS, (70, 18, 12))[0]
            self._maybe_late(rng, row, parent.starts_s)
            row.hidden = bool(self.company.hidden) and rng.random() < self.company.hidden
            changes.append(Change(at, row.seq, "appears", row))
            if rng.random() < self.company.deletions:
                self._seq += 1
                changes.append(
                    Change(at + 60 + int(rng.expovariate(1 / (2 * DAY))), self._seq, "deleted", row)
                )

"""How often children arrive at a parent: fast at first, then ever less, never quite stopping."""

from dataclasses import dataclass
from math import exp, expm1, log, log1p
from random import Random

LN2 = log(2)


@dataclass(frozen=True)
class Curve:
    """Rows an hour at a parent of a given age: `peak` halves every `half` hours and ends at `floor`."""

    peak: float
    half: float
    floor: float

    def at(self, age: float) -> float:
        """The rate at an age in hours."""
        return self.peak * 2 ** (-age / self.half) + self.floor if age >= 0 else 0.0

    def _burst(self, start: float, end: float) -> float:
        k = LN2 / self.half
        return self.peak / k * exp(-k * start) * -expm1(-k * (end - start))

    def total(self, start: float, end: float) -> float:
        """Rows expected between two ages."""
        return self._burst(start, end) + self.floor * (end - start)

    def draw(self, rng: Random, start: float, end: float) -> float:
        """An age at which a row arrives, given that one arrives between two ages."""
        share = rng.random()
        if rng.random() * self.total(start, end) >= self._burst(start, end):
            return start + share * (end - start)
        k = LN2 / self.half
        return start - log1p(share * expm1(-k * (end - start))) / k


CURVES = {
    "comments": Curve(0.06, 72.0, 0.0008),
    "reactions": Curve(0.25, 48.0, 0.002),
    "feature_request_comments": Curve(0.02, 168.0, 0.0008),
    "feature_request_votes": Curve(0.08, 168.0, 0.003),
}
PARENTS = {
    "comments": "posts",
    "reactions": "posts",
    "feature_request_comments": "feature_requests",
    "feature_request_votes": "feature_requests",
}


def poisson(rng: Random, mean: float) -> int:
    """A Poisson number; large means are split, since exp(-mean) would vanish."""
    count = 0
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

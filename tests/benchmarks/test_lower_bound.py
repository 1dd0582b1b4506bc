"""The lower bound of the quota benchmark: no way to check a list is better than the one it finds."""

from itertools import chain, combinations, pairwise
from math import exp

import pytest

from tests.benchmarks.lower_bound import List, row_hours


def every_way(of: List, price: float, hours: float) -> float:
    """The least sum over all choices of moments to check at."""
    end = len(of.rates)
    choices = chain.from_iterable(combinations(range(1, end), count) for count in range(end))
    return min(_cost(of, price, hours, choice) for choice in choices)


def _cost(of: List, price: float, hours: float, checks: tuple[int, ...]) -> float:
    total = 0.0
    for since, until in pairwise((0, *checks, len(of.rates))):
        expected = of.rates[since:until]
        total += of.share * hours * sum(r * (until - since - n - 0.5) for n, r in enumerate(expected))
        if until < len(of.rates):
            total += price * (of.check + of.read * (1 - exp(-sum(expected))))
    return total


@pytest.mark.parametrize(
    "rates", [(0.3,) * 9, (2.0, 1.0, 0.5, 0.2, 0.1, 0.1, 0.1), (0.0, 0.0, 4.0, 0.0, 0.1, 1.0)]
)
@pytest.mark.parametrize(("check", "read"), [(1.0, 0.0), (0.05, 1.0)])
@pytest.mark.parametrize("price", [0.01, 0.7, 5.0, 500.0])
@pytest.mark.parametrize("hours", [1.0, 4.0])
def test_no_way_to_check_a_list_is_better(
    rates: tuple[float, ...], check: float, read: float, price: float, hours: float
) -> None:
    of = List(rates, 0.8, check, read)
    assert row_hours(of, price, hours) == pytest.approx(every_way(of, price, hours))

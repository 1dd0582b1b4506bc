"""The benchmark of backfills still runs: it asserts itself that every row arrived, and once."""

import pytest

from tests.benchmarks.backfill import kills, lines_of, measure
from tests.benchmarks.history_server import Shape

SMALL = Shape(posts=12, comments=14, reactions=3, nps=40)


@pytest.mark.slow
def test_a_small_history_is_measured() -> None:
    (head, *_) = lines_of("small", SMALL, measure(SMALL))
    assert f"{SMALL.rows:,} rows" in head


@pytest.mark.slow
def test_a_small_history_is_killed() -> None:
    assert kills(SMALL, 2)

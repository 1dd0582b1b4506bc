"""When a connection is due: by what its budget allows, between the least and the most."""

from datetime import UTC, datetime, timedelta

import pytest

from connector.daemon.scheduler import MOST_DELIVERY, Pace, RunResult, delivery_after
from connector.state.runs import Due

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PACE = Pace(5 * MINUTE, 60 * MINUTE)


def minutes(ended: RunResult, failures: int = 0, chance: float = 0.0) -> float:
    return (PACE.after(ended, Due(NOW, failures), NOW, chance).at - NOW) / MINUTE


@pytest.mark.parametrize(
    ("again", "expected"),
    [(None, 5), (-10, 5), (0, 5), (7, 7), (59, 59), (61, 60), (10_000, 60)],
)
def test_as_soon_as_a_request_is_worth_sending(again: int | None, expected: float) -> None:
    moment = None if again is None else NOW + again * MINUTE
    assert minutes(RunResult(0, again=moment)) == expected


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("again", [0, 30, 58, 500])
def test_jitter_stays_within_bounds(again: int, chance: float) -> None:
    assert 5 <= minutes(RunResult(0, again=NOW + again * MINUTE), chance=chance) <= 60


def test_jitter_spreads() -> None:
    assert len({minutes(RunResult(0), chance=chance / 10) for chance in range(10)}) == 10
    assert len({minutes(RunResult(0, again=NOW + 500 * MINUTE), chance=c / 10) for c in range(10)}) == 10


@pytest.mark.parametrize(
    ("failures", "expected"), [(0, 5), (1, 10), (2, 20), (3, 40), (4, 60), (9, 60), (10**6, 60)]
)
@pytest.mark.parametrize("exit_code", [1, 69, 77, 78])
def test_failures_back_off_up_to_the_most(exit_code: int, failures: int, expected: float) -> None:
    ended = RunResult(exit_code)
    assert minutes(ended, failures) == expected
    assert PACE.after(ended, Due(NOW, failures), NOW, 0).failures == failures + 1


def test_a_run_that_went_well_forgets_failures_and_a_busy_one_does_not_count() -> None:
    assert PACE.after(RunResult(0), Due(NOW, 5), NOW, 0).failures == 0
    assert PACE.after(RunResult(65), Due(NOW, 5), NOW, 0).failures == 0
    assert PACE.after(RunResult(75), Due(NOW, 5), NOW, 0) == Due(NOW + 5 * MINUTE, 5)


def test_where_most_is_least() -> None:
    only = Pace(5 * MINUTE, 5 * MINUTE)
    assert only.after(RunResult(0), None, NOW, 0.9).at == NOW + 5 * MINUTE


def test_delivery_is_tried_soon_and_then_later() -> None:
    assert [delivery_after(tries) / MINUTE for tries in range(6)] == [1, 2, 4, 8, 15, 15]
    assert delivery_after(10**9) == MOST_DELIVERY

"""The priority of a request, as tables."""

from datetime import UTC, datetime, timedelta

import pytest

from connector.sync.planning import estimates
from connector.sync.planning.estimates import NOTHING, Expected


def even(per_hour: float, hours: float) -> Expected:
    return estimates.steady(per_hour, timedelta(hours=hours))


def counted(per_hour: float, hours: float) -> float:
    """The integral of a rate times the delay to the power 1.5."""
    return float(per_hour * 0.6 * hours**2.5)


def test_a_polled_list_is_worth_the_delays_that_gathered() -> None:
    assert estimates.of_polling(0.5, timedelta(hours=10)) == pytest.approx(counted(0.5, 10))
    assert estimates.of_polling(0.5, timedelta(hours=10), 2) == pytest.approx(counted(0.5, 10) / 2)
    assert estimates.of_polling(0.5, timedelta(hours=-1)) == 0


@pytest.mark.parametrize(
    ("rows", "age", "per_hour", "value"),
    [
        (1, 0, 0.1, 10**1.5),
        (2, 0, 0.1, 3 * 10**1.5),
        (3, 0, 0.1, 6 * 10**1.5),
        (1, 0, 0.01, 1000),
        (0.5, 0, 0.01, 375),
        (1, 30, 0.1, 40**1.5 - 30**1.5),
    ],
)
def test_what_waits_is_worth_more_where_nothing_comes_to_share_the_request_and_the_longer_it_waits(
    rows: float, age: float, per_hour: float, value: float
) -> None:
    assert estimates.of_waiting(rows, age, per_hour) == pytest.approx(value)
    assert estimates.of_waiting(rows, age, per_hour, 2) == pytest.approx(value / 2)
    assert 0 < estimates.of_waiting(rows, age, 0.0) < 1e8


@pytest.mark.parametrize("hours", [-5, 0, 5])
def test_what_has_waited_counts_by_its_age_and_a_clock_set_back_makes_it_nothing(hours: float) -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    assert estimates.waited(2, now - timedelta(hours=hours), now) == pytest.approx(2 * max(0, hours) ** 1.5)


def test_a_look_counts_what_the_page_itself_brings() -> None:
    assert estimates.of_check(even(1, 4), []) == pytest.approx(counted(1, 4))
    assert estimates.of_check(even(1, 4), [], 2.0) == pytest.approx(counted(1, 4) / 2)
    assert estimates.of_check(NOTHING, []) == 0


def test_a_look_is_worth_its_slow_lists_whole_and_leaves_fast_ones_that_can_wait() -> None:
    slow = [even(0.001, 10)] * 20
    assert estimates.of_check(NOTHING, slow) == pytest.approx(20 * counted(0.001, 10), rel=0.01)
    fast = even(3.0, 1.0)
    # Read at each look, a fast list would lower what a request clears.
    many = [even(0.5, 10)] * 3
    assert estimates.of_check(NOTHING, [*many, fast]) == pytest.approx(estimates.of_check(NOTHING, many))


@pytest.mark.parametrize("hours", [1, 5, 30, 200])
def test_a_look_grows_in_worth_with_time_and_with_rows(hours: float) -> None:
    lists = [even(rate, hours) for rate in (0.001, 0.01, 0.1)]
    later = [even(rate, hours * 1.5) for rate in (0.001, 0.01, 0.1)]
    more = [even(rate * 2, hours) for rate in (0.001, 0.01, 0.1)]
    assert estimates.of_check(NOTHING, later) > estimates.of_check(NOTHING, lists)
    assert estimates.of_check(NOTHING, more) > estimates.of_check(NOTHING, lists)
    assert estimates.of_check(NOTHING, [*lists, NOTHING]) == estimates.of_check(NOTHING, lists)

"""The priority of a request, as tables."""

from datetime import timedelta

import pytest

from connector.sync.planning import estimates
from connector.sync.planning.estimates import NOTHING, Expected


def even(per_hour: float, hours: float) -> Expected:
    return estimates.steady(per_hour, timedelta(hours=hours))


def test_a_polled_list_is_worth_the_row_hours_that_gathered() -> None:
    assert estimates.of_polling(0.5, timedelta(hours=10)) == pytest.approx(0.5 * 100 / 2)
    assert estimates.of_polling(0.5, timedelta(hours=10), 2) == pytest.approx(0.5 * 100 / 4)
    assert estimates.of_polling(0.5, timedelta(hours=-1)) == 0


@pytest.mark.parametrize(
    ("rows", "per_hour", "value"),
    [(1, 0.1, 10), (2, 0.1, 30), (3, 0.1, 60), (1, 0.01, 100), (0.5, 0.01, 37.5)],
)
def test_what_waits_is_worth_more_where_nothing_comes_to_share_the_request(
    rows: float, per_hour: float, value: float
) -> None:
    assert estimates.of_waiting(rows, per_hour) == pytest.approx(value)
    assert estimates.of_waiting(rows, per_hour, 2) == pytest.approx(value / 2)
    assert estimates.of_waiting(rows, 0.0) < estimates.of_waiting(rows, 0.0) * 2 < 1e6


def test_a_look_counts_what_the_page_itself_brings() -> None:
    assert estimates.of_check(even(1, 4), []) == pytest.approx(8)
    assert estimates.of_check(even(1, 4), [], 2.0) == pytest.approx(4)
    assert estimates.of_check(NOTHING, []) == 0


def test_a_look_is_worth_its_slow_lists_whole_and_leaves_fast_ones_that_can_wait() -> None:
    slow = [even(0.001, 10)] * 20
    assert estimates.of_check(NOTHING, slow) == pytest.approx(20 * 0.001 * 50, rel=0.01)
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


def test_a_list_polled_and_a_list_seen_to_wait_are_worth_the_same_where_many_rows_gather() -> None:
    hours, per_hour = 100.0, 2.0
    assert estimates.of_waiting(hours * per_hour, per_hour) == pytest.approx(
        estimates.of_polling(per_hour, timedelta(hours=hours)), rel=0.01
    )

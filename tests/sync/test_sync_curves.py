"""How often rows come: the fit of the curve, a list's own pace, and forgetting."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from connector.sandbox.life import CURVES, poisson
from connector.sync.planning import arrival

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = 24.0


def parents(
    stream: str, number: int, days: float, seed: int, activity: float = 1.0
) -> list[tuple[float, int]]:
    rng = Random(seed)
    ages = [rng.uniform(0, days * DAY) for _ in range(number)]
    return [
        (age, poisson(rng, CURVES[stream].total(0, age) * activity * rng.lognormvariate(0, 0.6)))
        for age in ages
    ]


def off(curve: arrival.Curve, stream: str, activity: float) -> float:
    """By how much the rows of the worst time of life are misjudged."""
    worst = 1.0
    for start, end in ((0, 48), (48, 192), (192, 768), (768, 9000)):
        # Lognormal appeal has a mean of e^0.18.
        due = CURVES[stream].total(start, end) * activity * 1.197
        rows, _ = curve.arrivals(start, end)
        worst = max(worst, rows / due, due / rows)
    return worst


STREAMS = pytest.mark.parametrize("stream", ["comments", "reactions", "feature_request_votes"])


@STREAMS
@pytest.mark.parametrize("activity", [0.3, 1.0, 5.0])
def test_a_curve_is_learnt_from_ages_and_counters_alone(stream: str, activity: float) -> None:
    """Roughly: counters do not tell when their rows came."""
    assert off(arrival.fit(parents(stream, 400, 400, 5, activity)), stream, activity) < 2.6


@STREAMS
def test_what_comes_between_looks_corrects_it(stream: str) -> None:
    rng, found = Random(4), arrival.Learning()
    sample = parents(stream, 90, 120, 5)
    guessed = found.refitted(sample)
    found = guessed
    for _ in range(60):
        checks = []
        for age, _ in sample:
            since = age + rng.uniform(0, 48)
            rows = poisson(rng, CURVES[stream].total(since, since + 24) * rng.lognormvariate(0, 0.6))
            checks.append((since, since + 24, rows))
        found = found.observed(checks).refitted(sample)
    assert off(found.curve, stream, 1.0) < 1.45 or off(found.curve, stream, 1.0) < off(
        guessed.curve, stream, 1.0
    )


def test_what_was_learnt_survives_being_stored() -> None:
    found = arrival.Learning().observed([(5, 300, 7)]).refitted(parents("reactions", 60, 120, 1))
    again = arrival.restore(found.dump())
    assert again.curve.total(500) == pytest.approx(found.curve.total(500), rel=1e-4)
    assert again.rows == pytest.approx(found.rows, abs=1e-6)
    assert again.hours == pytest.approx(found.hours, abs=1e-6)
    assert arrival.restore(None) == arrival.restore("[[1], [2], [3]]") == arrival.Learning()


@pytest.mark.parametrize(("since", "until"), [(0, 2), (0, 5000), (10, 30), (-5, 20), (4000, 4010)])
def test_a_look_is_put_down_where_it_belongs(since: float, until: float) -> None:
    found = arrival.Learning().observed([(since, until, 6)])
    assert sum(found.rows) == pytest.approx(6)
    assert sum(found.hours) == pytest.approx(until - max(since, 0))
    for start, hours in zip(arrival.EDGES, found.hours, strict=True):
        assert not hours or start < until


def test_a_look_before_birth_is_not_put_down() -> None:
    assert arrival.Learning().observed([(-9, -3, 0)]) == arrival.Learning()
    assert arrival.Learning().observed([(5, 5, 0)]) == arrival.Learning()


def test_an_account_without_rows_is_not_taken_to_be_without_rate() -> None:
    silent = arrival.fit([(1000.0, 0)] * 20)
    assert 0 < silent.total(1000) < arrival.PRIOR_CURVE.total(1000) / 5
    assert arrival.fit([]) == arrival.PRIOR_CURVE


@pytest.mark.parametrize(("since", "until"), [(0, 1), (0, 500), (2, 2.5), (7, 9), (30, 700), (4000, 4100)])
def test_arrivals_are_the_integral_of_the_curve(since: float, until: float) -> None:
    curve, steps = arrival.PRIOR_CURVE, 20_000
    width = (until - since) / steps
    rows = row_hours = 0.0
    for step in range(steps):
        age = since + (step + 0.5) * width
        rate = arrival.PRIOR[max(i for i, edge in enumerate(arrival.EDGES) if edge <= age)]
        rows += rate * width
        row_hours += rate * width * (until - age)
    assert curve.arrivals(since, until) == pytest.approx((rows, row_hours), rel=1e-3)


@pytest.mark.parametrize(("since", "until"), [(5, 5), (6, 5), (-5, 0), (-9, -3)])
def test_nothing_comes_before_birth_or_in_no_time(since: float, until: float) -> None:
    assert arrival.PRIOR_CURVE.arrivals(since, until) == (0.0, 0.0)


def test_a_list_goes_at_its_own_pace() -> None:
    assert arrival.pace(10, 10, 0, 0) == pytest.approx(1)
    assert arrival.pace(100, 10, 0, 0) > 5
    assert arrival.pace(0, 10, 0, 0) < 0.25
    # What came lately weighs more than what came once.
    assert arrival.pace(100, 10, 0, 5) < arrival.pace(100, 10, 20, 5)


def test_what_came_is_forgotten_by_halves() -> None:
    assert arrival.faded(8, NOW - timedelta(hours=arrival.FORGETTING), NOW) == pytest.approx(4)
    assert arrival.faded(8, NOW + timedelta(hours=5), NOW) == 8
    assert arrival.faded(8, None, NOW) == 0


@pytest.mark.parametrize("per_day", [0.1, 0.5, 3.0])
def test_births_are_reckoned_from_dates(per_day: float) -> None:
    dates = [NOW - timedelta(days=k / per_day) for k in range(int(200 * per_day))]
    assert arrival.births(dates, NOW) * 24 == pytest.approx(per_day, rel=0.35)
    assert 0 < arrival.births([], NOW) < 0.01


def test_a_steady_pace_is_reckoned_from_what_was_found() -> None:
    # Four a day for long, faded as they came.
    recent = 4 / 24 * arrival.REMEMBERED
    assert arrival.steady_pace(recent, 10_000) * 24 == pytest.approx(4, rel=0.1)
    assert arrival.steady_pace(0, 0) > 0

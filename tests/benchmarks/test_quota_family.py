"""The family of worlds: drawn from their number alone, and each fixed interval one that its quota allows."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks import quota_table
from tests.benchmarks.quota import main
from tests.benchmarks.quota_family import EAGER, cost, shortest, with_interval, world
from tests.benchmarks.quota_month import run_month
from tests.benchmarks.quota_results import Result, Results
from tests.benchmarks.test_quota_bench import STILL


def test_a_world_is_the_same_each_time_and_no_two_are_alike() -> None:
    worlds = [world(number) for number in range(1, 7)]
    assert [world(number) for number in range(1, 7)] == worlds
    assert len({(each.posts, each.requests, each.days, each.activity) for each in worlds}) == 6
    for each in worlds:
        assert 20 <= each.posts <= 300
        assert 60 <= each.days <= 600
        assert each.fixed == 0


def test_the_fixed_interval_is_the_shortest_that_the_quota_allows() -> None:
    account = world(3)
    hours = shortest(account, 3)
    usable = account.limits.usable
    assert usable is not None
    assert cost(account, 3, hours) <= usable < cost(account, 3, hours / 1.1)
    assert with_interval(account, 3).fixed == pytest.approx(EAGER * hours)


def test_the_cost_of_an_interval_is_that_reckoned_by_hand() -> None:
    # A page of posts, one of requests and one of scores, each six hours; nothing comes.
    assert cost(replace(STILL, activity=0.0), 1, 6.0) == 3 * 4 * 31


def test_the_table_tells_each_world_and_the_spread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "worlds.jsonl"
    month = run_month(STILL, 1, lambda _: None, length=STILL.every)
    results = Results(path)
    for number, ratio in ((1, 0.5), (2, 0.8)):
        name = world(number).name
        results.add(Result(name, "fixed", number, replace(month, mean=10.0, p95=20.0)))
        results.add(Result(name, "planner", number, replace(month, mean=10 * ratio, p95=20 * ratio + 4)))
    assert main(["--worlds", "2", "--save", str(path), "--resume"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert lines[2].startswith("| 1 | ")
    assert "| 10.0 h (95 %: 20 h) | 5.0 h (95 %: 14 h) | 0.50 | 0.70 |" in lines[2]
    assert lines[-3:] == [
        "| smallest |  |  |  |  |  | 0.50 | 0.70 |  |",
        "| median |  |  |  |  |  | 0.65 | 0.85 |  |",
        "| largest |  |  |  |  |  | 0.80 | 1.00 |  |",
    ]
    assert quota_table.OF_WORLDS == ("fixed", "planner")

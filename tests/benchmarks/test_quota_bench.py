"""The quota benchmark measures right: against delays reckoned by hand, and integrals summed up."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.domain.budget import Limits
from connector.sandbox.life import CURVES
from connector.sync.planning.estimates import expected
from tests.benchmarks import quota_table
from tests.benchmarks.quota import main, maker
from tests.benchmarks.quota_accounts import ACCOUNTS, HOUR, SEEDS, TUNING_SEEDS, Account
from tests.benchmarks.quota_month import Month, most_within, percentile, run_month
from tests.benchmarks.quota_results import Result, Results
from tests.benchmarks.quota_truth import arrivals
from tests.sandbox.world import rate_at

DAY = timedelta(days=1)
# Nothing happens by itself; each test adds what is to happen.
STILL = Account("still", "free", 3, 2, 20, 0.0, 6 * HOUR, (6,), 6)


class Poor(Account):
    """Spends what a new installation may at its first run."""

    @property
    def limits(self) -> Limits:
        return Limits(200, 10, 30)


POOR = Poor("poor", "free", 20, 10, 60, 1.0, timedelta(minutes=20), (6,), 6)


@contextmanager
def days(folder: Path, account: Account, method: str, length: timedelta, **options: Any) -> Iterator[Month]:
    folder.mkdir(exist_ok=True)
    month = Month(account, 5, maker(account, method), folder, length=length, **options)
    try:
        yield month
    finally:
        month.close()


@pytest.mark.parametrize("method", ["fixed", "planner"])
def test_delays_are_those_reckoned_by_hand(method: str, tmp_path: Path) -> None:
    with days(tmp_path, STILL, method, 2 * DAY) as month:
        world, since = month.sandbox.world, month.since
        post = world.row_list("posts").rows[0].id

        def comes(hours: float, stream: str = "comments", **fields: Any) -> str:
            parent = None if stream == "nps" else post
            at = since + timedelta(hours=hours)
            return world.add(stream, parent, appears=at, userId="u7", visible="true", **fields)

        comes(1.0)  # found at 6 h
        comes(7.5, "reactions", reaction="positive")  # at 12 h
        comes(20.25, "nps", feedback="Fine")  # at 24 h
        comes(22.0, date=since + timedelta(hours=2))  # late, but shown from here on: at 24 h
        comes(42.5)  # 5.5 h old at the end, as the last run is at 42 h
        comes(50.0)  # after the end
        world.add("comments", post, appears=since + HOUR, userId=None)  # is never sent
        gone = comes(13.0)
        cron, planned = month._ticks, list[datetime]()

        def ticks() -> Iterator[datetime]:
            for tick in cron():
                if len(planned) == 3:
                    month.sandbox.advance(since + 14 * HOUR - month.sandbox.now())
                    world.delete("comments", gone)  # before it was seen: does not count
                planned.append(tick)
                yield tick

        month._ticks = ticks  # type: ignore[method-assign]
        month.go()
        delays, end = sorted(month.delays()), since + 2 * DAY
        assert len(planned) == 8
        found_at = {1: planned[1], 7.5: planned[2], 20.25: planned[4], 22: planned[4]}
        by_hand = [((at - since) / HOUR - hours, True) for hours, at in found_at.items()]
        by_hand.append(((end - since) / HOUR - 42.5, False))
        assert [arrived for _, arrived in delays] == [arrived for _, arrived in sorted(by_hand)]
        # A run takes some seconds.
        assert [hours for hours, _ in delays] == pytest.approx(
            [hours for hours, _ in sorted(by_hand)], abs=5 / 3600
        )
        measured = month.measured(cpu=0.0)
        assert (measured.rows, measured.undelivered, measured.behind) == (5, 1, 0)
        assert measured.oldest == measured.p95 == pytest.approx(5.5)
        assert measured.mean == pytest.approx(sum(hours for hours, _ in by_hand) / 5, abs=5 / 3600)
        assert measured.requests == measured.most == month.sandbox.spent


def test_a_row_undelivered_from_before_is_behind(tmp_path: Path) -> None:
    with days(tmp_path, STILL, "planner", timedelta(0)) as month:
        world = month.sandbox.world
        world.add("comments", world.row_list("posts").rows[0].id, userId="u7")
        before = month.behind()
        month.sandbox.advance(HOUR)
        month.since += HOUR
        assert month.behind() == before + 1


def test_runs_that_could_ask_nothing_need_not_be_made(tmp_path: Path) -> None:
    with days(tmp_path / "all", POOR, "planner", DAY / 2, skip_idle=False) as every:
        every.go()
    with days(tmp_path / "few", POOR, "planner", DAY / 2) as few:
        few.go()
    assert few.runs < every.runs == 36
    assert few.asked() == every.asked()
    assert few.delays() == every.delays()


def test_closed_forms_are_the_integrals() -> None:
    for curve in CURVES.values():
        for since, until in ((-5.0, 1.0), (0.0, 3.0), (100.0, 100.5), (40.0, 900.0)):
            steps, start = 20_000, max(0.0, since)
            width = (until - start) / steps
            ages = [start + (step + 0.5) * width for step in range(steps)]
            found = arrivals(curve, since, until)
            assert found.rows == pytest.approx(sum(rate_at(curve, age) for age in ages) * width, rel=1e-6)
            waited = sum(rate_at(curve, age) * (until - age) for age in ages) * width
            assert found == pytest.approx(expected(found.rows, waited), rel=1e-5)
        assert arrivals(curve, 5.0, 5.0).rows == arrivals(curve, -5.0, -1.0).rows == 0.0


def test_a_month_is_the_same_each_time() -> None:
    account = replace(STILL, activity=1.0)
    first, second = (run_month(account, 3, maker(account, "bound"), length=DAY) for _ in range(2))
    assert first.requests > 20
    assert replace(first, cpu=0.0) == replace(second, cpu=0.0)


def test_no_seed_is_both_tuned_on_and_reported() -> None:
    assert not set(SEEDS) & set(TUNING_SEEDS)
    assert len(SEEDS) >= 20
    assert all(account.fixed in account.grid for account in ACCOUNTS.values())


def test_percentile_and_fullest_span() -> None:
    assert percentile([float(n) for n in range(1, 101)], 0.95) == 95
    assert percentile([3.0], 0.95) == 3.0
    assert percentile([], 0.95) == 0.0
    start = datetime(2026, 3, 1, tzinfo=UTC)
    moments = [start + hours * HOUR for hours in (0, 1, 23.9, 24, 47, 47.5, 47.9)]
    assert most_within(moments, DAY) == 4
    assert most_within([], DAY) == 0


def test_results_outlast_an_interruption(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    account, path = ACCOUNTS["Free 60+30 busy"], tmp_path / "quota.jsonl"
    month = run_month(STILL, 1, maker(STILL, "fixed"), length=HOUR)
    results = Results(path)
    for method, mean in (("every", 120.0), ("fixed", 12.0), ("planner", 10.0), ("bound", 8.0)):
        results.add(Result(account.name, method, 1, replace(month, mean=0.0, p95=0.0)))
        results.add(Result(account.name, method, 1, replace(month, mean=mean, p95=2 * mean)))
    words = ["--accounts", account.name, "--seeds", "1", "--save", str(path), "--resume"]
    assert main(words) == 0
    said = capsys.readouterr().out
    for ratio in ("1.25 (≤ 1.15 MISSED)", "12.00 (≥ 10)", "0.83 (≤ 1)", "0.83 (≤ 1.25)"):
        assert ratio in said
    assert main([*words, "--markdown"]) == 0
    delays, reached = (table.splitlines()[-1] for table in capsys.readouterr().out.rstrip().split("\n\n"))
    assert delays.startswith(f"| {account.name} | 1 | {month.rows} | 120.0 h (95 %: 240 h) | 12.0 h")
    assert reached.endswith("| 1.25 (≤ 1.15 MISSED) | 12.00 (≥ 10) | 0.83 (≤ 1) | 0.83 (≤ 1.25) |")
    assert set(quota_table.METHODS) == {"every", "fixed", "planner", "bound"}

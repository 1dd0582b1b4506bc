"""How late rows will be: figures without a database, and against months that the planner lived through."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import fmean
from time import process_time

import pytest

from connector.beamer.streams import CATALOGUE, Stream
from connector.domain.budget import Balance
from connector.domain.state import ChildState, ParentState, Progress, StreamState
from connector.segment.shaping import Naming
from connector.state.progress import load_readonly
from connector.sync.forecast import MONTH, Activity, activity, first_reads, forecast, read_by, share
from connector.sync.planning.arrival import HOUR
from connector.sync.planning.estimates import Expected, steady
from connector.sync.planning.probes import PlanInputs, Tier
from connector.sync.policy import Policy
from tests.benchmarks.quota_accounts import ACCOUNTS, SEEDS
from tests.benchmarks.quota_month import Month
from tests.benchmarks.quota_results import KEPT, Results

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
POSTS_ONLY = ("posts", "comments", "reactions")


@dataclass
class Even:
    """Rows that come at one rate for ever: at each list of a post its own, by the post's name."""

    lists: Mapping[str, float]
    tops: Mapping[str, float]
    usual: float = 0.0
    now: datetime = NOW
    held: Mapping[str, float] = field(default_factory=dict)

    def weight(self, stream: Stream) -> float:
        return 1.0 - self.held.get(stream.name, 0.0)

    def births(self, stream: Stream) -> float:
        return self.tops.get(stream.name, 0.0)

    def unseen(
        self,
        stream: Stream,
        parent: ParentState,
        child: ChildState,  # noqa: ARG002
        since: datetime,
    ) -> Expected:
        return steady(self.lists.get(parent.id, 0.0), self.now - since).times(1.0, self.weight(stream))

    def coming(self, stream: Stream, parent: ParentState, child: ChildState) -> float:  # noqa: ARG002
        return self.lists.get(parent.id, 0.0)

    def typical(self, stream: Stream, since: float, until: float) -> Expected:
        return steady(self.usual, (until - since) * HOUR).times(1.0, self.weight(stream))


def inputs(
    posts: int, counter: str = "4", *, streams: tuple[str, ...] = POSTS_ONLY, every: float = 48.0
) -> PlanInputs:
    """An account whose posts lie some hours apart, the newest of an hour ago, all read up to now."""
    names = [f"p{number}" for number in range(posts)]
    dates = [NOW - HOUR - number * every * HOUR for number in range(posts)]
    progress = Progress(
        {name: StreamState(0, name, complete=True, checked_at=NOW) for name in CATALOGUE},
        {
            "posts": {
                name: ParentState(name, date, known_at=NOW, checked_at=NOW, proved_at=NOW)
                for name, date in zip(names, dates, strict=True)
            }
        },
        {
            stream: {name: ChildState(0, name, counter, counter, read_at=NOW) for name in names}
            for stream in ("comments", "reactions")
        },
    )
    policy = Policy(frozenset(streams), NOW - 30 * DAY, Naming("d", "a", "c"))
    return PlanInputs(CATALOGUE, policy, progress, None)


def lively(posts: int, seed: int = 1) -> tuple[PlanInputs, Even]:
    """Posts of very different pace, a new one now and then, and NPS."""
    rng = Random(seed)
    rates = {f"p{number}": 0.1 * 2.0 ** -rng.uniform(0, min(9, number)) for number in range(posts)}
    streams = (*POSTS_ONLY, "nps")
    return inputs(posts, streams=streams), Even(rates, {"posts": 0.02, "nps": 0.15})


def of(found: PlanInputs, known: Even | None = None) -> Activity:
    return activity([found], NOW, known)


def mean(found: Activity, per_day: float | None, shortest: float = 1.0) -> float:
    """Return the mean delay in hours on a budget that keeps up."""
    late = forecast(found, shortest, per_day).mean
    assert late is not None
    return late


BUDGETS = (10, 20, 40, 80, 160, 320, 640)


def test_more_budget_means_less_delay() -> None:
    found = of(*lively(60))
    for less, more in pairwise(BUDGETS):
        assert mean(found, more) < mean(found, less) or mean(found, less) == 0.5


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("posts", [9, 60, 300])
def test_what_is_requested_is_what_the_budget_brings(posts: int, budget: int) -> None:
    found = of(*lively(posts))
    ahead = forecast(found, 1.0, budget)
    if not ahead.keeps_up:
        assert (posts, budget) in ((60, 10), (300, 10), (300, 20))
    elif ahead.mean != 0.5:
        assert ahead.mean
        # The rest is kept for proofs and the audit.
        assert 0.85 * budget <= found.requests(2 * ahead.mean) * 24 <= budget


def test_with_budget_to_spare_rows_wait_for_the_next_run() -> None:
    found = of(*lively(9))
    for budget in (1e6, None):
        assert mean(found, budget, 2.0) == pytest.approx(1.0)


def test_at_an_account_where_nothing_happens_nothing_is_late() -> None:
    found = of(inputs(25), Even({}, {}))
    for budget in (30.0, None):
        assert forecast(found, 1.0, budget).mean is None
    assert found.rows["comments"] == 0


@pytest.mark.parametrize("per_day", [0.0, 5.0])
def test_where_more_comes_than_can_be_read_nothing_is_promised(per_day: float) -> None:
    found = forecast(of(*lively(300)), 1.0, per_day)
    assert (found.keeps_up, found.mean, found.audit_round) == (False, None, None)


@pytest.mark.parametrize("per_day", [30.0, 600.0, None])
def test_before_the_first_run(per_day: float | None) -> None:
    never = replace(inputs(0, streams=tuple(CATALOGUE)), progress=Progress())
    found = activity([never], NOW)
    assert forecast(found, 1.0, per_day).mean
    assert forecast(found, 1.0, per_day).audit_round is None
    assert found.requests(24) == pytest.approx(3 / 24)
    assert first_reads([never]).discovering == ("posts", "feature_requests")
    assert forecast(activity([], NOW), 1.0, per_day).mean is None


def test_a_pass_costs_a_request_for_ten_posts_one_for_nps_and_the_lists_that_move() -> None:
    still = of(inputs(60, streams=(*POSTS_ONLY, "nps")), Even({}, {}))
    assert (still.checks.total(), still.blocks) == (7, 6)
    assert still.requests(24) == pytest.approx(7 / 24)
    busy = of(inputs(60, streams=(*POSTS_ONLY, "nps")), Even({"p3": 0.1}, {}))
    # Both lists of one post: at a tenth of a row an hour, nine checks in ten a day find that they moved.
    assert busy.requests(24) == pytest.approx((7 + 2 * 0.909) / 24, rel=0.01)


def test_two_connections_of_an_account_share_its_budget() -> None:
    found, known = lively(60)
    alone, both = (mean(activity([found] * n, NOW, known), 40) for n in (1, 2))
    assert both > 1.3 * alone


def test_lists_whose_counters_are_not_trusted_take_a_request_each() -> None:
    found, known = lively(60)
    trusted = of(found, known)
    found.progress.streams["comments"].distrusted = True
    doubted = of(found, known)
    assert doubted.checks.total() == trusted.checks.total() + 60
    assert mean(doubted, 40) > 1.2 * mean(trusted, 40)


def test_rows_a_month() -> None:
    found, known = lively(60)
    assert of(found).rows["nps"] > 0
    assert of(found, known).rows["posts"] == pytest.approx(0.02 * MONTH)
    assert of(found, known).rows["nps"] == pytest.approx(0.15 * MONTH)
    assert of(found, known).rows["comments"] == pytest.approx(sum(known.lists.values()) * MONTH)


# --- the audit's round --------------------------------------------------------------------------------


def test_a_round_of_the_audit() -> None:
    quiet = of(inputs(300), Even({"p0": 1e-9}, {}))
    found = forecast(quiet, 1.0, 30)
    # 600 lists of a page each, at least by the share that is kept for the audit.
    assert found.audit_round is not None
    assert found.audit_round <= 600 / (30 * share(Tier.AUDIT)) * 24
    assert forecast(of(inputs(300, counter="0"), Even({}, {})), 1.0, 30).audit_round is None


def test_lists_that_are_read_anyway_make_the_round_shorter() -> None:
    moving = of(inputs(300), Even({f"p{number}": 0.01 for number in range(300)}, {}))
    found = forecast(moving, 1.0, 200)
    assert found.audit_round is not None
    assert found.audit_round < 0.6 * 600 / (200 * share(Tier.AUDIT)) * 24


def test_the_audit_reads_every_list_once_a_week_at_the_most() -> None:
    assert forecast(of(inputs(30), Even({}, {})), 1.0, 1e6).audit_round == pytest.approx(7 * 24)


def test_without_a_limit_a_run_audits_one_list_for_twenty_probes() -> None:
    found = forecast(of(inputs(300), Even({}, {})), 1.0, None)
    # Thirty blocks: two lists a run.
    assert found.audit_round == pytest.approx(300)


# --- first reads --------------------------------------------------------------------------------------


def test_first_reads_are_counted_and_dated() -> None:
    found = inputs(20, counter="25")
    for number, child in enumerate(found.progress.children["comments"].values()):
        child.read_counter = None if number < 19 else child.counter
        child.counter = "0" if number == 0 else child.counter
    found.progress.parents["posts"]["p1"].gone = True
    found.progress.streams["posts"].complete = False
    first = first_reads([found])
    # Of posts younger than the start all three pages are read; of the others one.
    assert (first.lists, first.requests) == ({"comments": 17}, 3 * 13 + 4)
    assert first.discovering == ("posts",)
    # At the least their own share of what comes in.
    per_day = 2 / share(Tier.HISTORY)
    assert read_by(first, NOW, balance(3.0, per_day)) == NOW + 20 * DAY
    assert read_by(first, NOW, balance(99.0, per_day)) == NOW
    assert read_by(first, NOW, balance(3.0, 0.0)) is None
    assert read_by(first, NOW, balance(None, None)) == NOW


def test_first_reads_take_their_share_of_the_budget() -> None:
    found = of(*lively(60))
    none, few, many = (forecast(found, 1.0, 30, unread).mean for unread in (0, 10, 10_000))
    assert none is not None
    assert few is not None
    assert many is not None
    assert none < few < many


def balance(level: float | None, per_day: float | None) -> Balance:
    left = None if level is None else 500
    return Balance(0, left, None, False, {}, NOW, level=level, per_day=per_day)


# --- size ---------------------------------------------------------------------------------------------


def seconds(posts: int) -> float:
    """Return the seconds of CPU that forecasts for an account of so many posts take."""
    big = inputs(posts, every=6.0)
    for number, child in enumerate(big.progress.children["comments"].values()):
        child.counter = child.read_counter = str(number * 7919 % 40)
    took = []
    for _ in range(3):
        began = process_time()
        found = activity([big], NOW)
        assert all(forecast(found, 1.0, budget).mean for budget in (600, None))
        took.append(process_time() - began)
    assert found.blocks == posts / 10
    return min(took)


def test_a_forecast_grows_with_the_posts_and_not_with_their_square() -> None:
    """As a ratio: a busy machine is slow at both. What compares each with each takes 100 times as long."""
    assert seconds(10_000) / seconds(1_000) < 40


# --- against months that were measured ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ACCOUNTS)
def test_the_forecast_is_near_the_mean_delay_of_the_planners_months(name: str, tmp_path: Path) -> None:
    """After some days of one life, against the months of twenty lives."""
    account = ACCOUNTS[name]
    months = Results(KEPT).of(name, "planner", SEEDS)
    assert len(months) == 20
    measured = fmean(each.mean for each in months.values())
    month = Month(account, 1, lambda _: None, tmp_path, length=(14 if account.plan == "free" else 2) * DAY)
    month.go()
    context, now = month.rig.context(), month.sandbox.now()
    found = PlanInputs(
        CATALOGUE, context.policy, load_readonly(context.database, context.identity.name), None
    )
    month.close()
    assert account.limits.usable
    per_day, unread = account.limits.usable / 31, first_reads([found]).requests
    late = forecast(activity([found], now), account.every / HOUR, per_day, unread).mean
    assert late == pytest.approx(measured, rel=0.3)

"""Months on a tight quota, with whatever may go wrong: nothing is overdrawn, and nothing is lost."""

from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from connector.domain.budget import Limits
from connector.reporting.quota import Quota, quota
from connector.sandbox import Company, Switches
from connector.state import runs
from connector.sync.planning.queue import FIRST_PRICE
from tests.harness import Rig, expected, hold_still, landed, sandbox
from tests.sandbox import Faults, Sandbox
from tests.sync.test_sync_crash import die

CHILDREN = ("comments", "reactions", "feature_request_comments", "feature_request_votes")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MONTH = 31 * DAY


def company(seed: int, **life: Any) -> Company:
    few = {"posts": 14, "requests": 9, "days": 90, "activity": 0.4, "late": 0.1, "deletions": 0.05}
    return Company(seed=seed, **(few | life))


def most_in_31_days(box: Sandbox) -> int:
    asked = [seen.at for seen in box.requests if seen.api == "beamer"]
    return max(sum(start <= at < start + MONTH for at in asked) for start in asked)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("period_day", [None, 17])
def test_crashes_and_429s_overdraw_nothing(tmp_path: Path, seed: int, period_day: int | None) -> None:
    faults = Faults(seed=seed, apis=("beamer",), status_500=0.02, busy=0.03, reset_after=0.02)
    box = sandbox(company=company(seed), faults=faults)
    limits = Limits(330, 30, 30, period_day)
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", limits=limits)
    rng = Random(seed)
    for _ in range(40 * 6):
        if rng.random() < 0.1:
            die(rig, rng.randrange(1, 40), after=rng.random() < 0.5)
        else:
            rig.sync()
        box.advance(4 * HOUR + timedelta(seconds=rng.randrange(900)))
    used = rig.context().ledger.balance(rig.clock.now()).used
    assert used >= 200, "the budget is there to be spent"
    if period_day is None:
        assert most_in_31_days(box) <= 300
    else:
        turn = box.now().replace(month=3, day=17, hour=0, minute=0, second=0, microsecond=0)
        inside = [seen for seen in box.requests if seen.api == "beamer" and turn <= seen.at < turn + MONTH]
        assert len(inside) <= 300
    rig.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "switches",
    [
        pytest.param({}, marks=pytest.mark.long),
        pytest.param({"counters_lag": timedelta(hours=7)}, marks=pytest.mark.long),
        pytest.param({"order": "oldest"}, marks=pytest.mark.long),
        {"order": "unordered", "counters_lag": timedelta(hours=30)},
    ],
)
def test_what_a_list_or_a_counter_showed_arrives(tmp_path: Path, switches: dict[str, Any]) -> None:
    """Lagging counters, rows that come up to three days late, deletions: a month, and a quiet while after."""
    box = sandbox(company=company(5), switches=Switches(**switches))
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", limits=Limits(1_500, 0, 30))
    for _ in range(31 * 8):
        rig.sync()
        box.advance(3 * HOUR)
    hold_still(box)
    for _ in range(60):
        rig.sync()
        box.advance(12 * HOUR)
    assert not set(expected(box, rig.start)) - set(landed(box))
    rig.check()
    rig.close()


@pytest.mark.slow
@pytest.mark.long
def test_on_a_large_account_what_cancelled_out_arrives_within_the_round_that_quota_states(
    tmp_path: Path,
) -> None:
    """300 posts and 150 requests on 20,000 requests a month, while its life goes on; weeks of it."""
    box = sandbox(company=Company(posts=300, requests=150, days=600, late=0.0, deletions=0.0))
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", limits=Limits(20_000, 1_500, 30))
    hours(rig, 10 * 24)
    hidden = []
    for post in box.world.posts_shown()[5::9]:
        for stream in ("comments", "reactions"):
            rows = box.world.row_list(stream, post.id).rows
            if rows:
                box.world.delete(stream, rows[-1].id)
                hidden.append(box.world.add(stream, post.id, userId="u-1", **(rows[-1].overrides or {})))
    assert len(hidden) >= 40
    asked = Quota("acct", ["default"], rig.limits, "20,000 requests")
    outlook = quota(rig.database, asked, {"default": rig.context().policy}, [], box.now()).outlook
    assert outlook is not None
    assert outlook.today.audit_round is not None
    hours(rig, round(outlook.today.audit_round))
    arrived = {row for _, row in landed(box)}
    assert set(hidden) <= arrived, f"{len(set(hidden) - arrived)} not within {outlook.today.audit_round} h"
    rig.close()


def hours(rig: Rig, how_many: int) -> None:
    for _ in range(how_many):
        rig.sync()
        rig.sandbox.advance(HOUR)


@pytest.mark.slow
def test_what_cancelled_out_arrives_within_a_round_of_the_audit(tmp_path: Path) -> None:
    """As `quota` states it: every list that is not empty, at one request in fifty."""
    box = sandbox(company=company(6, posts=40, requests=10, late=0.0, deletions=0.0))
    limits = Limits(6_000, 0, 30)
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", limits=limits)
    for _ in range(8):
        rig.sync()
        box.advance(6 * HOUR)
    hold_still(box)
    for _ in range(4):
        rig.sync()
        box.advance(DAY)
    hidden = []
    for post in box.world.posts_shown()[::5]:
        rows = box.world.row_list("comments", post.id).rows
        if rows:
            box.world.delete("comments", rows[-1].id)
            hidden.append(box.world.add("comments", post.id, userId="u-1"))
    assert len(hidden) >= 4
    lists = sum(
        1
        for stream in ("comments", "reactions", "feature_request_comments", "feature_request_votes")
        for shelf in {row.parent_id for row in box.world.rows(stream)}
        if shelf
    )
    round_days = 7 + lists * 50 / (limits.requests or 1) * 32
    for _ in range(int(round_days) + 2):
        rig.sync()
        box.advance(DAY)
    found = {row for _, row in landed(box)}
    assert set(hidden) <= found
    rig.check()
    rig.close()


@pytest.mark.parametrize("posts", [30, 60])
def test_a_first_day_from_now_on_reads_no_list_in_which_nothing_can_be_sent(
    tmp_path: Path, posts: int
) -> None:
    """Of the first 130 requests of an account that starts today, 84 read lists of older rows only."""
    life: dict[str, Any] = {"activity": 0.3, "late": 0.0, "deletions": 0.0}
    box = sandbox(company=Company(seed=3, posts=posts, requests=20, days=120, **life))
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", days=0, limits=Limits(1_000, 50, 30))
    for _ in range(24):
        rig.sync()
        box.advance(HOUR)
    read = {seen.path.rsplit("/", 2)[-2] for seen in box.requests if seen.path.count("/") == 3}
    since = {row.parent_id for name in CHILDREN for row in box.world.rows(name) if row.date >= rig.start}
    assert read
    assert read <= since
    last = runs.last(rig.context().database, "default")
    assert last
    assert last.price not in (None, FIRST_PRICE), "each run goes on with the price of the one before"
    rig.close()

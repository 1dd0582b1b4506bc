"""Accounts of any size: full pages, empty ones, and one row more."""

from datetime import timedelta
from pathlib import Path

import pytest

from connector.domain.budget import Limits
from connector.sandbox import Company, Switches
from connector.state import progress, runs
from connector.sync.context import Constants
from tests.harness import Rig, idle_cost, sandbox

HOUR = timedelta(hours=1)
USER = {"userId": "u-1"}


def account(path: Path, posts: int, requests: int, nps: int, **switches: int | str) -> Rig:
    box = sandbox(company=Company.empty(), switches=Switches(**switches))  # type: ignore[arg-type]
    for stream, count in (("posts", posts), ("feature_requests", requests), ("nps", nps)):
        for number in range(count):
            date = box.now() - 4 * HOUR * (number + 1)
            box.world.add(stream, date=date, appears=date, **USER)
    return Rig(box, f"sqlite:///{path / 'state.sqlite'}", days=60)


SIZES = [(0, 0, 0), (1, 1, 1), (10, 10, 99), (11, 20, 100), (20, 11, 101), (100, 9, 200)]


@pytest.mark.parametrize(("posts", "requests", "nps"), SIZES)
@pytest.mark.parametrize("order", ["newest", "oldest", "unordered"])
def test_the_third_sync_costs_a_request_for_ten_parents(
    tmp_path: Path, posts: int, requests: int, nps: int, order: str
) -> None:
    rig = account(tmp_path, posts, requests, nps, order=order)
    rig.sync()
    rig.check()
    second, third = rig.sync(), rig.sync()
    assert second.report.sent == third.report.sent == 0
    # Behind each full page, and behind a short one of NPS, which has no counter.
    full = posts // 10 + requests // 10 + 2
    assert third.report.requests_spent <= idle_cost(rig.sandbox) + (0 if order == "newest" else full)
    rig.close()


@pytest.mark.parametrize("posts", [0, 1, 9, 10, 11, 30])
def test_a_new_post_is_found_whatever_the_pages_look_like(tmp_path: Path, posts: int) -> None:
    rig = account(tmp_path, posts, 0, 0)
    rig.sync()
    for _ in range(3):
        rig.sandbox.advance(HOUR)
        post = rig.sandbox.world.add("posts")
        rig.sandbox.world.add("comments", post, **USER)
        assert rig.sync().report.sent == 2
    rig.check()
    rig.close()


def test_eleven_new_posts_at_once_and_a_hundred_comments_on_one(tmp_path: Path) -> None:
    rig = account(tmp_path, 10, 10, 0)
    rig.sync()
    rig.sandbox.advance(HOUR)
    for _ in range(11):
        post = rig.sandbox.world.add("posts")
    for _ in range(100):
        rig.sandbox.world.add("comments", post, **USER)
    assert rig.sync().report.sent == 111
    rig.check()
    rig.close()


@pytest.mark.parametrize("order", ["newest", "oldest", "unordered"])
def test_a_comment_dated_before_the_lookback_is_found_by_the_counter(tmp_path: Path, order: str) -> None:
    rig = account(tmp_path, 1, 0, 0, order=order)
    (post,) = rig.sandbox.world.rows("posts")
    first = rig.sandbox.now() - timedelta(days=20)
    for number in range(35):
        rig.sandbox.world.add("comments", post.id, date=first + number * 12 * HOUR, **USER)
    rig.sync()
    rig.sandbox.advance(HOUR)
    rig.sandbox.world.add("comments", post.id, date=first + HOUR, **USER)
    assert rig.sync().report.sent == 1
    rig.check()
    rig.close()


def test_what_was_scheduled_or_a_draft_is_sent_when_it_is_published(tmp_path: Path) -> None:
    rig = account(tmp_path, 5, 0, 0)
    box = rig.sandbox
    scheduled = box.world.add("posts", date=box.now() + 30 * HOUR)
    draft = box.world.add("posts", published="false", date=box.now() - 9 * HOUR)
    assert rig.sync().report.sent == 5
    box.advance(31 * HOUR)
    assert rig.sync().report.sent == 1
    box.world.set("posts", draft, published="true")
    box.world.add("reactions", scheduled, **USER)
    assert rig.sync().report.sent == 2
    rig.check()
    rig.close()


def test_a_deleted_post_is_looked_for_once(tmp_path: Path) -> None:
    rig = account(tmp_path, 25, 0, 0)
    rig.sync()
    rig.sandbox.world.delete("posts", rig.sandbox.world.rows("posts")[3].id)
    usual = idle_cost(rig.sandbox)
    assert rig.sync().report.requests_spent <= usual + 2
    assert rig.sync().report.requests_spent == usual
    rig.close()


def test_an_idle_week_ends_with_a_proof_and_a_count_and_not_more(tmp_path: Path) -> None:
    rig = account(tmp_path, 30, 0, 0)
    rig.sync()
    costs = []
    for _ in range(9):
        rig.sandbox.advance(timedelta(days=1))
        costs.append(rig.sync().report.requests_spent)
    usual = idle_cost(rig.sandbox)
    assert sorted(costs)[:-2] == [usual] * 7
    # NPS has no counter, and is counted; the blocks are read to their ends.
    assert sorted(costs)[-2] <= usual + 1
    assert max(costs) <= 2 * usual
    rig.close()


def test_old_lists_are_read_no_further_back_than_the_start_date(tmp_path: Path) -> None:
    rig = account(tmp_path, 0, 0, 0)
    old = rig.sandbox.now() - timedelta(days=400)
    for number in range(8):
        date = old + number * HOUR
        post = rig.sandbox.world.add("posts", date=date, appears=date)
        for comment in range(15):
            rig.sandbox.world.add("comments", post, date=date + comment * HOUR, **USER)
    outcome = rig.sync()
    assert outcome.report.sent == 0
    assert outcome.report.requests["comments"] <= 8 + 2
    rig.close()


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6])
@pytest.mark.parametrize("stream", ["nps", "posts", "feature_requests", "comments"])
@pytest.mark.parametrize("order", ["newest", "oldest", "unordered"])
def test_pages_may_hold_fewer_rows_from_one_day_on(
    tmp_path: Path, stream: str, order: str, share: float
) -> None:
    """Whatever stands on a smaller page, what is behind it comes with the next run."""
    rig = account(tmp_path, 8, 8, 60, order=order)
    box = rig.sandbox
    parent = box.world.rows("posts")[0].id if stream == "comments" else None
    rig.sync()
    rig.sync()
    box.switches.page_share = share
    for number in range(25):
        box.advance(timedelta(minutes=7))
        box.world.add(stream, parent, date=box.now() - timedelta(minutes=number % 3), **USER)
    rig.sync()
    rig.check()
    rig.close()


@pytest.mark.parametrize("share", [0.1, 0.35])
@pytest.mark.parametrize("order", ["newest", "oldest", "unordered"])
@pytest.mark.parametrize("stream", ["nps", "posts", "feature_requests"])
def test_a_list_that_was_empty_may_begin_with_smaller_pages(
    tmp_path: Path, stream: str, order: str, share: float
) -> None:
    rig = account(tmp_path, 0, 0, 0, order=order)
    rig.sync()
    rig.sync()
    rig.sandbox.switches.page_share = share
    for _ in range(40):
        rig.sandbox.advance(timedelta(minutes=7))
        rig.sandbox.world.add(stream, **USER)
    rig.sandbox.advance(HOUR)
    rig.sync()
    rig.check()
    rig.close()


@pytest.mark.parametrize("stream", ["posts", "feature_requests"])
def test_a_large_account_on_a_small_quota_is_no_list_without_end(tmp_path: Path, stream: str) -> None:
    """Of 330 posts the oldest ones were left at the bound of a run, as if they had failed: 600 hours late."""
    counts = {"posts": 0, "feature_requests": 0} | {stream: 330}
    rig = account(tmp_path, counts["posts"], counts["feature_requests"], 0)
    rig.limits = Limits(1_000, 0, 30)
    for _ in range(4):
        assert rig.sync().report.troubles == []
        rig.sandbox.advance(HOUR)
    assert progress.load_readonly(rig.database, rig.name).streams[stream].complete
    rig.check()
    rig.close()


@pytest.mark.parametrize("constants", [Constants(batch=2), Constants(batch_bytes=3_000)])
def test_a_request_to_segment_holds_what_the_constants_allow(tmp_path: Path, constants: Constants) -> None:
    rig = account(tmp_path, 5, 0, 30)
    rig.constants = constants
    rig.sync()
    rig.check()
    requests = sum(request.api == "segment" for request in rig.sandbox.requests)
    assert requests >= 35 / 2 if constants.batch == 2 else 5 < requests < 35
    rig.close()


@pytest.mark.parametrize("pages", [2, 3])
def test_a_list_is_left_after_as_many_pages_as_the_constants_allow(tmp_path: Path, pages: int) -> None:
    rig = account(tmp_path, 0, 0, 600)
    rig.constants = Constants(most_pages=pages)
    assert rig.sync().report.requests["nps"] == pages
    for _ in range(9):
        # What was left rests for a while.
        rig.sandbox.advance(6 * HOUR)
        rig.sync()
    rig.check()
    rig.close()


def test_runs_are_kept_as_long_as_the_constants_say(tmp_path: Path) -> None:
    rig = account(tmp_path, 0, 0, 1)
    rig.constants = Constants(retention=HOUR)
    for _ in range(3):
        rig.sync()
        rig.sandbox.advance(HOUR / 2 + timedelta(seconds=1))
    assert len(runs.last_runs(rig.database, rig.name, 9)) == 2
    rig.close()

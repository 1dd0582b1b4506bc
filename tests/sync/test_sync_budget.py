"""What a run may spend, and what becomes of one that is cut short."""

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.domain.budget import Limits
from connector.sandbox import Company, Switches
from connector.state import progress
from tests.harness import Rig, idle_cost, sandbox
from tests.sandbox import Sandbox

USER = {"userId": "u-1"}
HOUR = timedelta(hours=1)


def small(**switches: Any) -> Sandbox:
    """Twelve posts, some with more children than a page holds, a request, and a few answers."""
    box = sandbox(company=Company.empty(), switches=Switches(**switches))

    def add(stream: str, parent: str | None, hours: float) -> str:
        date = box.now() - hours * HOUR
        return box.world.add(stream, parent, date=date, appears=date, **USER)

    for number in range(12):
        post = add("posts", None, 400 - 30 * number)
        for child in range((0, 1, 25, 3)[number % 4]):
            add("comments", post, 390 - 30 * number - child / 2)
    request = add("feature_requests", None, 800)
    for child in range(13):
        add("feature_request_votes", request, 799 - 60 * child)
    for answer in range(7):
        add("nps", None, 20 * answer + 1)
    return box


def url(path: Path, name: str = "state") -> str:
    return f"sqlite:///{path / name}.sqlite"


@pytest.mark.parametrize(
    ("order", "first_page"), [("newest", 0), ("newest", 1), ("oldest", 0), ("unordered", 1)]
)
def test_a_first_sync_cut_short_is_completed_by_the_next(tmp_path: Path, order: str, first_page: int) -> None:
    cut_short(tmp_path, order, first_page, 5 if (order, first_page) == ("newest", 0) else 9)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("order", ["newest", "oldest", "unordered"])
@pytest.mark.parametrize("first_page", [0, 1])
def test_a_first_sync_cut_short_anywhere(tmp_path: Path, order: str, first_page: int) -> None:
    cut_short(tmp_path, order, first_page, 1)


def cut_short(tmp_path: Path, order: str, first_page: int, step: int) -> None:
    whole = Rig(small(order=order, first_page=first_page), url(tmp_path))
    total = whole.sync().report.requests_spent
    whole.check()
    whole.close()
    for most in range(1, total, step):
        rig = Rig(small(order=order, first_page=first_page), url(tmp_path, str(most)))
        first = rig.sync(most_requests=most)
        assert (first.exit, first.report.requests_spent) == (0, most)
        second = rig.sync()
        rig.check()
        # Without an order, a reading that was cut is made sure of by another pass.
        assert most + second.report.requests_spent <= total + (total if order == "unordered" else 12)
        assert rig.sync().report.sent == 0
        rig.close()


@pytest.mark.parametrize("order", ["newest", "unordered"])
@pytest.mark.parametrize("most", [7, 9])  # a little more than looking everywhere costs
def test_many_small_runs_get_there(tmp_path: Path, order: str, most: int) -> None:
    rig = Rig(small(order=order), url(tmp_path))
    for _ in range(40):
        if rig.sync(most_requests=most).report.stopped is None:
            break
    rig.check()
    rig.close()


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_a_request_at_a_time_gets_there(tmp_path: Path, order: Any) -> None:
    """A first page that shows nothing new was asked for at each run, and the next one at none.

    Neither was there an end of asking for feature requests where there are none.
    """
    box = sandbox(company=Company.empty(), switches=Switches(order=order))
    for number in range(40):
        date = box.now() - timedelta(days=20 - number / 4)
        box.world.add("posts", None, date=date, appears=date)
    rig = Rig(box, url(tmp_path), limits=Limits(1_000, 0, 30, startup=0.003))
    for _ in range(6 * 30):
        rig.sandbox.advance(timedelta(minutes=48))
        rig.sync()
    found = progress.load_readonly(rig.database, "default")
    assert len(found.parents["posts"]) == 40
    assert found.streams["posts"].complete
    about = Counter(seen.path for seen in rig.sandbox.requests)
    assert about["/requests"] < about["/posts"] / 2
    rig.close()


def test_life_going_on_between_small_runs_costs_no_row(tmp_path: Path) -> None:
    rig = Rig(small(), url(tmp_path))
    posts = rig.sandbox.world.posts_shown()
    for number in range(20):
        rig.sync(most_requests=4)
        rig.sandbox.advance(HOUR / 3)
        rig.sandbox.world.add("comments", posts[number % 4].id, **USER)
        if number % 3 == 0:
            shown = rig.sandbox.world.row_list("comments", posts[2].id).rows
            rig.sandbox.world.delete("comments", shown[len(shown) // 2].id)
            rig.sandbox.world.add("comments", posts[2].id, **USER)
    rig.sync()
    rig.check()
    rig.close()


def test_a_limit_is_never_overdrawn_and_later_days_complete_what_it_cut(tmp_path: Path) -> None:
    rig = Rig(small(), url(tmp_path), limits=Limits(280, 5, 30, startup=0.09))
    spent = []
    for _ in range(8):
        outcome = rig.sync()
        assert outcome.exit == 0
        spent.append(outcome.report.requests_spent)
        # At first the start-up share, later what gathers in eight days.
        assert outcome.report.requests_spent <= (71 if len(spent) > 1 else 25)
        rig.sandbox.advance(timedelta(days=32))
    assert rig.beamer_requests == sum(spent)
    rig.check()
    # Nothing is new; after a month, each window is proved again and each list read again.
    assert spent[-1] < 30
    rig.close()


def test_no_31_days_in_a_row_exceed_the_limit(tmp_path: Path) -> None:
    rig = Rig(small(), url(tmp_path), limits=Limits(40, 0, 30))
    days: list[int] = []
    # Of so few requests, history gets two a month.
    for _ in range(360):
        days.append(rig.sync().report.requests_spent)
        rig.sandbox.advance(timedelta(days=1))
    assert max(sum(days[start : start + 31]) for start in range(330)) <= 40
    rig.check()
    rig.close()


def test_at_the_limit_a_run_asks_nothing_and_says_when_it_may_again(tmp_path: Path) -> None:
    rig = Rig(small(), url(tmp_path), limits=Limits(3, 0, 30, startup=1))
    first = rig.sync()
    assert (first.exit, first.report.requests_spent) == (0, 3)
    second = rig.sync()
    assert (second.exit, second.report.requests_spent) == (0, 0)
    assert second.report.next_try is not None
    assert second.report.stopped == "The monthly limit is used up."
    rig.close()


def test_what_was_collected_before_the_budget_ended_is_sent(tmp_path: Path) -> None:
    rig = Rig(small(), url(tmp_path), limits=Limits(9, 0, 30))
    assert rig.sync().report.sent > 0
    rig.close()


def test_a_run_asked_to_stop_keeps_what_it_has(tmp_path: Path) -> None:
    rig = Rig(small(), url(tmp_path))

    def stop(_: object) -> None:
        rig.clock.stopped = rig.beamer_requests >= 6

    outcome = rig.sync(on_progress=stop)
    assert outcome.report.stopped == "stopped by a signal"
    assert outcome.report.requests_spent <= 10
    rig.clock.stopped = False
    rig.sync()
    rig.check()
    rig.close()


def test_views_do_not_move_and_nothing_is_read_by_id(tmp_path: Path) -> None:
    box = sandbox(company=Company(seed=2, posts=8, requests=5, days=30, activity=0.3))
    rig = Rig(box, url(tmp_path))
    rig.sync()
    box.advance(timedelta(days=1))
    rig.sync()
    assert box.world.views_counted == 0
    asked = [seen for seen in box.requests if seen.api == "beamer"]
    assert {seen.method for seen in asked} == {"GET"}
    assert {seen.status for seen in asked} == {200}
    assert not [seen for seen in asked if seen.path.split("/")[-1].isdigit()]
    assert {seen.params.get("saveViews") for seen in asked if seen.path == "/posts"} == {"false"}
    rig.close()


def test_the_pace_is_kept_under_30_in_any_second(tmp_path: Path) -> None:
    rig = Rig(small(), url(tmp_path))
    rig.sync()
    moments = [seen.at for seen in rig.sandbox.requests if seen.api == "beamer"]
    for start in moments:
        assert sum(start <= at < start + timedelta(seconds=1) for at in moments) <= 30
    assert idle_cost(rig.sandbox) == 4
    rig.close()


def test_a_stream_that_is_forbidden_does_not_eat_the_budget(tmp_path: Path) -> None:
    rig = Rig(small(), f"sqlite:///{tmp_path / 'state.sqlite'}", limits=Limits(1000, 100, 30, startup=0.01))
    rig.sandbox.switches.may_read.discard("nps")
    asked: Counter[str] = Counter()
    began = rig.clock.now()
    for _ in range(60):
        outcome = rig.sync()
        assert outcome.exit == 0
        asked.update(outcome.report.requests)
        # Each time when a request is at hand again.
        again = rig.context().ledger.balance(rig.clock.now()).again or rig.clock.now()
        rig.sandbox.advance(max(timedelta(minutes=15), again - rig.clock.now()))
    days = (rig.clock.now() - began) / timedelta(days=1)
    assert asked["nps"] <= days + 1
    assert asked.total() > 3 * asked["nps"]
    # Given the right, it is read within a day.
    rig.sandbox.switches.may_read.add("nps")
    rig.sandbox.advance(timedelta(days=1))
    assert rig.sync().report.new["nps"] > 0
    rig.close()

"""What fails again and again leaves the others their share of the quota, and is not given up."""

import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from connector.beamer.streams import CATALOGUE
from connector.domain.budget import Limits
from connector.domain.state import ChildState, StreamState
from connector.errors import Exit
from connector.sandbox import Answer, Company, Request
from connector.state import backfills, progress
from connector.sync.lists import backoff
from tests.harness import Rig, landed, sandbox
from tests.sandbox import Sandbox, Step

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOT_FOUND: Step = ("answer", 404, b'"Not found."', {})
USER = {"userId": "u-1"}


def company() -> Sandbox:
    return sandbox(company=Company(seed=7, posts=20, requests=5, days=60, activity=0.3))


def small(tmp_path: Path, box: Sandbox, limit: int | None = 1000) -> Rig:
    return Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", limits=Limits(limit, 50, 30))


def live(rig: Rig, days: float, every: timedelta = HOUR) -> tuple[Counter[str], Counter[int], set[str]]:
    """What was asked, how the runs ended, and what they complained of."""
    asked, exits, troubles = Counter[str](), Counter[int](), set[str]()
    for _ in range(int(days * DAY / every)):
        rig.sandbox.advance(every)
        outcome = rig.sync()
        asked.update(outcome.report.requests)
        exits[outcome.exit] += 1
        troubles.update(outcome.report.troubles)
    return asked, exits, troubles


def of_stream(path: str) -> Callable[[Sandbox], str]:
    return lambda _: path


def of_the_newest_post(box: Sandbox) -> str:
    return f"/posts/{box.world.posts_shown()[-1].id}/reactions"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "stream", "answer"),
    [
        (of_stream("/nps"), "nps", 500),
        pytest.param(of_stream("/requests"), "feature_requests", NOT_FOUND, marks=pytest.mark.long),
        (of_the_newest_post, "reactions", 500),
        pytest.param(of_the_newest_post, "reactions", 400, marks=pytest.mark.long),
    ],
)
def test_a_list_that_always_fails_leaves_the_others_their_requests(
    tmp_path: Path, where: Callable[[Sandbox], str], stream: str, answer: Step
) -> None:
    box = company()
    rig = small(tmp_path, box)
    live(rig, 6)
    path = where(box)
    box.faults.on(lambda request: request.path.endswith(path), [answer] * 9_000)
    asked, exits, troubles = live(rig, 6)
    # Of some 160 requests; the newest post's list was most of them.
    assert 3 <= asked[stream] < 40
    assert asked.total() > 120
    assert {said.split(":")[0] for said in troubles} == {stream}
    assert exits[Exit.UNREACHABLE] >= 3
    states = progress.load_readonly(rig.database, "default").streams
    for other in ("posts", "nps", "feature_requests"):
        through = states[other].complete_through
        assert other == stream or (through and box.now() - through < DAY), other
    box.faults.clear()
    live(rig, 1.5)
    through = progress.load_readonly(rig.database, "default").streams[stream].complete_through
    assert through
    assert box.now() - through < DAY
    rig.close()


def test_after_an_outage_nothing_rests_for_long(tmp_path: Path) -> None:
    box = company()
    rig = small(tmp_path, box)
    live(rig, 2)
    box.faults.on(lambda _: True, [503] * 9_000)
    _, exits, _ = live(rig, 1)
    assert exits[Exit.UNREACHABLE] > 12
    box.faults.clear()
    state = progress.load_readonly(rig.database, "default")
    now = rig.clock.now()
    lists = [child for each in state.children.values() for child in each.values()]
    assert not any(backoff.in_backoff(each, now + HOUR) for each in state.streams.values())
    assert not any(backoff.in_backoff(each, now + HOUR) for each in lists)
    rig.close()


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1000, pytest.param(20_000, marks=pytest.mark.long)])
def test_a_page_of_posts_that_always_fails_leaves_the_others_theirs(
    tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = sandbox(company=Company(seed=7, posts=60, requests=20, days=60, activity=1.0))
    rig = small(tmp_path, box, limit)
    live(rig, 8)
    bad, perform = box.world.posts_shown()[20].id, box.perform

    def broken(request: Request) -> Answer:
        answer = perform(request)
        there = request.path.endswith("/posts") and any(row["id"] == bad for row in json.loads(answer.body))
        return Answer(500, b'"Something went wrong."') if there else answer

    monkeypatch.setattr(box, "perform", broken)
    live(rig, 3)
    before = len(box.requests)
    live(rig, 3)
    assert sum(seen.status == 500 for seen in box.requests[before:]) <= 10
    known = progress.load_readonly(rig.database, "default").parents["posts"].values()
    assert box.now() - max(parent.checked_at for parent in known if parent.checked_at) < DAY
    rig.close()


@pytest.mark.slow
def test_after_a_long_outage_no_stream_rests_for_long(tmp_path: Path) -> None:
    """Each run fails at another list, until it looks as if all of a stream did."""
    box = sandbox(company=Company(seed=7, posts=150, requests=10, days=60, activity=1.0))
    rig = small(tmp_path, box)
    live(rig, 4)
    box.faults.on(lambda _: True, [503] * 9_000)
    live(rig, 6)
    box.faults.clear()
    lists = {
        name: [*each.values()]
        for name, each in progress.load_readonly(rig.database, "default").children.items()
    }
    failing = [name for name in lists if sum(map(bool, (child.failures for child in lists[name]))) >= 3]
    assert failing
    now = rig.clock.now()
    assert not [name for name in failing if backoff.list_in_backoff(lists[name], now + 2 * HOUR)]
    rig.close()


@pytest.mark.slow
@pytest.mark.parametrize("status", [403, 500])
def test_a_stream_of_which_nothing_can_be_read_is_not_audited_instead(tmp_path: Path, status: int) -> None:
    box = sandbox(company=Company(seed=7, posts=40, requests=5, days=60, activity=0.3))
    rig = small(tmp_path, box, 5000)
    live(rig, 6)
    comments = re.compile(".*/posts/[^/]+/comments")
    box.faults.on(lambda request: bool(comments.fullmatch(request.path)), [status] * 9_000)
    live(rig, 1)
    # From now on the lists that were read in the first days are due for an audit.
    asked, _, _ = live(rig, 1)
    assert asked["comments"] < (3 if status == 403 else 50)
    rig.close()


@pytest.mark.parametrize(("limit", "every"), [(None, HOUR), (1000, 12 * HOUR)])
def test_a_list_that_fails_first_in_each_run_does_not_keep_the_others_from_being_read(
    tmp_path: Path, limit: int | None, every: timedelta
) -> None:
    box = sandbox(company=Company(seed=7, posts=20, requests=5, days=60, activity=0.3))
    rig = small(tmp_path, box, limit)
    live(rig, 5, every)
    box.faults.on(lambda request: request.path.endswith("/nps"), [500] * 900)
    live(rig, 4, every)
    for _ in range(4):
        asked, _, _ = live(rig, every / DAY, every)
        assert asked["nps"] < asked.total(), asked
    rig.close()


def test_a_list_that_fails_first_does_not_hold_up_a_backfill_for_ever(tmp_path: Path) -> None:
    box = sandbox(company=Company(seed=7, posts=40, requests=15, days=100, activity=0.5))
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", days=1)
    rig.sync()
    _, found = rig.backfill(most_requests=20)
    left = [reading for reading in backfills.lists(rig.database, found.id) if reading.date]
    first = min(left, key=lambda reading: reading.date or NOW)
    path = CATALOGUE[first.stream].path_for(first.parent)
    box.faults.on(lambda request: request.path.endswith(path), [500] * 400)
    rig.backfill()
    left = [reading for reading in backfills.lists(rig.database, found.id) if reading.date]
    assert [reading.parent for reading in left] == [first.parent]
    box.faults.clear()
    _, found = rig.backfill()
    assert found.finished_at
    rig.close()


@pytest.mark.parametrize("limit", [None, 1000])
def test_a_list_that_was_not_found_once_is_still_read(tmp_path: Path, limit: int | None) -> None:
    box = sandbox(company=Company(seed=3, posts=25, requests=10, days=60, activity=0.2, quiet=True))
    rig = small(tmp_path, box, limit)
    live(rig, 5)
    post = box.world.posts_shown()[-1].id
    rows = {box.world.add("comments", post, **USER) for _ in range(3)}
    box.faults.on(lambda request: request.path.endswith(f"/posts/{post}/comments"), [NOT_FOUND])
    live(rig, 0.5)
    assert rows <= {row for event, row in landed(box) if event == "Post Commented"}
    rig.close()


# --- the decisions ----------------------------------------------------------------------------------------


def test_the_wait_grows_up_to_a_day() -> None:
    waits = [backoff.wait_after(failures) / HOUR for failures in (0, 1, 2, 3, 4, 5, 6, 7, 99)]
    assert waits == [0, 0, 1, 2, 4, 8, 16, 24, 24]


def test_while_nothing_is_answered_the_wait_does_not_grow() -> None:
    state: StreamState = StreamState(1, "nps")
    for _ in range(9):
        state = backoff.failed(state, NOW, answered=False)
    assert (state.failures, backoff.in_backoff(state, NOW), backoff.in_backoff(state, NOW + HOUR)) == (
        2,
        True,
        False,
    )
    state = backoff.failed(state, NOW, answered=True)
    assert backoff.in_backoff(state, NOW + HOUR)
    assert not backoff.in_backoff(backoff.failed(state, NOW + DAY, answered=True), NOW)  # a clock set back
    assert not backoff.in_backoff(backoff.recovered(state), NOW)


def test_where_all_lists_of_a_stream_fail_the_stream_rests() -> None:
    def child(parent: str, failed_at: datetime | None, read_at: datetime, failures: int = 1) -> ChildState:
        failures = failures if failed_at else 0
        return ChildState(1, parent, "1", read_at=read_at, failures=failures, failed_at=failed_at)

    failing = [child(str(number), NOW, NOW - DAY) for number in range(3)]
    assert backoff.list_in_backoff(failing, NOW + HOUR)
    assert not backoff.list_in_backoff(failing, NOW + DAY)
    assert not backoff.list_in_backoff(failing[:2], NOW + HOUR)
    assert not backoff.list_in_backoff([*failing, child("9", None, NOW + HOUR / 2)], NOW + HOUR)
    # While Beamer is away, each run fails at another list, and none of them often.
    many = [child(str(number), NOW, NOW - DAY, backoff.AT_MOST_WHILE_AWAY) for number in range(20)]
    assert backoff.list_in_backoff(many, NOW + HOUR)
    assert not backoff.list_in_backoff(many, NOW + 2 * HOUR)
    assert backoff.list_in_backoff([*many, child("20", NOW, NOW - DAY, 5)], NOW + 7 * HOUR)

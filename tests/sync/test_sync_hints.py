"""Hints: a list that one names is read at once, for a request, and what they say is believed of no row."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from connector.beamer.webhooks import hint_for
from connector.domain.budget import Limits
from connector.domain.hints import NewHint, title_digest
from connector.sandbox import Company
from connector.state import hints, progress
from connector.sync.planning.hinted import requests_for_hints
from connector.sync.planning.start import HintedPlanner
from connector.sync.run import Run
from tests.harness import Rig, sandbox

USER = {"userId": "u-1"}
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Twelve posts with a few comments each, all read; Free, and requests are available."""
    box = sandbox(company=Company.empty())
    for number in range(12):
        date = box.now() - timedelta(days=25) + number * timedelta(hours=48)
        post = box.world.add("posts", date=date, appears=date, translations=[{"title": f"Post {number}"}])
        for later in range(number % 4):
            box.world.add("comments", post, date=date, appears=date + later * HOUR, **USER)
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", limits=Limits(1_000, 0, 30))
    for _ in range(6):
        rig.sync()
        box.advance(12 * HOUR)
    rig.sync()
    yield rig
    rig.close()


def posts(rig: Rig) -> list[str]:
    return [row.id for row in rig.sandbox.world.posts_shown()]


def told(rig: Rig, *new: NewHint) -> None:
    hints.add(rig.database, "default", new, rig.clock.now())


def paths(rig: Rig, before: int) -> list[str]:
    return [seen.path for seen in rig.sandbox.requests[before:] if seen.api == "beamer"]


def synced(rig: Rig) -> list[str]:
    before = len(rig.sandbox.requests)
    assert rig.sync().exit == 0
    return paths(rig, before)


def assert_nothing_waits(rig: Rig, stream: str, parent: str) -> None:
    """A check shows a counter that has risen by the rows that are known, and the list is not read again."""
    before = progress.load_readonly(rig.database, "default").child(stream, parent)
    for _ in range(8):
        rig.sandbox.advance(6 * HOUR)
        assert f"/posts/{parent}/{stream}" not in synced(rig)
        after = progress.load_readonly(rig.database, "default").child(stream, parent)
        assert before
        assert after
        assert after.waits_since is None
        if after.counter != before.counter:
            assert (after.read_counter, after.surplus) == (after.counter, 0)
            break
    else:
        raise AssertionError("the counter was never seen")
    # What comes then is announced again.
    rig.sandbox.world.add(stream, parent, **USER)
    for _ in range(8):
        rig.sandbox.advance(6 * HOUR)
        rig.sync()
    rig.check()


def by_title(number: int, stream: str = "comments", row: str = "") -> NewHint:
    return hint_for(stream, title=title_digest(f"Post {number}"), row=row)


def test_a_hint_has_its_list_read_for_one_request(rig: Rig) -> None:
    """The block is not checked before, and when the counter shows the row later, that costs nothing more."""
    post = posts(rig)[3]
    row = rig.sandbox.world.add("comments", post, **USER)
    told(rig, by_title(3, row=row))
    asked = synced(rig)
    assert asked[0] == f"/posts/{post}/comments"
    assert asked.count(asked[0]) == 1
    rig.check()
    sums = hints.sums(rig.database, "default")["comments"]
    assert (sums.received, sums.confirmed, sums.waiting) == (1, 1, 0)
    assert_nothing_waits(rig, "comments", post)


def test_several_hinted_readings_between_two_checks_leave_nothing_to_wait_for(rig: Rig) -> None:
    post = posts(rig)[2]
    for _ in range(3):
        row = rig.sandbox.world.add("reactions", post, reaction="negative", **USER)
        told(rig, by_title(2, "reactions", row))
        assert f"/posts/{post}/reactions" in synced(rig)
        rig.sandbox.advance(timedelta(minutes=3))
    rig.check()
    assert_nothing_waits(rig, "reactions", post)


def test_what_is_known_already_costs_nothing(rig: Rig) -> None:
    post = posts(rig)[7]
    known = rig.sandbox.world.rows("comments", post)[0].id
    told(rig, by_title(7, row=known))
    assert hints.waiting(rig.database, "default") == {}
    assert f"/posts/{post}/comments" not in synced(rig)
    sums = hints.sums(rig.database, "default")["comments"]
    assert (sums.received, sums.confirmed) == (1, 1)


def test_a_title_that_several_posts_share_means_all_of_them(rig: Rig) -> None:
    rig.sandbox.world.set("posts", posts(rig)[8], translations=[{"title": "Post 9"}])
    for _ in range(8):
        rig.sandbox.advance(12 * HOUR)
        rig.sync()
    rig.sandbox.world.add("comments", posts(rig)[9], **USER)
    told(rig, by_title(9))
    assert {f"/posts/{posts(rig)[number]}/comments" for number in (8, 9)} <= set(synced(rig))
    rig.check()


def test_a_title_that_no_post_has_means_the_newest_block(rig: Rig) -> None:
    """So a comment on a post that was never seen arrives, too."""
    new = rig.sandbox.world.add("posts", translations=[{"title": "Just now"}])
    rig.sandbox.advance(timedelta(minutes=1))
    rig.sandbox.world.add("comments", new, **USER)
    told(rig, hint_for("comments", title=title_digest("Just now")))
    asked = synced(rig)
    assert asked[:2] == ["/posts", f"/posts/{new}/comments"]
    rig.check()
    sums = hints.sums(rig.database, "default")["comments"]
    assert (sums.confirmed, sums.waiting) == (1, 0)


def test_nps_and_new_posts_have_hints_of_their_own(rig: Rig) -> None:
    rig.sandbox.world.add("nps", feedback="fine", score=9, **USER)
    rig.sandbox.world.add("posts", translations=[{"title": "Another"}])
    told(rig, hint_for("nps"), hint_for("posts"))
    assert set(synced(rig)[:2]) == {"/nps", "/posts"}
    rig.check()
    assert all(sums.waiting == 0 for sums in hints.sums(rig.database, "default").values())


def test_a_score_that_may_still_get_a_text_is_read_when_it_is_settled(rig: Rig) -> None:
    """Until then its hint waits, and no request is sent for it."""
    told(rig, hint_for("nps"), hint_for("nps"))
    rig.sandbox.world.add("nps", feedback="", score=9, **USER)
    rig.sandbox.world.add("nps", feedback="fine", score=8, **USER)
    assert synced(rig)[0] == "/nps"
    assert hints.sums(rig.database, "default")["nps"].waiting == 1
    settled = rig.clock.now() + timedelta(minutes=15)
    for _ in range(4):
        rig.sandbox.advance(timedelta(minutes=3))
        assert hints.newest(rig.database, rig.clock.now()) == {}
        assert "/nps" not in synced(rig)
    rig.sandbox.advance(timedelta(minutes=4))
    assert settled - MINUTE < hints.newest(rig.database, rig.clock.now())["default"] <= settled + MINUTE
    assert synced(rig)[0] == "/nps"
    rig.check()
    sums = hints.sums(rig.database, "default")["nps"]
    assert (sums.received, sums.confirmed, sums.waiting) == (2, 2, 0)


def test_what_is_announced_beside_a_score_that_waits_is_read_at_once(rig: Rig) -> None:
    told(rig, hint_for("nps"))
    rig.sandbox.world.add("nps", feedback="", score=9, **USER)
    synced(rig)
    rig.sandbox.advance(timedelta(minutes=5))
    rig.sandbox.world.add("nps", feedback="fine", score=8, **USER)
    told(rig, hint_for("nps"))
    assert hints.newest(rig.database, rig.clock.now()) == {"default": rig.clock.now()}
    assert synced(rig)[0] == "/nps"
    assert hints.sums(rig.database, "default")["nps"].waiting == 1
    rig.sandbox.advance(timedelta(minutes=11))
    assert synced(rig)[0] == "/nps"
    rig.check()
    assert hints.sums(rig.database, "default")["nps"].waiting == 0


def test_false_hints_cost_their_share_and_no_more(rig: Rig) -> None:
    """However many come, day after day; each costs one request at the most."""
    spent = Counter[str]()
    for _ in range(10):
        told(rig, *(by_title(number) for number in range(12)))
        rig.sandbox.advance(12 * HOUR)
        rig.sync()
    balance = rig.context().ledger.balance(rig.clock.now())
    spent.update(balance.by_purpose)
    assert 0 < spent["hints"] <= 0.5 * (balance.used + (balance.level or 0.0)) + 1
    assert spent["posts"] > 0
    assert rig.context().ledger.spent_lately("hints", rig.clock.now())[0] > 0
    rig.check()


def test_a_false_hint_does_not_read_a_long_list_to_its_end(rig: Rig) -> None:
    post = posts(rig)[5]
    for number in range(60):
        date = rig.clock.now() - timedelta(minutes=9 * number)
        rig.sandbox.world.add("comments", post, date=date, appears=date, **USER)
    for _ in range(6):
        rig.sandbox.advance(12 * HOUR)
        rig.sync()
    told(rig, *[by_title(5)] * 40)
    assert synced(rig).count(f"/posts/{post}/comments") == 1
    assert hints.waiting(rig.database, "default") == {}


def test_without_a_limit_only_what_hints_name_is_asked(tmp_path: Path) -> None:
    rig = Rig(sandbox(seed=5), f"sqlite:///{tmp_path / 'state.sqlite'}")
    rig.sync()
    row = rig.sandbox.world.add("comments", posts(rig)[4], **USER)
    told(rig, hint_for("comments", parent=posts(rig)[4], row=row))
    before, context = len(rig.sandbox.requests), rig.context()
    assert Run(replace(context, planner=HintedPlanner())).go().exit == 0
    assert paths(rig, before) == [f"/posts/{posts(rig)[4]}/comments"]
    rig.check()
    # In an ordinary sync it would have been asked once, behind its block.
    told(rig, hint_for("comments", parent=posts(rig)[6]))
    assert synced(rig).count(f"/posts/{posts(rig)[6]}/comments") == 1
    rig.close()


@pytest.mark.parametrize(
    ("share", "on_hints", "spent", "available", "left"),
    [
        (0.5, 0, 0, 10.0, 5),
        (0.5, 5, 5, 5.0, 0),
        (0.5, 5, 5, 7.9, 1),
        (0.5, 90, 100, 3.0, 0),
        (0.0, 0, 100, 30.0, 0),
        (1.0, 20, 20, 3.2, 3),
    ],
)
def test_the_share_of_hints(share: float, on_hints: int, spent: int, available: float, left: int) -> None:
    assert requests_for_hints(share, on_hints, spent, available) == left

"""History: brought once, resumable anywhere, beside the syncs, within what it may cost."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.beamer.streams import CATALOGUE
from connector.clock import SystemClock
from connector.domain.budget import Limits
from connector.errors import Busy
from connector.sandbox import Company, Request, Switches
from connector.segment.client import SegmentClient
from connector.segment.shaping import Privacy
from connector.state import leases, outbox, progress
from connector.state.engine import Database
from connector.state.leases import this_process
from connector.state.outbox import Outbox
from connector.state.pace import Pace
from connector.sync.backfill.run import ENOUGH
from connector.sync.delivery import Delivery, ThreadedDelivery
from connector.sync.report import Report
from connector.sync.run import Run
from tests.harness import ALL, EVENT, Rig, SerialPool, expected, hold_still, idle_cost, landed, sandbox
from tests.sandbox import Sandbox, Step
from tests.sync.test_sync_budget import small
from tests.sync.test_sync_crash import Death, Mortal

LONG = 3650
JSON = {"Content-Type": "application/json;charset=utf-8"}


def url(path: Path, name: str = "state") -> str:
    return f"sqlite:///{path / name}.sqlite"


def asked(box: Sandbox) -> Counter[str]:
    """Every request that Beamer got, as often as it got it."""
    return Counter(f"{seen.path} {seen.params}" for seen in box.requests if seen.api == "beamer")


def gone(box: Sandbox) -> set[tuple[str, str]]:
    """What was deleted in the meantime, and may have arrived before."""
    return {(EVENT[stream], row.id) for stream in ALL for row in box.world.rows(stream) if row.deleted_at}


def whole(rig: Rig) -> None:
    """All of history has landed, once."""
    rig.start -= timedelta(days=LONG)
    rig.check()
    rig.start += timedelta(days=LONG)


def test_all_of_history_arrives_once_and_syncs_go_on_beside_it(database_url: str) -> None:
    rig = Rig(sandbox(), database_url)
    hold_still(rig.sandbox)
    rig.sync()
    rig.check()
    before = progress.load_readonly(rig.database, "default")
    outcome, of = rig.backfill()
    assert outcome.exit == 0
    assert of.finished_at
    assert (of.requests, of.rows) == (outcome.report.requests_spent, outcome.report.new.total())
    whole(rig)
    assert progress.load_readonly(rig.database, "default") == before
    # What the sync had sent is not sent again, and the next sync has nothing to do.
    assert not rig.sandbox.segment.duplicates
    assert rig.sync().report.requests_spent <= idle_cost(rig.sandbox) + 1
    rig.close()


def test_history_first_then_syncs(tmp_path: Path) -> None:
    rig = Rig(sandbox(), url(tmp_path))
    rig.backfill()
    whole(rig)
    rig.sandbox.advance(timedelta(days=3))
    rig.sync()
    whole(rig)
    assert not rig.sandbox.segment.duplicates
    rig.close()


def test_the_same_range_again_asks_nothing(tmp_path: Path) -> None:
    rig = Rig(small(), url(tmp_path))
    rig.backfill()
    spent = rig.beamer_requests
    outcome, of = rig.backfill()
    assert (outcome.report.requests_spent, rig.beamer_requests, outcome.exit) == (0, spent, 0)
    outcome, again = rig.backfill(again=True)
    assert again.id != of.id
    assert spent / 2 < outcome.report.requests_spent <= spent
    assert outcome.report.sent == 0
    rig.close()


@pytest.mark.parametrize("order", ["newest", "oldest", "unordered"])
@pytest.mark.parametrize("first_page", [0, 1])
@pytest.mark.parametrize("cut", [False, True])
def test_whatever_the_lists_are_like(tmp_path: Path, order: Any, first_page: int, cut: bool) -> None:
    rig = Rig(small(order=order, first_page=first_page, filters_after_page=cut), url(tmp_path))
    for _ in range(30):
        outcome, of = rig.backfill(most_requests=7)
        if of.finished_at:
            break
    assert of.finished_at
    assert outcome.exit == 0
    whole(rig)
    rig.close()


def test_a_backfill_cut_short_repeats_no_request(tmp_path: Path) -> None:
    one = Rig(small(), url(tmp_path, "one"))
    one.backfill()
    rig = Rig(small(), url(tmp_path))
    for most in range(1, 60):
        outcome, of = rig.backfill(most_requests=most % 5 + 1)
        if of.finished_at:
            break
        assert outcome.report.stopped
    assert of.finished_at
    whole(rig)
    assert rig.beamer_requests <= one.beamer_requests + 2
    assert of.requests == rig.beamer_requests
    one.close()
    rig.close()


def test_a_range_with_an_end_brings_what_lies_in_it(tmp_path: Path) -> None:
    rig = Rig(sandbox(), url(tmp_path))
    hold_still(rig.sandbox)
    until = rig.start - timedelta(days=20)
    rig.backfill(days=30, until=until)
    since = rig.start - timedelta(days=30)
    dates = [message["timestamp"] for message in rig.sandbox.segment.messages]
    assert dates
    assert all(since.isoformat()[:19] <= date[:19] < until.isoformat()[:19] for date in dates)
    due = {key for key, row in expected(rig.sandbox, since).items() if row.date < until}
    assert due == landed(rig.sandbox).keys() - gone(rig.sandbox)
    # Ranges that overlap send nothing twice.
    rig.backfill(days=40)
    rig.backfill()
    whole(rig)
    assert not rig.sandbox.segment.duplicates
    rig.close()


def test_what_was_excluded_is_sent_when_the_settings_say_so(tmp_path: Path) -> None:
    rig = Rig(sandbox(), url(tmp_path))
    hold_still(rig.sandbox)
    rig.backfill()
    first = len(rig.sandbox.segment.messages)
    rig.privacy = Privacy(anonymous="send")
    outcome, _ = rig.backfill()
    held = outcome.report.events.total()
    assert held > 0
    # Rows that are excluded no longer are no negative number of excluded ones.
    assert not any(rows < 0 for rows in outcome.report.excluded.values())
    assert len(rig.sandbox.segment.messages) == first + held
    assert not rig.sandbox.segment.duplicates
    assert rig.backfill()[0].report.requests_spent == 0
    rig.close()


def test_resend_sends_again_under_the_same_ids(tmp_path: Path) -> None:
    rig = Rig(small(), url(tmp_path))
    rig.backfill()
    sent = [message["messageId"] for message in rig.sandbox.segment.messages]
    rig.sandbox.advance(timedelta(days=2))
    outcome, _ = rig.backfill(resend=True, most_requests=9)
    while outcome.report.stopped:
        outcome, _ = rig.backfill(resend=True, most_requests=9)
    # Segment has forgotten the first time after a day; what comes twice within one, it drops.
    arrived = Counter(message["messageId"] for message in rig.sandbox.segment.messages)
    assert arrived == Counter(dict.fromkeys(sent, 2))
    assert rig.backfill(resend=True)[0].report.requests_spent == 0
    rig.close()


def test_integrations_go_into_the_messages_of_history_alone(tmp_path: Path) -> None:
    rig = Rig(sandbox(), url(tmp_path))
    where = {"All": False, "Amplitude": True}
    rig.backfill(integrations=where, most_requests=20)
    # A later call need not say it again.
    rig.backfill()
    old = list(rig.sandbox.segment.messages)
    assert old
    assert all(message["integrations"] == where for message in old)
    rig.sandbox.advance(timedelta(days=2))
    rig.sync()
    new = rig.sandbox.segment.messages[len(old) :]
    assert new
    assert all(message["integrations"] == {} for message in new)
    rig.close()


def test_rows_that_a_counter_has_announced_may_come_by_a_backfill(tmp_path: Path) -> None:
    box = small()
    rig = Rig(box, url(tmp_path))
    rig.sync()
    post = box.world.rows("posts")[-1].id
    for minute in range(3):
        when = box.now() - timedelta(minutes=minute + 1)
        box.world.add("comments", post, date=when, appears=when, userId="u-2")
    rig.backfill()
    whole(rig)
    state = progress.load_readonly(rig.database, "default").children["comments"][post]
    assert state.surplus == 3
    # The counters have moved for them: the list is asked once and nobody wonders.
    outcome = rig.sync()
    assert outcome.report.requests["comments"] == 1
    assert rig.sync().report.requests["comments"] == 0
    assert not progress.load_readonly(rig.database, "default").streams["comments"].distrusted
    whole(rig)
    rig.close()


def test_a_quota_is_not_exceeded_and_the_bucket_is_left_alone(tmp_path: Path) -> None:
    rig = Rig(small(), url(tmp_path), limits=Limits(120, 20, 30, startup=0.2))
    now = rig.clock.now()
    rig.sync(most_requests=1)
    level = rig.context().ledger.balance(now).level
    assert level is not None
    rig.backfill(most_requests=20)
    after = rig.context().ledger.balance(now)
    assert after.level == pytest.approx(level, abs=0.1)
    assert after.by_purpose["backfill"] == 20
    # What it took does not come in for the syncs.
    assert after.per_day is not None
    assert after.per_day < 100 * 0.8 / 31
    outcome, _ = rig.backfill()
    assert outcome.report.stopped == "The monthly limit is used up." or outcome.report.stopped is None
    assert rig.beamer_requests <= 100
    rig.close()


def test_one_backfill_at_a_time_and_syncs_beside_it(tmp_path: Path) -> None:
    rig = Rig(small(), url(tmp_path))
    rig.context()
    now = rig.clock.now()
    lease = leases.acquire(rig.database, "default", this_process(), now, leases.BACKFILL)
    with pytest.raises(Busy, match="Another backfill"):
        rig.backfill()
    assert rig.sync().exit == 0
    leases.release(rig.database, lease, now)
    lease = leases.acquire(rig.database, "default", this_process(), now)
    assert rig.backfill()[0].exit == 0
    leases.release(rig.database, lease, now)
    whole(rig)
    rig.close()


def test_what_a_backfill_left_waiting_goes_out_with_the_next_sync(tmp_path: Path) -> None:
    rig = Rig(small(), url(tmp_path))
    outcome, _ = rig.backfill(deliver=False)
    assert outcome.report.waiting
    assert not rig.sandbox.segment.messages
    rig.sync()
    whole(rig)
    rig.close()


def test_it_stops_before_the_syncs_do_while_segment_is_away(tmp_path: Path) -> None:
    rig = Rig(small(), url(tmp_path), most_waiting=20)
    rig.sandbox.faults.script("segment", [500] * 200)
    outcome, of = rig.backfill()
    assert outcome.exit == 69
    assert 10 <= outcome.report.waiting < 40
    assert "waits for Segment" in (outcome.report.stopped or "")
    assert not of.finished_at
    rig.sandbox.faults.clear()
    rig.backfill()
    whole(rig)
    rig.close()


def test_a_parent_deleted_meanwhile_ends_its_lists(tmp_path: Path) -> None:
    box = small()
    rig = Rig(box, url(tmp_path))
    rig.backfill(most_requests=4)
    for row in box.world.rows("posts")[:4]:
        box.world.delete("posts", row.id)
    outcome, of = rig.backfill()
    assert of.finished_at
    assert outcome.report.skipped_parents > 0
    rig.close()


def family(lists: int = 12, rows: int = 3) -> Sandbox:
    """Posts and requests with a few children each, all old, and some NPS; nothing moves."""
    box = sandbox(company=Company.empty())

    def add(stream: str, parent: str | None, days: float) -> str:
        date = box.now() - timedelta(days=days)
        fields = {"reaction": "positive"} if stream == "reactions" else {}
        return box.world.add(stream, parent, date=date, appears=date, userId="u-1", **fields)

    for number in range(lists):
        post = add("posts", None, 200 - number)
        request = add("feature_requests", None, 200 - number)
        for row in range(rows):
            for stream in ("comments", "reactions"):
                add(stream, post, 150 - number - row / 24)
            for stream in ("feature_request_comments", "feature_request_votes"):
                add(stream, request, 150 - number - row / 24)
        add("nps", None, 100 - number)
    return box


LISTS = {
    "posts": "/posts",
    "feature_requests": "/requests",
    "nps": "/nps",
    "comments": "/comments",
    "reactions": "/reactions",
    "feature_request_votes": "/votes",
}


def lists_of(stream: str) -> Callable[[Request], bool]:
    root = "/posts" if stream in ("comments", "reactions") else ""
    return lambda seen: seen.api == "beamer" and root in seen.path and seen.path.endswith(LISTS[stream])


STRANGE: dict[str, Step] = {
    "404 object": ("answer", 404, b'{"message":"no Route matched with those values"}', JSON),
    "404 string": ("answer", 404, b'"Not found."', JSON),
    "404 bare": ("answer", 404, b"", {}),
    "403 string": ("answer", 403, b'"Forbidden"', JSON),
    "200 empty": ("answer", 200, b"[]", JSON),
    "204": ("answer", 204, b"", {}),
}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("stream", LISTS)
def test_some_strange_answers_do_not_close_a_list(tmp_path: Path, stream: str, strange: str) -> None:
    rig = Rig(family(), url(tmp_path))
    # Half of them know nothing from syncs.
    if strange.startswith("404"):
        rig.sync()
    rig.sandbox.faults.on(lists_of(stream), [STRANGE[strange]] * 3)
    outcome, of = rig.backfill()
    assert of.finished_at or outcome.exit == 69 or outcome.report.forbidden
    rig.sandbox.faults.clear()
    if not of.finished_at:
        rig.sandbox.advance(timedelta(hours=2))
        _, of = rig.backfill()
    assert of.finished_at
    whole(rig)
    assert not rig.sandbox.segment.duplicates
    rig.close()


@pytest.mark.parametrize("strange", ["404 string", "200 empty"])
@pytest.mark.parametrize("stream", ["comments", "nps", "posts", "feature_request_votes"])
def test_what_differs_is_named_and_leaves_a_backfill_open(
    database_url: str, stream: str, strange: str
) -> None:
    rig = Rig(family(), database_url)
    rig.sync()
    broken = [STRANGE[strange]] * 9_000
    rig.sandbox.faults.on(lists_of(stream), broken)
    for _ in range(2):
        outcome, of = rig.backfill()
        assert (outcome.exit, of.finished_at) == (69, None)
        differences = {(each.stream, each.expected, each.found) for each in outcome.report.differences}
        if stream in ("comments", "feature_request_votes"):
            assert differences == {(stream, 3, None if strange.startswith("404") else 0)}
            assert len(outcome.report.differences) == 12
        elif strange == "200 empty":
            assert differences == {(stream, 12, 0)}
        assert not any(each.settled for each in outcome.report.differences)
        rig.sandbox.advance(timedelta(minutes=5))
    rig.sandbox.faults.clear()
    _, of = rig.backfill()
    assert of.finished_at
    whole(rig)
    assert not rig.sandbox.segment.duplicates
    rig.close()


def test_an_empty_page_in_the_middle_of_the_posts_hides_nothing(tmp_path: Path) -> None:
    rig = Rig(family(lists=35), url(tmp_path))
    rig.sandbox.faults.on(
        lambda seen: seen.path.endswith("/posts") and "dateTo" in seen.params, [STRANGE["200 empty"]] * 2
    )
    outcome, of = rig.backfill()
    assert (outcome.exit, bool(of.finished_at)) == (0, True)
    whole(rig)
    rig.close()


def test_a_part_of_a_list_that_was_empty_once_is_read_a_second_time(tmp_path: Path) -> None:
    """A counter counts the whole list, and does not say how many of its rows lie in the range."""
    rig = Rig(family(), url(tmp_path))
    rig.sandbox.faults.on(lists_of("comments"), [STRANGE["200 empty"]] * 3)
    outcome, of = rig.backfill(until=rig.sandbox.now() - timedelta(days=20))
    assert (outcome.exit, bool(of.finished_at)) == (0, True)
    whole(rig)
    assert not rig.sandbox.segment.duplicates
    rig.close()


@pytest.mark.parametrize("deleted", [0, 1, 3])
def test_what_was_deleted_lets_a_backfill_end(tmp_path: Path, deleted: int) -> None:
    """Posts and rows that go between the page that shows their counter and the list."""
    rig = Rig(family(), url(tmp_path))
    box = rig.sandbox
    rig.backfill(most_requests=4)
    posts = box.world.rows("posts")
    box.world.delete("posts", posts[0].id)
    for post in posts[1:]:
        rows = [row for row in box.world.rows("comments") if row.parent_id == post.id]
        for row in rows[:deleted]:
            box.world.delete("comments", row.id)
    outcome, of = rig.backfill()
    assert (outcome.exit, bool(of.finished_at), outcome.report.differences) == (0, True, [])
    rig.close()


def test_a_counter_that_stays_wrong_is_not_believed_for_ever(tmp_path: Path) -> None:
    rig = Rig(family(), url(tmp_path))
    box = rig.sandbox
    box.switches.counters_ignore_deletions = True
    box.world.delete("comments", box.world.rows("comments")[0].id)
    for _ in range(2):
        outcome, of = rig.backfill()
        assert (outcome.exit, of.finished_at) == (69, None)
        [differs] = outcome.report.differences
        assert (differs.stream, differs.expected, differs.found) == ("comments", 3, 2)
    box.advance(timedelta(hours=1))
    asked = rig.beamer_requests
    outcome, of = rig.backfill()
    assert (outcome.exit, bool(of.finished_at)) == (0, True)
    assert [each.settled for each in outcome.report.differences] == [True]
    assert rig.beamer_requests - asked <= 5
    rig.close()


def test_a_comparison_that_the_allowance_ends_goes_on(tmp_path: Path) -> None:
    rig = Rig(family(), url(tmp_path))
    rig.sandbox.faults.on(lambda seen: seen.path.endswith("/comments"), [STRANGE["200 empty"]] * 5)
    for _ in range(60):
        outcome, of = rig.backfill(most_requests=3)
        if of.finished_at:
            break
        assert outcome.report.stopped
    assert of.finished_at
    assert of.requests == rig.beamer_requests
    whole(rig)
    rig.close()


def crash(tmp_path: Path, lives: int, *, after: bool) -> bool:
    box = small()
    rig = Rig(box, url(tmp_path, f"{lives}{after}"))
    rig.context()
    database, rig.database = rig.database, Mortal(rig.database, lives, after=after)
    died = False
    with suppress(Death):
        died = True
        rig.backfill()
        died = False
    rig.database = database
    box.advance(timedelta(seconds=61))
    _, of = rig.backfill()
    assert of.finished_at
    whole(rig)
    # At most what was on its way is asked again.
    assert sum(count - 1 for count in asked(box).values()) <= SerialPool.size
    rig.sync()
    whole(rig)
    rig.close()
    return died


@pytest.mark.parametrize("after", [False, True])
def test_death_around_a_transaction(tmp_path: Path, after: bool) -> None:
    assert sum(crash(tmp_path, lives, after=after) for lives in range(2, 90, 11)) > 5


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("after", [False, True])
def test_death_around_every_transaction(tmp_path: Path, after: bool) -> None:
    assert sum(crash(tmp_path, lives, after=after) for lives in range(2, 90)) > 50


def test_a_long_list_is_parted_where_threads_are_idle(tmp_path: Path) -> None:
    box = small()
    for number in range(20_000):
        date = box.now() - timedelta(minutes=7 * number + 60)
        box.world.add("nps", None, date=date, appears=date, userId=f"u-{number % 50}")
    rig = Rig(box, url(tmp_path), streams=frozenset({"nps"}), catalogue={"nps": CATALOGUE["nps"]})
    rig.backfill(days=100)
    due = {row.id for row in box.world.rows("nps") if row.date >= rig.start - timedelta(days=100)}
    assert {name for event, name in landed(box) if event == "NPS Response Sent"} == due
    assert not box.segment.duplicates
    # A page or two for each part, and a row of each page is read twice: by date nothing slips past.
    assert rig.beamer_requests <= len(due) / 99 * 1.03 + 2
    rig.close()


def test_a_list_may_get_the_number_of_the_one_that_opened_it(tmp_path: Path) -> None:
    only = frozenset({"feature_requests", "feature_request_votes"})
    rig = Rig(small(), url(tmp_path), streams=only)
    # What a short page means is known from a sync: the list of requests ends with its first page.
    rig.sync()
    outcome, of = rig.backfill()
    assert of.finished_at
    assert outcome.report.requests["feature_request_votes"] == 2
    rig.start -= timedelta(days=LONG)
    rig.check(only)
    rig.close()


def test_a_sync_in_the_middle_sends_nothing_twice(tmp_path: Path) -> None:
    # Without deletions, that is: one that cancels out with a new row hides it from the counters.
    rig = Rig(sandbox(company=Company(deletions=0.0)), url(tmp_path))
    while not rig.backfill(most_requests=15)[1].finished_at:
        rig.sandbox.advance(timedelta(hours=5))
        Run(rig.context()).go()
    rig.sync()
    whole(rig)
    assert not rig.sandbox.segment.duplicates
    rig.close()


@pytest.mark.parametrize("order", ["newest", "oldest", "unordered"])
def test_what_is_older_than_its_posts_new_date_is_brought(tmp_path: Path, order: Any) -> None:
    """A post is put on top again by a newer date, in the range or behind it."""
    box = sandbox(company=Company.empty(), switches=Switches(order=order))
    first = box.now()

    def add(stream: str, parent: str | None, days: int) -> str:
        date = first - timedelta(days=days)
        return box.world.add(stream, parent, date=date, appears=date, userId="u-1")

    posts = [add("posts", None, 200) for _ in range(3)]
    due = {add("comments", post, days) for post in posts for days in (190, 150)}
    for post in posts:
        add("comments", post, 90)
    rig = Rig(box, url(tmp_path))
    rig.sync()
    box.advance(timedelta(days=20))
    box.world.set("posts", posts[0], date=first - timedelta(days=160))
    box.world.set("posts", posts[1], date=box.now() - timedelta(days=10))
    # Not seen before the date that it has, as far as anybody knows: it is not read.
    add("comments", add("posts", None, 50), 40)
    rig.sync()
    before = set(landed(box))
    outcome, of = rig.backfill(days=335, until=first - timedelta(days=100))
    assert of.finished_at
    found = set(landed(box)) - before
    assert {name for event, name in found if event == "Post Commented"} == due
    assert all(message["properties"]["post"] for message in box.segment.messages)
    lists = {
        seen.path
        for seen in box.requests[-outcome.report.requests_spent :]
        if seen.path.endswith("/comments")
    }
    assert len(lists) == len(posts)
    rig.close()


@pytest.mark.parametrize("order", ["newest", "unordered"])
def test_resending_costs_what_reading_costs(tmp_path: Path, order: str) -> None:
    rig = Rig(small(order=order), url(tmp_path))
    first, _ = rig.backfill()
    before = len(rig.sandbox.segment.received)
    second, of = rig.backfill(resend=True, most_requests=5 * first.report.requests_spent)
    assert of.finished_at
    assert second.report.requests_spent <= first.report.requests_spent
    again = Counter(message["messageId"] for message in rig.sandbox.segment.received[before:])
    assert set(again.values()) == {1}
    rig.close()


def test_resending_what_segment_had_refused_sends_it(database_url: str) -> None:
    box = sandbox(company=Company.empty())
    for hours in (5, 15, 25):
        date = box.now() - timedelta(hours=hours)
        box.world.add("nps", None, date=date, appears=date, userId="u-1")
    rig = Rig(box, database_url)
    box.faults.script("segment", [("answer", 400, b"{}", {})] * 2)
    assert (rig.sync().report.refused, len(landed(box))) == (1, 2)
    box.advance(timedelta(days=2))
    outcome, _ = rig.backfill(days=0, resend=True)
    report = outcome.report
    assert (report.events["nps"], report.sent, report.waiting, report.backlog) == (3, 3, 0, 0)
    assert report.possible_doubles == 0
    assert (len(landed(box)), outbox.listed(rig.database, None, None, 10)) == (3, [])
    rig.close()


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_resending_a_page_at_a_time_sends_no_row_twice(tmp_path: Path, order: str) -> None:
    rig = Rig(small(order=order), url(tmp_path))
    hold_still(rig.sandbox)
    rig.backfill()
    before = len(rig.sandbox.segment.received)
    for _ in range(200):
        _, of = rig.backfill(resend=True, most_requests=1)
        # Past the day for which Segment knows a messageId.
        rig.sandbox.advance(timedelta(days=2))
        if of.finished_at:
            break
    assert of.finished_at
    again = Counter(message["messageId"] for message in rig.sandbox.segment.received[before:])
    assert set(again.values()) == {1}
    rig.close()


def test_a_key_that_may_not_read_one_stream_is_not_refused_for_it(tmp_path: Path) -> None:
    rig = Rig(small(), url(tmp_path))
    rig.sandbox.switches.may_read.discard("nps")
    for _ in range(2):
        # At the second time that stream is all that is left to ask.
        outcome, of = rig.backfill()
        assert outcome.exit == 0
        assert outcome.report.forbidden == ["nps"]
        assert not of.finished_at
    rig.sandbox.switches.may_read.add("nps")
    _, of = rig.backfill()
    assert of.finished_at
    whole(rig)
    rig.close()


class Dropping(ThreadedDelivery):
    """Somebody drops what waits as soon as delivery begins."""

    def __init__(self, delivery: Delivery, database: Database) -> None:
        outbox.drop(database, None, [])
        super().__init__(delivery)


def test_messages_dropped_meanwhile_are_not_waited_for(tmp_path: Path) -> None:
    rig = Rig(small(), url(tmp_path))
    rig.backfill(deliver=False, most_requests=12)
    context = replace(rig.context(), clock=SystemClock(), most_waiting=12)
    delivered = Report()
    delivered.deliveries.set_waiting(ENOUGH + 7)
    delivery = Delivery(
        Outbox(
            rig.database, leases.acquire(rig.database, "default", this_process(), context.clock.now()), "dest"
        ),
        context.segment,
        context.clock,
        delivered,
        Pace(rig.database, None),
        segment_now=context.clock.now,
        latest=context.ledger.latest,
    )
    worker = Dropping(delivery, rig.database)
    worker.go()
    worker.finish()
    assert delivered.backlog == 0
    rig.close()


def test_under_a_rate_no_batch_holds_more_than_a_tenth_of_a_second(tmp_path: Path) -> None:
    """Two lanes claim two batches, which are not sent as one: late ones would exceed the rate."""
    rig = Rig(small(), url(tmp_path))
    rig.sync(deliver=False)
    context, sizes = rig.context(), list[int]()

    def post(*args: Any, batch: list[Any], **options: Any) -> Any:
        sizes.append(len(batch))
        return rig.sandbox.segment_post(*args, batch=batch, **options)

    waits = Report()
    waits.deliveries.set_waiting(1)
    Delivery(
        Outbox(
            rig.database, leases.acquire(rig.database, "default", this_process(), rig.clock.now()), "dest"
        ),
        SegmentClient(rig.sandbox.write_key, "http://127.0.0.1:1", post=post),
        rig.clock,
        waits,
        Pace(rig.database, 50),
        segment_now=rig.clock.now,
        latest=context.ledger.latest,
        lanes=2,
    ).run()
    assert (max(sizes), sum(sizes)) == (5, len(rig.sandbox.segment.messages))
    assert len(sizes) > 4
    rig.close()


def test_a_list_of_parents_without_order_opens_each_list_once(tmp_path: Path) -> None:
    """It is read twice, for its rows change places; what is below them need not be."""
    box = sandbox(company=Company.empty(), switches=Switches(order="unordered"))
    for number in range(25):
        date = box.now() - timedelta(days=300 - number)
        post = box.world.add("posts", None, date=date, appears=date)
        for hours in (1, 2):
            written = date + timedelta(hours=hours)
            box.world.add("comments", post, date=written, appears=written, userId="u-1")
    rig = Rig(box, url(tmp_path))
    rig.backfill()
    whole(rig)
    twice = [name for name, times in asked(box).items() if times > 1 and "/comments" in name]
    # Before a second page has shown it, a list may look as if it had an order.
    assert len(twice) <= 10
    rig.close()


def test_history_does_not_end_at_a_page_that_a_filter_made_short(tmp_path: Path) -> None:
    """Short pages had been the last ones until a post was hidden from this key."""
    hiding = Switches(filters_after_page=True, ignore_filters_allowed=False)
    box = sandbox(company=Company.empty(), switches=hiding)
    for number in range(33):
        date = box.now() - timedelta(days=300 - number)
        box.world.add("posts", None, date=date, appears=date)
    rig = Rig(box, url(tmp_path))
    rig.sync()
    assert progress.load_readonly(rig.database, "default").streams["posts"].short_ends is True
    box.advance(timedelta(hours=1))
    box.world.add("posts", None, filter="segment")
    rig.backfill()
    assert len(landed(box)) == 33
    rig.close()


@pytest.mark.parametrize("end", [None, timedelta(days=1)])
@pytest.mark.parametrize("at_a_time", [3, 40, None])
def test_what_is_put_on_top_between_two_runs_is_not_passed_by(
    tmp_path: Path, at_a_time: int | None, end: timedelta | None
) -> None:
    """The list of posts is read from its newest on: what was further down has moved to where it was read."""
    box = sandbox(company=Company.empty())

    def add(stream: str, parent: str | None, days: int) -> str:
        date = box.now() - timedelta(days=days)
        return box.world.add(stream, parent, date=date, appears=date, userId="u-1")

    posts = [add("posts", None, 100 + days) for days in range(60)]
    due = {add("comments", post, 90) for post in posts}
    rig = Rig(box, url(tmp_path))
    rig.sync()
    until = box.now() + end if end else None
    rig.backfill(days=300, until=until, most_requests=6)
    for passed, post in enumerate(posts[-3:]):
        box.advance(timedelta(hours=1 + passed))
        box.world.set("posts", post, date=box.now())
        rig.sync()
    for _ in range(100):
        box.advance(timedelta(minutes=1))
        _, of = rig.backfill(days=300, until=until, most_requests=at_a_time)
        if of.finished_at:
            break
    assert of.finished_at
    assert {name for event, name in landed(box) if event == "Post Commented"} == due
    assert not box.segment.duplicates
    rig.close()

"""A page that fails for good costs the rows of that page at most, and is tried again ever more rarely."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connector.beamer.pagination import Cursor, Habits, Order
from connector.beamer.streams import CATALOGUE, children
from connector.domain.budget import Limits
from connector.sandbox import Answer, Company, Request
from connector.state import progress
from connector.sync.context import Constants
from connector.sync.lists import blocks, passes, stored_pass
from connector.sync.lists.blocks import Part
from connector.sync.lists.passes import Continued, ListPass, PassProgress
from tests.harness import EVENT, Rig, landed, sandbox
from tests.sandbox import Sandbox

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
USER = {"userId": "u-1"}
JSON = {"Content-Type": "application/json;charset=utf-8"}
OTHER: dict[Any, Any] = {
    500: ("answer", 500, b'"Something went wrong."', JSON),
    400: ("answer", 400, b'"Bad page."', JSON),
    404: ("answer", 404, b'"Not found."', JSON),
    "no list": ("answer", 200, b'{"error": 1}', JSON),
    "hang": "hang",
}


def world(stream: str, count: int, **options: Any) -> tuple[Sandbox, Callable[..., str]]:
    """A list of so many rows, an hour apart, the newest two days old; and how to add one to it."""
    box = sandbox(company=Company.empty(), **options)
    parent = None
    above = {"comments": "posts", "reactions": "posts", "feature_request_votes": "feature_requests"}
    if stream in above:
        date = box.now() - 25 * DAY
        parent = box.world.add(above[stream], date=date, appears=date, **USER)

    def add(ago: timedelta) -> str:
        date = box.now() - ago
        return box.world.add(stream, parent, date=date, appears=min(date, box.now()), **USER)

    for number in range(count):
        add(2 * DAY + number * HOUR)
    return box, add


def poison(box: Sandbox, bad: str, step: Any) -> None:
    """Every page that holds the row fails."""

    def fails(request: Request) -> bool:
        if request.api != "beamer" or request.path.endswith("/count"):
            return False
        body = box.perform(replace(request, api="beamer")).body
        rows = json.loads(body)
        return isinstance(rows, list) and any(str(row.get("id")) == bad for row in rows)

    box.faults.on(fails, [step] * 90_000)


def live(rig: Rig, hours: int, add: Callable[..., str]) -> int:
    """So many hourly syncs, a new row before each; how many requests they spent."""
    spent = 0
    for _ in range(hours):
        rig.sandbox.advance(HOUR)
        add(timedelta(minutes=30))
        spent += rig.sync().report.requests_spent
    return spent


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["nps", "comments", "reactions", "feature_request_votes"])
@pytest.mark.parametrize("from_the_first", [True, False])
def test_all_but_the_row_that_fails_its_page_arrive(
    database_url: str, stream: str, from_the_first: bool
) -> None:
    count = 150 if stream == "nps" else 35
    box, add = world(stream, count)
    rows = sorted(box.world.rows(stream), key=lambda row: row.date, reverse=True)
    rig = Rig(box, database_url)
    if not from_the_first:
        rig.sync(most_requests=1 if stream == "nps" else 3)
    poison(box, rows[count - 10].id, OTHER[500])
    live(rig, 6, add)
    missing = {row.id for row in box.world.rows(stream)} - {name for _, name in landed(box)}
    assert missing == {rows[count - 10].id}
    state = progress.load_readonly(rig.database, "default").streams[stream]
    assert state.complete_through is None
    assert "some rows are unread" in (state.problem or "")
    box.faults.clear()
    live(rig, 30, add)
    rig.check()
    state = progress.load_readonly(rig.database, "default").streams[stream]
    assert (state.trouble, box.now() - (state.complete_through or NOW) < HOUR) == (None, True)
    rig.close()


@pytest.mark.parametrize(
    ("stream", "count", "bad"), [("posts", 45, 22), ("feature_requests", 35, 34), ("posts", 12, 11)]
)
@pytest.mark.parametrize("from_the_first", [True, False])
def test_a_page_of_parents_that_fails_leaves_the_others_and_what_is_below_them(
    sqlite_url: str, stream: str, count: int, bad: int, from_the_first: bool
) -> None:
    box, add = world(stream, count)
    rows = sorted(box.world.rows(stream), key=lambda row: row.date, reverse=True)
    below = {"posts": "comments", "feature_requests": "feature_request_votes"}[stream]
    rig = Rig(box, sqlite_url)
    if not from_the_first:
        rig.sync()
    poison(box, rows[bad].id, OTHER[500])
    live(rig, 3, add)
    for row in rows:
        box.world.add(below, row.id, **USER)
    live(rig, 4, add)
    missing = {row.id for row in box.world.rows(stream)} - {name for _, name in landed(box)}
    assert missing == ({rows[bad].id} if from_the_first else set())
    hidden = {row.id for row in box.world.rows(below)} - {name for _, name in landed(box)}
    assert hidden <= {row.id for row in box.world.rows(below) if row.parent_id == rows[bad].id}
    state = progress.load_readonly(rig.database, "default").streams[stream]
    assert "some rows are unread" in (state.problem or "")
    box.faults.clear()
    live(rig, 30, add)
    rig.check()
    state = progress.load_readonly(rig.database, "default").streams[stream]
    assert (state.trouble, state.cursor) == (None, None)
    rig.close()


@pytest.mark.slow
@pytest.mark.parametrize("answer", [404, 400, "no list", "hang"])
def test_whatever_the_page_answers_the_others_are_read(sqlite_url: str, answer: Any) -> None:
    for stream, count, bad in (("nps", 150, 130), ("comments", 35, 12)):
        box, add = world(stream, count)
        rows = sorted(box.world.rows(stream), key=lambda row: row.date, reverse=True)
        rig = Rig(box, sqlite_url.replace("state", stream))
        poison(box, rows[bad].id, OTHER[answer])
        # What hangs is cut once in a run, for each attempt takes a whole time-out.
        live(rig, 30 if answer == "hang" else 8, add)
        missing = {row.id for row in box.world.rows(stream)} - {name for _, name in landed(box)}
        assert missing == {rows[bad].id}, stream
        rig.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stream", "count", "bad"), [("nps", 150, 2), ("comments", 35, 3), ("posts", 25, 2), ("posts", 1, 0)]
)
def test_a_first_page_that_fails_is_gone_round_too(
    sqlite_url: str, stream: str, count: int, bad: int
) -> None:
    box, add = world(stream, count)
    rows = sorted(box.world.rows(stream), key=lambda row: row.date, reverse=True)
    rig = Rig(box, sqlite_url)
    poison(box, rows[bad].id, OTHER[500])
    live(rig, 30, add)
    missing = {row.id for row in box.world.rows(stream)} - {name for _, name in landed(box)}
    assert missing == {rows[bad].id}
    rig.close()


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["nps", "comments", "posts"])
def test_under_a_monthly_limit_a_hole_costs_little(sqlite_url: str, stream: str) -> None:
    count = 150 if stream == "nps" else 35
    box, add = world(stream, count)
    rows = sorted(box.world.rows(stream), key=lambda row: row.date, reverse=True)
    rig = Rig(box, sqlite_url, limits=Limits(1000, 50, 30))
    poison(box, rows[count - 10].id, OTHER[500])
    live(rig, 24 * 8, add)
    failed = sum(seen.status == 500 for seen in box.requests)
    assert failed <= 30
    missing = {row.id for row in box.world.rows(stream) if box.now() - row.date > DAY}
    missing -= {name for _, name in landed(box)}
    # What stands within some hours of it waits until the part is made smaller, which costs a request a time.
    near = {row.id for row in rows[count - 14 : count - 6]}
    assert {rows[count - 10].id} <= missing <= near
    rig.close()


@pytest.mark.parametrize(
    ("stream", "answer"),
    [
        *((stream, answer) for stream in ("nps", "comments") for answer in (404, 500)),
        *(("votes", answer) for answer in (400, "hang")),
        *((stream, answer) for stream in ("posts", "feature_requests") for answer in (404, 400)),
    ],
)
def test_behind_the_last_page_is_nothing_whatever_is_answered(
    sqlite_url: str, stream: str, answer: Any
) -> None:
    """As web frameworks do that answer 404 to the number of a page that is not there."""
    stream = "feature_request_votes" if stream == "votes" else stream
    for count in (7, 10, 20):
        box, add = world(stream, count)

        def empty(request: Request, box: Sandbox = box) -> bool:
            path = request.path.rsplit("/", 1)[-1]
            mine = path == {"feature_requests": "requests"}.get(stream, stream.split("_")[-1])
            return mine and "page" in request.params and box.perform(request).body == b"[]"

        box.faults.on(empty, [OTHER[answer]] * 90_000)
        rig = Rig(box, sqlite_url.replace("state", f"{stream}{count}"))
        live(rig, 6, add)
        missing = {row.id for row in box.world.rows(stream)} - {name for _, name in landed(box)}
        assert not missing, count
        rig.sandbox.advance(HOUR)
        assert rig.sync().exit == 0, count
        rig.close()


def test_where_a_run_has_one_request_a_page_that_fails_is_not_all_that_is_asked(sqlite_url: str) -> None:
    box, add = world("comments", 35)
    rows = sorted(box.world.rows("comments"), key=lambda row: row.date, reverse=True)
    rig = Rig(box, sqlite_url, limits=Limits(300, 50, 30))
    rig.sync()
    poison(box, rows[12].id, OTHER[500])
    live(rig, 72, add)
    missing = {row.id for row in box.world.rows("comments") if box.now() - row.date > DAY / 2}
    assert not missing - {name for _, name in landed(box)}
    assert sum(seen.status == 500 for seen in box.requests) < 12
    rig.close()


# --- lists that never end ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("limit", [None, 1000])
@pytest.mark.parametrize("stream", ["nps", "comments", "posts", "feature_request_votes"])
@pytest.mark.parametrize("shape", ["one second", "ever older"])
def test_a_list_that_never_ends_leaves_the_others_their_turn(
    sqlite_url: str, stream: str, shape: str, limit: int | None
) -> None:
    box, _ = world(stream, 3)
    date = box.now() - HOUR
    other = "feature_requests" if stream in ("nps", "comments", "posts") else "nps"
    wanted = box.world.add(other, date=date, appears=date, **USER)
    path = {"posts": "/posts", "nps": "/nps", "comments": "/comments"}.get(stream, "/votes")
    made = 0

    def endless(request: Request) -> Answer | None:
        nonlocal made
        if request.api != "beamer" or not request.path.endswith(path):
            return None
        rows = []
        for _ in range(int(request.params["maxResults"])):
            made += 1
            # So close that the bound comes before the start date, where the reading would end.
            moment = box.now() - DAY - (made * HOUR / 120 if shape == "ever older" else DAY * 0)
            text = moment.strftime("%Y-%m-%dT00:00:00Z" if shape == "one second" else "%Y-%m-%dT%H:%M:%SZ")
            row = {"id": f"{made:024x}", "date": text, "score": 9, "userId": "u-1", "text": "Words"}
            # Posts without a row below them: their lists are not what is endless here.
            none = dict.fromkeys(
                (name for child in children(CATALOGUE, stream) for name in child.counters), 0
            )
            rows.append(row | none)
        return Answer(200, json.dumps(rows).encode(), JSON)

    box.faults.on(lambda _: True, [endless] * 90_000)
    rig = Rig(box, sqlite_url, limits=Limits(limit, 50, 30) if limit else Limits(None, 0, 30))
    outcome = rig.sync()
    assert outcome.report.requests[stream] <= (1.2 * Constants().most_pages if limit is None else 300)
    assert (EVENT[other], wanted) in landed(box)
    assert outcome.report.new[stream] > 90
    assert limit or any("did not end" in said for said in outcome.report.troubles)
    rig.close()


# --- the decisions ----------------------------------------------------------------------------------------


def at(until: datetime, since: datetime | None = None, **more: Any) -> Part:
    return Part(Cursor(since, until), since, **more)


def test_a_part_that_fails_twice_is_cut_in_two_that_overlap() -> None:
    once = blocks.failed(at(NOW, NOW - 8 * HOUR), NOW, NOW - DAY, patient=True)
    assert [(part.failures, part.ready(NOW)) for part in once] == [(1, True)]
    newer, older = blocks.failed(replace(once[0], step=3600.0), NOW, NOW - DAY, patient=True)
    assert newer.cursor.since
    assert older.cursor.until
    assert newer.cursor.since < older.cursor.until
    assert (newer.cursor.until, older.cursor.since) == (NOW, NOW - 8 * HOUR)
    # Under a limit the half that most likely fails, too, waits; the other one does not.
    assert (newer.ready(NOW), older.ready(NOW)) == (False, True)
    assert blocks.failed(once[0], NOW, NOW - DAY, patient=False)[0].ready(NOW)


def test_a_part_is_cut_until_it_holds_a_few_seconds_and_then_rests_ever_longer() -> None:
    (part,) = blocks.failed(at(NOW, NOW - 30 * DAY), NOW, NOW, patient=False)
    cuts = 0
    while len(after := blocks.failed(part, NOW, NOW, patient=False)) == 2:
        part, cuts = after[0], cuts + 1
    assert cuts < 25
    assert part.cursor.since
    assert NOW - part.cursor.since <= blocks.NARROW
    waits = [blocks.wait_after(failures) / HOUR for failures in (0, 1, 2, 3, 4, 99)]
    assert waits == [0, 0, 1, 2, 4, 168]


def test_the_first_cut_is_a_page_below_and_the_next_ones_grow() -> None:
    part = at(NOW, NOW - 30 * DAY, failures=1, step=600.0)
    reached = []
    for _ in range(4):
        _, part = blocks.failed(part, NOW, NOW, patient=False)
        assert part.cursor.until
        reached.append((NOW - part.cursor.until) / timedelta(minutes=10))
    assert [round(pages) for pages in reached] == [1, 5, 21, 85]


def test_outages_do_not_pile_up_parts() -> None:
    many = [at(NOW - n * HOUR, NOW - (n + 1) * HOUR, failures=2) for n in range(100)]
    kept = blocks.joined(many)
    assert len(kept) == blocks.MOST_PARTS
    assert min(part.cursor.since for part in kept if part.cursor.since) == NOW - 100 * HOUR


def test_a_pass_with_parts_survives_the_store() -> None:
    left = (Part(Cursor(), NOW), at(NOW, NOW - HOUR, failures=2, failed_at=NOW, step=2.5))
    pass_ = passes.hole(left, NOW)
    assert (pass_.hole, {*pass_.unread}) == (True, {*left})
    assert stored_pass.restore(stored_pass.dump(pass_)) == pass_


def test_a_list_without_order_that_was_cut_short_goes_on_where_it_stood() -> None:
    read = PassProgress(pages=3, rows_read=30)
    stored = ListPass(Part(Cursor(page=3, last_ids=("1",)), NOW - DAY), progress=read)
    for order, front in ((Order.NEWEST, True), (Order.NONE, False), (Order.OLDEST, False)):
        assert passes.wants_front(stored, Habits(order), NOW, moved=True) is front
    front_read = replace(stored, progress=replace(read, continued=Continued.FRONT_READ))
    assert not passes.wants_front(front_read, Habits(Order.NEWEST), NOW, moved=True)
    failed = replace(stored, part=replace(stored.part, failures=1, failed_at=NOW))
    assert passes.wants_front(failed, Habits(Order.NONE), NOW, moved=True)

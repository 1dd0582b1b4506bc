"""Counters, lists that are behind them, and when another attempt is worth a request."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from connector.beamer.pagination import Cursor
from connector.domain.budget import Limits
from connector.domain.state import ChildState, StreamState
from connector.errors import Transient
from connector.sandbox import Company, Switches
from connector.state import progress
from connector.sync.lists import counter_trust, counters
from connector.sync.lists.backoff import ATTEMPTS, wait_before
from connector.sync.lists.blocks import Part
from connector.sync.lists.passes import ListPass, PassPlan, PassProgress
from tests.harness import Rig, expected, landed, sandbox

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"a": "3", "b": 4}, "3,4"),
        ({"a": 3.0, "b": " 4 "}, "3,4"),
        ({"a": "0"}, "0,?"),
        ({"a": None, "b": "many"}, "?,?"),
        ({"a": -1, "b": True}, "?,?"),
        ({"a": [], "b": {}}, "?,?"),
    ],
)
def test_a_counter_is_read_leniently(raw: dict[str, object], expected: str) -> None:
    assert counters.read(raw, ("a", "b")) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"count": 12}, 12),
        ({"count": "12"}, 12),
        ({"count": 12.0}, 12),
        ({"count": 0}, 0),
        ({"count": True}, None),
        ({"count": -1}, None),
        ({"count": "many"}, None),
        (12, 12),
        (" 12 ", 12),
        (12.0, 12),
        (0, 0),
        (True, None),
        (-1, None),
        ("many", None),
        ({}, None),
        ([12], None),
        (None, None),
    ],
)
def test_a_count_is_read_as_leniently(body: object, expected: int | None) -> None:
    assert counters.counted(body) == expected


@pytest.mark.parametrize(
    ("counter", "read_counter", "moved"),
    [
        ("0", None, False),
        ("1", None, True),
        ("0,0,0", None, False),
        ("3", "3", False),
        ("4", "3", True),
        ("2", "3", True),
        ("1,2", "2,1", True),
        ("?", None, True),
        ("?", "?", True),
        ("3", "?", True),
    ],
)
def test_any_move_is_a_move(counter: str, read_counter: str | None, moved: bool) -> None:
    assert counters.moved(counter, read_counter) is moved


def test_each_part_rises_on_its_own() -> None:
    assert counters.risen("3,0,5", "1,4,5") == 2
    assert counters.risen("?", "4") == 0
    assert counters.risen("4", "?") == 0
    assert counters.risen("4,?,7", "1,2,?") == 3
    assert counters.total("3,?,5") == 8


def test_waits_grow_and_end() -> None:
    waits = [wait_before(attempt, Transient("x"), 1.0) for attempt in range(1, ATTEMPTS + 1)]
    assert waits == [1.0, 2.0, 4.0, None]
    assert [wait_before(attempt, Transient("x"), 0.0) for attempt in (1, 2, 3)] == [0.5, 1.0, 2.0]


def test_the_servers_own_wish_is_a_lower_bound() -> None:
    assert wait_before(1, Transient("x", after=17.0), 0.5) == 17.0
    assert wait_before(3, Transient("x", after=0.1), 0.5) == 3.0


# --- a list that is behind its counter ------------------------------------------------------------------

FREE = Limits(1_000, 50, 30)
NO_LIMIT = Limits(None, 0, 30)
CHILDREN = ("comments", "reactions", "feature_request_comments", "feature_request_votes")
KINDS = ("positive", "neutral", "negative")


def grown(stream: str, surplus: int, *, new_rows: int = 0, expected: int = 0, hours: float = 1.0) -> object:
    """The list after a reading, so many hours after it was first short, if it was."""
    child = ChildState(1, "p", "20", "20", surplus, short_since=NOW if surplus < 0 else None)
    plan = PassPlan(counter=str(20 + expected), expected=expected)
    pass_ = ListPass(Part(Cursor(), NOW), plan, PassProgress(new_rows))
    state = StreamState(1, stream)
    return counter_trust.after_reading(child, pass_, state, NOW + hours * HOUR)


@pytest.mark.parametrize(
    ("surplus", "new_rows", "expected", "hours", "after"),
    [
        # All that was announced came, or more.
        (0, 2, 2, 1, (0, None)),
        (0, 3, 2, 1, (1, None)),
        (-2, 2, 0, 1, (0, None)),
        (-1, 2, 1, 1, (0, None)),
        # Some of it did not: the difference waits, from the first time on.
        (0, 0, 2, 1, (-2, NOW + HOUR)),
        (-2, 1, 0, 1, (-1, NOW)),
        (-2, 0, 0, 47, (-2, NOW)),
        # What came before its counter moved is not missing, and not what is to come later.
        (1, 0, 1, 1, (0, None)),
        (1, 0, 3, 1, (-2, NOW + HOUR)),
        # Newly announced rows have their own time.
        (-1, 1, 1, 47, (-1, NOW + 47 * HOUR)),
        # After two days they count as deleted.
        (-2, 0, 0, 48, (0, None)),
        (-2, 1, 0, 50, (0, None)),
    ],
)
def test_what_was_announced_and_not_found_waits_for_two_days(
    surplus: int, new_rows: int, expected: int, hours: float, after: tuple[int, datetime | None]
) -> None:
    assert grown("comments", surplus, new_rows=new_rows, expected=expected, hours=hours) == after


@pytest.mark.parametrize(
    ("read", "now", "due"),
    [
        (0, 4 / 60, False),
        (0, 5 / 60, True),
        (5 / 60, 0.9, False),
        (5 / 60, 1, True),
        (2, 5.9, False),
        (2, 6, True),
        (6, 23.9, False),
        (6, 24, True),
        (24, 47, False),
        (24, 48, True),
        (0, 300, True),
        # What began before the two days were over did not settle it.
        (50, 51, True),
    ],
)
def test_it_is_read_again_after_minutes_hours_and_days(read: float, now: float, due: bool) -> None:
    child = ChildState(1, "p", "2", "2", -1, read_at=NOW + read * HOUR, short_since=NOW)
    assert counter_trust.reread_due(child, NOW + now * HOUR) is due
    assert not counter_trust.reread_due(replace(child, surplus=0), NOW + now * HOUR)


def account(
    url: str, limits: Limits = NO_LIMIT, posts: int = 2, **switches: Any
) -> tuple[Rig, dict[str, str]]:
    """A few posts and requests, the newest of which hold a few rows; and the parent of each stream."""
    box = sandbox(company=Company.empty(), switches=Switches(**switches))
    parents: dict[str, str] = {}
    for number in range(posts):
        date = box.now() - timedelta(days=2 + posts - number)
        for stream, below in (("posts", CHILDREN[:2]), ("feature_requests", CHILDREN[2:])):
            parent = box.world.add(stream, date=date, appears=date, userId="u-1")
            for child in below:
                parents[child] = parent
                for hours in range(3):
                    came = date + timedelta(hours=1 + hours)
                    fields = {"reaction": KINDS[hours]} if child == "reactions" else {}
                    box.world.add(child, parent, date=came, appears=came, userId="u-1", **fields)
    return Rig(box, url, limits=limits), parents


def syncs(rig: Rig, times: int, every: timedelta = timedelta(hours=1)) -> int:
    """Let syncs go by; how many requests they made."""
    before = rig.beamer_requests
    for _ in range(times):
        rig.sandbox.advance(every)
        assert rig.sync().exit == 0
    return rig.beamer_requests - before


def shown_through(rig: Rig, stream: str) -> datetime | None:
    return progress.load(rig.database, "default", ()).streams[stream].complete_through


@pytest.mark.parametrize("limits", [NO_LIMIT, FREE], ids=["no limit", "free"])
@pytest.mark.parametrize("lag", [timedelta(minutes=10), timedelta(hours=3), timedelta(hours=20)])
def test_rows_of_late_lists_arrive(database_url: str, limits: Limits, lag: timedelta) -> None:
    rig, parents = account(database_url, limits)
    syncs(rig, 2)
    rig.sandbox.switches.lists_lag = lag
    for stream in CHILDREN:
        rig.sandbox.world.add(stream, parents[stream], userId="u-1")
    came = rig.clock.now()
    for _ in range(ceil((lag + timedelta(days=1)) / timedelta(hours=1)) + 6):
        before = shown_through(rig, "comments")
        assert before is None or before <= came or not missing(rig), "claims more than is true"
        syncs(rig, 1)
    rig.check()
    rig.close()


def missing(rig: Rig) -> set[tuple[str, str]]:
    return set(expected(rig.sandbox, rig.start)) - set(landed(rig.sandbox))


@pytest.mark.slow
@pytest.mark.parametrize("limits", [NO_LIMIT, FREE], ids=["no limit", "free"])
@pytest.mark.parametrize("lag", [timedelta(hours=30), timedelta(hours=48)])
@pytest.mark.parametrize("order", ["newest", "oldest", "unordered"])
def test_lists_may_be_two_days_late(tmp_path: Path, limits: Limits, lag: timedelta, order: str) -> None:
    """More rows than a page holds come at each list, some of them while others are not shown yet."""
    rig, parents = account(f"sqlite:///{tmp_path / 'state.sqlite'}", limits, order=order)
    syncs(rig, 2)
    rig.sandbox.switches.lists_lag = lag
    for number in range(13):
        for stream in CHILDREN:
            fields = {"reaction": KINDS[number % 3]} if stream == "reactions" else {}
            rig.sandbox.world.add(stream, parents[stream], userId="u-1", **fields)
        syncs(rig, 2)
    syncs(rig, 30, timedelta(hours=4))
    rig.check()
    rig.close()


@pytest.mark.parametrize("requests", [1, 2, 5, 9])
def test_a_list_that_was_cut_short_long_ago_is_not_taken_as_read(tmp_path: Path, requests: int) -> None:
    """The last reading for the sake of rows that were not shown begins after the two days, or again."""
    rig, parents = account(f"sqlite:///{tmp_path / 'state.sqlite'}", posts=1)
    syncs(rig, 2)
    rig.sandbox.switches.page_share = 0.1
    syncs(rig, 3)
    rig.sandbox.switches.lists_lag = timedelta(hours=20)
    for stream in CHILDREN:
        fields = {"reaction": KINDS[0]} if stream == "reactions" else {}
        rig.sandbox.world.add(stream, parents[stream], userId="u-1", **fields)
    syncs(rig, 1)
    rig.sandbox.advance(timedelta(hours=12))
    rig.sync(most_requests=requests)
    syncs(rig, 2, timedelta(days=4))
    rig.check()
    rig.close()


@pytest.mark.parametrize("lag", [timedelta(minutes=10), timedelta(hours=20)])
def test_the_first_reading_of_a_list_may_be_short_too(database_url: str, lag: timedelta) -> None:
    rig, parents = account(database_url, lists_lag=lag)
    came = rig.clock.now()
    for stream in CHILDREN:
        rig.sandbox.world.add(stream, parents[stream], userId="u-1")
    rig.sync()
    assert missing(rig)
    through = shown_through(rig, "comments")
    assert through is None or through < came
    syncs(rig, 26)
    rig.check()
    through = shown_through(rig, "comments")
    assert through is not None
    assert through > came + timedelta(days=1)
    rig.close()


class HalfMade(httpx.BaseTransport):
    """Some rows lack what makes them usable."""

    def __init__(self, rig: Rig, change: dict[str, Any], ids: set[str]) -> None:
        self.way = rig.sandbox.beamer_transport()
        self.change, self.ids = change, ids

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        reply = self.way.handle_request(request)
        reply.read()
        if reply.status_code != 200 or not isinstance(body := reply.json(), list):
            return reply
        rows = [{**row, **self.change} if str(row["id"]) in self.ids else row for row in body]
        return httpx.Response(200, json=rows, headers={"Date": reply.headers["Date"]})


HALF_MADE: list[dict[str, Any]] = [
    {"date": None},
    {"date": "soon"},
    {"id": None},
    {"userId": {"not": "this"}},
]


def half_made(rig: Rig, parents: dict[str, str], change: dict[str, Any], rows: int) -> None:
    """So many rows come at each list, in a form that cannot be used until the transport goes."""
    ids = set()
    for _ in range(rows):
        for stream in CHILDREN:
            ids.add(rig.sandbox.world.add(stream, parents[stream], userId="u-1"))
    rig.transport = HalfMade(rig, change, ids)


def healed(rig: Rig) -> None:
    """The rows can be used from now on, and arrive, each once."""
    rig.transport = None
    syncs(rig, 30)
    rig.check()
    rig.close()


@pytest.mark.parametrize("limits", [NO_LIMIT, FREE], ids=["no limit", "free"])
@pytest.mark.parametrize("change", HALF_MADE, ids=str)
@pytest.mark.parametrize("hours", [1, 20])
def test_rows_in_quarantine_arrive_once_they_can_be_used(
    database_url: str, limits: Limits, change: dict[str, Any], hours: int
) -> None:
    rig, parents = account(database_url, limits)
    syncs(rig, 2)
    came = rig.clock.now()
    half_made(rig, parents, change, 1)
    syncs(rig, hours)
    assert len(missing(rig)) == len(CHILDREN)
    through = shown_through(rig, "comments")
    assert through is None or through < came, "claims more than is true"
    healed(rig)


@pytest.mark.parametrize("change", HALF_MADE, ids=str)
@pytest.mark.parametrize("order", ["newest", "oldest", "unordered"])
def test_more_of_them_than_a_page_holds_arrive(tmp_path: Path, change: dict[str, Any], order: str) -> None:
    rig, parents = account(f"sqlite:///{tmp_path / 'state.sqlite'}", order=order)
    syncs(rig, 2)
    half_made(rig, parents, change, 13)
    syncs(rig, 2)
    healed(rig)


@pytest.mark.parametrize("change", HALF_MADE, ids=str)
def test_a_first_reading_may_show_them_too(database_url: str, change: dict[str, Any]) -> None:
    rig, parents = account(database_url)
    half_made(rig, parents, change, 2)
    syncs(rig, 1)
    healed(rig)


@pytest.mark.parametrize("change", HALF_MADE, ids=str)
def test_rows_that_stay_in_quarantine_are_not_asked_for_without_end(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    def requests(rows: int) -> int:
        rig, parents = account(f"sqlite:///{tmp_path / f'{rows}.sqlite'}")
        syncs(rig, 2)
        half_made(rig, parents, change, rows)
        syncs(rig, 60)
        # Another row at the same list does not begin it anew.
        rig.sandbox.world.add("comments", parents["comments"], userId="u-1")
        spent = syncs(rig, 60)
        rig.close()
        return spent

    assert requests(1) <= requests(0) + 1


@pytest.mark.slow
@pytest.mark.parametrize("limits", [NO_LIMIT, FREE], ids=["no limit", "free"])
@pytest.mark.parametrize("when", ["before the first sync", "later", "deleted"])
def test_a_counter_that_counts_rows_that_no_list_shows_is_taken_as_it_is(
    database_url: str, tmp_path: Path, limits: Limits, when: str
) -> None:
    rig, parents = account(database_url, limits, posts=6)
    usual, _ = account(f"sqlite:///{tmp_path / 'usual.sqlite'}", limits, posts=6)
    if when != "before the first sync":
        syncs(rig, 2)
        syncs(usual, 2)
    for stream in CHILDREN:
        if when == "deleted":
            row = rig.sandbox.world.add(stream, parents[stream], userId="u-1")
            rig.sandbox.switches.counters_ignore_deletions = True
            rig.sandbox.world.delete(stream, row)
        else:
            rig.sandbox.world.add(stream, parents[stream], userId="u-1", hidden=True)
    # A reading when the counter has moved, made sure of by another two; five more; and the audit's.
    assert syncs(rig, 25, 4 * HOUR) <= syncs(usual, 25, 4 * HOUR) + len(CHILDREN) * 9
    assert syncs(rig, 25, 4 * HOUR) <= syncs(usual, 25, 4 * HOUR) + len(CHILDREN)
    through = shown_through(rig, "comments")
    assert through is not None
    assert rig.clock.now() - through < timedelta(hours=24)
    rig.sandbox.world.add("comments", parents["comments"], userId="u-1")
    syncs(rig, 6, 4 * HOUR)
    rig.check()
    rig.close()
    usual.close()


@pytest.mark.slow
def test_where_readings_are_in_vain_they_cost_little_of_a_month(tmp_path: Path) -> None:
    """Each of sixty posts and requests counts a row that is not listed."""
    box = sandbox(company=Company.empty())
    for number in range(60):
        date = box.now() - timedelta(days=70 - number)
        for stream, below in (("posts", CHILDREN[:2]), ("feature_requests", CHILDREN[2:])):
            parent = box.world.add(stream, date=date, appears=date, userId="u-1")
            for child in below:
                for hidden in (False, True):
                    came = date + HOUR
                    box.world.add(child, parent, date=came, appears=came, userId="u-1", hidden=hidden)
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", limits=FREE, days=80)
    again = 0
    for _ in range(10 * 6):
        box.advance(4 * HOUR)
        before = {name: child.read_at for name, child in lists(rig)}
        rig.sync()
        again += sum(before.get(name) not in (None, child.read_at) for name, child in lists(rig))
    assert 5 <= again <= 95
    rig.close()


def lists(rig: Rig) -> list[tuple[tuple[str, str], ChildState]]:
    known = progress.load(rig.database, "default", ()).children
    return [((stream, name), child) for stream, lists in known.items() for name, child in lists.items()]


@pytest.mark.slow
@pytest.mark.parametrize("lists_lag", [timedelta(minutes=30), timedelta(hours=7)])
@pytest.mark.parametrize("counters_lag", [timedelta(minutes=30), timedelta(hours=7)])
@pytest.mark.parametrize("limits", [NO_LIMIT, FREE], ids=["no limit", "free"])
def test_counters_and_lists_may_both_be_late(
    tmp_path: Path, lists_lag: timedelta, counters_lag: timedelta, limits: Limits
) -> None:
    """Each is late for a while, and rows are deleted meanwhile."""
    rig, parents = account(f"sqlite:///{tmp_path / 'state.sqlite'}", limits)
    box, rng = rig.sandbox, Random(f"{lists_lag} {counters_lag}")
    for turn in range(8):
        box.switches.lists_lag = lists_lag if turn % 2 else timedelta(0)
        box.switches.counters_lag = timedelta(0) if turn % 2 else counters_lag
        for _ in range(6):
            stream = rng.choice(CHILDREN)
            added = box.world.add(stream, parents[stream], userId="u-1")
            if rng.random() < 0.3:
                box.world.delete(stream, added)
            syncs(rig, 2)
    syncs(rig, 20, timedelta(hours=4))
    rig.check()
    rig.close()

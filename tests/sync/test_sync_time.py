"""Clocks that are off or set; months that end; dates of every form: nothing is lost or doubled over it."""

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector.domain.budget import Limits
from connector.errors import Exit
from connector.sandbox import Answer, Company, Request
from connector.state import outbox, progress
from tests.harness import EVENT, ID, Rig, hold_still, landed
from tests.harness import sandbox as sandbox_of
from tests.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LIMITED = Limits(6_000, 0, 30)
BUDGETS = pytest.mark.parametrize(
    "limits",
    [Limits(None, 0, 30), pytest.param(LIMITED, marks=pytest.mark.slow)],
    ids=["unlimited", "limited"],
)


def lively(now: datetime = datetime(2026, 3, 1, tzinfo=UTC)) -> Sandbox:
    company = Company(seed=3, posts=8, requests=5, days=40, activity=0.4, nps_per_day=2.0)
    return Sandbox(company, now=now)


def settle(rig: Rig, syncs: int = 12) -> None:
    """Nothing new happens any more, and everything has had its time."""
    hold_still(rig.sandbox)
    for _ in range(syncs):
        rig.sandbox.advance(12 * HOUR)
        assert rig.sync().exit == 0
    rig.check()
    rig.close()


# --- our clock --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [10 * MINUTE, -10 * MINUTE], ids=["ahead", "behind"])
@BUDGETS
def test_a_beamer_ten_minutes_off(tmp_path: Path, limits: Limits, ahead: timedelta) -> None:
    rig = Rig(lively(), f"sqlite:///{tmp_path / 'state.sqlite'}", limits=limits, ahead=ahead)
    for _ in range(12):
        assert rig.sync().exit == 0
        rig.sandbox.advance(25 * MINUTE)
    for message in rig.sandbox.segment.messages:
        assert message["timestamp"] <= rig.sandbox.now().isoformat(), "nothing is sent from the future"
    settle(rig)


@pytest.mark.parametrize(
    ("step", "and_back"),
    [(-HOUR, False), (DAY, False), (DAY, True), pytest.param(-DAY, False, marks=pytest.mark.slow)],
    ids=["-1h", "+1d", "+1d-1d", "-1d"],
)
@BUDGETS
def test_a_clock_that_is_set_between_two_syncs(
    tmp_path: Path, limits: Limits, step: timedelta, and_back: bool
) -> None:
    rig = Rig(lively(), f"sqlite:///{tmp_path / 'state.sqlite'}", limits=limits)
    for number in range(18):
        if number == 6:
            rig.clock._ahead += step
        if number == 12 and and_back:
            rig.clock._ahead -= step
        assert rig.sync().exit == 0
        rig.sandbox.advance(2 * HOUR)
    settle(rig)


@pytest.mark.parametrize("step", [-HOUR, DAY], ids=["-1h", "+1d"])
@pytest.mark.parametrize("at", [2, 9])
def test_a_clock_that_is_set_in_the_middle_of_a_sync(tmp_path: Path, at: int, step: timedelta) -> None:
    rig = Rig(lively(), f"sqlite:///{tmp_path / 'state.sqlite'}")

    def set_it(_request: Request) -> None:
        rig.clock._ahead += step

    rig.sandbox.faults.script("beamer", [*["ok"] * at, set_it])
    assert rig.sync().exit == 0
    settle(rig)


# --- the calendar -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "now",
    [
        datetime(2024, 2, 28, 21, tzinfo=UTC),  # before a leap day
        datetime(2025, 2, 28, 21, tzinfo=UTC),
        datetime(2025, 12, 31, 21, tzinfo=UTC),
        datetime(2026, 3, 29, 0, tzinfo=UTC),  # clocks in Europe go forward
        datetime(2026, 4, 4, 14, tzinfo=UTC),  # on Lord Howe they go back by half an hour
        datetime(2026, 10, 31, 21, tzinfo=UTC),
    ],
    ids=lambda now: f"{now:%Y-%m-%d}",
)
@pytest.mark.parametrize("period_day", [None, 31])
def test_days_at_which_a_month_turns(tmp_path: Path, now: datetime, period_day: int | None) -> None:
    limits = Limits(6_000, 0, 30, period_day)
    rig = Rig(lively(now), f"sqlite:///{tmp_path / 'state.sqlite'}", limits=limits)
    for _ in range(10):
        assert rig.sync().exit == 0
        rig.sandbox.advance(HOUR)
    settle(rig)


# --- dates ------------------------------------------------------------------------------------------------

# How Beamer might write a date, and what Segment is told: no date in the future, and none moved by a zone.
FORMS = [
    ("2026-02-20T10:00:00Z", "2026-02-20T10:00:00"),
    ("2026-02-20T10:00:00", "2026-02-20T10:00:00"),
    ("2026-02-20T10:00:00.987654Z", "2026-02-20T10:00:00"),
    ("2026-02-20T10:00:00.987", "2026-02-20T10:00:00"),
    ("2026-02-20T10:00:00+05:30", "2026-02-20T04:30:00"),
    ("2026-02-20T10:00:00.5-08:00", "2026-02-20T18:00:00"),
    ("2026-02-20 10:00:00", "2026-02-20T10:00:00"),
    ("2026-02-28T23:59:59.999999Z", "2026-02-28T23:59:59"),
    ("2026-03-01T00:07:00Z", "2026-03-01T00:00:00"),  # in the future by Beamer's own clock
]


@pytest.mark.parametrize(("written", "sent"), FORMS)
def test_how_a_date_is_written(tmp_path: Path, written: str, sent: str) -> None:
    box = sandbox_of(company=Company.empty())
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}")
    row = {"id": "1" * 24, "date": written, "score": 9, "feedback": "Good", "userId": "u"}
    box.faults.on(lambda request: request.path.endswith("/nps"), [_page([row]), _page([])] * 2)
    assert rig.sync().exit == 0
    assert rig.sync().report.sent == 0
    (message,) = box.segment.messages
    assert message["timestamp"].startswith(sent)
    assert set(landed(box).values()) == {1}
    rig.close()


def _page(rows: list[Any]) -> Callable[[Request], Answer]:
    return lambda _: Answer(200, json.dumps(rows).encode(), {"Content-Type": "application/json"})


# --- zones ------------------------------------------------------------------------------------------------

ZONES = ["America/Los_Angeles", "Asia/Kolkata", "Australia/Lord_Howe"]
DEPENDENT = [
    "tests/beamer/test_beamer_rows.py",
    "tests/beamer/test_beamer_client.py",
    "tests/segment/test_segment_shape.py",
    "tests/segment/test_segment_messages.py",
    "tests/events/test_events_golden.py",
    "tests/config/test_config_values.py",
    "tests/state/test_state_bucket.py",
    "tests/state/test_state_leases.py",
    "tests/state/test_state_ledger.py",
    "tests/state/test_state_outbox.py",
    "tests/sync/test_sync_newness.py",
    "tests/sync/test_sync_streams.py",
    "tests/sync/test_sync_time.py",
]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("zone", ZONES)
def test_wherever_this_machine_stands(zone: str) -> None:
    """The zone counts from a process's start, so each has a process of its own."""
    words = ["-q", "-p", "no:cacheprovider", "-m", "not slow", *DEPENDENT]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=ROOT,
        env={**os.environ, "TZ": zone},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout[-3_000:]


# --- what an answer says that the time is -----------------------------------------------------------------


class Dated(httpx.BaseTransport):
    """Beamer behind something that changes its answers' dates: `told` gives the headers of the n-th one."""

    def __init__(self, box: Sandbox, told: Callable[[int, datetime], list[tuple[str, str]]]) -> None:
        self.box = box
        self.way = box.beamer_transport()
        self.told = told
        self.count = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.way.handle_request(request)
        others = [(name, value) for name, value in response.headers.multi_items() if name != "date"]
        now = self.box.now()
        response.headers = httpx.Headers([*others, *self.told(self.count, now)])
        self.count += 1
        return response


def date(moment: datetime) -> tuple[str, str]:
    return "Date", format_datetime(moment.replace(microsecond=0), usegmt=True)


Told = Callable[[int, datetime], list[tuple[str, str]]]
WRONG: dict[str, Callable[[datetime], list[tuple[str, str]]]] = {
    "1970": lambda _: [date(datetime(1970, 1, 1, tzinfo=UTC))],
    "2099": lambda _: [date(datetime(2099, 1, 1, tzinfo=UTC))],
    "an hour ahead": lambda now: [date(now + HOUR)],
    "a day ahead": lambda now: [date(now + DAY)],
    "a month ahead": lambda now: [date(now + 31 * DAY)],
    "a day ago": lambda now: [date(now - DAY)],
    "in a cache": lambda now: [date(now - 5 * HOUR), ("Age", str(5 * 3600))],
    "missing": lambda _: [],
    "malformed": lambda _: [("Date", "2026-03-01T00:00:00Z and more")],
    "two": lambda now: [date(now), date(now + DAY)],
    "an age that is none": lambda now: [date(now), ("Age", "a while")],
}
WHEN: dict[str, Callable[[int], bool]] = {
    "first": lambda number: number == 0,
    "in the middle": lambda number: number == 5,
    "every fourth": lambda number: number % 4 == 3,
}


def behind(rig: Rig, told: Told) -> Rig:
    rig.transport = Dated(rig.sandbox, told)
    return rig


def judged_by(rig: Rig) -> None:
    """No event, no mark and no look lies in the future, and no event has another time than its row."""
    now = rig.sandbox.now()
    rows = {(EVENT[stream], row.id): row for stream in rig.streams for row in rig.sandbox.world.rows(stream)}
    for message in rig.sandbox.segment.messages:
        if message["event"] in ID:
            row = rows[message["event"], message["properties"][ID[message["event"]]]]
            assert datetime.fromisoformat(message["timestamp"]) == row.date, message["event"]
    state = progress.load_readonly(rig.database, rig.name)
    lists = [child for each in state.children.values() for child in each.values()]
    parents = [parent for each in state.parents.values() for parent in each.values()]
    moments = [
        moment
        for each in (*state.streams.values(), *lists, *parents)
        for name in ("watermark", "complete_through", "checked_at", "read_at", "proved_at", "known_at")
        if (moment := getattr(each, name, None))
    ]
    assert max(moments) <= now + MINUTE
    assert min(moments) > now - 60 * DAY


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("when", WHEN)
def test_one_answer_with_another_date_moves_nothing(tmp_path: Path, wrong: str, when: str) -> None:
    rig = Rig(lively(), f"sqlite:///{tmp_path / 'state.sqlite'}")
    behind(rig, lambda number, now: WRONG[wrong](now) if WHEN[when](number) else [date(now)])
    for _ in range(2):
        assert rig.sync().exit == 0
        judged_by(rig)
        rig.sandbox.advance(HOUR)
    rig.transport = None
    settle(rig)


@pytest.mark.parametrize("wrong", ["1970", "2099", "missing", "malformed", "two", "in a cache"])
def test_dates_that_are_none_leave_it_to_this_machines_clock(tmp_path: Path, wrong: str) -> None:
    rig = behind(Rig(lively(), f"sqlite:///{tmp_path / 'state.sqlite'}"), lambda _, now: WRONG[wrong](now))
    for _ in range(2):
        assert rig.sync().exit == 0
        judged_by(rig)
        rig.sandbox.advance(HOUR)
    rig.transport = None
    settle(rig)


@pytest.mark.parametrize("wrong", ["an hour ahead", "a day ahead", "a day ago", "a month ahead"])
@pytest.mark.slow
def test_a_wrong_date_that_stays_loses_nothing(tmp_path: Path, wrong: str) -> None:
    rig = behind(Rig(lively(), f"sqlite:///{tmp_path / 'state.sqlite'}"), lambda _, now: WRONG[wrong](now))
    for _ in range(3):
        assert rig.sync().exit == 0
        rig.sandbox.advance(HOUR)
    rig.transport = None
    settle(rig)


@pytest.mark.parametrize("ahead", [5 * HOUR, -7 * HOUR, 40 * DAY, -40 * DAY], ids=str)
def test_a_machine_whose_clock_is_wrong_goes_by_beamers(tmp_path: Path, ahead: timedelta) -> None:
    """What is sent of the rows to come is none before its time, and what is there is sent."""
    rig = Rig(lively(), f"sqlite:///{tmp_path / 'state.sqlite'}")
    assert rig.sync().exit == 0
    rig.clock._ahead = ahead
    for _ in range(3):
        rig.sandbox.advance(3 * HOUR)
        assert rig.sync().exit == 0
    now = rig.sandbox.now()
    assert all(message["timestamp"] <= now.isoformat() for message in rig.sandbox.segment.messages)
    rig.clock._ahead = timedelta(0)
    settle(rig)


@pytest.mark.parametrize(("off", "ahead"), [(HOUR, 0 * HOUR), (2 * HOUR, 3 * HOUR), (HOUR, -3 * HOUR)])
def test_a_row_is_dated_back_only_where_both_clocks_call_it_future(
    tmp_path: Path, off: timedelta, ahead: timedelta
) -> None:
    box = sandbox_of(company=Company.empty())
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", ahead=ahead)
    dated = box.now() + off
    row = {"id": "1" * 24, "date": dated.isoformat(), "score": 9, "feedback": "Good", "userId": "u"}
    box.faults.on(lambda request: request.path.endswith("/nps"), [_page([row]), _page([])] * 2)
    assert rig.sync().exit == 0
    (message,) = box.segment.messages
    wanted = min(dated, max(box.now(), rig.clock.now()))
    assert abs(datetime.fromisoformat(message["timestamp"]) - wanted) < MINUTE
    rig.close()


@pytest.mark.parametrize("url", ["sqlite_url", "postgres_url"])
@pytest.mark.parametrize(
    ("refused_by", "then", "away"),
    [(-40, 0, False), (-200, 0, False), (0, 40, True), (0, 200, True), (-40, 40, True), (40, 0, False)],
)
def test_a_dead_letter_is_kept_for_its_time_whatever_a_clock_shows(
    request: pytest.FixtureRequest, url: str, refused_by: int, then: int, away: bool
) -> None:
    """Stamped by a clock that was behind, or looked at by one ahead, it was deleted at once."""
    rig = Rig(lively(), request.getfixturevalue(url))
    assert rig.sync().exit == 0
    rig.sandbox.advance(HOUR)
    bad, *_ = (rig.sandbox.world.add("nps", score=9, userId="u").encode() for _ in range(4))
    rig.sandbox.advance(HOUR)
    rig.sandbox.faults.on(
        lambda seen: seen.api == "segment" and bad in gzip.decompress(seen.body), [400] * 99
    )
    rig.clock._ahead = refused_by * DAY
    assert rig.sync().exit == 0
    (dead,) = outbox.listed(rig.database, None, "dead", 9)
    rig.sandbox.faults.clear()
    rig.sandbox.advance(2 * HOUR)
    rig.clock._ahead = then * DAY
    if away:
        rig.sandbox.faults.script("beamer", [503] * 99)
    assert rig.sync().exit == (Exit.UNREACHABLE if away else Exit.DONE)
    assert [message["id"] for message in outbox.listed(rig.database, None, "dead", 9)] == [dead["id"]]
    rig.sandbox.faults.clear()
    rig.clock._ahead = timedelta(0)
    rig.sandbox.advance(31 * DAY + max(0, refused_by) * DAY)
    assert rig.sync().exit == 0
    assert not outbox.listed(rig.database, None, "dead", 9), "and no longer than that"
    rig.close()


@pytest.mark.parametrize("off", [DAY, 21 * HOUR, -21 * HOUR, 40 * DAY, -40 * DAY], ids=str)
def test_totals_of_a_post_go_once_a_day_whatever_the_clock_shows(tmp_path: Path, off: timedelta) -> None:
    rig = Rig(lively(), f"sqlite:///{tmp_path / 'state.sqlite'}", settings={"metrics": True})
    for number in range(30):
        rig.clock._ahead = off if number % 5 == 3 else timedelta(0)
        assert rig.sync().exit == 0
        rig.sandbox.advance(3 * HOUR)
    days = Counter(
        (message["properties"]["post_id"], message["timestamp"][:10])
        for message in rig.sandbox.segment.messages
        if message["event"] == "Post Metrics Updated"
    )
    assert len({day for _, day in days}) >= 3
    assert set(days.values()) == {1}
    rig.close()


@pytest.mark.parametrize("ahead", [20 * MINUTE, 3 * HOUR, 20 * HOUR], ids=str)
def test_a_first_sync_by_a_clock_ahead_sends_no_score_before_it_is_settled(
    tmp_path: Path, ahead: timedelta
) -> None:
    """Its first answer alone tells that the clock is ahead: of two that differ, the one behind counts."""
    box = sandbox_of(company=Company.empty())
    rig = Rig(box, f"sqlite:///{tmp_path / 'state.sqlite'}", ahead=ahead)
    box.world.add("nps", score=9, userId="u")
    box.advance(10 * MINUTE)
    assert rig.sync().exit == 0
    assert not box.segment.messages
    box.advance(10 * MINUTE)
    assert rig.sync().exit == 0
    assert len(box.segment.messages) == 1
    rig.close()

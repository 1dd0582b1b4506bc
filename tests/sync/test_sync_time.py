"""Clocks that are off or set; months that end; dates of every form: nothing is lost or doubled over it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.sandbox import Company, Sandbox
from connector.sandbox.message import Answer, Request
from connector.state.ledger import Limits
from tests.harness import Rig, hold_still, landed
from tests.harness import sandbox as sandbox_of

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
    "tests/beamer/test_beamer_door.py",
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

"""`backfill` as a process: estimated, made sure of, within its allowance, and gone on with."""

import os
import pty
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from connector.sandbox import Company
from tests.cli.conftest import Make
from tests.cli.process import ROOT, Machine, made_up, until

# Each of these is a handful of processes.
pytestmark = pytest.mark.slow

HISTORY = ("backfill", "--since", "2020-01-01", "--output", "json", "--yes")


@pytest.fixture
def unlimited(make: Make) -> Machine:
    return make(made_up(), extra={"BEAMER_PLAN": "pro"})


@pytest.fixture
def free(make: Make) -> Machine:
    return make(made_up(), extra={"BEAMER_PLAN": "free", "BEAMER_RESERVE": "0"})


def timestamps(machine: Machine) -> list[str]:
    return [message["timestamp"] for message in machine.sandbox.segment.messages]


def test_history_comes_with_its_own_timestamps(unlimited: Machine) -> None:
    unlimited.run("sync")
    start = unlimited.start.isoformat()[:19]
    assert all(stamp[:19] >= start for stamp in timestamps(unlimited))
    ended = unlimited.run(*HISTORY)
    assert ended.code == 0, ended.err
    assert ended.json["command"] == "backfill"
    found = ended.connection["backfill"]
    assert found["finished_at"]
    assert (found["requests"], found["rows"]) == (
        ended.connection["requests_spent"],
        sum(ended.connection["rows_new"].values()),
    )
    assert any(stamp[:19] < start for stamp in timestamps(unlimited))
    unlimited.all_there_once()
    spent = unlimited.asked()
    again = unlimited.run("backfill", "--since", "2020-01-01", "--yes")
    assert "this range is complete since" in again.out
    assert unlimited.asked() == spent


def test_the_estimate_is_close_and_costs_little(unlimited: Machine) -> None:
    unlimited.run("sync")
    before = unlimited.asked()
    dry = unlimited.run(*HISTORY, "--dry-run")
    guess = dry.connection["estimate"]
    # The syncs know posts, requests and their counters: only NPS has to be counted.
    assert unlimited.asked() == before + 1
    assert guess["unknown"] == []
    ended = unlimited.run(*HISTORY)
    spent = ended.connection["requests_spent"]
    assert guess["requests"] <= spent + 1
    assert spent <= guess["most_requests"] + 3
    rows = sum(ended.connection["rows_new"].values()) + len(timestamps(unlimited))
    assert guess["rows"] <= rows
    assert ended.connection["estimate"]["users"] >= len(
        {message["userId"] for message in unlimited.sandbox.segment.messages} - {None}
    )


def test_a_count_may_come_as_text(unlimited: Machine) -> None:
    unlimited.run("sync")
    count: tuple[str, int, bytes, dict[str, str]] = ("answer", 200, b'{"count": "4000"}', {})
    unlimited.sandbox.faults.on(lambda request: request.path.endswith("/nps/count"), [count])
    guess = unlimited.run(*HISTORY, "--stream", "nps", "--dry-run").connection["estimate"]
    assert (guess["rows"], guess["most_rows"]) == (0, 4000)
    assert guess["requests"] == 41


def test_without_a_sync_before_it_the_estimate_says_what_it_does_not_know(unlimited: Machine) -> None:
    told = unlimited.run("backfill", "--since", "2020-01-01", "--dry-run")
    assert told.code == 0
    assert unlimited.asked() == 3
    assert "not counted: comments, reactions" in told.out
    assert "at most" in told.out
    assert "different users" in told.out


def test_an_estimate_says_what_beamer_did_not_count(unlimited: Machine) -> None:
    """With a Beamer that did not answer it said 0 rows, and exited with 0."""
    unlimited.sandbox.faults.on(lambda request: request.path.endswith("/nps/count"), [500])
    dry = unlimited.run("backfill", "--since", "2020-01-01", "--dry-run")
    assert dry.code == 69
    assert "not counted: nps: Beamer answered 500." in dry.out
    dry = unlimited.run("backfill", "--since", "2020-01-01", "--dry-run", "--output", "json")
    assert (dry.code, dry.connection["estimate"]["failures"]) == (0, {})


def test_a_limited_plan_wants_an_allowance(free: Machine) -> None:
    told = free.run("backfill", "--since", "2020-01-01", "--yes")
    assert told.code == 2
    assert "--max-requests 300, or --share 50%" in told.err
    ended = free.run(*HISTORY, "--max-requests", "12")
    assert (ended.code, ended.connection["requests_spent"]) == (0, 12)
    assert ended.connection["backfill"]["finished_at"] is None
    told = free.run("backfill", "--since", "2020-01-01", "--max-requests", "10", "--yes")
    assert "continuing after 12" in told.out
    assert "the same command continues" in told.out
    left = ended.connection["requests_left"] - 10
    before = free.asked()
    while free.run(*HISTORY, "--share", "2%").connection["backfill"]["finished_at"] is None:
        assert free.asked() - before <= left
    free.run("sync")
    free.all_there_once()


@pytest.mark.parametrize(("used", "said"), [("5000", "none is left this month"), ("970", "left this month")])
def test_an_estimate_says_where_too_few_requests_are_left(free: Machine, used: str, said: str) -> None:
    free.run("sync")
    free.extra["BEAMER_PERIOD_DAY"] = "1"
    assert free.run("quota", "set-used", used).code == 0
    ended = free.run("backfill", "--since", "2020-01-01", "--dry-run")
    assert ended.code == 0
    assert said in ended.out
    assert " s at " not in ended.out


def test_everywhere_is_asked_for_or_said(unlimited: Machine) -> None:
    told = unlimited.run("backfill", "--since", "2020-01-01")
    assert told.code == 2
    assert "every destination" in told.err
    assert "--yes" in told.err
    assert not timestamps(unlimited)
    where = '{"All": false, "Amplitude": true}'
    ended = unlimited.run("backfill", "--since", "2020-01-01", "--integrations", where)
    assert ended.code == 0
    assert "every destination" not in ended.err
    assert {str(message["integrations"]) for message in unlimited.sandbox.segment.messages} == {
        "{'All': False, 'Amplitude': True}"
    }


def test_the_setting_says_where_history_goes(unlimited: Machine) -> None:
    unlimited.extra["SEGMENT_BACKFILL_INTEGRATIONS"] = '{"All": false}'
    assert unlimited.run("backfill", "--since", "2020-01-01").code == 0
    assert all(message["integrations"] == {"All": False} for message in unlimited.sandbox.segment.messages)


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2)])
def test_somebody_at_a_terminal_is_asked(unlimited: Machine, answer: str, code: int) -> None:
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "connector", "backfill", "--since", "2020-01-01"],
        cwd=ROOT,
        env=unlimited.environment(),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.write(ours, answer.encode())
    out, _ = run.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert b"Send history to all destinations?" in out
    assert run.returncode == code
    assert bool(timestamps(unlimited)) is (code == 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--since", "yesterday"), "'yesterday' is not a date. Give a date such as 2024-01-01"),
        (("--since", "2024-01-01", "--until", "2023-01-01"), "--until is not later than --since"),
        (("--since", "2024-01-01", "--until", "9999-12-31"), "--until: 9999-12-31 is in the future"),
        (("--since", "2024-01-01", "--until", "9999-12-31T23:59:59"), "without --until the range ends now"),
        (("--since", "2040-01-01"), "--since: 2040-01-01 is in the future"),
        (("--since", "0001-01-01", "--dry-run"), "--since: 0001-01-01 is before 2000-01-01"),
        (("--since", "2024-01-01", "--share", "50"), "Give a share such as 50%."),
        (("--since", "2024-01-01", "--integrations", "[]"), 'Give \'{"All": false,'),
        (("--since", "2024-01-01", "--stream", "comment"), "has no stream 'comment'"),
        ((), "--since"),
    ],
)
def test_what_cannot_be_meant(unlimited: Machine, words: tuple[str, ...], said: str) -> None:
    ended = unlimited.run("backfill", *words, "--yes")
    assert ended.code in (2, 78)
    assert said in ended.err
    assert unlimited.asked() == 0


def test_a_stream_by_itself(unlimited: Machine) -> None:
    unlimited.run(*HISTORY, "--stream", "nps")
    assert {message["event"] for message in unlimited.sandbox.segment.messages} == {"NPS Response Sent"}
    unlimited.run(*HISTORY, "--stream", "comments")
    assert {message["event"] for message in unlimited.sandbox.segment.messages} == {
        "NPS Response Sent",
        "Post Commented",
    }


def test_a_signal_ends_it_cleanly(unlimited: Machine) -> None:
    unlimited.sandbox.faults.latency = 0.02
    running = unlimited.begin(*HISTORY)
    until(lambda: unlimited.asked() > 15)
    running.signal(signal.SIGTERM)
    ended = running.end()
    assert ended.code == 143
    assert ended.connection["stopped"]
    unlimited.sandbox.faults.latency = 0.0
    assert unlimited.run(*HISTORY).connection["backfill"]["finished_at"]
    unlimited.all_there_once()


@pytest.mark.parametrize("database", ["sqlite_url", "postgres_url"])
@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_every_row_once(
    make: Make, database: str, request: pytest.FixtureRequest
) -> None:
    box = made_up(Company(posts=60, requests=20, days=200, activity=1.0))
    machine = make(box, database_url=request.getfixturevalue(database), extra={"BEAMER_PLAN": "pro"})
    box.faults.latency = 0.01
    for _ in range(10):
        goal = machine.asked() + 12
        running = machine.begin(*HISTORY)
        until(partial(_so_many, machine, goal))
        assert running.process.poll() is None
        running.signal(signal.SIGKILL)
        running.end()
    assert machine.run(*HISTORY).connection["backfill"]["finished_at"]
    machine.all_there_once()
    seen = [(each.path, tuple(each.params.items())) for each in box.requests if each.api == "beamer"]
    # What was on its way, and five, for each kill.
    assert len(seen) - len(set(seen)) <= 10 * (16 + 5)


def _so_many(machine: Machine, goal: int) -> bool:
    return machine.asked() > goal


def test_a_bar_on_a_terminal(unlimited: Machine, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "connector", *HISTORY],
        cwd=ROOT,
        env={**unlimited.environment(), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            if not (more := os.read(ours, 65_536)):
                break
        except OSError:  # the other end is closed
            break
        shown += more
    assert run.wait(60) == 0
    os.close(ours)
    assert b"requests/s" in shown

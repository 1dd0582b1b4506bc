"""SIGTERM, SIGINT and SIGHUP: a clean stop, soon, whoever is keeping the sync waiting."""

import json
import os
import pty
import signal
import subprocess
import sys
from time import monotonic

import pytest

from connector.cli.output import document
from tests.cli.conftest import Make
from tests.cli.process import ROOT, Ended, Machine, until
from tests.sandbox import Step

# Five seconds are promised, on a machine that has time for it; without care it would be fifteen and more.
SOON = 10.0
ALL = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])


def stopped(machine: Machine, api: str, number: signal.Signals) -> Ended:
    """Stop a sync as soon as an API has seen a request of it; the next one completes its work."""
    running = machine.begin("sync", "--output", "json")
    until(lambda: machine.asked(api) >= 1)
    since = monotonic()
    running.signal(number)
    ended = running.end()
    assert monotonic() - since < SOON, ended.err
    assert (ended.code, ended.json["exit"]) == (128 + number, 128 + number), ended.err
    machine.sandbox.faults.clear()
    assert machine.run("sync").code == 0
    machine.all_there_once()
    return ended


@ALL
def test_while_reading(machine: Machine, number: signal.Signals) -> None:
    machine.sandbox.faults.latency = 0.05
    ended = stopped(machine, "beamer", number)
    assert ended.connection["stopped"] == "stopped by a signal"
    assert ended.err.count('"stopping"') == 1


def test_it_is_no_success(machine: Machine) -> None:
    machine.sandbox.faults.latency = 0.05
    running = machine.begin("sync", "--metrics-file", str(machine.here / "m.prom"), "--output", "json")
    until(lambda: machine.asked() >= 3)
    running.signal(signal.SIGTERM)
    ended = running.end()
    assert (ended.code, ended.connection["exit"]) == (143, 130)
    told = (machine.here / "m.prom").read_text()
    assert 'last_run_exit_code{connection="default"} 130.0' in told
    assert 'last_success_timestamp_seconds{connection="default"} 0.0' in told
    (run,) = machine.run("runs", "--output", "json").json["runs"]
    assert (run["outcome"], run["exit"]) == ("interrupted", 130)
    assert "^" in machine.run("status").out


def test_without_a_terminal_it_goes_on_where_that_is_wanted(machine: Machine) -> None:
    machine.sandbox.faults.latency = 0.05
    running = machine.begin("sync", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    until(lambda: machine.asked() >= 1)
    running.signal(signal.SIGHUP)
    assert running.end().code == 0
    machine.all_there_once()


@pytest.mark.parametrize("step", ["hang", "trickle"])
def test_while_beamer_hangs(on_either: Machine, step: Step) -> None:
    on_either.sandbox.faults.script("beamer", [step] * 3)
    stopped(on_either, "beamer", signal.SIGTERM)


@pytest.mark.parametrize("step", ["hang", "hang_before", 500])
def test_while_segment_hangs(machine: Machine, step: Step) -> None:
    machine.sandbox.faults.script("segment", [step] * 9)
    ended = stopped(machine, "segment", signal.SIGTERM)
    assert ended.connection["waiting"] > 0


def test_check_leaves_at_once(machine: Machine) -> None:
    machine.sandbox.faults.script("beamer", ["hang"] * 5)
    running = machine.begin("check", "--output", "json")
    until(lambda: machine.asked() >= 1)
    running.signal(signal.SIGTERM)
    ended = running.end(SOON)
    assert (ended.code, ended.json) == (143, document("check", 143, {"error": None}))


def test_all_connections_stop(make: Make) -> None:
    machine = make(
        extra={"BEAMER_API_KEY": "", "SEGMENT_WRITE_KEY": "", "KEY": "sandbox-key", "WRITE": "w", "TO": "x"}
    )
    table = '[[connections]]\nname = "{}"\napi_key_env = "KEY"\nwrite_key_env = "{}"\n'
    (machine.here / "two.toml").write_text(table.format("a", "WRITE") + table.format("b", "TO"))
    machine.sandbox.faults.latency = 0.05
    running = machine.begin("sync", "--all", "--config", str(machine.here / "two.toml"), "--output", "json")
    until(lambda: machine.asked() >= 1)
    running.signal(signal.SIGTERM)
    ended = running.end(SOON)
    # Both were at work; with one worker, the second had not begun.
    assert (ended.code, [each["connection"] for each in ended.json["connections"]]) == (143, ["a", "b"])
    assert {each["stopped"] for each in ended.json["connections"]} == {"stopped by a signal"}


@pytest.mark.slow
def test_a_reader_that_goes_away_does_not_end_the_work(machine: Machine) -> None:
    for words in ("sync",), ("status",), ("config", "show"), ("runs",):
        reading, writing = os.pipe()
        running = machine.begin(*words, stdout=writing)
        os.close(writing)
        os.close(reading)
        ended = running.end()
        assert (ended.code, ended.err) == (0, ""), words
    machine.all_there_once()


def test_progress_on_a_terminal_leaves_a_piped_summary_alone(machine: Machine) -> None:
    terminal, end = pty.openpty()
    running = machine.begin("sync", stderr=end)
    os.close(end)
    shown = b""
    try:
        while chunk := os.read(terminal, 65536):
            shown += chunk
    except OSError:
        pass  # how a terminal says that nobody writes to it any more
    ended = running.end()
    os.close(terminal)
    assert "excluded" in ended.out
    assert b"syncing" in shown
    assert b"held back" not in shown


MAKING_A_CLASS = """
import os, signal
from connector.cli.exit_codes import run

class Name:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.SIGTERM)

run(lambda: type("Made", (), {"name": Name()}), ["sync", "--output", "json"])
"""


def test_while_a_library_makes_a_class() -> None:
    """Python turns what is raised there into a RuntimeError of its own."""
    words = [sys.executable, "-c", MAKING_A_CLASS]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (143, "stopped by a signal\n")
    assert json.loads(ended.stdout)["exit"] == 143

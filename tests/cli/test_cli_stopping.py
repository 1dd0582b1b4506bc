"""SIGTERM and SIGINT while a sync starts, waits for the database, and delivers."""

import signal
from threading import Event
from time import monotonic

import pytest

from tests.cli.process import Machine, until
from tests.cli.test_cli_signals import SOON


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "after", [0.15, 0.45, 0.9, *(pytest.param(s, marks=pytest.mark.long) for s in (0.3, 0.6))]
)
def test_while_starting(on_either: Machine, number: signal.Signals, after: float) -> None:
    """While Python itself starts, a signal ends it in its own way; from then on, cleanly."""
    running = on_either.begin("sync", "--output", "json")
    Event().wait(after)
    since = monotonic()
    running.signal(number)
    ended = running.end()
    assert monotonic() - since < SOON
    assert ended.code in (128 + number, -number, 0), ended.err
    assert on_either.run("sync").code == 0
    on_either.all_there_once()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_delivering(on_either: Machine, number: signal.Signals) -> None:
    """The batch in hand is confirmed, the others wait, and the lease is given back."""
    machine = on_either
    assert machine.run("sync", "--no-deliver").code == 0
    machine.sandbox.faults.script("segment", [("latency", 0.4)] * 50)
    running = machine.begin("sync", "--output", "json")
    until(lambda: machine.asked("segment") >= 1)
    since = monotonic()
    running.signal(number)
    ended = running.end()
    assert monotonic() - since < SOON
    assert (ended.code, ended.json["exit"]) == (128 + number, 128 + number), ended.err
    assert ended.connection["error"] is None
    sent, waiting = ended.connection["sent"], ended.connection["waiting"]
    assert sent == len(machine.sandbox.segment.messages) > 0
    machine.sandbox.faults.clear()
    again = machine.run("sync", "--output", "json")
    assert (again.code, again.connection["sent"] >= waiting) == (0, True)
    assert not machine.sandbox.segment.duplicates
    machine.all_there_once()

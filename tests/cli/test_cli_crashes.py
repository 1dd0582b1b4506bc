"""`kill -9` at any moment of a sync, and a second sync on the same machine at once."""

import signal

import pytest

from tests.cli.process import LONGEST, Machine, until

A_FEW = (5, 40)
MANY = tuple(range(1, 61, 4))


def crash_and_go_on(machine: Machine, requests: int, api: str = "beamer") -> None:
    """Kill a sync once an API has seen so many requests; the next one finishes its work."""
    killed = machine.begin("sync")
    until(lambda: machine.asked(api) >= requests or killed.process.poll() is not None, LONGEST)
    killed.signal(signal.SIGKILL)
    killed.end()
    ended = machine.run("sync", "--output", "json")
    assert ended.code == 0, ended.err
    machine.all_there_once()
    assert machine.run("sync", "--output", "json").connection["sent"] == 0


@pytest.mark.parametrize("requests", A_FEW)
def test_killed_while_reading(machine: Machine, requests: int) -> None:
    crash_and_go_on(machine, requests)


@pytest.mark.parametrize("batches", [1])
def test_killed_while_delivering(machine: Machine, batches: int) -> None:
    crash_and_go_on(machine, batches, "segment")


def test_killed_before_segment_has_answered(on_either: Machine) -> None:
    on_either.sandbox.faults.script("segment", ["hang"])
    crash_and_go_on(on_either, 1, "segment")
    assert on_either.sandbox.segment.duplicates


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("requests", MANY)
def test_killed_at_any_moment(on_either: Machine, requests: int) -> None:
    crash_and_go_on(on_either, requests)

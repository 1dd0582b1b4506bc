"""Two syncs at once: one works, the other leaves."""

import signal

from tests.cli.process import Machine, until


def test_the_second_of_two_leaves_with_75(on_either: Machine) -> None:
    on_either.sandbox.faults.script("beamer", [("latency", 20.0)])
    first = on_either.begin("sync", "--output", "json")
    until(lambda: on_either.asked() >= 1)
    second = on_either.run("sync", "--output", "json")
    assert (second.code, second.json["exit"]) == (75, 75), second.err
    assert "Another run" in second.err
    skipped = on_either.run("sync", "--output", "json", "--skip-exit-code", "99")
    assert (skipped.code, skipped.json["exit"]) == (99, 99)
    assert on_either.asked() <= 2  # the first one's other page
    first.signal(signal.SIGKILL)
    first.end()
    taken_over = on_either.run("sync", "--output", "json")
    assert taken_over.code == 0, taken_over.err
    on_either.all_there_once()


def test_others_may_look_meanwhile(machine: Machine) -> None:
    machine.sandbox.faults.script("beamer", [("latency", 20.0)])
    first = machine.begin("sync")
    until(lambda: machine.asked() >= 1)
    assert machine.run("status").code == 0
    assert told(machine) == ["under way"]
    first.signal(signal.SIGKILL)
    first.end()
    assert told(machine) == ["killed"]
    machine.sandbox.faults.script("beamer", [("latency", 20.0)] * 2)
    second, asked = machine.begin("sync"), machine.asked()
    until(lambda: machine.asked() > asked)
    assert told(machine) == ["under way", "killed"]
    second.signal(signal.SIGKILL)
    second.end()


def told(machine: Machine) -> list[str]:
    """What `runs` says became of each run, the newest first."""
    ended = machine.run("runs")
    assert ended.code == 0, ended.err
    head, *lines = ended.out.splitlines()
    place, end = head.index("outcome"), head.index("exit")
    return [line[place:end].strip() for line in lines]

"""Shell completion, and how soon the help stands there."""

import resource

import pytest

from tests.cli.process import Machine


def completed(machine: Machine, shell: str, line: str) -> list[str]:
    """What a shell is told when Tab is pressed at the end of a line."""
    machine.extra |= {
        "_BEAMER_SEGMENT_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": line,
    }
    ended = machine.run()
    assert ended.err == ""
    return ended.out.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("beamer-segment sta", ["status", "state"]),
        ("beamer-segment outbox r", ["retry"]),
        ("beamer-segment sync --max", ["--max-requests"]),
        (
            "beamer-segment sync --stream feature_request_",
            ["feature_request_comments", "feature_request_votes"],
        ),
        ("beamer-segment state reset --stream np", ["nps"]),
        ("beamer-segment status --output js", ["json"]),
    ],
)
def test_bash_completes(machine: Machine, line: str, words: list[str]) -> None:
    assert completed(machine, "bash", line) == words
    assert machine.sandbox.requests == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_too(machine: Machine, shell: str) -> None:
    machine.extra["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    assert "status" in " ".join(completed(machine, shell, "beamer-segment sta"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(machine: Machine, shell: str) -> None:
    machine.extra["_BEAMER_SEGMENT_COMPLETE"] = f"source_{shell}"
    ended = machine.run()
    assert (ended.code, ended.err) == (0, "")
    assert "_BEAMER_SEGMENT_COMPLETE" in ended.out


def test_the_help_stands_there_at_once(machine: Machine) -> None:
    """Processor time, the least of some: other programs keep this machine busy, too."""
    taken = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert machine.run("--help").code == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(taken) < 0.4, taken

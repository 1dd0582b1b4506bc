"""The list of commands, how they are loaded, and that each takes `--output json`."""

import subprocess
import sys

import pytest

from connector.cli.app import COMMANDS, GROUPS
from tests.cli.process import ROOT, Machine
from tests.docs.sections import commands

CONTEXTS = dict(commands())
LISTED = {name: text for heading in COMMANDS.values() for name, text in heading.items()}
HEAVY = {
    "pydantic",
    "sqlalchemy",
    "httpx",
    "rich.console",
    "structlog",
    "connector.config",
    "connector.compose",
}


@pytest.mark.parametrize("text", LISTED.values())
def test_a_short_help_is_one_line(text: str) -> None:
    assert text.endswith(".")
    assert len(text) <= 66  # of 80 columns


def test_groups_are_those_with_commands_of_their_own() -> None:
    """The first two words of the command line are the name of such a command, in JSON, too."""
    assert {path.split()[1] for path in CONTEXTS if len(path.split()) == 3} == {*GROUPS}


@pytest.mark.parametrize(
    "path", [path for path in CONTEXTS if path.split()[-1] not in ("outbox", "db", "state", "config")][1:]
)
def test_every_command_takes_output(path: str) -> None:
    assert any("--output" in parameter.opts for parameter in CONTEXTS[path].command.params)


def test_the_help_loads_no_command() -> None:
    program = "import sys, connector.cli.app as it; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert HEAVY & set(ended.stdout.split()) == set()


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("db upgrade", {"revision_before", "revision", "copy"}),
        ("events", {"properties"}),
        ("events --format jsonschema", {"schemas"}),
        ("events --format tracking-plan", {"tracking_plan"}),
        ("outbox retry --all", {"waiting_again"}),
        ("outbox drop --all --yes", {"dropped"}),
        ("outbox show 1", {"error"}),
        ("outbox drop --all", {"error"}),
        ("init", {"error"}),
        ("schedule --bind nowhere", {"error"}),
    ],
)
def test_json_where_there_was_none(machine: Machine, command: str, keys: set[str]) -> None:
    ended = machine.run(*command.split(), "--output", "json")
    name = " ".join(command.split()[: 2 if command.split()[0] in GROUPS else 1])
    assert ended.json.keys() == {"command", "exit", *keys}
    assert (ended.json["command"], ended.json["exit"]) == (name, ended.code)
    assert len(ended.out.splitlines()) == 1


def test_the_demo_as_json(machine: Machine) -> None:
    ended = machine.run("demo", "--output", "json")
    assert (ended.code, len(ended.out.splitlines())) == (0, 1)
    assert [sync["sync"] for sync in ended.json["syncs"]] == ["first", "26 h later", "at once"]
    assert sum(sync["sent"] for sync in ended.json["syncs"]) == len(ended.json["messages"])

"""The list of commands, how they are loaded, and that each takes `--output json`."""

import re
import subprocess
import sys

import pytest

from connector.cli.app import COMMANDS, COMMANDS_MEANT, GROUPS, OPTIONS_MEANT, app
from connector.cli.exit_codes import UsageError
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


def test_the_first_screen_of_the_help_shows_the_everyday_commands() -> None:
    screen = CONTEXTS["beamer-segment"].get_help().splitlines()[:24]
    for name, text in COMMANDS["Everyday"].items():
        assert f"  {name:8}  {text}" in screen


@pytest.mark.parametrize("path", CONTEXTS)
def test_a_help_shows_whole_sentences(path: str) -> None:
    assert not re.search(r"\w\.\.\.$", CONTEXTS[path].get_help(), re.MULTILINE)


# --- wrong guesses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("sync --since 2024-01-01", "`backfill --since DATE` sends history"),
        ("sync --verbose", "LOG_LEVEL=debug"),
        ("status --json", "--output json"),
        ("sync --dry", "--dry-run"),
        ("sync --stream nps --limit 5", "--max-requests"),
        ("--env-file x.env sync", "put options after the command"),
        ("events --connection x", "No such option: --connection"),
        ("run", "`sync` reads what is new"),
        ("read --config x --catalog y", "`sync` reads what is new"),
        ("discover", "`streams` lists the streams"),
        ("test", "`check` goes through"),
        ("start", "`schedule` syncs repeatedly"),
        ("snyc", "'sync'"),
        ("outbox shwo", "'show'"),
        ("sync --plan pro", "settings are variables"),
        ("runs --limit 3", "`runs --last N`"),
    ],
)
def test_a_wrong_guess_names_what_is_meant(words: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        app(words.split(), prog_name="beamer-segment", standalone_mode=False)
    assert says in caught.value.format_message()


def test_a_guess_names_a_command_and_is_none() -> None:
    meant = [name for text in (*COMMANDS_MEANT, *OPTIONS_MEANT) for name in re.findall("`([a-z]+)", text)]
    assert set(meant) <= set(LISTED)
    assert not set(LISTED) & set(" ".join(COMMANDS_MEANT.values()).split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("quota set-used lots", "Invalid value for 'total': 'lots' is not a whole number."),
        ("runs --last 0", "Invalid value for '--last': '0' is less than 1."),
        ("sync --workers 99", "Invalid value for '--workers': '99' is more than 64."),
        ("sandbox --speed fast", "Invalid value for '--speed': 'fast' is not a number."),
        ("status --output xml", "Invalid value for '--output': 'xml' is not one of 'text', 'json'."),
    ],
)
def test_a_value_is_refused_in_our_words(machine: Machine, words: str, says: str) -> None:
    ended = machine.run(*words.split())
    assert (ended.code, ended.err.splitlines()[-1]) == (2, f"Error: {says}")


# --- how commands are loaded and print ------------------------------------------------------------------


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
    assert ended.json.keys() == {"command", "schema_version", "exit", *keys}
    assert (ended.json["command"], ended.json["exit"]) == (name, ended.code)
    assert len(ended.out.splitlines()) == 1


def test_the_demo_as_json(machine: Machine) -> None:
    ended = machine.run("demo", "--output", "json")
    assert (ended.code, len(ended.out.splitlines())) == (0, 1)
    assert [sync["sync"] for sync in ended.json["syncs"]] == ["first", "26 h later", "at once"]
    assert sum(sync["sent"] for sync in ended.json["syncs"]) == len(ended.json["messages"])

"""`demo`, `sandbox`, and the help."""

import shlex
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest

from connector.cli.demo import called
from tests.cli.process import ROOT, Machine, Running


def test_the_demo_goes_the_whole_way(machine: Machine) -> None:
    since = monotonic()
    ended = machine.run("demo")
    assert (ended.code, ended.err) == (0, "")
    assert monotonic() - since < 60
    assert "requests" in ended.out
    assert "0 of them twice" in ended.out
    assert '"event": "Post Commented"' in ended.out
    assert machine.sandbox.requests == []
    line = ended.out.partition("Next steps:\n")[2].splitlines()[0]
    words = shlex.split(line)
    words = [*words[: words.index("sandbox")], "--version"]
    again = subprocess.run(words, cwd=ROOT, env=machine.environment(), capture_output=True, check=False)
    assert (again.returncode, again.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("started", "on_path", "call"),
    [
        (".venv/bin/beamer-segment", None, ".venv/bin/beamer-segment"),
        ("/a clone/.venv/bin/beamer-segment", None, "'/a clone/.venv/bin/beamer-segment'"),
        (".venv/bin/beamer-segment", "/usr/bin/beamer-segment", "beamer-segment"),
        ("connector/__main__.py", None, f"{shlex.quote(sys.executable)} -m connector"),
    ],
)
def test_the_way_on_can_be_typed(started: str, on_path: str | None, call: str) -> None:
    assert called(started, on_path) == call


def test_the_demo_can_be_interrupted(machine: Machine) -> None:
    running = machine.begin("demo")
    assert running.process.stdout
    assert "on this machine" in running.process.stdout.readline()
    running.signal(signal.SIGINT)
    ended = running.end(10)
    assert (ended.code, "Traceback" in ended.err) == (130, False)


def printed(running: Running) -> dict[str, str]:
    """The environment that a sandbox prints before it serves."""
    found = {}
    assert running.process.stdout
    while (line := running.process.stdout.readline()).startswith("export "):
        name, _, value = shlex.split(line)[1].partition("=")
        found[name] = value
    return found


def test_the_sandbox_has_a_database_of_its_own(machine: Machine) -> None:
    """Its lines may be pasted into a shell whose database holds a real account's state."""
    assert machine.run("sync").code == 0
    held = machine.file.read_bytes()
    received = len(machine.sandbox.segment.received)
    running = machine.begin("sandbox", "--port", "0", "--seed", "3")
    found = printed(running)
    assert next(iter(found)) == "DATABASE_URL"
    before = machine.extra
    machine.extra = {**before, **found, "BEAMER_REQUESTS_PER_SECOND": "25"}
    assert machine.run("sync", "--max-requests", "5").code == 0
    file = Path(found["DATABASE_URL"].removeprefix("sqlite:///"))
    assert file.exists()
    running.signal(signal.SIGTERM)
    assert (running.end(10).code, file.exists()) == (0, False)
    machine.extra = before
    assert machine.file.read_bytes() == held
    assert len(machine.sandbox.segment.received) == received
    assert machine.run("sync").code == 0


@pytest.mark.parametrize("url", ["sqlite:///{0}/real.sqlite", "postgresql://nobody@127.0.0.1:1/none", "none"])
def test_the_demo_has_a_database_of_its_own(machine: Machine, url: str) -> None:
    """Whatever the environment names: a database, keys, a configuration, or what is none of these."""
    machine.extra |= {
        "DATABASE_URL": url.format(machine.here),
        "CONNECTOR_CONFIG": str(machine.here / "none.toml"),
        "BEAMER_REGION": "eu",
    }
    ended = machine.run("demo")
    assert (ended.code, ended.err) == (0, "")
    assert list(machine.here.rglob("*.sqlite")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_sandbox_prints_an_environment_that_works(machine: Machine, number: signal.Signals) -> None:
    running = machine.begin("sandbox", "--port", "0", "--seed", "3")
    machine.extra |= {**printed(running), "BEAMER_REQUESTS_PER_SECOND": "25"}
    ended = machine.run("sync", "--max-requests", "20", "--output", "json")
    assert (ended.code, ended.connection["requests_spent"]) == (0, 20), ended.err
    assert ended.connection["sent"] > 0
    running.signal(number)
    assert (running.end(10).code, machine.sandbox.requests) == (0, [])


def test_a_port_that_is_taken(machine: Machine) -> None:
    port = machine.served.beamer_url.rpartition(":")[2].partition("/")[0]
    ended = machine.run("sandbox", "--port", port)
    assert (ended.code, "--port" in ended.err) == (78, True)
    assert machine.run("sandbox", "--plan", "gold").code == 2


COMMANDS = (
    *("check", "sync", "status", "runs", "outbox list", "outbox show", "outbox retry", "outbox drop"),
    *("db upgrade", "config show", "demo", "sandbox"),
)


@pytest.mark.parametrize("command", ["", *COMMANDS[:2]])
def test_help_is_plain_and_fits(machine: Machine, command: str) -> None:
    machine.extra |= {"COLUMNS": "60"}
    ended = machine.run(*command.split(), "--help")
    assert (ended.code, ended.err) == (0, "")
    assert "\x1b" not in ended.out
    assert max(map(len, ended.out.splitlines())) <= 60


def test_usage_errors_end_with_2(machine: Machine) -> None:
    for words in (["synk"], ["sync", "--al"], ["sync", "--max-requests", "-1"], ["sync", "--output", "xml"]):
        ended = machine.run(*words)
        assert (ended.code, ended.out) == (2, "")
    assert machine.run("sync", "--all", "--connection", "default").code == 2


def test_the_version(machine: Machine) -> None:
    assert machine.run("--version").out.count(".") == 2

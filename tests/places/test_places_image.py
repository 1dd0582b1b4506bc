"""The wheel by itself: from a folder that is read-only, as a user without a home, as process 1."""

import os
import re
import signal
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from connector import __version__
from connector.errors import Exit
from tests.cli.process import Machine, until
from tests.places.dockerfile import ROOT
from tests.places.image import Image

pytestmark = pytest.mark.slow

Settings = dict[str, str]


def test_the_wheel_is_whole_and_needs_no_checkout(image: Image) -> None:
    ended = image.run(["--version"], {})
    assert (ended.code, __version__ in ended.out, ended.err) == (0, True, "")
    where = "import connector, connector.state.schema as s; print(connector.__file__); print(s.HEAD)"
    command = [str(image.programs / "python"), "-I", "-c", where]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout
    assert shown.startswith(str(image.here))
    (wheel,) = (image.here / "wheels").iterdir()
    assert __version__ in wheel.name


def test_the_constraints_are_what_runs_here() -> None:
    """The image installs by constraints.txt; these tests stand in for it only if they run on the same."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if re.match(r"\w", line))
    for name in ("SQLAlchemy", "psycopg", "httpx", "APScheduler", "segment-analytics-python", "typer"):
        assert version(name) == pinned[name]


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="resolved with the oldest Python supported")
def test_the_constraints_pin_what_is_installed_and_no_more() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines if re.match(r"\w", line)}
    needed: set[str] = set()
    waiting = {Requirement("beamer-segment-connector[dev,postgres]")}
    seen: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        needed.add(canonicalize_name(wanted.name))
        extras = ("", *wanted.extras)
        for each in map(Requirement, requires(wanted.name) or ()):
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.add(each)
    assert pinned == needed - {"beamer-segment-connector"}


def test_a_sync_without_a_home_or_a_disk(
    image: Image, machine: Machine, settings: Settings, keys: Settings, postgres_url: str
) -> None:
    environ = {**settings, **keys, "DATABASE_URL": postgres_url}
    assert image.run(["sync"], environ).code == 0
    machine.all_there_once()
    assert image.run(["status"], {"DATABASE_URL": postgres_url}).code == 0


def test_without_a_store_it_says_so_instead_of_forgetting(
    image: Image, machine: Machine, settings: Settings, keys: Settings
) -> None:
    """A user without a home has no place for a SQLite file; nothing is read that could not be kept."""
    ended = image.run(["sync"], {**settings, **keys})
    assert ended.code == Exit.UNREACHABLE
    assert "Set DATABASE_URL to a place that this user may write to." in ended.err
    assert machine.asked() == 0
    in_a_pod = image.run(["sync"], {**settings, **keys, "KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert in_a_pod.code == Exit.CONFIGURATION
    assert "DATABASE_URL" in in_a_pod.err


# --- process 1 ----------------------------------------------------------------------------------------------


def namespace(image: Image) -> list[str]:
    """What makes a process the first of a PID namespace; empty where this machine forbids it."""
    command = ["unshare", "--pid", "--fork", "--kill-child", *([] if os.geteuid() == 0 else ["--user"])]
    program = image.command(["--version"])
    tried = subprocess.run([*command, *program], capture_output=True, check=False)
    return command if tried.returncode == 0 else []


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own: without one, the kernel keeps a signal from process 1."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(mask >> (number - 1) & 1)


def innermost(pid: int) -> int:
    """The last of a line of only children: behind `unshare`, the program itself."""
    parents = {int(stat.parent.name): parent_of(stat) for stat in Path("/proc").glob("[0-9]*/stat")}
    while children := [child for child, parent in parents.items() if parent == pid]:
        (pid,) = children
    return pid


def parent_of(stat: Path) -> int:
    """0 for a process that has just ended. Its own name, in brackets, may hold anything."""
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.mark.parametrize("command", ["sync", "schedule"])
def test_sigterm_ends_process_1_cleanly(
    image: Image, machine: Machine, settings: Settings, keys: Settings, postgres_url: str, command: str
) -> None:
    machine.sandbox.faults.latency = 0.05
    environ = {**settings, **keys, "DATABASE_URL": postgres_url, "CONNECTOR_BIND": "127.0.0.1:0"}
    inside = namespace(image)
    running = image.start([command], environ, inside=inside)
    try:
        until(lambda: machine.asked() >= 1 or running.over)
        assert not running.over, running.end().err
        pid = innermost(running.process.pid)
        assert catches(pid, signal.SIGTERM), running.err
        if inside:
            numbers = re.search(r"^NSpid:(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
            assert numbers is not None
            assert numbers[1].split()[-1] == "1"
        os.kill(pid, signal.SIGTERM)
        ended = running.end(30)
    finally:
        running.kill()
    assert ended.code == (0 if command == "schedule" else Exit.TERMINATED), ended.err
    machine.sandbox.faults.clear()
    assert image.run(["sync"], {**environ}).code == 0
    machine.all_there_once()

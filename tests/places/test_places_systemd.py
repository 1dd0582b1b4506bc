"""The units of config/systemd, read as systemd reads them."""

import shlex
from configparser import RawConfigParser
from pathlib import Path

import pytest

from connector.errors import Exit
from tests.docs.sections import commands
from tests.places.dockerfile import ROOT

UNITS = ROOT / "config" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
PAGE = (ROOT / "docs" / "how-to" / "systemd.md").read_text(encoding="utf-8")


def unit(path: Path) -> RawConfigParser:
    found = RawConfigParser(delimiters=("=",), comment_prefixes=("#",), strict=True)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_runs_a_command_that_exists(path: Path) -> None:
    service = unit(path)["Service"]
    program, command, *words = shlex.split(service["ExecStart"])
    assert program in PAGE
    context = dict(commands())[f"beamer-segment {command}"]
    context.command.make_context(command, [*words], parent=context.parent)
    assert words[-2:] == ["--env-file", "/etc/beamer-segment/beamer-segment.env"]
    assert words[-1] in PAGE


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_may_write_to_its_database_only(path: Path) -> None:
    service = unit(path)["Service"]
    assert service["User"] == service["StateDirectory"] == "beamer-segment"
    assert f"sqlite:////var/lib/{service['StateDirectory']}/" in PAGE
    assert (service["ProtectSystem"], service["ProtectHome"]) == ("strict", "yes")
    assert (service["CapabilityBoundingSet"], service["NoNewPrivileges"]) == ("", "yes")


def test_what_a_restart_does_not_mend_is_not_started_again() -> None:
    daemon = unit(UNITS / "beamer-segment-schedule.service")
    ends = {Exit.USAGE, Exit.REFUSED, Exit.CONFIGURATION}
    assert {*map(int, daemon["Service"]["RestartPreventExitStatus"].split())} == ends
    assert daemon["Unit"]["Conflicts"] == "beamer-segment.timer"
    assert int(unit(UNITS / "beamer-segment.service")["Service"]["SuccessExitStatus"]) == Exit.BUSY


def test_the_timer_starts_the_sync() -> None:
    timer = unit(UNITS / "beamer-segment.timer")
    assert (UNITS / "beamer-segment.service").exists()
    assert timer["Timer"]["Persistent"] == "yes"
    assert timer["Install"]["WantedBy"] == "timers.target"

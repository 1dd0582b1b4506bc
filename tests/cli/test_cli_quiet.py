"""Runs from cron: silence while all is well, one word about what is new, and a dead man's switch."""

import pytest

from tests.cli.conftest import Make
from tests.cli.process import Machine, until
from tests.cli.switch import Switch
from tests.sandbox import Step

# Each of these is a handful of processes.
pytestmark = pytest.mark.slow


def test_nothing_is_said_while_all_is_well_and_what_is_new_once(on_either: Machine) -> None:
    first = on_either.run("sync", "--quiet")
    assert first.code == 0
    # Some of the made-up people have no user id; the summary comes with it.
    assert "excluded" in first.err
    assert "new rows" in first.out
    second = on_either.run("sync", "--quiet")
    assert (second.code, second.out, second.err) == (0, "", "")
    as_json = on_either.run("sync", "--quiet", "--output", "json")
    assert (as_json.code, as_json.out, as_json.err) == (0, "", "")


def test_a_first_row_in_quarantine_is_said_once(make: Make) -> None:
    machine = make()
    assert machine.run("sync", "--quiet").code == 0
    machine.sandbox.world.add("nps", id="", score="7", userId="u")
    said = machine.run("sync", "--quiet")
    assert (said.code, "rows in quarantine: nps 1" in said.err) == (0, True), said
    again = machine.run("sync", "--quiet")
    assert (again.out, again.err) == ("", "")


def test_an_error_is_always_said_with_all_that_led_to_it(machine: Machine) -> None:
    assert machine.run("sync", "--quiet").code == 0
    for _ in range(2):
        machine.sandbox.faults.script("beamer", [401])
        ended = machine.run("sync", "--quiet")
        assert ended.code == 77
        assert "error BS-401" in ended.err
        assert machine.run("check").code == 0


def test_a_lease_that_is_held_is_said_unless_it_may_be_skipped(machine: Machine) -> None:
    machine.sandbox.faults.script("beamer", [("latency", 20.0)])
    first = machine.begin("sync")
    until(lambda: machine.asked() >= 1)
    assert "Another run" in machine.run("sync", "--quiet").err
    skipped = machine.run("sync", "--quiet", "--skip-exit-code", "0")
    assert (skipped.code, skipped.out, skipped.err) == (0, "", "")
    first.process.kill()
    first.end()


def test_a_wrong_setting_is_said(machine: Machine) -> None:
    machine.extra["BEAMER_STAR_DATE"] = "2026-01-01"
    ended = machine.run("sync", "--quiet")
    assert (ended.code, "BEAMER_STAR_DATE is not a setting" in ended.err) == (78, True)


# --- the dead man's switch --------------------------------------------------------------------------------


def test_it_is_called_at_the_end_and_told_of_a_failure(machine: Machine, switch: Switch) -> None:
    assert machine.run("sync", "--ping-url", f"{switch.url}/").code == 0
    assert switch.called == ["/a-check"]
    machine.extra["CONNECTOR_PING_URL"] = switch.url
    machine.extra["CONNECTOR_ALERT_URL"] = f"{switch.url}/alerts?token=secretword"
    machine.sandbox.faults.script("beamer", [401])
    ended = machine.run("sync")
    assert ended.code == 77
    assert switch.called == ["/a-check", "/a-check/alerts?token=secretword", "/a-check/fail"]
    (text,) = switch.texts
    assert text.startswith("beamer-segment: connection 'default' is failing, it was healthy. The last run ")
    shown = ended.out + ended.err + machine.run("config", "show").out
    assert not {word for word in (switch.url, "secretword") if word in shown}
    told = "".join(switch.headers)
    assert machine.sandbox.api_key not in told
    assert machine.sandbox.write_key not in told


def test_a_store_that_is_not_there_is_a_failure(make: Make, switch: Switch) -> None:
    machine = make(database_url="postgresql://nobody@127.0.0.1:1/nothing")
    assert machine.run("sync", "--ping-url", switch.url).code == 69
    assert switch.called == ["/a-check/fail"]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_that_it_fails_changes_nothing(machine: Machine, switch: Switch, status: int) -> None:
    switch.status = status
    ended = machine.run("sync", "--ping-url", switch.url)
    assert ended.code == 0
    assert "ping_failed" in ended.err
    assert switch.called == ["/a-check"]


def test_nobody_there_changes_nothing(machine: Machine) -> None:
    ended = machine.run("sync", "--ping-url", "http://127.0.0.1:1/a-check")
    assert (ended.code, "ping_failed" in ended.err) == (0, True)


def test_a_lease_that_is_held_is_neither(machine: Machine, switch: Switch) -> None:
    steps: list[Step] = [("latency", 20.0)]
    machine.sandbox.faults.script("beamer", steps)
    first = machine.begin("sync")
    until(lambda: machine.asked() >= 1)
    assert machine.run("sync", "--ping-url", switch.url).code == 75
    assert switch.called == []
    first.process.kill()
    first.end()


@pytest.mark.parametrize("url", ["http://example.com/x", "ftp://127.0.0.1/x", "https://u:p@127.0.0.1/", "x"])
def test_an_address_that_would_show_itself_is_refused(machine: Machine, url: str) -> None:
    ended = machine.run("sync", "--ping-url", url)
    assert (ended.code, machine.asked()) == (2, 0)

"""`check`, and the commands that look at what is in the database."""

import json
import sqlite3
import subprocess
import sys

import pytest

from connector.sandbox import Request
from connector.sandbox.segment_api import body_of
from tests.cli.process import ROOT, Machine

# Each of these is a handful of processes.
pytestmark = pytest.mark.slow

LOOKS = [["status"], ["quota"], ["runs"], ["outbox"], ["outbox", "list", "--dead"]]


@pytest.mark.parametrize("words", LOOKS)
def test_looking_before_any_run_makes_nothing_and_needs_no_keys(on_either: Machine, words: list[str]) -> None:
    on_either.extra |= {"BEAMER_API_KEY": "", "SEGMENT_WRITE_KEY": ""}
    assert on_either.run(*words).code == 0
    ended = on_either.run(*words, "--output", "json")
    assert (ended.code, ended.json["exit"], list(on_either.here.iterdir())) == (0, 0, [])


def test_the_shape_of_status(machine: Machine) -> None:
    before = machine.run("status", "--output", "json").connection
    machine.run("sync")
    after = machine.run("status", "--output", "json").connection
    assert before.keys() == after.keys()
    assert set(after) == {
        *("connection", "health", "grade", "why", "todo", "problems"),
        *("account", "destination", "start_date", "limit", "requests_used", "requests_left"),
        *("requests_available", "requests_per_day", "requests_usable", "requests_even"),
        *("requests_since", "requests_until", "requests_again_at"),
        *("lists_never_read", "read_by", "closed_until", "suspended", "excluded", "outbox", "waiting"),
        *("segmented_posts_hidden", "newest_stream", "newest", "newest_delay_seconds", "streams"),
        *("last_run", "last_success", "seconds_between_syncs", "runs", "at_work", "backfills", "hints"),
    }
    assert len(after["streams"]) == 7
    assert after["last_run"]["outcome"] == "done"


LOADED = """
import sys
from connector.cli import main
sys.argv = ["beamer-segment", *sys.argv[1:]]
try:
    main()
finally:
    print(*sorted(sys.modules))
"""


@pytest.mark.parametrize("words", [["status"], ["explain", "1"], ["runs"], ["outbox", "list"]])
def test_looking_loads_nothing_that_only_working_needs(machine: Machine, words: list[str]) -> None:
    """An answer comes within a second; and as nothing is logged, logging is not set up for it."""
    machine.run("sync")
    ended = subprocess.run(
        [sys.executable, "-c", LOADED, *words],
        cwd=ROOT,
        env=machine.environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    loaded = set(ended.stdout.splitlines()[-1].split())
    assert "connector.state.engine" in loaded
    assert not {"structlog", "httpx", "segment", "alembic", "psycopg", "apscheduler"} & loaded


def test_tables_fit_where_they_are_shown(machine: Machine) -> None:
    machine.run("sync")
    wide = machine.run("status").out
    assert "\x1b" not in wide
    (line,) = [line for line in wide.splitlines() if line.startswith("feature_request_comments  ")]
    assert len(line.split()) >= 8
    assert all(line == line.rstrip() for line in wide.splitlines())


def test_an_unknown_connection_is_named(machine: Machine) -> None:
    for words in (["runs"], ["status"], ["outbox", "list"], ["outbox", "drop", "--all", "--yes"]):
        ended = machine.run(*words, "--connection", "defualt")
        assert (ended.code, "default" in ended.err) == (78, True)


# --- dead letters --------------------------------------------------------------------------------------


def refuse(machine: Machine, word: str) -> None:
    """Let Segment refuse every batch with a message of this kind in it."""

    def refused(request: Request) -> bool:
        return request.api == "segment" and word in json.dumps(body_of(request))

    machine.sandbox.faults.on(
        refused, [("answer", 400, '{"success": false, "message": "too large"}', {})] * 500
    )


def test_dead_letters_are_listed_shown_sent_again_and_dropped(machine: Machine) -> None:
    refuse(machine, "Feature Request Submitted")
    ended = machine.run("sync", "--output", "json")
    assert ended.code == 0, ended.err
    count = ended.connection["refused"]
    assert count > 1
    dead = machine.run("outbox", "list", "--dead", "--output", "json").json["messages"]
    assert [each["event"] for each in dead] == ["Feature Request Submitted"] * count
    assert "message" not in dead[0]

    shown = machine.run("outbox", "show", str(dead[0]["id"]))
    message, _ = json.JSONDecoder().raw_decode(shown.out)
    assert message["messageId"] == dead[0]["message_id"]
    assert "400" in shown.out.splitlines()[-1]
    assert machine.run("outbox", "show", dead[0]["message_id"]).out == shown.out

    machine.sandbox.faults.clear()
    assert machine.run("outbox", "drop", dead[0]["message_id"]).code == 1  # nobody said yes
    assert machine.run("outbox", "drop", dead[0]["message_id"], "--yes").out == "1 message deleted.\n"
    assert machine.run("outbox", "retry", "--all").out.startswith(f"{count - 1} message")
    assert machine.run("sync", "--output", "json").connection["sent"] == count - 1
    assert machine.run("outbox").out == "Nothing waits.\n"
    assert machine.run("outbox", "retry", "--all").out == "Nothing was refused.\n"


def test_messages_that_are_not_there(machine: Machine) -> None:
    machine.run("sync", "--max-requests", "0")
    for which in ("7", "9" * 30, "bmr1-none"):
        ended = machine.run("outbox", "show", which)
        assert (ended.code, "may have been sent" in ended.err) == (2, True)
        assert machine.run("outbox", "retry", which).out == "None of them was refused.\n"
    assert machine.run("outbox", "retry").code == machine.run("outbox", "retry", "7", "--all").code == 2


# --- check ---------------------------------------------------------------------------------------------


def spent(machine: Machine) -> int:
    file = machine.file
    with sqlite3.connect(file) as db:
        (found,) = db.execute("SELECT coalesce(sum(requests), 0) FROM beamer_segment_spend").fetchone()
    db.close()
    return int(found)


def test_check_asks_little_and_charges_it(machine: Machine) -> None:
    ended = machine.run("check", "--output", "json")
    assert (ended.code, ended.json["exit"]) == (0, 0), ended.err
    assert "at most 4 requests" in ended.err
    assert machine.asked() == spent(machine) == 3
    assert {each["grade"] for each in ended.json["findings"]} == {"ok"}
    assert machine.run("status", "--output", "json").connection["account"] is None


def test_check_offline_asks_nobody(machine: Machine) -> None:
    assert machine.run("check", "--offline", "--send-test").code == 0
    assert machine.sandbox.requests == []


def test_check_sends_one_test(machine: Machine) -> None:
    ended = machine.run("check", "--send-test")
    assert ended.code == 0, ended.out
    assert [each["event"] for each in machine.sandbox.segment.messages] == ["Beamer Connector Tested"]
    assert "Debugger" in ended.out


TROUBLE = [(["hang_before"], 69, 1), ([401], 77, 1), (["redirect"], 69, 1), ([500], 69, 1), ([404], 78, 1)]


@pytest.mark.parametrize(("steps", "code", "asked"), TROUBLE)
def test_check_ends_at_the_first_sign_of_trouble(
    machine: Machine, steps: list[str | int], code: int, asked: int
) -> None:
    machine.sandbox.faults.hang_seconds = 0.2
    machine.sandbox.faults.script("beamer", [*steps * 9])
    ended = machine.run("check", "--output", "json")
    assert (ended.code, ended.json["exit"]) == (code, code), ended.out
    assert machine.asked() == spent(machine) == asked


def test_check_of_a_key_that_may_read_little(machine: Machine) -> None:
    machine.sandbox.switches.ignore_filters_allowed = False
    machine.sandbox.switches.may_read -= {"nps"}
    ended = machine.run("check", "--output", "json")
    assert (ended.code, machine.asked()) == (0, 4)
    warned = {each["thing"] for each in ended.json["findings"] if each["grade"] == "warning"}
    assert warned == {"posts", "nps"}
    machine.sandbox.switches.may_read.clear()
    assert machine.run("check").code == 77
    assert machine.asked() - 4 <= 5


def test_check_without_budget(machine: Machine) -> None:
    machine.extra |= {
        "BEAMER_MONTHLY_REQUESTS": "2",
        "BEAMER_RESERVE": "0",
        "BEAMER_STARTUP_SHARE": "1",
    }
    ended = machine.run("check", "--output", "json")
    assert (ended.code, machine.asked()) == (0, 2)
    assert "The monthly limit is used up" in ended.out

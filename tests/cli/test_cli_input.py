"""What bad input gets: a clear error, the fitting exit code, and nothing lost."""

import json
import subprocess
import sys
from pathlib import Path
from socket import create_server

import pytest
from sqlalchemy import text

from connector.state.engine import open_database
from tests.cli.conftest import Make
from tests.cli.process import ROOT, Machine

WRONG = [
    ({"BEAMER_STRAEMS": "nps"}, 78, "BEAMER_STREAMS"),
    ({"BEAMER_REGION": "eu"}, 78, "SEGMENT_REGION"),
    ({"BEAMER_MONTHLY_LIMIT": "1000"}, 78, "BEAMER_MONTHLY_REQUESTS"),
    ({"SEGMENT_EU": "true"}, 78, "SEGMENT_REGION=eu"),
    ({"BEAMER_SINCE": "2026-01-01"}, 78, "BEAMER_START_DATE"),
    ({"BEAMER_START_DATE": "next tuesday"}, 78, "BEAMER_START_DATE"),
    ({"BEAMER_STREAMS": "posts,coments"}, 78, "comments"),
    ({"BEAMER_BASE_URL": "http://beamer.example/v0"}, 78, "https"),
    ({"SEGMENT_HOST": "http://segment.example"}, 78, "https"),
    ({"SEGMENT_WRITE_KEY": ""}, 78, "SEGMENT_WRITE_KEY"),
    ({"BEAMER_API_KEY_FILE": "/nowhere/key"}, 78, "BEAMER_API_KEY"),
    ({"DATABASE_URL": "mysql://user:pass-word@127.0.0.1/x"}, 78, "PostgreSQL"),
    ({"DATABASE_URL": "nonsense pass-word"}, 78, "DATABASE_URL"),
    ({"DATABASE_URL": "postgresql+asyncpg://user:pass-word@127.0.0.1/x"}, 78, "PostgreSQL"),
    ({"DATABASE_URL": "postgresql://user:pass-word@127.0.0.1:1/x?schema=public"}, 78, "search_path"),
    ({"DATABASE_URL": "postgres://user:pass-word@127.0.0.1:1/x?pgbouncer=true"}, 78, "DATABASE_URL"),
    ({"DATABASE_URL": "postgresql://user:pass-word@127.0.0.1:1/x?ssl=true"}, 78, "sslmode"),
    ({"DATABASE_URL": "postgresql://user:pass-word@127.0.0.1:1/x"}, 69, "refused"),
    ({"DATABASE_URL": "sqlite:///relative.sqlite"}, 78, "absolute"),
    ({"XDG_STATE_HOME": "/proc/nowhere"}, 69, "/proc/nowhere"),
    ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, 78, "--new-store"),
    ({"AIRFLOW_CTX_DAG_ID": "dag"}, 78, "--new-store"),
]


@pytest.mark.parametrize(("extra", "code", "named"), WRONG)
def test_a_wrong_setting(make: Make, extra: dict[str, str], code: int, named: str) -> None:
    machine = make(extra=extra)
    ended = machine.run("sync", "--output", "json")
    assert (ended.code, ended.json["exit"], machine.asked()) == (code, code, 0), ended.err
    assert named in ended.err
    assert named in ended.json["error"]["what"] + ended.err
    assert "pass-word" not in ended.out + ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["explain", "4711"], "explain"),
        (["state", "export", "x.state"], "state export"),
        (["quota", "set-used", "20"], "quota set-used"),
        (["quota"], "quota"),
    ],
)
def test_an_error_as_json_names_the_command_alone_and_what_to_do(
    make: Make, words: list[str], name: str
) -> None:
    ended = make(extra={"BEAMER_STRAEMS": "nps"}).run(*words, "--output", "json")
    assert (ended.code, ended.json["command"]) == (78, name)
    assert "BEAMER_STREAMS" in ended.json["error"]["todo"]


@pytest.mark.parametrize(
    ("words", "name", "named"),
    [
        (["sync", "--nonsense"], "sync", "No such option"),
        (["sync", "--max-requests", "many"], "sync", "--max-requests"),
        (["sync", "--all", "--connection", "default"], "sync", "cannot be combined"),
        (["sync", "more"], "sync", "more"),
        (["backfill"], "backfill", "--since"),
        (["quota", "set-used"], "quota set-used", "total"),
        (["nonsense"], "nonsense", "No such command"),
        (["state", "nonsense"], "state nonsense", "No such command"),
    ],
)
def test_a_wrong_command_line_as_json(machine: Machine, words: list[str], name: str, named: str) -> None:
    ended = machine.run(*words, "--output", "json")
    assert (ended.code, ended.json["exit"], ended.json["command"]) == (2, 2, name), ended.err
    assert ended.json["error"]["code"] == "BS-002"
    assert named in ended.json["error"]["what"]
    assert named in ended.err
    assert "Usage: beamer-segment" in ended.err


def test_a_question_that_nobody_answers_as_json(machine: Machine) -> None:
    assert machine.run("sync", "--stream", "nps").code == 0
    for words in (["forget", "--user-id", "4711"], ["state", "reset", "--stream", "nps"]):
        ended = machine.run(*words, "--output", "json")
        assert (ended.code, ended.json["exit"]) == (1, 1), ended.err


def test_a_misspelt_key_in_a_file(machine: Machine) -> None:
    file = machine.here / "connector.toml"
    file.write_text('log_levle = "debug"\n')
    ended = machine.run("sync", "--config", str(file))
    assert (ended.code, machine.asked()) == (78, 0)
    assert "log_level" in ended.err


def test_a_start_date_in_the_future_is_fixed_by_nothing_and_does_no_harm_later(machine: Machine) -> None:
    file = machine.here / "connector.toml"
    file.write_text(
        f'start_date = 2040-01-01\nbase_url = "{machine.environment()["BEAMER_BASE_URL"]}"\n'
        '[[connections]]\nname = "default"\n'
        'api_key_env = "BEAMER_API_KEY"\nwrite_key_env = "SEGMENT_WRITE_KEY"\n'
    )
    right, machine.extra["BEAMER_START_DATE"] = machine.start.isoformat(), ""
    of_toml = ("--config", str(file))
    for words in (["check", "--offline"], ["sync", "--dry-run"], ["sync"]):
        ended = machine.run(*words, *of_toml, "--output", "json")
        assert (ended.code, machine.asked()) == (78, 0), (words, ended.err)
        assert "2040-01-01 is in the future" in ended.out + ended.err
    machine.extra["BEAMER_START_DATE"] = right
    assert machine.run("sync", "--max-requests", "0").code == 0
    machine.extra["BEAMER_START_DATE"] = "2040-01-01"
    assert machine.run("sync", "--max-requests", "0").code == 0
    assert machine.run("check", "--offline").code == 0


@pytest.mark.slow
def test_a_store_in_a_pod_when_it_is_asked_for(make: Make) -> None:
    machine = make(extra={"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert "never run\n  Run `beamer-segment sync`." in machine.run("status").out
    for words in (["db", "upgrade"], ["audit"]):
        ended = machine.run(*words)
        # Not every command has the option.
        assert (ended.code, "`beamer-segment sync --new-store`" in ended.err) == (78, True), ended.err
    assert machine.run("sync", "--new-store", "--max-requests", "0").code == 0
    assert machine.run("sync", "--max-requests", "0").code == 0


def test_a_database_that_nobody_serves(make: Make) -> None:
    with create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    machine = make(database_url=f"postgresql://me:pass-word@127.0.0.1:{port}/x")
    for words in (["sync"], ["sync", "--dry-run"], ["status"], ["db", "upgrade"]):
        ended = machine.run(*words)
        assert (ended.code, machine.asked()) == (69, 0), ended.err
        assert "pass-word" not in ended.out + ended.err


def test_neighbours_that_nobody_serves(make: Make) -> None:
    with create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    machine = make(extra={"BEAMER_BASE_URL": f"{url}/v0", "SEGMENT_HOST": url})
    ended = machine.run("check", "--send-test", "--output", "json")
    assert ended.code == 69, ended.err
    wrong = [found["todo"] for found in ended.json["findings"] if found["grade"] == "error"]
    assert [todo.rpartition(" ")[2] for todo in wrong] == ["BEAMER_BASE_URL.", "SEGMENT_HOST."]
    assert all("network" in todo for todo in wrong)


def test_a_driver_that_is_not_installed(make: Make, tmp_path: Path) -> None:
    machine = make(database_url="postgresql://me:pass-word@127.0.0.1/x")
    (tmp_path / "psycopg.py").write_text("raise ModuleNotFoundError")
    machine.extra["PYTHONPATH"] = str(tmp_path)
    for words in (["sync"], ["status"]):
        ended = machine.run(*words)
        assert ended.code == 78
        assert "The driver for PostgreSQL is not installed." in ended.err
        assert "[postgres]" in ended.err
        assert "DATABASE_URL" not in ended.err


@pytest.mark.slow
def test_a_store_of_a_later_version(on_either: Machine) -> None:
    assert on_either.run("db", "upgrade").code == 0
    assert "nothing to upgrade" in on_either.run("db", "upgrade").out
    database = open_database(str(on_either.database_url))
    with database.write() as db:
        db.execute(text("UPDATE beamer_segment_alembic_version SET version_num = '9999'"))
    database.close()
    asks = (["sync"], ["sync", "--dry-run"], ["status"], ["outbox", "list"], ["db", "upgrade"])
    for words in asks:
        ended = on_either.run(*words)
        assert (ended.code, on_either.asked()) == (78, 0), (words, ended.err)
        assert "9999" in ended.err


def test_a_store_that_is_none(make: Make) -> None:
    machine = make()
    file = machine.file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"This is no database, but it is long enough to be taken for one. " * 40)
    before = file.read_bytes()
    for words in (["sync"], ["sync", "--dry-run"], ["status"], ["check", "--offline"]):
        ended = machine.run(*words)
        assert ended.code in (69, 78), ended.err
        assert "Traceback" not in ended.err
    assert file.read_bytes() == before


@pytest.mark.slow
def test_names_with_signs_in_the_path_of_the_store(make: Make, tmp_path: Path) -> None:
    machine = make(extra={"XDG_STATE_HOME": str(tmp_path / "ü 50%?#")})
    assert machine.run("sync", "--max-requests", "1").code == 0
    known = machine.run("sync", "--dry-run", "--output", "json")
    assert known.code == 0
    machine.extra["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
    assert machine.run("sync", "--max-requests", "0").code == 0


# --- keys and permissions ------------------------------------------------------------------------------


def test_a_refused_key_ends_it_at_once(make: Make) -> None:
    machine = make(extra={"BEAMER_API_KEY": "another-key", "BEAMER_REQUESTS_PER_SECOND": "1"})
    ended = machine.run("sync", "--output", "json")
    assert (ended.code, ended.json["exit"]) == (77, 77)
    assert machine.asked() <= 2  # one more may have been under way
    assert "BEAMER_API_KEY" in ended.out + ended.err


def test_a_forbidden_stream_leaves_the_others_alone(machine: Machine) -> None:
    machine.sandbox.switches.may_read -= {"nps", "feature_request_votes"}
    ended = machine.run("sync", "--output", "json")
    assert ended.code == 0
    assert set(ended.connection["forbidden"]) == {"nps", "feature_request_votes"}
    assert ended.connection["rows_new"]["comments"] > 0
    assert "(403)" in machine.run("status").out


@pytest.mark.parametrize("step", ["redirect", ("answer", 400, '{"success": false}', {})])
def test_segment_taking_nothing_leaves_everything_waiting(machine: Machine, step: object) -> None:
    machine.sandbox.faults.script("segment", [step] * 400)  # type: ignore[list-item]
    ended = machine.run("sync", "--output", "json")
    assert (ended.code, machine.sandbox.segment.messages) == (69, []), ended.err
    waiting = ended.connection["waiting"]
    assert waiting == sum(ended.connection["events"].values()) > 0
    machine.sandbox.faults.clear()
    assert machine.run("sync", "--output", "json").connection["sent"] == waiting
    machine.all_there_once()


def test_a_redirecting_beamer_is_not_followed(machine: Machine) -> None:
    machine.sandbox.faults.script("beamer", ["redirect"] * 9)
    ended = machine.run("sync")
    assert ended.code == 69
    assert not any(seen.path.startswith("/elsewhere") for seen in machine.sandbox.requests)


# --- several connections -------------------------------------------------------------------------------


def test_one_that_fails_leaves_the_others_alone(make: Make) -> None:
    machine = make(extra={"BAD": "another-key", "KEY": "sandbox-key", "WRITE": "sandbox-write-key"})
    table = '[[connections]]\nname = "{0}"\napi_key_env = "{1}"\nwrite_key_env = "WRITE"\nplan = "pro"\n'
    (machine.here / "two.toml").write_text(table.format("bad", "BAD") + table.format("good", "KEY"))
    machine.extra |= {"BEAMER_API_KEY": "", "SEGMENT_WRITE_KEY": ""}
    ended = machine.run("sync", "--all", "--config", str(machine.here / "two.toml"), "--output", "json")
    assert ended.code == 77, ended.err
    assert [each["exit"] for each in ended.json["connections"]] == [77, 0]
    assert machine.sandbox.segment.messages
    chosen = machine.run("sync", "--config", str(machine.here / "two.toml"))
    assert (chosen.code, "--connection" in chosen.err) == (78, True)


def test_quarantine_matters_to_the_strict(machine: Machine) -> None:
    body = '[{"id": "5f5f5f5f5f5f5f5f5f5f5f5f", "date": "no date", "score": 9}]'
    machine.sandbox.faults.on(lambda request: request.path.endswith("/nps"), [("answer", 200, body, {})] * 2)
    ended = machine.run("sync", "--strict", "--stream", "nps", "--output", "json")
    assert (ended.code, ended.json["exit"]) == (65, 65), ended.out + ended.err


def test_no_budget_may_skip(make: Make) -> None:
    spent_at_once = {"BEAMER_MONTHLY_REQUESTS": "5", "BEAMER_RESERVE": "0", "BEAMER_STARTUP_SHARE": "1"}
    machine = make(extra=spent_at_once)
    assert machine.run("sync", "--skip-exit-code", "99").code == 0
    again = machine.run("sync", "--output", "json", "--skip-exit-code", "99")
    assert (again.code, again.json["exit"], again.connection["stopped"]) == (
        99,
        99,
        ("The monthly limit is used up."),
    )
    assert machine.run("sync").code == 0
    assert machine.asked() == 5


# --- outputs -------------------------------------------------------------------------------------------


def through_a_shell(machine: Machine, words: str) -> subprocess.CompletedProcess[str]:
    line = ["sh", "-c", f'exec "$0" -m connector {words}', sys.executable]
    return subprocess.run(
        line, cwd=ROOT, env=machine.environment(), capture_output=True, check=False, text=True
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_output_is_none(machine: Machine, closed: str) -> None:
    ended = through_a_shell(machine, f"sync {closed}")
    assert (ended.returncode, ended.stderr) == (0, "")
    machine.all_there_once()


def test_a_full_disk_behind_the_log_stops_nothing(make: Make) -> None:
    machine = make(extra={"LOG_LEVEL": "debug"})
    ended = through_a_shell(machine, "sync --output json 2>/dev/full")
    assert (ended.returncode, json.loads(ended.stdout)["exit"]) == (0, 0)
    machine.all_there_once()
    machine.extra["BEAMER_STRAEMS"] = "nps"
    assert through_a_shell(machine, "sync 2>/dev/full").returncode == 78


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_the_data_is_said_once_the_work_is_done(make: Make, unbuffered: str) -> None:
    machine = make(extra={"PYTHONUNBUFFERED": unbuffered})
    for words in ("sync", "sync --output json", "events", "config show", "--version"):
        ended = through_a_shell(machine, f"{words} >/dev/full")
        assert ended.returncode == 1
        assert "BS-074: Standard output could not be written: No space left on device." in ended.stderr
        assert "BS-001" not in ended.stderr
    machine.all_there_once()
    # What is new is said once; then there is nothing that could be lost.
    assert [through_a_shell(machine, "sync --quiet >/dev/full").returncode for _ in range(2)] == [1, 0]
    machine.extra["BEAMER_STRAEMS"] = "nps"
    assert through_a_shell(machine, "sync --output json >/dev/full").returncode == 78

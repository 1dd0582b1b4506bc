"""`state`: moved to another database without loss or double, or a stream reset."""

import json
import stat
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connector.state import leases
from connector.state.engine import open_database
from connector.state.leases import this_process
from tests.cli.conftest import Make
from tests.cli.process import Machine, made_up

# Each of these is a handful of processes.
pytestmark = pytest.mark.slow


@pytest.fixture
def unlimited(make: Make, sqlite_url: str) -> Machine:
    return make(made_up(), database_url=sqlite_url, extra={"BEAMER_PLAN": "pro"})


def test_a_store_moves_to_postgresql_and_back(
    unlimited: Machine, postgres_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    there, back = tmp_path / "there.state", tmp_path / "back.state"
    unlimited.run("sync", "--no-deliver")
    unlimited.run("backfill", "--since", "2020-01-01", "--max-requests", "9", "--yes")
    unlimited.run("forget", "--user-id", "u-nobody")
    told = unlimited.run("state", "export", str(there))
    assert told.code == 0, told.err
    assert "seen ids" in told.out
    assert stat.S_IMODE(there.stat().st_mode) == 0o600
    unlimited.database_url = postgres_url
    moved = unlimited.run("state", "import", str(there), "--output", "json")
    assert moved.code == 0, moved.err
    exported = json.loads(there.read_text().splitlines()[-1])["rows"]
    assert moved.json["rows"] == exported
    assert unlimited.run("state", "import", str(there)).code == 78
    # And from there into a third one: nothing is lost on the way.
    assert unlimited.run("state", "export", str(back)).code == 0
    assert json.loads(back.read_text().splitlines()[-1])["rows"] == exported
    # The next sync goes on where the first one stood, and the backfill as well.
    spent = unlimited.asked()
    assert unlimited.run("sync").code == 0
    assert unlimited.asked() - spent < 15
    while not (
        unlimited.run("backfill", "--since", "2020-01-01", "--yes", "--output", "json").connection["backfill"]
    )["finished_at"]:
        pass
    unlimited.all_there_once()
    assert not unlimited.sandbox.segment.duplicates


@pytest.mark.parametrize("harm", ["cut", "changed", "longer", "other", "empty", "not there"])
def test_a_damaged_file_is_refused(unlimited: Machine, postgres_url: str, tmp_path: Path, harm: str) -> None:
    file = tmp_path / "x.state"
    unlimited.run("sync")
    unlimited.run("state", "export", str(file))
    lines = file.read_text().splitlines(keepends=True)
    bad = {
        "cut": lines[:-1],
        "changed": [lines[0], lines[1].replace("acct", "else").replace("default", "defoult"), *lines[2:]],
        "longer": [*lines, lines[2]],
        "other": ['{"some": "json"}\n'],
        "empty": [],
        "not there": None,
    }[harm]
    if bad is None:
        file.unlink()
    else:
        file.write_text("".join(bad))
    unlimited.database_url = postgres_url
    ended = unlimited.run("state", "import", str(file))
    assert ended.code == 78
    assert ended.err.splitlines()[-2] == "  Nothing was imported.", "what to do comes behind it"
    assert "never run" in unlimited.run("status").out


def test_a_file_that_is_there_is_not_overwritten(unlimited: Machine, tmp_path: Path) -> None:
    unlimited.run("sync")
    file = tmp_path / "x.state"
    file.write_text("precious")
    ended = unlimited.run("state", "export", str(file))
    assert (ended.code, file.read_text()) == (78, "precious")
    assert "Name a file that does not exist yet" in ended.err


def test_nobody_works_on_it_meanwhile(unlimited: Machine, sqlite_url: str, tmp_path: Path) -> None:
    unlimited.run("sync")
    database = open_database(sqlite_url)
    leases.acquire(database, "default", this_process(), datetime.now(UTC))
    ended = unlimited.run("state", "export", str(tmp_path / "x.state"))
    assert ended.code == 75
    assert unlimited.run("state", "reset", "--stream", "nps", "--yes").code == 75
    database.close()


def test_a_reset_stream_is_sent_again(unlimited: Machine) -> None:
    unlimited.run("sync")
    before = Counter(message["event"] for message in unlimited.sandbox.segment.received)
    dry = unlimited.run("state", "reset", "--stream", "nps", "--dry-run")
    assert dry.code == 0
    assert f"up to {before['NPS Response Sent']:,} events would be sent again" in dry.out
    assert unlimited.run("sync", "--output", "json").connection["sent"] == 0
    unasked = unlimited.run("state", "reset", "--stream", "nps", "--output", "json")  # nobody can be asked
    assert (unasked.code, unasked.json["exit"], "Continue?" in unasked.err) == (1, 1, True)
    assert (unasked.json["error"]["code"], "--yes" in unasked.json["error"]["todo"]) == ("BS-003", True)
    in_words = unlimited.run("state", "reset", "--stream", "nps").err.splitlines()
    assert in_words[1] == "error BS-003: The question was not answered with yes."
    assert "--yes" in in_words[-1]
    done = unlimited.run("state", "reset", "--stream", "nps", "--yes", "--output", "json")
    assert done.json["events"] == before["NPS Response Sent"]
    assert unlimited.run("sync", "--output", "json").connection["events"] == {
        "nps": before["NPS Response Sent"]
    }
    # Under the same ids: Segment has dropped them.
    unlimited.all_there_once()


def test_rows_of_a_reset_stream_are_counted_once(make: Make, database_url: str) -> None:
    machine = make(database_url=database_url, extra={"BEAMER_TEAM_COMMENTS": "false"})
    for number in range(3):
        machine.sandbox.world.add("nps", score="7", userId=None if number else "u-1")
    machine.sandbox.world.add("nps", id="", score="7", userId="u")

    def counts() -> dict[str, dict[str, int]]:
        found = machine.run("status", "--output", "json").connection
        held[0] = found["excluded"]
        return {each["stream"]: {**each["counts"], **each["quarantined"]} for each in found["streams"]}

    held: list[dict[str, int]] = [{}]
    machine.run("sync")
    before, held_before = counts(), held[0]
    assert held_before["no_user"] >= 2
    for stream in ("nps", "comments", "nps"):
        machine.run("state", "reset", "--stream", stream, "--yes")
        now = counts()
        assert set(now[stream]) & {"rows", "events", "no_user", "team"} == set()
        assert now[stream]["sent"] == before[stream]["sent"], "what was sent has been sent"
        again = machine.run("sync", "--output", "json").connection["events"][stream]
        before[stream]["sent"] += again
        assert (counts(), held[0]) == (before, held_before)


def test_what_cannot_be_reset(unlimited: Machine) -> None:
    for words in (("reset", "--stream", "nps", "--yes"), ("export", "x.state")):
        ended = unlimited.run("state", *words)
        assert (ended.code, "DATABASE_URL" in ended.err.splitlines()[-1]) == (78, True), words
    unlimited.run("sync")
    ended = unlimited.run("state", "reset", "--stream", "nbs")
    assert (ended.code, "never read the stream 'nbs'" in ended.err) == (78, True)
    assert "beamer-segment status" in ended.err
    assert "Continue?" not in ended.out + ended.err

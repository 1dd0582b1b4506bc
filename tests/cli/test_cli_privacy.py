"""What the connector leaves behind of the people whose words passed through it."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.config import STREAMS
from connector.sandbox import Company
from connector.state import leases
from connector.state.leases import BACKFILL, SYNC, this_process
from tests.cli.conftest import Make
from tests.cli.process import Machine, made_up
from tests.harness import expected
from tests.sandbox import Sandbox

PERSONAL = re.compile(r"(?i)user(id|email|firstname|lastname|custom)|^(text|feedback|title|content|notes)$")
EVERYTHING = {
    "BEAMER_ANONYMOUS": "send",
    "BEAMER_TRAITS": "all",
    "BEAMER_TRAIT_ATTRIBUTES": "organization",
    "BEAMER_REF_URL": "full",
    "BEAMER_TEAM_COMMENTS": "true",
    "BEAMER_METRICS": "true",
    "BEAMER_SYNC_EVENT": "true",
    "BEAMER_IDENTIFY": "true",
    "LOG_LEVEL": "debug",
}
# Shorter ones may stand in a file of numbers by chance.
TELLING = 6


def personal(value: Any, key: str = "") -> Iterator[str]:
    """Every address, name, user id and text in a row of Beamer's."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from personal(inner, key if PERSONAL.search(key) else name)
    elif isinstance(value, list):
        for inner in value:
            yield from personal(inner, key)
    elif PERSONAL.search(key) and isinstance(value, str) and value.strip():
        yield value


def words_of(sandbox: Sandbox) -> set[str]:
    rows = [row for stream in STREAMS for row in sandbox.world.rows(stream)]
    return {word for row in rows for word in personal(row.fields)} - {"undefined"}


def spellings(word: str) -> set[bytes]:
    """A word as any part of the connector may write it."""
    escaped = json.dumps(word)[1:-1]
    return {word.encode(), escaped.encode(), json.dumps(escaped)[1:-1].encode(), word.encode("utf-16-le")}


def texts_in(file: Path) -> str:
    """Every text that the tables hold."""
    with closing(sqlite3.connect(file)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [row for table in tables for row in db.execute(f"SELECT * FROM {table}")]  # noqa: S608
    return "\n".join(str(value) for row in rows for value in row if isinstance(value, str))


def found(words: set[str], folder: Path, logs: str) -> set[str]:
    """Those of the words that are anywhere in the database's files or in what was printed."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert any(file.name == "state.sqlite" for file in files)
    raw = b"\n".join(file.read_bytes() for file in files) + logs.encode()
    held = texts_in(next(file for file in files if file.name == "state.sqlite")) + logs
    return {
        word
        for word in words
        if (len(word.encode()) >= TELLING and any(each in raw for each in spellings(word)))
        or re.search(rf"(?<![\w.]){re.escape(word)}(?![\w.])", held)
    }


def day(machine: Machine, *options: str) -> str:
    """Two syncs with a day between them, and every look at the database; all that was printed."""
    said = []
    for words in (["sync", *options], ["sync", *options], ["status"], ["runs"], ["outbox", "list"]):
        ended = machine.run(*words)
        assert ended.code == 0, ended.err
        said.append(ended.out + ended.err)
        machine.sandbox.advance(timedelta(hours=26))
    return "\n".join(said)


@pytest.mark.slow
def test_nothing_of_anybody_is_left_when_everything_is_delivered(make: Make) -> None:
    machine = make(made_up(Company(), plan="scale"), extra=EVERYTHING)
    logs = day(machine)
    words = words_of(machine.sandbox)
    assert len(words) > 500
    assert len(machine.sandbox.segment.messages) > 900
    assert {message["type"] for message in machine.sandbox.segment.messages} == {"track", "identify"}
    assert found(words, machine.here / "state", logs) == set()


@pytest.mark.slow
def test_what_waits_is_found_by_the_same_search(make: Make) -> None:
    machine = make(extra=EVERYTHING)
    logs = day(machine, "--no-deliver")
    words = words_of(machine.sandbox)
    assert len(found(words, machine.here / "state", "")) > 0.3 * len(words)
    assert found(words, machine.here / "state", logs) == found(words, machine.here / "state", "")


# --- forgetting ----------------------------------------------------------------------------------------


def test_forgetting_a_person(on_either: Machine) -> None:
    world = on_either.sandbox.world
    jane = {"userId": "jane-4711", "userEmail": "jane@person.example", "text": "Jane's own words"}
    post = world.add("posts")
    world.add("comments", post, **jane)
    world.add("comments", post, **jane | {"userId": "jane-47110", "text": "Somebody else's"})
    on_either.run("sync", "--no-deliver")

    assert on_either.run("forget", "--user-id", "jane-4711").code == 1  # nobody said yes
    ended = on_either.run("forget", "--user-id", " jane-4711 ", "--yes", "--output", "json")
    assert (ended.code, ended.connection["waiting_deleted"]) == (0, 1), ended.err
    assert "4711" not in ended.out + ended.err
    again = on_either.run("forget", "--user-id", "jane-4711", "--yes", "--connection", "default")
    assert again.out.startswith("default: deleted 0 waiting")
    assert "Segment " in again.out
    assert "Beamer " in again.out

    on_either.sandbox.advance(timedelta(hours=1))
    world.add("comments", post, **jane | {"text": "More of Jane's words"})
    ended = on_either.run("sync", "--output", "json")
    assert ended.connection["excluded"]["forgotten"] == 1
    sent = json.dumps(on_either.sandbox.segment.messages)
    assert "Jane's" not in sent
    assert "jane-47110" in sent


def test_a_person_can_be_forgotten_before_the_first_sync(machine: Machine) -> None:
    # Of a row that would be sent: the world has others, and which come first changes with the day.
    user = next(iter(expected(machine.sandbox, machine.start, ["nps"]).values())).fields["userId"]
    assert machine.run("forget", "--user-id", user, "--yes").code == 0
    ended = machine.run("sync", "--output", "json")
    assert ended.connection["excluded"]["forgotten"] > 0
    assert user not in {message["userId"] for message in machine.sandbox.segment.messages}


@pytest.mark.parametrize("work", [SYNC, BACKFILL])
def test_nobody_is_forgotten_while_a_run_that_does_not_know_of_it_may_bring_them(
    machine: Machine, work: str
) -> None:
    machine.run("sync")
    database = machine.database()
    leases.acquire(database, "default", this_process(), datetime.now(UTC), work)
    database.close()
    ended = machine.run("forget", "--user-id", "jane-4711", "--yes")
    assert (ended.code, "is running for connection" in ended.err) == (75, True), ended.err


@pytest.mark.parametrize("user", ["", "  ", "undefined", "0"])
def test_nobody_cannot_be_forgotten(machine: Machine, user: str) -> None:
    assert machine.run("forget", "--user-id", user, "--yes").code == 2
    assert list(machine.here.iterdir()) == []


# --- the catalogue -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["table", "markdown", "jsonschema", "tracking-plan"])
def test_the_catalogue_is_printed_without_any_setting(machine: Machine, form: str) -> None:
    machine.extra |= {"BEAMER_API_KEY": "", "SEGMENT_WRITE_KEY": ""}
    ended = machine.run("events", "--format", form)
    assert (ended.code, ended.err) == (0, "")
    assert "Beamer Sync Completed" in ended.out
    if form in ("jsonschema", "tracking-plan"):
        json.loads(ended.out)
    assert list(machine.here.iterdir()) == []

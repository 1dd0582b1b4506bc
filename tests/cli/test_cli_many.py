"""Many accounts in one place: side by side, each for itself, a refused key out of everybody's way."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import update

from connector.domain.budget import Limits
from connector.state import runs
from connector.state.engine import open_database
from connector.state.ledger import Ledger
from connector.state.tables import refusals
from tests.cli.accounts import accounts, key
from tests.cli.conftest import Make
from tests.cli.process import Machine

# Each of these is a handful of processes.
pytestmark = pytest.mark.slow

NAMES = ("a", "b", "c")


def exits(machine: Machine, *words: str) -> dict[str, int]:
    ended = machine.run("sync", "--all", "--output", "json", *words)
    return {each["connection"]: each["exit"] for each in ended.json["connections"]}


def test_one_failing_account_leaves_the_others_alone(make: Make) -> None:
    machine = accounts(make, NAMES)
    machine.extra["KEY_b"] = "of-somebody-else"
    ended = machine.run("sync", "--all")
    assert ended.code == 77
    assert "error BS-401: b: " in ended.err
    assert "Compare KEY_b with the key in Beamer" in ended.err
    for line in ("a: ", "c: "):
        assert f"\n{line}" in f"\n{ended.out}"
    assert "of-somebody-else" not in ended.out + ended.err


def test_a_refused_key_suspends_its_connection_until_it_changes(make: Make, database_url: str) -> None:
    machine = accounts(make, NAMES, database_url=database_url)
    machine.extra["KEY_b"] = "of-somebody-else"
    assert exits(machine) == {"a": 0, "b": 77, "c": 0}
    refused = [each.status for each in machine.sandbox.requests].count(401)
    again = machine.run("sync", "--connection", "b", "--output", "json")
    assert (again.code, again.connection["error"]["code"]) == (77, "BS-401")
    assert "Replace the Beamer key" in again.connection["error"]["todo"]
    assert "suspended since" in again.err
    assert "Nothing was read or sent" in again.err
    assert [each.status for each in machine.sandbox.requests].count(401) == refused

    shown = machine.run("status", "--output", "json").json["connections"]
    assert [each["connection"] for each in shown if each["suspended"]] == ["b"]
    assert "suspended since" in machine.run("status").out

    machine.extra["KEY_b"] = key("b")
    assert exits(machine) == {"a": 0, "b": 0, "c": 0}
    shown = machine.run("status", "--output", "json").json["connections"]
    assert [each["suspended"] for each in shown] == [None] * 3


@pytest.mark.parametrize(
    ("words", "has_all"),
    [
        (("sync",), True),
        (("audit", "--dry-run"), True),
        (("check",), False),
        (("backfill", "--since", "2024-01-01"), False),
        (("quota", "set-used", "1"), False),
        (("state", "export", "x.state"), False),
    ],
)
def test_one_of_several_has_to_be_chosen(make: Make, words: tuple[str, ...], has_all: bool) -> None:
    ended = accounts(make, NAMES).run(*words)
    assert (ended.code, "--connection NAME" in ended.err, "--all" in ended.err) == (78, True, has_all)


def test_a_refused_key_is_named_by_where_it_stands(make: Make) -> None:
    machine = accounts(make, NAMES)
    file = machine.here / "write key"
    file.write_text(machine.sandbox.write_key)
    table = Path(machine.extra["CONNECTOR_CONFIG"])
    table.write_text(table.read_text().replace('write_key_env = "WRITE"', f'write_key_file = "{file}"', 1))
    machine.sandbox.faults.script("segment", [401] * 2)
    tested = machine.run("check", "--connection", "a", "--send-test")
    assert (tested.code, f"Compare {file} with the source's settings" in tested.out) == (77, True), tested
    sent = machine.run("sync", "--connection", "a")
    assert (sent.code, f"Compare {file} with the source's settings" in sent.err) == (77, True), sent
    machine.extra["KEY_b"] = "of-somebody-else"
    examined = machine.run("check", "--connection", "b")
    assert (examined.code, "Compare KEY_b with" in examined.out) == (77, True), examined


def test_check_lifts_a_suspension_that_was_a_mistake(machine: Machine) -> None:
    right = machine.extra["BEAMER_API_KEY"] = machine.sandbox.api_key
    machine.sandbox.api_key = "rotated-too-early"
    assert machine.run("sync").code == 77
    assert machine.run("check").code == 77
    machine.sandbox.api_key = right
    asked = machine.asked()
    assert machine.run("sync").code == 77
    assert machine.asked() == asked
    assert "is suspended since" in machine.run("check", "--offline").out
    assert machine.run("sync").code == 77
    checked = machine.run("check")
    assert checked.code == 0
    assert "syncs continue" in checked.out
    assert machine.run("sync").code == 0
    machine.all_there_once()


def rested(machine: Machine) -> None:
    """A day goes by, as far as the suspension can tell."""
    database = machine.database()
    with database.write() as db:
        db.execute(update(refusals).values(tried_at=datetime.now(UTC) - timedelta(days=1, minutes=1)))
    database.close()


def test_a_suspension_tries_itself_again_with_one_request(machine: Machine) -> None:
    right, machine.sandbox.api_key = machine.sandbox.api_key, "rotated-too-early"
    machine.extra["BEAMER_API_KEY"] = right
    assert machine.run("sync").code == 77
    for _ in range(2):
        rested(machine)
        asked = machine.asked()
        again = machine.run("sync")
        assert (again.code, machine.asked() - asked) == (77, 1)
        assert "tried again with one request" in again.err
        assert machine.run("sync").code == 77
        assert machine.asked() - asked == 1
    machine.sandbox.api_key = right
    rested(machine)
    assert machine.run("sync").code == 0
    machine.all_there_once()
    assert machine.run("status", "--output", "json").connection["suspended"] is None


def test_a_suspended_write_key_is_tried_with_what_waits(machine: Machine) -> None:
    machine.sandbox.faults.script("segment", [401] * 2)
    assert machine.run("sync").code == 77
    rested(machine)
    asked = machine.asked()
    assert machine.run("sync").code == 77
    assert machine.asked() == asked
    rested(machine)
    assert [machine.run("sync").code for _ in range(2)] == [0, 0]
    machine.all_there_once()


def test_a_key_that_was_never_tried_is_not_called_healthy(machine: Machine) -> None:
    """Rotated by mistake while no request is left of the month."""
    assert machine.run("sync").code == 0
    machine.extra |= {"BEAMER_PLAN": "free", "BEAMER_PERIOD_DAY": "1"}
    assert machine.run("quota", "set-used", "5000").code == 0
    assert "not tried" not in machine.run("sync").out
    machine.extra["BEAMER_API_KEY"] = "of-somebody-else"
    synced = machine.run("sync")
    assert (synced.code, "Beamer key was never used" in synced.out) == (0, True), synced
    shown = machine.run("status", "--output", "json").connection
    assert {each["word"] for each in shown["problems"]} & {"partial", "unconfirmed", "mismatched"}
    assert shown["health"] != "healthy"


def test_a_refused_write_key_suspends_too(machine: Machine) -> None:
    machine.sandbox.faults.script("segment", [401])
    assert machine.run("sync").code == 77
    asked = machine.asked("segment")
    assert machine.run("sync").code == 77
    assert machine.run("check").code == 0
    assert machine.run("sync").code == 77
    assert machine.asked("segment") == asked
    assert machine.run("check", "--send-test").code == 0
    assert machine.run("sync").code == 0


def test_one_key_has_one_account(make: Make, database_url: str) -> None:
    """A quota that two accounts count apart would be spent twice."""
    machine = accounts(make, ("a", "b"), database_url=database_url)
    machine.extra["KEY_b"] = machine.extra["KEY_a"]
    for name in ("a", "b"):
        ended = machine.run("sync", "--connection", name)
        assert (ended.code, "BS-083" in ended.err, machine.asked()) == (78, True, 0), ended
    machine.extra["KEY_b"] = key("b")
    assert machine.run("sync", "--all").code == 0
    asked = machine.asked()
    machine.extra["KEY_b"] = machine.extra["KEY_a"]
    for words in ("sync", "check", ("state", "accept-keys")):
        ended = machine.run(*([words] if isinstance(words, str) else words), "--connection", "b")
        assert ended.code == 78, ended
        for part in ("account of connection 'b' is 'of.b'", "same Beamer key for account 'of.a'"):
            assert part in ended.out + ended.err
    assert machine.asked() == asked
    assert machine.run("sync", "--connection", "a").code == 0
    machine.extra["KEY_b"] = key("b")
    assert machine.run("sync", "--connection", "b").code == 0


def test_check_says_that_a_connection_with_another_name_begins_anew(make: Make) -> None:
    """Who moved from environment variables into a file under a name of their own sent everything twice."""
    machine = accounts(make, ("a",))
    assert machine.run("sync").code == 0

    def warned() -> str:
        found = machine.run("check", "--offline", "--output", "json").json["findings"]
        return " ".join(each["found"] + each["todo"] for each in found if each["thing"] == "name")

    assert warned() == ""
    file = machine.here / "connector.toml"
    file.write_text(file.read_text().replace('name = "a"', 'name = "b"'))
    for word in ("'a' has sent", "sync of 'b' sends all of them again", "Name it 'a'"):
        assert word in warned()


def test_shards_share_all_connections_out(make: Make) -> None:
    machine = accounts(make, NAMES)
    shared: list[str] = []
    for index in range(3):
        ended = machine.run("sync", "--shard", f"{index}/3", "--max-requests", "0", "--output", "json")
        assert ended.code == 0, ended.err
        shared += [each["connection"] for each in ended.json["connections"]]
    assert sorted(shared) == list(NAMES)
    for wrong in ("3/3", "x", "1/0", "-1/2"):
        assert machine.run("sync", "--shard", wrong).code == 2
    assert machine.run("sync", "--shard", "0/3", "--connection", "a").code == 2


@pytest.mark.slow
def test_twenty_processes_at_once_on_one_postgresql(make: Make, postgres_url: str) -> None:
    limit = 150
    above = f'monthly_requests = {limit}\nreserve = 0\nstartup_share = "100%"\n'
    names = [f"c{number}" for number in range(5)]
    machine = accounts(make, names, above=above, account="acme", database_url=postgres_url)
    # The tables are made by one of them; all others wait for it.
    begun = [machine.begin("sync", "--connection", name) for name in names * 4]
    codes = [each.end(180).code for each in begun]
    assert set(codes) <= {0, 75}
    assert codes.count(0) >= len(names)
    assert machine.asked() == limit
    database = open_database(postgres_url)
    now = machine.sandbox.now()
    assert Ledger(database, "acme", "c0", Limits(limit, 0, 1000, None, 1.0)).balance(now).used == limit
    for name in names:
        spans: list[tuple[datetime, datetime]] = sorted(
            (run["started_at"], run["finished_at"]) for run in runs.recent(database, name, 100)
        )
        assert spans
        assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans)), name
    database.close()


def test_each_log_line_says_whose_it_is(make: Make) -> None:
    """Runs side by side: a line of one never carries the other's name, number or requests."""
    machine = accounts(make, NAMES)
    machine.extra["LOG_LEVEL"] = "debug"
    ended = machine.run("sync", "--all", "--output", "json")
    numbers = {each["connection"]: each["run"] for each in ended.json["connections"]}
    lines = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
    assert {line["connection"] for line in lines} == set(NAMES)
    for line in lines:
        assert line["run"] == numbers[line["connection"]], line
    for name in NAMES:
        counts = [line["requests"] for line in lines if line["connection"] == name and "requests" in line]
        plain = [count for count in counts if isinstance(count, int)]
        assert plain == sorted(plain)
        assert plain[-1] > 10

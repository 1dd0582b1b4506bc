"""Five things go wrong at once, and somebody who has never seen the database names each of them."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from connector.state.leases import this_process
from connector.state.tables import leases, outbox, streams
from tests.cli.process import Machine, until

# Each of these is a handful of processes.
pytestmark = pytest.mark.slow

# What is planted, and the words that name it: in one `status`, and in one `check`.
PLANTED = {
    "refused key": ("suspended", "Beamer does not accept the API key"),
    "stuck outbox": ("stuck", "for Segment, waiting since"),
    "exhausted quota": ("The monthly limit is used up", "no request is left"),
    "distrusted counters": ("reactions: counters are untrusted",),
    "forbidden stream": ("nps is forbidden", "the key may not read it (403)"),
}
TODO = {
    "refused key": "Replace the Beamer key",
    "stuck outbox": "`beamer-segment check --send-test`",
    "exhausted quota": "BEAMER_MONTHLY_REQUESTS",
    "distrusted counters": "Nothing: rows appeared that the counters had not shown",
    "forbidden stream": "Give the key the permission in Beamer",
}


def change(machine: Machine, *statements: object) -> None:
    database = machine.database()
    with database.write() as db:
        for statement in statements:
            db.execute(statement)  # type: ignore[call-overload]
    database.close()


def two_hours_pass(machine: Machine) -> None:
    """For what waits: runs at real times cannot make it older."""
    change(machine, update(outbox).values(made_at=datetime.now(UTC) - timedelta(hours=2)))


def plant(machine: Machine) -> None:
    """All five, by real runs as far as a run can bring them about within seconds."""
    machine.extra |= {"BEAMER_MONTHLY_REQUESTS": "300", "BEAMER_RESERVE": "0", "BEAMER_STARTUP_SHARE": "1"}
    machine.sandbox.switches.may_read -= {"nps"}
    machine.sandbox.faults.script("segment", [500] * 50)
    assert machine.run("sync").code == 69
    two_hours_pass(machine)
    change(machine, update(streams).where(streams.c.name == "reactions").values(distrusted=True))
    machine.extra["BEAMER_API_KEY"] = machine.sandbox.api_key
    machine.sandbox.api_key = "rotated-in-the-dashboard"
    # A key that worked is suspended at the second run that it is refused in.
    assert [machine.run("sync").code for _ in range(2)] == [77, 77]
    assert machine.run("quota", "set-used", "300").code == 0


def test_five_planted_problems_are_named_by_one_status_and_by_one_check(on_either: Machine) -> None:
    machine = on_either
    plant(machine)
    asked = machine.asked()
    seen, examined = machine.run("status"), machine.run("check")
    assert (seen.code, machine.asked()) == (0, asked), (
        "to look costs nothing, and nothing is left to ask with"
    )
    for problem, words in PLANTED.items():
        for word in words:
            assert word in seen.out, (problem, seen.out)
            assert word in examined.out, (problem, examined.out)
    for problem, todo in TODO.items():
        assert todo in examined.out, (problem, examined.out)
    # The worst of them in one word, at the top.
    assert seen.out.splitlines()[0] == "Connection 'default': SUSPENDED"
    assert TODO["refused key"] in seen.out
    assert "beamer-segment check" in seen.out

    found = machine.run("status", "--output", "json").connection
    assert (found["health"], found["grade"]) == ("suspended", "error")
    ranked = [each["word"] for each in found["problems"]]
    assert ranked == ["suspended", "stuck", "exhausted", "partial", "doubtful"]
    assert all(each["todo"] for each in found["problems"])


def test_a_healthy_one_says_so_and_nothing_else(machine: Machine) -> None:
    machine.run("sync")
    seen, examined = machine.run("status"), machine.run("check", "--offline", "--output", "json")
    assert seen.out.splitlines()[0] == "Connection 'default': healthy"
    assert "!" not in seen.out
    assert {each["grade"] for each in examined.json["findings"]} == {"ok"}
    assert "healthy" in examined.out


def test_what_is_put_right_is_no_problem_any_more(machine: Machine) -> None:
    machine.sandbox.faults.script("segment", [500] * 50)
    assert machine.run("sync").code == 69
    two_hours_pass(machine)
    assert machine.run("status", "--output", "json").connection["health"] == "stuck"
    machine.sandbox.faults.clear()
    assert machine.run("sync").code == 0
    assert machine.run("status", "--output", "json").connection["health"] == "healthy"


def test_messages_of_a_source_that_was_replaced(machine: Machine) -> None:
    assert machine.run("sync", "--no-deliver").code == 0
    machine.extra["SEGMENT_DESTINATION"] = "another"
    assert machine.run("sync").code == 0
    found = machine.run("status", "--output", "json").connection
    assert found["health"] == "stuck"
    (left,) = found["waiting"]
    assert left["destination"] in found["why"]
    assert f"SEGMENT_DESTINATION={left['destination']}" in found["todo"]


def test_a_row_in_quarantine_and_an_unfinished_backfill_are_no_worry(machine: Machine) -> None:
    machine.sandbox.world.add("nps", id="", score="7", userId="u")
    assert machine.run("sync").code == 0
    assert machine.run("backfill", "--since", "2020-01-01", "--yes", "--max-requests", "1").code == 0
    told = machine.run("check", "--offline", "--output", "json").json["findings"]
    found = {each["thing"]: each for each in told}
    assert found["quarantine"]["found"].startswith("In quarantine: 1 invalid row (")
    assert "The backfill since 2020-01-01 is not finished" in found["backfill"]["found"]
    assert "`beamer-segment backfill --since 2020-01-01`" in found["backfill"]["todo"]
    assert {each["grade"] for each in told} == {"ok"}
    seen = machine.run("status").out
    assert "Connection 'default': healthy" in seen
    assert found["backfill"]["found"] in seen


def test_dead_letters(machine: Machine) -> None:
    assert machine.run("sync", "--no-deliver").code == 0
    change(machine, update(outbox).values(state="dead", answered_at=datetime.now(UTC)))
    found = machine.run("status", "--output", "json").connection
    assert (found["health"], "Segment refused" in found["why"]) == ("partial", True)
    assert "outbox list --dead" in machine.run("check", "--offline").out


@pytest.mark.parametrize(
    ("place", "mode", "named"),
    [
        ("", 0o600, False),
        ("", 0o644, False),
        ("", 0o660, True),
        ("", 0o666, True),
        ("..", 0o700, False),
        ("..", 0o775, True),
        ("..", 0o777, True),
        ("..", 0o1777, True),
        ("../..", 0o777, True),
        ("../..", 0o1777, False),
    ],
)
def test_a_file_or_folder_that_others_may_write_is_named(
    machine: Machine, place: str, mode: int, named: bool
) -> None:
    assert machine.run("sync", "--max-requests", "0").code == 0
    path = (machine.file / place).resolve()
    path.chmod(mode)
    ended = machine.run("check", "--offline", "--output", "json")
    found = [each for each in ended.json["findings"] if "Other users may write to" in each["found"]]
    assert ended.code == 0
    assert [each["grade"] for each in found] == ["warning"] * named
    if named:
        assert f"write to {path}:" in found[0]["found"]
        assert f"chmod go-w {path}" in found[0]["todo"]


def test_who_holds_the_lease(machine: Machine) -> None:
    machine.sandbox.faults.script("beamer", [("latency", 20.0)])
    running = machine.begin("sync")
    until(lambda: machine.asked() >= 1)
    during = machine.run("status", "--output", "json").connection
    assert [(each["work"], each["dead"]) for each in during["at_work"]] == [("sync", False)]
    examined = machine.run("check", "--offline").out
    assert f"A sync is running (process {running.process.pid} on" in examined
    assert "> under way" in machine.run("status").out
    running.process.kill()
    running.end()
    assert "left its lease." in machine.run("check", "--offline").out
    after = machine.run("status")
    assert "x killed" in after.out
    assert machine.run("sync").code == 0
    assert machine.run("status", "--output", "json").connection["at_work"] == []


def test_a_lease_of_another_machine_counts_as_held(machine: Machine) -> None:
    assert machine.run("sync").code == 0
    far = {"host": "elsewhere", "machine": "m" * 32, "boot": "b" * 36, "pid": 4711, "started": "99"}
    change(machine, update(leases).values(expires_at=datetime.now(UTC) + timedelta(seconds=50), **far))
    assert "A sync is running (process 4711 on elsewhere)" in machine.run("check", "--offline").out
    assert this_process().host != "elsewhere"


def test_what_costs_more_at_segment_is_named(machine: Machine) -> None:
    things = ("user ids", "trait attributes")
    machine.extra["BEAMER_TRAIT_ATTRIBUTES"] = 'plan, team/size, a.b, "quoted'
    for number in range(3):
        machine.sandbox.world.add("nps", userId=f"somebody{number}@example.com", score="9")
    found = {each["thing"]: each for each in machine.run("check", "--output", "json").json["findings"]}
    assert {found[thing]["grade"] for thing in things} == {"warning"}
    assert "look like e-mail addresses" in found["user ids"]["found"]
    assert "example.com" not in found["user ids"]["found"]
    assert 'team/size, a.b, "quoted' in found["trait attributes"]["found"]


def test_usual_user_ids_and_attributes_are_not_named(machine: Machine) -> None:
    machine.extra["BEAMER_TRAIT_ATTRIBUTES"] = "plan, team_size"
    machine.sandbox.world.add("nps", userId="u-1", score="9")
    found = {each["thing"] for each in machine.run("check", "--output", "json").json["findings"]}
    assert not found & {"user ids", "trait attributes"}

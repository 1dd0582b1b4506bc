"""Both DAGs in a real Airflow, against a Beamer and a Segment on loopback, with PostgreSQL."""

import json

from tests.airflow.place import Airflow, Driver, named
from tests.cli.process import Machine

SYNC, BACKFILL = "beamer_segment_sync", "beamer_segment_backfill"
Settings = dict[str, str]
SUCCESS, FAILED, SKIPPED = "success", "failed", "skipped"


def of_two(settings: Settings, machine: Machine) -> Settings:
    """Two connections, north and south, with a key each."""
    machine.sandbox.more_keys.add("beamer-key-of-south")
    keys = {"KEY_north": settings["BEAMER_API_KEY"], "KEY_south": "beamer-key-of-south"}
    several = {**named(("north", "south"), machine.here), **keys, "WRITE_KEY": settings["SEGMENT_WRITE_KEY"]}
    return {
        name: text
        for name, text in (settings | several).items()
        if name not in ("BEAMER_API_KEY", "SEGMENT_WRITE_KEY")
    }


def test_both_are_parsed_without_an_error(driver: Driver) -> None:
    assert driver.parsed == {"errors": {}, "dags": [BACKFILL, SYNC]}


def test_dags_test_syncs_each_connection_by_a_task_of_its_own(
    airflow: Airflow, machine: Machine, settings: Settings
) -> None:
    """What the README says: `airflow dags test beamer_segment_sync`."""
    said = airflow.run("dags", "test", SYNC, settings=of_two(settings, machine))
    run = airflow.newest(SYNC)
    assert airflow.tasks(run) == {
        "connections": (SUCCESS, 1),
        "sync north": (SUCCESS, 1),
        "sync south": (SUCCESS, 1),
    }
    names, north, south = airflow.summaries(run)
    assert names == ["north", "south"]
    assert (north["connection"], south["connection"]) == ("north", "south")
    assert north["sent"] > 0
    # Which of two mapped tasks runs first is Airflow's affair.
    updated = {uri: extra["sent"] for uri, extra in airflow.updated()[-2:]}
    assert updated == {"x-beamer-segment://north": north["sent"], "x-beamer-segment://south": south["sent"]}
    kept = said + airflow.everything_kept()
    assert "x-beamer-segment://south" in kept
    for secret in ("BEAMER_API_KEY", "SEGMENT_WRITE_KEY", "DATABASE_URL"):
        assert settings[secret] not in kept, secret


def test_dags_test_brings_history(airflow: Airflow, machine: Machine, settings: Settings) -> None:
    asked = {"since": "2024-01-01", "integrations": {"All": False, "Amplitude": True}, "max_requests": 500}
    airflow.run("dags", "test", BACKFILL, "--conf", json.dumps(asked), settings=settings)
    run = airflow.newest(BACKFILL)
    assert airflow.tasks(run) == {"backfill": (SUCCESS, 1)}
    (summary,) = airflow.summaries(run)
    assert summary["backfill"]["finished_at"]
    assert summary["backfill"]["since"].startswith("2024-01-01")
    history = [
        each for each in machine.sandbox.segment.messages if each["timestamp"] < machine.start.isoformat()
    ]
    assert history
    assert all(each["integrations"] == {"All": False, "Amplitude": True} for each in history)


def test_a_refused_key_fails_without_a_retry_and_leaves_the_others_alone(
    airflow: Airflow, driver: Driver, machine: Machine, settings: Settings
) -> None:
    run, state = driver.run(SYNC, of_two(settings, machine) | {"KEY_south": "no-longer-good"})
    assert state == FAILED
    assert airflow.tasks(run) == {
        "connections": (SUCCESS, 1),
        "sync north": (SUCCESS, 1),
        "sync south": (FAILED, 1),
    }
    assert "exit code 77: BS-401" in driver.log
    assert "no-longer-good" not in driver.log


def test_a_spent_budget_is_a_skip(
    airflow: Airflow, driver: Driver, machine: Machine, settings: Settings
) -> None:
    settings |= {"BEAMER_MONTHLY_REQUESTS": "3", "BEAMER_RESERVE": "0", "BEAMER_STARTUP_SHARE": "100%"}
    run, _ = driver.run(SYNC, settings)
    assert airflow.tasks(run)["sync default"] == (SUCCESS, 1)
    before = len(airflow.updated())
    run, state = driver.run(SYNC, settings)
    assert airflow.tasks(run)["sync default"] == (SKIPPED, 1)
    assert state == SUCCESS
    assert machine.asked() == 3
    assert len(airflow.updated()) == before, "what sent nothing updates nothing"


def test_what_cannot_be_reached_is_tried_again(
    airflow: Airflow, driver: Driver, machine: Machine, settings: Settings
) -> None:
    # So often a run tries to deliver.
    machine.sandbox.faults.script("segment", [500] * 4)
    run, state = driver.run(SYNC, settings)
    assert state == SUCCESS
    assert airflow.tasks(run) == {"connections": (SUCCESS, 1), "sync default": (SUCCESS, 2)}
    assert "exit code 69: BS-069" in driver.log
    machine.all_there_once()


def test_without_a_postgresql_store_it_says_so_at_once(
    airflow: Airflow, driver: Driver, machine: Machine, settings: Settings
) -> None:
    """It knows that it is in an Airflow task, and makes no file that would be gone at the next run."""
    del settings["DATABASE_URL"]
    run, state = driver.run(SYNC, settings)
    assert (state, airflow.tasks(run)["sync default"]) == (FAILED, (FAILED, 1))
    assert "exit code 78: BS-078" in driver.log
    assert "an Airflow task" in driver.log
    assert machine.asked() == 0


def test_a_backfill_that_was_not_told_enough_fails_at_once(
    airflow: Airflow, driver: Driver, machine: Machine, settings: Settings
) -> None:
    run, state = driver.run(BACKFILL, settings, {"since": "2024-01-01", "share": "50%"})
    assert (state, airflow.tasks(run)) == (FAILED, {"backfill": (FAILED, 1)})
    assert "exit code 2: BS-064 There is no terminal to ask for confirmation." in driver.log
    assert machine.asked("segment") == 0


def test_a_backfill_may_only_estimate(
    airflow: Airflow, driver: Driver, machine: Machine, settings: Settings
) -> None:
    run, state = driver.run(BACKFILL, settings, {"since": "2024-01-01", "dry_run": True})
    assert (state, airflow.tasks(run)) == (SUCCESS, {"backfill": (SUCCESS, 1)})
    (summary,) = airflow.summaries(run)
    assert summary["estimate"]["requests"] >= 0
    assert machine.asked("segment") == 0


def test_a_task_that_is_stopped_ends_its_run_cleanly(
    airflow: Airflow, machine: Machine, settings: Settings
) -> None:
    machine.sandbox.faults.latency = 0.1
    assert airflow.stopped(settings, lambda: machine.asked() > 0) == "exit code 143: stopped by a signal"
    machine.sandbox.faults.clear()


def test_nothing_but_this_machine_was_contacted(airflow: Airflow, driver: Driver) -> None:
    """Every run above went by the guard, which does guard."""
    assert "GUARD:" not in driver.log
    assert airflow.guarded("import socket; socket.getaddrinfo('example.com', 443)").returncode == 99
    assert airflow.guarded("import socket; socket.getaddrinfo('127.0.0.1', 443)").returncode == 0

"""A run that is suspended past its lease, and one whose owner died: fenced, and taken over."""

import signal
from dataclasses import asdict
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from connector.sandbox import Api
from connector.state import leases
from connector.state.leases import WHOLE_MACHINE, Owner
from connector.state.tables import leases as table
from tests.cli.process import Machine, until

ELSEWHERE = Owner("elsewhere", "m" * 32, "b" * 36, WHOLE_MACHINE, 4711, "99")


def expire(machine: Machine) -> None:
    """A minute goes by, as far as the lease can tell."""
    database = machine.database()
    with database.write() as db:
        db.execute(update(table).values(expires_at=datetime.now(UTC)))
    database.close()


@pytest.mark.slow
@pytest.mark.parametrize("api", ["beamer", "segment"])
def test_a_run_that_was_suspended_past_its_lease_cannot_write(on_either: Machine, api: Api) -> None:
    machine = on_either
    # While it waits for an answer: asleep within a transaction, it would keep SQLite's lock.
    machine.sandbox.faults.script(api, [("latency", 2.0)])
    sleeper = machine.begin("sync", "--output", "json")
    until(lambda: machine.asked(api) >= 1)
    sleeper.signal(signal.SIGSTOP)
    expire(machine)
    successor = machine.run("sync", "--output", "json")
    assert successor.code == 0, successor.err
    machine.all_there_once()
    sent, received = successor.connection["sent"], len(machine.sandbox.segment.received)
    sleeper.signal(signal.SIGCONT)
    ended = sleeper.end()
    assert (ended.code, ended.json["exit"]) == (75, 75), ended.err
    assert "took over this run's lease" in ended.err
    # A batch on its way when it fell asleep may arrive, under the messageIds that the successor sent.
    assert len(machine.sandbox.segment.received) - received <= (100 if api == "segment" else 0)
    machine.all_there_once()
    assert sent > 0
    assert machine.run("sync", "--output", "json").connection["sent"] == 0


@pytest.mark.slow
def test_a_hung_run_does_not_keep_its_lease(on_either: Machine) -> None:
    """Only progress renews it: a run that waits for an answer for ever is as good as dead."""
    machine = on_either
    machine.sandbox.faults.script("beamer", ["hang"])
    hung = machine.begin("sync", "--output", "json")
    until(lambda: machine.asked() >= 1)
    expire(machine)
    successor = machine.run("sync", "--output", "json")
    assert successor.code == 0, successor.err
    machine.all_there_once()
    hung.signal(signal.SIGTERM)
    # It was asked to stop, and could not have written anything any more.
    assert hung.end().code in (75, 143)
    assert machine.run("sync", "--output", "json").connection["sent"] == 0


def test_another_host_is_waited_for_until_its_lease_ends(on_either: Machine) -> None:
    machine = on_either
    assert machine.run("sync", "--max-requests", "2").code == 0
    database = machine.database()
    with database.write() as db:
        until_then = datetime.now(UTC) + leases.LASTS
        db.execute(update(table).values(expires_at=until_then, **asdict(ELSEWHERE)))
    database.close()
    turned_away = machine.run("sync", "--output", "json")
    assert turned_away.code == 75
    assert "process 4711 on elsewhere" in turned_away.err
    expire(machine)
    assert machine.run("sync", "--output", "json").code == 0
    machine.all_there_once()

"""Leases: one run at a time, whoever died and however clocks run."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update

from connector.errors import Busy, DatabaseUnreachable
from connector.state import leases
from connector.state.engine import Database
from connector.state.leases import LASTS, SKEW, WHOLE_MACHINE, Lease, Owner, is_dead, this_process
from connector.state.tables import leases as table
from tests.state.racers import race, take_and_leave, take_lease
from tests.state.times import DAY, NOW, SECOND

ME = this_process()
# One that may live for all that can be seen from here.
ELSEWHERE = Owner("elsewhere", "m" * 32, "b" * 36, WHOLE_MACHINE, 4711, "99")


def held(database: Database, lease: Lease, after: timedelta = SECOND) -> None:
    with database.write() as db:
        leases.check_lease(db, lease, NOW + after)


@pytest.mark.parametrize(
    ("after", "free"),
    [
        (timedelta(0), False),
        (LASTS - SECOND, False),
        (LASTS, True),
        (DAY, True),
        # A clock a little behind is no reason; one set back by far is.
        (-SECOND, False),
        (-SKEW, False),
        (-SKEW - SECOND, True),
        (-400 * DAY, True),
    ],
)
def test_when_a_lease_is_free(database: Database, after: timedelta, free: bool) -> None:
    first = leases.acquire(database, "default", ELSEWHERE, NOW)
    if free:
        assert leases.acquire(database, "default", ME, NOW + after).token > first.token
        return
    with pytest.raises(Busy, match=r"process 4711 on elsewhere"):
        leases.acquire(database, "default", ME, NOW + after)


def test_a_lease_lasts_as_long_as_its_run_wants(database: Database) -> None:
    lease = leases.acquire(database, "default", ELSEWHERE, NOW, lasts=2 * SECOND)
    held(database, lease, SECOND)
    with pytest.raises(Busy):
        leases.acquire(database, "default", ME, NOW + 2 * SECOND)
    assert leases.acquire(database, "default", ME, NOW + 3 * SECOND).token > lease.token


def test_progress_renews_a_lease(database: Database) -> None:
    lease = leases.acquire(database, "default", ELSEWHERE, NOW)
    held(database, lease, LASTS - SECOND)
    with pytest.raises(Busy):
        leases.acquire(database, "default", ME, NOW + LASTS + SECOND)


def test_what_is_taken_back_renews_nothing(database: Database) -> None:
    lease = leases.acquire(database, "default", ELSEWHERE, NOW)
    with suppress(RuntimeError), database.write() as db:
        leases.check_lease(db, lease, NOW + DAY)
        raise RuntimeError
    leases.acquire(database, "default", ME, NOW + LASTS)


def test_a_run_that_lost_its_lease_writes_nothing(database: Database) -> None:
    old = leases.acquire(database, "default", ELSEWHERE, NOW)
    new = leases.acquire(database, "default", ME, NOW + LASTS)
    with pytest.raises(Busy):
        held(database, old, LASTS + SECOND)
    leases.release(database, old, NOW + LASTS + SECOND)
    held(database, new, LASTS + SECOND)


@pytest.mark.parametrize("writes", [1, 2, 5])
def test_a_run_whose_database_has_lost_its_last_writes_writes_nothing(
    database: Database, writes: int
) -> None:
    """As after a failover to a replica that was behind."""
    lease = leases.acquire(database, "default", ELSEWHERE, NOW)
    held(database, lease)
    with database.write() as db:
        before = db.execute(select(table)).mappings().one()
    for _ in range(writes):
        held(database, lease, SECOND)
    with database.write() as db:
        db.execute(update(table).values(**before))
    with pytest.raises(DatabaseUnreachable, match="has lost what this run stored last"):
        held(database, lease, 5 * SECOND)
    with database.write() as db:
        db.execute(delete(table))
    with pytest.raises(DatabaseUnreachable):
        held(database, lease, 5 * SECOND)


def test_writes_of_two_threads_are_not_taken_for_lost_ones(database: Database) -> None:
    """On PostgreSQL the delivery's transactions and those of the pages overlap."""
    lease = leases.acquire(database, "default", ELSEWHERE, NOW)

    def write(thread: int) -> None:
        for number in range(60):
            with suppress(RuntimeError), database.write() as db:
                leases.check_lease(db, lease, NOW + number * SECOND)
                if (number + thread) % 5 == 0:
                    raise RuntimeError

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    held(database, lease, 60 * SECOND)


def test_what_was_taken_back_is_not_missed(database: Database) -> None:
    lease = leases.acquire(database, "default", ELSEWHERE, NOW)
    for number in range(3):
        with suppress(RuntimeError), database.write() as db:
            leases.check_lease(db, lease, NOW + number * SECOND)
            raise RuntimeError
        with database.together():
            with suppress(RuntimeError), database.write() as db:
                leases.check_lease(db, lease, NOW + number * SECOND)
                raise RuntimeError
            if number:
                held(database, lease, number * SECOND)
    held(database, lease, 5 * SECOND)


def test_a_lease_given_back_is_good_for_nothing(database: Database) -> None:
    first = leases.acquire(database, "default", ELSEWHERE, NOW)
    leases.release(database, first, NOW)
    with pytest.raises(Busy):
        held(database, first)
    # Free at once, also by a clock that is behind.
    second = leases.acquire(database, "default", ELSEWHERE, NOW - timedelta(minutes=30))
    assert second.token > first.token


def test_connections_do_not_get_in_each_other_s_way(database: Database) -> None:
    assert leases.acquire(database, "one", ELSEWHERE, NOW).token == 1
    assert leases.acquire(database, "two", ELSEWHERE, NOW).token == 1


# --- who is dead --------------------------------------------------------------------------------------


@pytest.fixture
def gone() -> int:
    """The pid of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


MACHINE = replace(ME, machine="m", space=WHOLE_MACHINE)


@pytest.mark.parametrize(
    ("owner", "me", "dead"),
    [
        (ME, ME, False),
        (replace(ME, started="1"), ME, True),  # its pid was given to another process
        (replace(MACHINE, boot="another"), MACHINE, True),
        (replace(MACHINE, boot="another", machine="other"), MACHINE, False),
        (replace(ME, boot="another", machine=""), replace(ME, machine=""), False),
        (replace(ME, started="1", space="pid:[1]"), ME, False),  # another container's pid
        (replace(ME, started="1", boot="", space=""), replace(ME, boot="", space=""), False),
        (ELSEWHERE, ME, False),
        (replace(ME, pid=1, started="1"), ME, True),
        (replace(ME, pid=2**40), ME, True),
    ],
)
def test_who_is_dead_for_certain(owner: Owner, me: Owner, dead: bool) -> None:
    assert is_dead(owner, me) is dead


def test_an_ended_process_is_dead(gone: int) -> None:
    assert is_dead(replace(ME, pid=gone), ME)


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(replace(ME, pid=process.pid), ME)
    process.communicate()


def test_a_stopped_process_lives() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    with open(f"/proc/{process.pid}/stat") as stat:  # noqa: PTH123
        started = stat.read().rpartition(")")[2].split()[19]
    assert not is_dead(replace(ME, pid=process.pid, started=started), ME)
    process.send_signal(signal.SIGCONT)
    process.communicate(b"\n")


# --- at once ------------------------------------------------------------------------------------------


def test_of_several_processes_one_gets_the_lease(database: Database, database_url: str) -> None:
    assert sorted(race(take_lease, database_url, [ME] * 4)) == [0, 0, 0, 1]


def test_a_process_that_ended_is_taken_over_at_once(database: Database, database_url: str) -> None:
    assert race(take_and_leave, database_url, ["default"]) == [1]
    assert leases.acquire(database, "default", ME, NOW).token == 2

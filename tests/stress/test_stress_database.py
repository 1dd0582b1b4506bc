"""The database going wrong under a run: a clear error, and a database from which the next run goes on."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from itertools import product
from pathlib import Path
from threading import Timer
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, make_url

from connector.errors import Busy, ConnectorError, DatabaseUnreachable
from connector.sandbox import Company
from tests.harness import Rig, sandbox
from tests.sandbox import Sandbox
from tests.stress.cable import Cut, cable
from tests.sync.test_sync_budget import small

SECRET_TEXT = "quite-a-personal-word"  # noqa: S105 - of nothing


def account() -> Sandbox:
    """Two dozen requests' worth of an account, some of it longer than a page of the database."""
    box = small()
    for _ in range(60):
        box.world.add("nps", userId="u-1", feedback=f"{SECRET_TEXT} " * 60)
    return box


def attempt(rig: Rig) -> ConnectorError | None:
    """Sync with a database that fails; what is said of it is clear, and holds nothing of the rows."""
    try:
        outcome = rig.sync()
        failed = outcome.error
    except DatabaseUnreachable as error:
        outcome, failed = None, error
    if isinstance(failed, DatabaseUnreachable):
        assert "The database" in failed.what
        assert failed.means
        assert failed.todo
        assert SECRET_TEXT not in str(failed)
        assert "INSERT INTO" not in str(failed)
    assert outcome is None or outcome.exit in (0, 69)
    return failed


def goes_on(box: Sandbox, url: str, start: Any) -> None:
    """Once all is well, the next run completes everything, and the one after it has nothing to do."""
    box.advance(timedelta(seconds=61))  # this process lives, so the failed run's lease has to end
    rig = Rig(box, url)
    rig.start = start
    assert rig.sync().exit == 0
    rig.check()
    assert rig.sync().report.sent == 0
    rig.close()


# --- SQLite -----------------------------------------------------------------------------------------------


def full_at(rig: Rig, pages: int) -> Callable[[], None]:
    """A disk with room for so many pages more; give what makes room again."""

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    rig.database.engine.dispose()
    event.listen(rig.database.engine, "connect", limit)
    return lambda: event.remove(rig.database.engine, "connect", limit)


def pages_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA page_count").fetchone()[0])


@pytest.mark.parametrize("more", [0, 1, 2, 3, 5, 8, 13, 21])
def test_a_full_disk(tmp_path: Path, more: int) -> None:
    box, file = account(), tmp_path / "state.sqlite"
    rig = Rig(box, f"sqlite:///{file}")
    rig.sync(most_requests=0)
    make_room = full_at(rig, pages_of(file) + more)
    said = attempt(rig)
    assert said is not None
    assert "disk is full" in said.what
    assert "Free disk space" in said.todo
    make_room()
    rig.database.engine.dispose()
    goes_on(box, rig.url, rig.start)


@pytest.mark.parametrize("at", [1, 2, 5, 14])
def test_a_file_that_somebody_locks_in_the_middle(tmp_path: Path, at: int) -> None:
    box, file = account(), tmp_path / "state.sqlite"
    rig = Rig(box, f"sqlite:///{file}?timeout=0.2")
    other = sqlite3.connect(file, isolation_level=None)
    asked: list[int] = []

    def lock(_request: object) -> None:
        asked.append(1)
        if len(asked) == at:
            other.execute("BEGIN EXCLUSIVE")

    box.faults.script("beamer", [lock] * 100)
    said = attempt(rig)
    assert said is not None
    assert "locked" in said.what
    assert "Another program has locked it" in said.todo
    assert len(asked) < at + 2, "no request is spent on what cannot be kept"
    other.execute("ROLLBACK")
    other.close()
    box.faults.clear()
    goes_on(box, rig.url, rig.start)


def test_a_lock_that_is_let_go_in_time_is_waited_for(tmp_path: Path) -> None:
    box, file = account(), tmp_path / "state.sqlite"
    rig = Rig(box, f"sqlite:///{file}")
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    release = Timer(0.5, lambda: other.execute("ROLLBACK"))
    release.start()
    assert rig.sync().exit == 0
    release.join()
    other.close()
    rig.check()
    rig.close()


@pytest.mark.parametrize(("at", "behind"), [(2, 4), (4, 2), (6, 3), (9, 4), (14, 6)])
def test_a_database_that_loses_what_a_run_stored_last(tmp_path: Path, at: int, behind: int) -> None:
    """As a server does that fails over to a replica which is behind; the file stands for it."""
    box, file = account(), tmp_path / "state.sqlite"
    rig = Rig(box, f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as server, closing(sqlite3.connect(":memory:")) as replica:
        box.faults.script(
            "beamer",
            [
                *["ok"] * (at - 1),
                lambda _request: server.backup(replica),
                *["ok"] * (behind - 1),
                lambda _request: replica.backup(server),
            ],
        )
        said = attempt(rig)
    assert said is not None
    assert "has lost what this run stored last" in said.what
    rig.database.engine.dispose()
    goes_on(box, rig.url, rig.start)


# --- PostgreSQL -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", ["before", "after"])
@pytest.mark.parametrize("commit", [2, 5, 23, 31])
def test_a_commit_whose_answer_is_lost(postgres_url: str, cut: Cut, commit: int) -> None:
    box = account()
    with cable(postgres_url) as (wire, near):
        rig = Rig(box, near)
        wire.arm(commit, cut)
        attempt(rig)
        assert wire.happened == 1
        rig.database.engine.dispose()
        goes_on(box, near, rig.start)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("cut", ["before", "after"])
def test_any_commit_whose_answer_is_lost(postgres_url: str, cut: Cut) -> None:
    """One account after another in one database, so that every commit of a sync has its turn."""
    with cable(postgres_url) as (wire, near):
        for commit in range(1, 200, 7):
            box = account()
            rig = Rig(box, near, name=f"c{commit}")
            wire.arm(commit, cut)
            attempt(rig)
            rig.database.engine.dispose()
            if not wire.happened:
                break
            box.advance(timedelta(seconds=61))
            again = Rig(box, near, name=rig.name)
            again.start = rig.start
            assert again.sync().exit == 0
            again.check()
            again.close()
    assert 50 < commit < 197


def terminate(url: str) -> int:
    """End every session of this database but this one, as an operator or a failover does."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as admin:
        return len(
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchall()
        )


@pytest.mark.parametrize("at", [1, 2, 9, 20])
@pytest.mark.parametrize("api", ["beamer", "segment"])
def test_sessions_that_are_ended_between_two_transactions(postgres_url: str, api: Any, at: int) -> None:
    """A pool notices a dead session when it takes it, and makes a new one: the run goes on."""
    box = account()
    rig = Rig(box, postgres_url)
    ended: list[int] = []

    def end(_request: object) -> None:
        ended.append(terminate(postgres_url))

    box.faults.script(api, [*["ok"] * (at - 1), end])
    outcome = rig.sync()
    assert (outcome.exit, outcome.error) == (0, None)
    if api == "beamer" or ended:
        assert sum(ended) > 0
    rig.check()
    rig.close()


CODES = {"40001": "could not serialize access due to concurrent update", "40P01": "deadlock detected"}
TABLES = ("account", "lease", "run", "row", "outbox", "child", "parent", "tally")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("table", "state"), [*product(TABLES, ["40001"]), ("outbox", "40P01")])
def test_serialization_failures(postgres_url: str, state: str, table: str) -> None:
    """As a server raises them, at the n-th write of a table, n growing until none is left."""
    box = account()
    rig = Rig(box, postgres_url)
    url = postgres_url.replace("+psycopg", "")
    for number in (1, 3, 8):
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(_raising(table, number, state, CODES[state]).encode())
        said = attempt(rig)
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(f"DROP TRIGGER trouble ON beamer_segment_{table}".encode())
            struck = admin.execute("SELECT last_value >= %s FROM trouble_at", [number]).fetchone()
        assert (said is not None) == (struck == (True,))
        if said:
            assert CODES[state] in said.what
        box.advance(timedelta(seconds=61))
    goes_on(box, postgres_url, rig.start)
    rig.close()


def _raising(table: str, number: int, state: str, message: str) -> str:
    # A sequence is outside of all transactions: it counts on where one is rolled back.
    return f"""
        DROP SEQUENCE IF EXISTS trouble_at; CREATE SEQUENCE trouble_at;
        CREATE OR REPLACE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('trouble_at') = {number} THEN
                RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = '{message}';
            END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER trouble AFTER INSERT OR UPDATE OR DELETE ON beamer_segment_{table}
            FOR EACH STATEMENT EXECUTE FUNCTION trouble();
    """


def test_a_read_only_server(postgres_url: str) -> None:
    """A replica after a failover, or a server whose disk is nearly full."""
    box = account()
    rig = Rig(box, postgres_url)
    name = make_url(postgres_url).database
    url = postgres_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
    rig.database.engine.dispose()
    failed = attempt(rig)
    assert isinstance(failed, DatabaseUnreachable)
    assert "read-only" in failed.what
    assert rig.beamer_requests == 0
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("SET default_transaction_read_only = off")
        admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
    rig.database.engine.dispose()
    goes_on(box, postgres_url, rig.start)


# --- both -------------------------------------------------------------------------------------------------


def test_a_second_run_in_the_middle_of_the_first_is_turned_away(database_url: str) -> None:
    box = sandbox(company=Company.empty())
    for _ in range(30):
        box.world.add("nps", userId="u", feedback="Good")
    rig, turned_away = Rig(box, database_url), []

    def second(_request: object) -> None:
        with pytest.raises(Busy, match="Another run is running"):
            Rig(box, database_url).sync()
        turned_away.append(1)

    box.faults.script("beamer", ["ok", second])
    assert rig.sync().exit == 0
    assert turned_away
    rig.check()
    rig.close()

"""Several writes of one thread, committed at once."""

import threading

import pytest
from sqlalchemy import func, insert, select

from connector.errors import DatabaseUnreachable
from connector.state.engine import Database
from connector.state.tables import runs
from tests.state.times import NOW


def begin(database: Database, command: str) -> None:
    with database.write() as db:
        db.execute(insert(runs), {"connection": "default", "command": command, "started_at": NOW})


def fail(database: Database, command: str) -> None:
    with database.write() as db:
        db.execute(insert(runs), {"connection": "default", "command": command, "started_at": NOW})
        raise ZeroDivisionError


def begin_and_fail(database: Database) -> None:
    with database.together():
        begin(database, "one")
        raise ZeroDivisionError


def fill_up(database: Database) -> None:
    with database.together():
        begin(database, "one")
        with database.write() as db:
            pages = db.exec_driver_sql("PRAGMA page_count").scalar_one()
            db.exec_driver_sql(f"PRAGMA max_page_count={pages + 3}")
            for _ in range(50):
                begin(database, "y" * 9000)


def commands(database: Database) -> list[str]:
    with database.read() as db:
        return sorted(db.scalars(select(runs.c.command)))


def count(database: Database) -> int:
    with database.read() as db:
        return int(db.execute(select(func.count()).select_from(runs)).scalar_one())


def test_nothing_is_seen_before_the_end_and_everything_after(database: Database) -> None:
    with database.together():
        begin(database, "one")
        begin(database, "two")
        assert commands(database) == []
    assert commands(database) == ["one", "two"]
    begin(database, "three")
    assert count(database) == 3


def test_a_write_that_fails_is_undone_by_itself(database: Database) -> None:
    with database.together():
        begin(database, "one")
        with pytest.raises(ZeroDivisionError):
            fail(database, "two")
        begin(database, "three")
    assert commands(database) == ["one", "three"]


def test_what_fails_at_the_end_undoes_all(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        begin_and_fail(database)
    assert commands(database) == []
    begin(database, "two")
    assert commands(database) == ["two"]


def test_other_threads_write_by_themselves(database: Database) -> None:
    other = threading.Thread(target=begin, args=(database, "other"))
    with database.together():
        begin(database, "mine")
        other.start()
        # On SQLite it waits for its turn; on PostgreSQL it need not.
        other.join(0.2)
    other.join()
    assert commands(database) == ["mine", "other"]


def test_threads_of_one_process_do_not_stand_in_each_others_way(database: Database) -> None:
    def many() -> None:
        for _ in range(50):
            begin(database, "x")

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(database) == 200


def test_a_full_disk_is_named_and_ends_all_of_it(sqlite_store: Database) -> None:
    with pytest.raises(DatabaseUnreachable, match="full"):
        fill_up(sqlite_store)
    assert commands(sqlite_store) == []

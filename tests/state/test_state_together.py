"""Several writes of one thread, committed at once."""

import threading

import pytest
from sqlalchemy import func, insert, select

from connector.errors import StoreUnreachable
from connector.state.engine import Store
from connector.state.tables import runs
from tests.state.times import NOW


def begin(store: Store, command: str) -> None:
    with store.write() as db:
        db.execute(insert(runs), {"connection": "default", "command": command, "started_at": NOW})


def fail(store: Store, command: str) -> None:
    with store.write() as db:
        db.execute(insert(runs), {"connection": "default", "command": command, "started_at": NOW})
        raise ZeroDivisionError


def begin_and_fail(store: Store) -> None:
    with store.together():
        begin(store, "one")
        raise ZeroDivisionError


def fill_up(store: Store) -> None:
    with store.together():
        begin(store, "one")
        with store.write() as db:
            pages = db.exec_driver_sql("PRAGMA page_count").scalar_one()
            db.exec_driver_sql(f"PRAGMA max_page_count={pages + 3}")
            for _ in range(50):
                begin(store, "y" * 9000)


def commands(store: Store) -> list[str]:
    with store.read() as db:
        return sorted(db.scalars(select(runs.c.command)))


def count(store: Store) -> int:
    with store.read() as db:
        return int(db.execute(select(func.count()).select_from(runs)).scalar_one())


def test_nothing_is_seen_before_the_end_and_everything_after(store: Store) -> None:
    with store.together():
        begin(store, "one")
        begin(store, "two")
        assert commands(store) == []
    assert commands(store) == ["one", "two"]
    begin(store, "three")
    assert count(store) == 3


def test_a_write_that_fails_is_undone_by_itself(store: Store) -> None:
    with store.together():
        begin(store, "one")
        with pytest.raises(ZeroDivisionError):
            fail(store, "two")
        begin(store, "three")
    assert commands(store) == ["one", "three"]


def test_what_fails_at_the_end_undoes_all(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        begin_and_fail(store)
    assert commands(store) == []
    begin(store, "two")
    assert commands(store) == ["two"]


def test_other_threads_write_by_themselves(store: Store) -> None:
    other = threading.Thread(target=begin, args=(store, "other"))
    with store.together():
        begin(store, "mine")
        other.start()
        # On SQLite it waits for its turn; on PostgreSQL it need not.
        other.join(0.2)
    other.join()
    assert commands(store) == ["mine", "other"]


def test_threads_of_one_process_do_not_stand_in_each_others_way(store: Store) -> None:
    def many() -> None:
        for _ in range(50):
            begin(store, "x")

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(store) == 200


def test_a_full_disk_is_named_and_ends_all_of_it(sqlite_store: Store) -> None:
    with pytest.raises(StoreUnreachable, match="full"):
        fill_up(sqlite_store)
    assert commands(sqlite_store) == []

"""Opening the store, its transactions, and what happens when it is not there."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from sqlalchemy import func, make_url, select, text

from connector.errors import ConfigurationError, StoreUnreachable
from connector.state import schema
from connector.state.engine import Store, driver, open_store
from connector.state.intake import Effects, Intake, Judged, Outgoing, Page
from connector.state.leases import acquire
from connector.state.outbox import Outbox
from connector.state.owner import this_process
from connector.state.tables import rows, runs, spends
from connector.state.verdicts import Verdict
from tests.state.times import NOW

SECRET = "hunter2"  # noqa: S105 - of nothing


@pytest.mark.parametrize(
    "url",
    [
        "",
        "no url",
        "sqlite://",
        "sqlite:///relative.sqlite",
        "sqlite:////tmp/x.sqlite?timeout=soon",
        "sqlite+aiosqlite:////tmp/x.sqlite",
        "mysql://root:hunter2@localhost/x",
        "postgresql+psycopg2://me:hunter2@localhost/x",
        "postgresql+asyncpg://me:hunter2@localhost/x",
        "postgresql://me:pass@hunter2@localhost/x",
        "postgresql://me:hunter2",
    ],
)
def test_a_url_that_cannot_work_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert SECRET not in str(caught.value)
    assert caught.value.todo


def test_both_spellings_of_postgresql_reach_psycopg(postgres_url: str) -> None:
    for name in ("postgresql", "postgresql+psycopg"):
        url = make_url(postgres_url).set(drivername=name).render_as_string(hide_password=False)
        store = open_store(url)
        with store.read() as db:
            assert isinstance(driver(db), psycopg.Connection)
        store.close()


# --- SQLite's files -----------------------------------------------------------------------------------


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_only_the_owner_reads_the_files(sqlite_url: str, tmp_path: Path) -> None:
    store = open_store(sqlite_url.replace("state.sqlite", "deep/state.sqlite"))
    schema.ready(store, NOW)
    with store.read():
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep").iterdir()}
    store.close()
    assert modes == dict.fromkeys(("state.sqlite", "state.sqlite-wal", "state.sqlite-shm"), 0o600)
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o700


def test_opening_a_store_twice_in_a_process_keeps_its_locks(sqlite_store: Store, sqlite_url: str) -> None:
    with sqlite_store.write() as db:
        db.execute(spends.insert().values(account="a", day=1, connection="c", purpose="p", requests=1))
        # Closing any handle on the file would drop the locks that this process has on it.
        open_store(sqlite_url)
        other = _locked_elsewhere(sqlite_store.path)
    assert other


def _locked_elsewhere(path: Path | None) -> bool:
    script = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
        "try: db.execute('BEGIN IMMEDIATE')\n"
        "except sqlite3.OperationalError: sys.exit(7)\n"
    )
    return subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == 7


def test_a_deleted_message_leaves_no_trace_in_the_files(sqlite_store: Store, tmp_path: Path) -> None:
    fence = acquire(sqlite_store, "default", this_process(), NOW)
    intake, outbox = Intake(sqlite_store, fence, "dest", 1), Outbox(sqlite_store, fence, "dest")
    for number in range(60):
        text = f"personal-{number}-" + "words " * (number * 30)
        effects = Effects(events=[Outgoing(f"id-{number}", "E", text, len(text))])
        intake.accept(
            Page("nps", 1, ""), [Judged(str(number), Verdict.EVENT)], [], lambda *_, e=effects: e, NOW
        )
        if number % 7 == 0:
            outbox.confirm(outbox.claim(3, NOW), NOW)
    while letters := outbox.claim(10, NOW):
        outbox.confirm(letters, NOW)
    sqlite_store.close()
    left = b"".join(path.read_bytes() for path in tmp_path.rglob("state.sqlite*"))
    assert b"beamer_segment_outbox" in left
    assert b"personal-" not in left
    assert b"words words" not in left


def test_closing_does_not_wait_for_others(sqlite_store: Store, sqlite_url: str) -> None:
    second = open_store(sqlite_url)
    with sqlite_store.write():
        second.close()


def test_a_closed_store_may_be_used_again(store: Store) -> None:
    store.close()
    assert schema.version(store) == schema.HEAD


# --- transactions -------------------------------------------------------------------------------------


def test_reading_waits_for_no_writer(sqlite_store: Store) -> None:
    counted = select(func.count()).select_from(spends)
    with sqlite_store.write() as writer, sqlite_store.read() as reader:
        writer.execute(spends.insert().values(account="a", day=1, connection="c", purpose="p", requests=1))
        assert reader.execute(counted).scalar() == 0
    with sqlite_store.read() as reader:
        assert reader.execute(counted).scalar() == 1


def test_no_update_is_lost(store: Store) -> None:
    with store.write() as db:
        db.execute(spends.insert().values(account="a", day=1, connection="c", purpose="p", requests=0))

    def add_ten() -> None:
        for _ in range(10):
            with store.write() as db:
                seen = db.execute(select(spends.c.requests).with_for_update()).scalar_one()
                db.execute(spends.update().values(requests=seen + 1))

    threads = [threading.Thread(target=add_ten) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as db:
        assert db.execute(select(spends.c.requests)).scalar() == 40


def test_an_error_inside_takes_everything_back(store: Store) -> None:
    with suppress(RuntimeError), store.write() as db:
        db.execute(runs.insert().values(connection="c", command="sync", started_at=NOW))
        raise RuntimeError
    with store.read() as db:
        assert db.execute(select(func.count()).select_from(runs)).scalar() == 0


def test_a_moment_needs_a_time_zone(store: Store) -> None:
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(Exception, match="time zone"), store.write() as db:
        db.execute(runs.insert().values(connection="c", command="sync", started_at=naive))


def test_commits_reach_the_disk_and_deletions_overwrite(sqlite_store: Store) -> None:
    with sqlite_store.read() as db:
        found = {
            name: db.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "secure_delete")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}


def test_what_is_set_on_postgresql_ends_with_the_transaction(postgres_url: str) -> None:
    """PgBouncer in transaction mode hands the session to somebody else."""
    name = make_url(postgres_url).database
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'".encode())
    store = open_store(postgres_url)
    asked = text("SELECT current_setting('lock_timeout'), current_setting('transaction_isolation')")
    with store.write() as db:
        assert db.execute(asked).one() == ("30s", "read committed")
        assert driver(db).prepare_threshold is None
    with store.read() as db:
        assert db.execute(asked).one() == ("0", "read committed")
    store.close()


# --- trouble ------------------------------------------------------------------------------------------


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Without root's right to write everywhere."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.fixture
def lent() -> Iterator[Path]:
    """A folder that anybody may enter; pytest's own are the user's alone."""
    with TemporaryDirectory(prefix="beamer-segment-test-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.mark.usefixtures("as_nobody")
def test_a_folder_that_may_not_be_written_to() -> None:
    with pytest.raises(StoreUnreachable, match="Permission denied") as caught:
        open_store("sqlite:////usr/lib/state.sqlite")
    assert "/usr/lib/state.sqlite" in caught.value.what


@pytest.mark.parametrize(("file", "folder"), [(0o444, 0o777), (0o666, 0o555), (0, 0o777)])
def test_a_file_that_may_not_be_written_to(
    lent: Path, request: pytest.FixtureRequest, file: int, folder: int
) -> None:
    url = f"sqlite:///{lent / 'state.sqlite'}"
    store = open_store(url)
    schema.ready(store, NOW)
    store.close()
    (lent / "state.sqlite").chmod(file)
    lent.chmod(folder)
    request.getfixturevalue("as_nobody")
    store = open_store(url)
    with pytest.raises(StoreUnreachable, match=r"state\.sqlite failed: .*(readonly|unable to open)"):
        _write(store)
    store.close()


def _write(store: Store) -> None:
    with store.write() as db:
        db.execute(runs.insert().values(connection="c", command="sync", started_at=NOW))


def test_a_path_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachable, match=r"cannot be opened: Is a directory\."):
        open_store(f"sqlite:///{tmp_path}")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnreachable, match="cannot be opened"):
        open_store(f"sqlite:///{tmp_path / 'file' / 'state.sqlite'}")


def test_a_file_that_is_no_database(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").write_text(f"{SECRET} " * 1000)
    store = open_store(sqlite_url)
    with pytest.raises(StoreUnreachable, match=r"state\.sqlite failed: file is not a database\. ") as caught:
        schema.ready(store, NOW)
    assert SECRET not in str(caught.value)
    store.close()


def test_a_file_that_somebody_else_keeps_locked(sqlite_store: Store, sqlite_url: str) -> None:
    assert sqlite_store.path
    other = sqlite3.connect(sqlite_store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    impatient = open_store(f"{sqlite_url}?timeout=0.1")
    with pytest.raises(StoreUnreachable, match="database is locked"), impatient.write():
        pass
    impatient.close()
    other.close()


def test_a_server_that_does_not_answer() -> None:
    store = open_store(f"postgresql://me:{SECRET}@127.0.0.1:1/state")
    with pytest.raises(StoreUnreachable, match=r"state on 127\.0\.0\.1 failed: .*refused") as caught:
        schema.ready(store, NOW)
    assert SECRET not in str(caught.value)
    store.close()


@pytest.mark.parametrize("changed", [{"database": "no_such_database"}, {"username": "nobody-at-all"}])
def test_a_server_that_refuses(postgres_url: str, changed: dict[str, str]) -> None:
    url = make_url(postgres_url).set(password=SECRET).set(**changed)  # type: ignore[arg-type]
    store = open_store(url.render_as_string(hide_password=False))
    with pytest.raises(StoreUnreachable, match="does not exist") as caught:
        schema.ready(store, NOW)
    assert SECRET not in str(caught.value)
    assert "\n" not in caught.value.what
    store.close()


def test_a_connection_that_is_lost_on_the_way(postgres_url: str) -> None:
    store = open_store(postgres_url)
    schema.ready(store, NOW)
    with pytest.raises(StoreUnreachable) as caught, store.write() as db:  # noqa: PT012 - in the middle
        db.execute(runs.insert().values(connection=SECRET, command="sync", started_at=NOW))
        with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", [driver(db).info.backend_pid])
        db.execute(runs.insert().values(connection=SECRET, command="sync", started_at=NOW))
    assert "INSERT" not in str(caught.value)
    assert SECRET not in str(caught.value)
    with store.read() as db:
        assert db.execute(select(func.count()).select_from(runs)).scalar() == 0
    store.close()


def test_an_idle_connection_that_was_lost_is_replaced(postgres_url: str) -> None:
    store = open_store(postgres_url)
    with store.read() as db:
        pid = driver(db).info.backend_pid
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", [pid])
    assert schema.version(store) is None
    store.close()


def test_a_refused_value_is_not_repeated(store: Store) -> None:
    row = {"scope": 1, "parent": SECRET, "id": SECRET, "verdict": 1, "run": 1}
    with pytest.raises(StoreUnreachable) as caught, store.write() as db:
        db.execute(rows.insert(), [row, row])
    assert SECRET not in str(caught.value)

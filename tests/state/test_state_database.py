"""Opening the database, its transactions, and what happens when it is not there."""

import os
import socketserver
import sqlite3
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import String, func, make_url, select, text, type_coerce, update

from connector.domain.state import Effects, Outgoing, Page, RowVerdict, Verdict
from connector.errors import ConfigurationError, DatabaseRefused, DatabaseUnreachable, StateDamaged
from connector.state import schema
from connector.state.engine import Database, driver, open_database
from connector.state.leases import acquire, this_process
from connector.state.outbox import Outbox
from connector.state.page_writer import PageWriter
from connector.state.tables import rows, runs, spends
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
        open_database(url)
    assert SECRET not in str(caught.value)
    assert caught.value.todo


def test_both_spellings_of_postgresql_reach_psycopg(postgres_url: str) -> None:
    for name in ("postgresql", "postgresql+psycopg"):
        url = make_url(postgres_url).set(drivername=name).render_as_string(hide_password=False)
        database = open_database(url)
        with database.read() as db:
            assert isinstance(driver(db), psycopg.Connection)
        database.close()


# --- SQLite's files -----------------------------------------------------------------------------------


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_only_the_owner_reads_the_files(sqlite_url: str, tmp_path: Path) -> None:
    database = open_database(sqlite_url.replace("state.sqlite", "deep/state.sqlite"))
    schema.ready(database, NOW)
    with database.read():
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep").iterdir()}
    database.close()
    assert modes == dict.fromkeys(("state.sqlite", "state.sqlite-wal", "state.sqlite-shm"), 0o600)
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o700


def test_opening_a_store_twice_in_a_process_keeps_its_locks(sqlite_store: Database, sqlite_url: str) -> None:
    with sqlite_store.write() as db:
        db.execute(spends.insert().values(account="a", day=1, connection="c", purpose="p", requests=1))
        # Closing any handle on the file would drop the locks that this process has on it.
        open_database(sqlite_url)
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


def test_a_deleted_message_leaves_no_trace_in_the_files(sqlite_store: Database, tmp_path: Path) -> None:
    lease = acquire(sqlite_store, "default", this_process(), NOW)
    writer, outbox = PageWriter(sqlite_store, lease, "dest", 1), Outbox(sqlite_store, lease, "dest")
    for number in range(60):
        text = f"personal-{number}-" + "words " * (number * 30)
        effects = Effects(events=[Outgoing(f"id-{number}", "E", text, len(text))])
        verdicts = [RowVerdict(str(number), Verdict.EVENT)]
        with writer.page(Page("nps", 1, ""), verdicts, [], NOW) as open_page:
            open_page.write(effects)
        if number % 7 == 0:
            outbox.confirm(outbox.claim(3, NOW), NOW)
    while messages := outbox.claim(10, NOW):
        outbox.confirm(messages, NOW)
    sqlite_store.close()
    left = b"".join(path.read_bytes() for path in tmp_path.rglob("state.sqlite*"))
    assert b"beamer_segment_outbox" in left
    assert b"personal-" not in left
    assert b"words words" not in left


def test_closing_does_not_wait_for_others(sqlite_store: Database, sqlite_url: str) -> None:
    second = open_database(sqlite_url)
    with sqlite_store.write():
        second.close()


def test_a_closed_store_may_be_used_again(database: Database) -> None:
    database.close()
    assert schema.version(database) == schema.HEAD


# --- transactions -------------------------------------------------------------------------------------


def test_reading_waits_for_no_writer(sqlite_store: Database) -> None:
    counted = select(func.count()).select_from(spends)
    with sqlite_store.write() as writer, sqlite_store.read() as reader:
        writer.execute(spends.insert().values(account="a", day=1, connection="c", purpose="p", requests=1))
        assert reader.execute(counted).scalar() == 0
    with sqlite_store.read() as reader:
        assert reader.execute(counted).scalar() == 1


def test_no_update_is_lost(database: Database) -> None:
    with database.write() as db:
        db.execute(spends.insert().values(account="a", day=1, connection="c", purpose="p", requests=0))

    def add_ten() -> None:
        for _ in range(10):
            with database.write() as db:
                seen = db.execute(select(spends.c.requests).with_for_update()).scalar_one()
                db.execute(spends.update().values(requests=seen + 1))

    threads = [threading.Thread(target=add_ten) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as db:
        assert db.execute(select(spends.c.requests)).scalar() == 40


def test_an_error_inside_takes_everything_back(database: Database) -> None:
    with suppress(RuntimeError), database.write() as db:
        db.execute(runs.insert().values(connection="c", command="sync", started_at=NOW))
        raise RuntimeError
    with database.read() as db:
        assert db.execute(select(func.count()).select_from(runs)).scalar() == 0


def first_spend(database: Database) -> None:
    with database.read() as db:
        found = db.execute(select(spends.c.requests))
        next(found)


def test_a_value_that_cannot_be_read_locks_nobody_out(sqlite_store: Database, sqlite_url: str) -> None:
    """Although the error is kept, as an outcome keeps it: the statement that met the value is not open."""
    with sqlite_store.write() as db:
        for day in (1, 2):
            values = {"account": "acct", "day": day, "connection": "", "purpose": "", "requests": 1}
            db.execute(spends.insert(), values)
        db.execute(update(spends).values(requests=type_coerce("garbage", String)))
    with pytest.raises(StateDamaged) as kept:
        first_spend(sqlite_store)
    other = open_database(sqlite_url)
    with other.write() as db:
        db.execute(update(spends).values(requests=3))
    other.close()
    with sqlite_store.write() as db:
        assert db.scalars(select(spends.c.requests)).all() == [3, 3]
    assert spends.name in kept.value.what


def test_a_moment_needs_a_time_zone(database: Database) -> None:
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(Exception, match="time zone"), database.write() as db:
        db.execute(runs.insert().values(connection="c", command="sync", started_at=naive))


def test_commits_reach_the_disk_and_deletions_overwrite(sqlite_store: Database) -> None:
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
    database = open_database(postgres_url)
    asked = text("SELECT current_setting('lock_timeout'), current_setting('transaction_isolation')")
    with database.write() as db:
        assert db.execute(asked).one() == ("30s", "read committed")
        assert driver(db).prepare_threshold is None
    with database.read() as db:
        assert db.execute(asked).one() == ("0", "read committed")
    database.close()


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
    with pytest.raises(DatabaseUnreachable, match="Permission denied") as caught:
        open_database("sqlite:////usr/lib/state.sqlite")
    assert "/usr/lib/state.sqlite" in caught.value.what


@pytest.mark.parametrize(("file", "folder"), [(0o444, 0o777), (0o666, 0o555), (0, 0o777)])
def test_a_file_that_may_not_be_written_to(
    lent: Path, request: pytest.FixtureRequest, file: int, folder: int
) -> None:
    url = f"sqlite:///{lent / 'state.sqlite'}"
    database = open_database(url)
    schema.ready(database, NOW)
    database.close()
    (lent / "state.sqlite").chmod(file)
    lent.chmod(folder)
    request.getfixturevalue("as_nobody")
    database = open_database(url)
    with pytest.raises(DatabaseUnreachable, match=r"state\.sqlite failed: .*(readonly|unable to open)"):
        _write(database)
    database.close()


def _write(database: Database) -> None:
    with database.write() as db:
        db.execute(runs.insert().values(connection="c", command="sync", started_at=NOW))


def test_a_path_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnreachable, match=r"cannot be opened: Is a directory\."):
        open_database(f"sqlite:///{tmp_path}")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnreachable, match="cannot be opened"):
        open_database(f"sqlite:///{tmp_path / 'file' / 'state.sqlite'}")


def test_a_file_that_is_no_database(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").write_text(f"{SECRET} " * 1000)
    database = open_database(sqlite_url)
    with pytest.raises(
        DatabaseUnreachable, match=r"state\.sqlite failed: file is not a database\. "
    ) as caught:
        schema.ready(database, NOW)
    assert SECRET not in str(caught.value)
    database.close()


def test_a_file_that_somebody_else_keeps_locked(sqlite_store: Database, sqlite_url: str) -> None:
    assert sqlite_store.path
    other = sqlite3.connect(sqlite_store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    impatient = open_database(f"{sqlite_url}?timeout=0.1")
    with pytest.raises(DatabaseUnreachable, match="database is locked"), impatient.write():
        pass
    impatient.close()
    other.close()


def _removed(file: Path, _: Path) -> None:
    file.unlink()


def _moved(file: Path, _: Path) -> None:
    file.rename(file.with_name("elsewhere.sqlite"))


def _replaced(file: Path, other: Path) -> None:
    other.replace(file)


def _made_anew(file: Path, _: Path) -> None:
    file.rename(file.with_name("elsewhere.sqlite"))
    file.touch()


def _hidden_by_a_folder(file: Path, _: Path) -> None:
    file.rename(file.with_name("elsewhere.sqlite"))
    file.mkdir()


def _without_its_folder(file: Path, other: Path) -> None:
    file.parent.rename(other.with_name("folder"))


@pytest.mark.parametrize(
    "harm", [_removed, _moved, _replaced, _made_anew, _hidden_by_a_folder, _without_its_folder]
)
def test_a_file_that_goes_under_an_open_store(tmp_path: Path, harm: Callable[[Path, Path], None]) -> None:
    file, other = tmp_path / "here" / "state.sqlite", tmp_path / "other.sqlite"
    for path in (file, other):
        made = open_database(f"sqlite:///{path}")
        schema.ready(made, NOW)
        made.close()
    database = open_database(f"sqlite:///{file}")
    _write(database)
    harm(file, other)
    for look in (_write, schema.version):
        with pytest.raises(
            DatabaseUnreachable, match=r"was (removed|replaced by another file) while"
        ) as caught:
            look(database)
        assert "restart" in caught.value.todo
        assert str(file) in caught.value.what
    database.close()


def test_a_file_that_comes_back_is_the_same(sqlite_store: Database) -> None:
    assert sqlite_store.path
    _write(sqlite_store)
    away = sqlite_store.path.rename(sqlite_store.path.with_name("away"))
    with pytest.raises(DatabaseUnreachable, match="was removed"):
        _write(sqlite_store)
    away.rename(sqlite_store.path)
    _write(sqlite_store)
    with sqlite_store.read() as db:
        assert db.execute(select(func.count()).select_from(runs)).scalar() == 2


def test_a_server_that_does_not_answer() -> None:
    database = open_database(f"postgresql://me:{SECRET}@127.0.0.1:1/state")
    with pytest.raises(DatabaseUnreachable, match=r"state on 127\.0\.0\.1 failed: .*refused") as caught:
        schema.ready(database, NOW)
    assert SECRET not in str(caught.value)
    database.close()


@pytest.mark.parametrize("changed", [{"database": "no_such_database"}, {"username": "nobody-at-all"}])
def test_a_server_that_refuses(postgres_url: str, changed: dict[str, str]) -> None:
    url = make_url(postgres_url).set(password=SECRET).set(**changed)  # type: ignore[arg-type]
    database = open_database(url.render_as_string(hide_password=False))
    with pytest.raises(DatabaseRefused, match="does not exist") as caught:
        schema.ready(database, NOW)
    assert SECRET not in str(caught.value)
    assert "\n" not in caught.value.what
    database.close()


@pytest.mark.parametrize(
    ("query", "todo"),
    [
        ("schema=public", "options=-csearch_path%3D"),
        ("currentSchema=public", "options=-csearch_path%3D"),
        ("pgbouncer=true", "Remove pgbouncer="),
        ("ssl=true", "sslmode=require"),
        ("connection_limit=5", "Remove this parameter"),
        ("nonsense=1&sslmode=prefer", "Remove this parameter"),
        ("sslmode=bogus", "Correct DATABASE_URL"),
        ("sslmode=prefer&sslmode=disable", "Correct DATABASE_URL"),
        ("connect_timeout=soon", "Correct DATABASE_URL"),
        ("target_session_attrs=bogus", "Correct DATABASE_URL"),
        ("service=none-of-this-name", "Correct DATABASE_URL"),
        ("port=99999", "Correct DATABASE_URL"),
    ],
)
def test_a_parameter_that_can_never_work(query: str, todo: str) -> None:
    database = open_database(f"postgresql://me:{SECRET}@127.0.0.1:1/state?{query}")
    with pytest.raises(DatabaseRefused) as caught:
        schema.ready(database, NOW)
    assert todo in caught.value.todo
    assert "DATABASE_URL" in caught.value.todo
    assert SECRET not in str(caught.value)
    database.close()


# What a server, or a pooler before it, answers to somebody who wants to come in; and whether that stays so.
GREETINGS = {
    'password authentication failed for user "me"': True,
    'role "me" does not exist': True,
    'role "me" is not permitted to log in': True,
    'database "state" does not exist': True,
    'database "state" is not currently accepting connections': True,
    'permission denied for database "state"': True,
    'no pg_hba.conf entry for host "10.0.0.9", user "me", database "state", no encryption': True,
    "no such database: state": True,
    "unsupported startup parameter: options": True,
    "Tenant or user not found": True,
    "the database system is starting up": False,
    "the database system is shutting down": False,
    "the database system is in recovery mode": False,
    "the database system is not yet accepting connections": False,
    "sorry, too many clients already": False,
    'too many connections for role "me"': False,
    "remaining connection slots are reserved for non-replication superuser connections": False,
    "no more connections allowed (max_client_conn)": False,
    "server login has been failing, try again later (server_login_retry)": False,
    "terminating connection due to administrator command": False,
    "canceling authentication due to timeout": False,
    "out of memory": False,
}


@pytest.mark.parametrize(("message", "stays"), GREETINGS.items())
def test_what_a_server_says_at_the_door(message: str, stays: bool) -> None:
    with a_server_that_says(message) as port:
        database = open_database(f"postgresql://me:{SECRET}@127.0.0.1:{port}/state")
        with pytest.raises(DatabaseUnreachable) as caught:
            schema.ready(database, NOW)
        database.close()
    assert isinstance(caught.value, DatabaseRefused) is stays
    assert caught.value.exit == (78 if stays else 69)
    assert message in caught.value.what
    assert "The next run" in caught.value.todo or stays or "DATABASE_URL" in caught.value.todo
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("at", [0, 1])
def test_of_several_servers_the_one_that_answers_is_named(at: int) -> None:
    with a_server_that_says('database "state" does not exist') as port:
        ports = [1, 1]
        ports[at] = port
        where = f"host=127.0.0.1,127.0.0.1&port={ports[0]},{ports[1]}"
        database = open_database(f"postgresql://me:{SECRET}@/state?{where}")
        with pytest.raises(
            DatabaseRefused, match=r'failed: connection to .* database "state" does not exist\. '
        ):
            schema.ready(database, NOW)
        database.close()


@contextmanager
def a_server_that_says(message: str) -> Iterator[int]:
    """Answer each PostgreSQL client with a fatal error; give the port."""
    fields = f"SFATAL\0VFATAL\0C00000\0M{message}\0\0".encode()
    answer = b"E" + struct.pack("!I", len(fields) + 4) + fields

    class Api(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while wanted := self.request.recv(4):
                (size,) = struct.unpack("!I", wanted)
                (what,) = struct.unpack("!I", self.request.recv(size - 4)[:4])
                if what in (NO_TLS, NO_GSS):
                    self.request.sendall(b"N")
                    continue
                self.request.sendall(answer)
                return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Api) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


# How a client begins that asks for encryption first.
NO_TLS, NO_GSS = 80_877_103, 80_877_104


@pytest.fixture
def stranger(postgres_url: str) -> Iterator[tuple[str, psycopg.Connection]]:
    """A database's URL for a role that may log in and nothing else; and the owner's connection to it."""
    role, url = f"stranger_{uuid4().hex[:12]}", make_url(postgres_url)
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}'".encode())
        owner.execute(b"REVOKE CREATE ON SCHEMA public FROM public")
        try:
            theirs = url.set(username=role, password=SECRET).render_as_string(hide_password=False)
            yield theirs, owner
        finally:
            owner.execute(f"DROP OWNED BY {role}".encode())
            owner.execute(f"DROP ROLE {role}".encode())


@pytest.mark.parametrize(
    ("first", "query", "said"),
    [
        ("", "", "permission denied for schema public"),
        ("", "?options=-csearch_path%3Dnone_of_this_name", "has no schema to use"),
        ("CREATE SCHEMA hidden", "?options=-csearch_path%3Dhidden", "has no schema to use"),
        ("ALTER ROLE {} NOLOGIN", "", "is not permitted to log in"),
        ("ALTER ROLE {} SET search_path = gone", "", "has no schema to use"),
    ],
)
def test_a_role_that_lacks_a_right(
    stranger: tuple[str, psycopg.Connection], first: str, query: str, said: str
) -> None:
    url, owner = stranger
    if first:
        owner.execute(first.format(make_url(url).username).encode())
    database = open_database(url + query)
    with pytest.raises(DatabaseRefused, match=said) as caught:
        schema.ready(database, NOW)
    assert SECRET not in str(caught.value)
    assert "DATABASE_URL" in caught.value.todo
    database.close()


def test_a_right_that_is_taken_away_later(stranger: tuple[str, psycopg.Connection]) -> None:
    url, owner = stranger
    role = make_url(url).username
    owner.execute(f"GRANT CREATE ON SCHEMA public TO {role}".encode())
    database = open_database(url)
    schema.ready(database, NOW)
    owner.execute(f"REASSIGN OWNED BY {role} TO {owner.info.user}".encode())
    with pytest.raises(DatabaseRefused, match="permission denied for table"):
        _write(database)
    database.close()


def test_a_connection_that_is_lost_on_the_way(postgres_url: str) -> None:
    database = open_database(postgres_url)
    schema.ready(database, NOW)
    with pytest.raises(DatabaseUnreachable) as caught, database.write() as db:  # noqa: PT012 - in the middle
        db.execute(runs.insert().values(connection=SECRET, command="sync", started_at=NOW))
        with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", [driver(db).info.backend_pid])
        db.execute(runs.insert().values(connection=SECRET, command="sync", started_at=NOW))
    assert "INSERT" not in str(caught.value)
    assert SECRET not in str(caught.value)
    with database.read() as db:
        assert db.execute(select(func.count()).select_from(runs)).scalar() == 0
    database.close()


def test_an_idle_connection_that_was_lost_is_replaced(postgres_url: str) -> None:
    database = open_database(postgres_url)
    with database.read() as db:
        pid = driver(db).info.backend_pid
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", [pid])
    assert schema.version(database) is None
    database.close()


def test_a_refused_value_is_not_repeated(database: Database) -> None:
    row = {"scope": 1, "parent": SECRET, "id": SECRET, "verdict": 1, "run": 1}
    with pytest.raises(DatabaseUnreachable) as caught, database.write() as db:
        db.execute(rows.insert(), [row, row])
    assert SECRET not in str(caught.value)

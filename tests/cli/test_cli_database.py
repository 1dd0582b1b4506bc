"""The database going wrong under real processes: a clear end, and the next run goes on."""

import ctypes
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from socket import create_server
from stat import S_IMODE
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from connector.state import schema
from connector.state.engine import open_database
from tests.cli.conftest import Make
from tests.cli.process import ROOT, Ended, Machine, Running, until
from tests.state.times import NOW

# prctl(2), capabilities(7)
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1


def clear(ended: Ended, *words: str, code: int = 69) -> None:
    """The exit code, in three sentences without a traceback."""
    assert (ended.code, ended.json["exit"]) == (code, code), ended.err
    assert "Traceback" not in ended.err
    assert "unexpected" not in ended.err
    for word in words:
        assert word in ended.err


def goes_on(machine: Machine) -> None:
    ended = machine.run("sync", "--output", "json")
    assert ended.code == 0, ended.err
    machine.all_there_once()
    assert machine.run("sync", "--output", "json").connection["sent"] == 0


# --- SQLite -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kilobytes", [8, pytest.param(160, marks=pytest.mark.slow), 300])
def test_a_disk_without_room(machine: Machine, kilobytes: int) -> None:
    """A limit on file sizes stands for the end of the disk: a new store, its migration, or a page later."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, kilobytes * 1024))

    # Or Python would leave half of what it compiles behind, for everybody.
    machine.extra["PYTHONDONTWRITEBYTECODE"] = "1"
    ended = machine.run("sync", "--output", "json", preexec_fn=limit)
    clear(ended, "disk", "continues where this one stopped")
    goes_on(machine)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.slow
@pytest.mark.long
def test_a_file_that_somebody_locks(make: Make, tmp_path: Path) -> None:
    """For longer than the half minute for which it is waited."""
    file = tmp_path / "own.sqlite"
    machine = make(database_url=f"sqlite:///{file}")
    assert machine.run("db", "upgrade").code == 0
    with locked(file):
        clear(machine.run("sync", "--output", "json"), "is locked", "Another program has locked it")
    assert machine.asked() == 0
    goes_on(machine)


def like_anybody() -> None:
    """Take root's right to write everywhere from the program to come; nobody else has it."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


@pytest.mark.parametrize(("file", "folder"), [(0o444, 0o755), (0o644, 0o555)])
def test_a_file_or_a_folder_that_may_only_be_read(make: Make, tmp_path: Path, file: int, folder: int) -> None:
    place = tmp_path / "kept"
    machine = make(database_url=f"sqlite:///{place / 'own.sqlite'}")
    assert machine.run("sync", "--max-requests", "3").code == 0
    before = machine.asked()
    (place / "own.sqlite").chmod(file)
    place.chmod(folder)
    clear(
        machine.run("sync", "--output", "json", preexec_fn=like_anybody),
        "own.sqlite",
        "Allow this user to write",
    )
    assert machine.asked() == before
    place.chmod(0o755)
    (place / "own.sqlite").chmod(0o600)
    goes_on(machine)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "said"), [(slice(100), "is not a database"), (slice(4096, None), "is malformed")]
)
def test_a_damaged_file_is_brought_back_from_a_backup(machine: Machine, part: slice, said: str) -> None:
    assert machine.run("sync", "--no-deliver", "--max-requests", "9").code == 0
    backup = machine.file.read_bytes()
    assert machine.run("sync").code == 0
    damaged = bytearray(machine.file.read_bytes())
    damaged[part] = b"\xff" * len(damaged[part])
    machine.file.write_bytes(damaged)
    ended = machine.run("sync", "--output", "json")
    clear(ended, said, "may be lost", "from a backup")
    assert "Nothing is lost" not in ended.err
    machine.file.write_bytes(backup)
    for name in ("-wal", "-shm"):
        machine.file.with_name(machine.file.name + name).unlink(missing_ok=True)
    goes_on(machine)


# --- migrations -------------------------------------------------------------------------------------------

LATER = """
import os, signal
from alembic import op
revision = "9001"
down_revision = {before!r}


def upgrade() -> None:
    for number in range(4):
        if os.environ.get("DIE_AT") == str(number):
            os.kill(os.getpid(), signal.SIGKILL)
        op.execute([
            "CREATE TABLE beamer_segment_later (id INTEGER PRIMARY KEY)",
            "ALTER TABLE beamer_segment_run ADD COLUMN later INTEGER",
            "UPDATE beamer_segment_run SET later = 1",
            "DELETE FROM beamer_segment_tally",
        ][number])
"""


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """A later version of the connector, with a migration of four statements that can die before any."""
    place = tmp_path / "later"
    quiet = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "connector", place / "connector", ignore=quiet)
    shutil.copytree(ROOT / "migrations", place / "migrations", ignore=quiet)
    (place / "migrations/versions/9001_later.py").write_text(LATER.format(before=schema.HEAD))
    source = place / "connector/state/schema.py"
    source.write_text(source.read_text().replace(f'HEAD = "{schema.HEAD}"', 'HEAD = "9001"'))
    return place


def run_later(machine: Machine, place: Path, *words: str, die_at: int | None = None) -> Ended:
    environment = {**machine.environment(), "PYTHONDONTWRITEBYTECODE": "1"}
    if die_at is not None:
        environment["DIE_AT"] = str(die_at)
    process = subprocess.Popen(
        [sys.executable, "-m", "connector", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=place,
        env=environment,
        text=True,
    )
    return Running(process).end()


@pytest.mark.slow
@pytest.mark.long
def test_an_upgrade_that_is_killed_between_its_statements(on_either: Machine, later: Path) -> None:
    machine = on_either
    assert machine.run("sync", "--max-requests", "5").code == 0
    for number in range(4):
        killed = run_later(machine, later, "db", "upgrade", die_at=number)
        assert killed.code == -signal.SIGKILL
        # Nothing of it is left: the version that was there before goes on.
        assert machine.run("sync", "--max-requests", "3").code == 0
    if not machine.database_url or "sqlite" in machine.database_url:
        # A local file is upgraded by the first sync, and the copy beside it is whole and private.
        ended = run_later(machine, later, "sync", "--output", "json")
        file = Path(str(make_url(str(machine.database_url)).database))
        copies = list(file.parent.glob(f"{file.name}.before-9001-*"))
        assert copies
        for copy in copies:
            assert S_IMODE(copy.stat().st_mode) == 0o600
        with closing(sqlite3.connect(max(copies))) as kept:
            assert kept.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            version = kept.execute("SELECT version_num FROM beamer_segment_alembic_version").fetchone()
            assert version == (schema.HEAD,)
    else:
        ended = run_later(machine, later, "sync", "--output", "json")
        assert (ended.code, "db upgrade" in ended.err) == (78, True)
        assert run_later(machine, later, "db", "upgrade").code == 0
        ended = run_later(machine, later, "sync", "--output", "json")
    assert ended.code == 0, ended.err
    machine.all_there_once()
    turned_away = machine.run("sync", "--output", "json")
    assert (turned_away.code, "9001" in turned_away.err) == (78, True)


MAKING = """
import os, signal, sys
from sqlalchemy import event
from connector.state import schema
from connector.state.engine import open_database
from tests.state.times import NOW

store, left = open_database(sys.argv[1]), [int(sys.argv[2])]

def count(*_):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)

event.listen(store.engine, "before_cursor_execute", count)
event.listen(store.engine, "commit", count)
schema.ready(store, NOW)
"""


@pytest.mark.slow
@pytest.mark.long
def test_a_new_store_whose_making_is_killed_at_any_statement(database_url: str) -> None:
    deaths = 0
    for statements in range(0, 400, 11):
        ended = subprocess.run(
            [sys.executable, "-c", MAKING, database_url, str(statements)], cwd=ROOT, check=False
        )
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
        deaths += 1
    assert deaths > 2
    database = open_database(database_url)
    schema.ready(database, NOW)
    assert schema.version(database) == schema.HEAD
    database.close()


# --- PostgreSQL: a server of the test's own ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_of_another_encoding(
    make: Make, postgres_url: str, postgres_admin: psycopg.Connection, encoding: str
) -> None:
    name = make_url(postgres_url).database
    postgres_admin.execute(f"DROP DATABASE {name}".encode())
    postgres_admin.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'".encode()
    )
    machine = make(database_url=postgres_url)
    machine.sandbox.world.add("nps", score="7", userId="ü 日本", feedback="😀")
    assert machine.run("sync", "--no-deliver").code == 0
    goes_on(machine)
    assert machine.run("status").code == 0


HALF = "CREATE TABLE beamer_segment_account (name TEXT)"


@pytest.mark.parametrize(
    ("change", "options", "code", "said", "todo"),
    [
        ({"username": "nobody_here"}, {}, 78, "does not exist", "correct DATABASE_URL"),
        ({"database": "nothing_here"}, {}, 78, "does not exist", "correct DATABASE_URL"),
        ({}, {"options": "-crole=pg_monitor"}, 78, "permission denied", "GRANT USAGE, CREATE ON SCHEMA"),
        ({}, {}, 69, "already exists", "an empty database"),
    ],
)
def test_what_does_not_mend_itself_is_said_to_be_mended(
    make: Make,
    postgres_url: str,
    change: dict[str, Any],
    options: dict[str, str],
    code: int,
    said: str,
    todo: str,
) -> None:
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as admin:
        admin.execute(HALF)
    url = make_url(postgres_url).set(**change).update_query_dict(options)
    machine = make(database_url=url.render_as_string(hide_password=False))
    ended = machine.run("sync", "--output", "json")
    clear(ended, said, todo, code=code)
    assert "The next run continues" not in ended.err


class Server:
    """A throw-away server that can be restarted."""

    def __init__(self, programs: Path, place: Path) -> None:
        self._programs = programs
        self._data = place / "db"
        with create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:  # which PostgreSQL refuses to run as
            shutil.chown(place, "postgres", "postgres")
            self._user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        make = "-U postgres -A trust -E UTF8 --locale=C --no-sync"
        self._do("initdb", "-D", str(self._data), *make.split())
        self.start()

    def _do(self, program: str, *words: str) -> None:
        subprocess.run(
            [self._programs / program, *words],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._user,
        )

    def start(self) -> None:
        listen = "-c listen_addresses=127.0.0.1 -c fsync=off"
        options = f"{listen} -c port={self.port} -c unix_socket_directories={self._data}"
        self._do("pg_ctl", "-D", str(self._data), "-l", f"{self._data}/log", "-w", "-o", options, "start")

    def stop(self, how: str) -> None:
        self._do("pg_ctl", "-D", str(self._data), "-m", how, "-w", "stop")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("initdb")
    place = programs[-1] if programs else Path(found).parent if found else None
    if place is None:
        if os.environ.get("REQUIRE_POSTGRES"):
            pytest.fail("PostgreSQL's initdb and pg_ctl are not installed here")
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed here")
    with TemporaryDirectory(prefix="beamer-segment-pg-") as folder:
        Path(folder).chmod(0o755)
        one = Server(place, Path(folder))
        yield one
        one.stop("immediate")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("how", ["fast", "immediate"])
@pytest.mark.parametrize("asked", [1, 9])
def test_a_server_that_is_restarted_during_a_run(make: Make, server: Server, how: str, asked: int) -> None:
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("DROP SCHEMA public CASCADE")
        admin.execute("CREATE SCHEMA public")
    machine = make(database_url=server.url)
    machine.sandbox.faults.latency = 0.1
    running = machine.begin("sync", "--output", "json")
    until(lambda: machine.asked() >= asked)
    server.stop(how)
    try:
        ended = running.end()
        clear(ended, "The database", "continues where this one stopped")
        clear(machine.run("sync", "--output", "json"), "refused", "reaches it, or correct DATABASE_URL")
    finally:
        server.start()
    machine.sandbox.faults.clear()
    goes_on(machine)


# --- several at once --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.long
def test_several_schedulers_at_once(on_either: Machine) -> None:
    """Four start at the same moment, on a database that is not even made: one works at a time."""
    machine = on_either
    machine.sandbox.faults.latency = 0.02
    # A post that is to come tomorrow is in no list, and nobody comments on it.
    world, now = machine.sandbox.world, machine.sandbox.now()
    post = next(row.id for row in reversed(world.posts_shown()) if row.date <= now)
    for _ in range(3):
        started = [machine.begin("sync", "--output", "json") for _ in range(4)]
        codes = sorted(running.end().code for running in started)
        assert codes[0] == 0
        assert set(codes) <= {0, 75}
        for stream, parent in (("nps", None), ("comments", post)):
            world.add(stream, parent, userId="u-9", text="More", feedback="More")
    machine.sandbox.faults.clear()
    goes_on(machine)

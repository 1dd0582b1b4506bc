"""The moments at which a process may die or be suspended: around every write, commit, request and answer."""

import gc
import re
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import psycopg
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.exc import OperationalError

from connector.state import schema
from connector.state.dialects import POSTGRES_PATIENCE
from connector.state.engine import Database, open_database
from connector.state.tables import PREFIX, metadata

# The endings of the database's own file and of its write-ahead log, each with what is in it.
Files = Mapping[str, bytes]
LOG = "-wal"
# SQLite's number for the setting with which a commit has reached the disk before it counts.
FULL = 2
WRITING = re.compile(rf"\s*(INSERT INTO|UPDATE|DELETE FROM) {PREFIX}(\w+)")


class Death(BaseException):
    """The process is gone. Nothing catches it, and nothing that it holds in memory is left."""


class Witness(Protocol):
    """Whoever owns the engine now, and is told of every moment; `dead`, it does nothing more."""

    name: str
    dead: bool

    def moment(self, kind: str) -> None:
        """Something is about to happen, or just has; raises Death where the process dies of it."""

    def begun(self) -> None:
        """A transaction that may write has begun."""

    def over(self) -> None:
        """The transaction in hand is over, whether it came to be or not."""

    def wrote(self, verb: str, table: str, statement: str, rows: int) -> None:
        """A statement of the transaction in hand has changed rows."""

    def committed(self) -> None:
        """The transaction in hand has come to be."""

    def mishap(self, what: str) -> bool:
        """Whether the database is to fail at this."""


@cache
def writes(statement: str) -> tuple[str, str] | None:
    """Verb and table of a statement that writes."""
    found = WRITING.match(statement)
    return (found[1].split()[0].lower(), found[2]) if found else None


class Slot:
    """An engine on the database's file, used by one process after the other.

    Only what SQLAlchemy has compiled outlives a process here: compiling it anew for each would be most of
    what a simulation does.
    """

    def __init__(self, url: str) -> None:
        self.witness: Witness | None = None
        self.database: Database = open_database(url)
        engine = self.database.engine
        self.is_synced = True
        """Whether SQLite, as the connector sets it, has each commit on the disk before it goes on."""
        self.pragma = ""
        """What the disk does to every connection from now on, as SQLite itself can be made to do it."""
        if self.database.is_sqlite:
            event.listen(engine, "connect", self._without_syncs)
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)
        event.listen(engine, "rollback", self._rolled_back)
        event.listen(engine, "connect", self._connected)
        self._do_commit: Callable[[Any], None] = engine.dialect.do_commit
        engine.dialect.do_commit = self._commit  # type: ignore[method-assign, assignment]
        self._writing = False
        self._raw: list[Any] = []

    def roll_back(self) -> None:
        """A process has died: its transaction ends with it, also where a cursor is still in use."""
        for connection in self._raw:
            with suppress(sqlite3.ProgrammingError, psycopg.OperationalError):
                connection.rollback()

    def commit(self) -> None:
        """Commit what is under way, before the process has asked for it."""
        for connection in self._raw:
            with suppress(sqlite3.ProgrammingError):
                connection.commit()

    def restrict(self, pragma: str) -> None:
        """Let the disk do something to all connections until the process has ended."""
        self.pragma = pragma
        for connection in self._raw:
            with suppress(sqlite3.ProgrammingError):
                connection.execute(pragma)

    def clear(self) -> None:
        """Nobody uses the engine any more."""
        self.roll_back()
        self._raw.clear()
        self.witness = None
        self.pragma = ""
        self._writing = False
        self.database.engine.dispose()

    def _before(self, _db: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if self.witness is None:
            return
        if statement == "BEGIN":
            self._writing = False
        elif statement.startswith("BEGIN") or statement == POSTGRES_PATIENCE:
            self._writing = False
            self.witness.moment("before begin")
            if self.witness.mishap("begin"):
                raise self._failure("database is locked")
            self.witness.begun()
        elif found := writes(statement):
            self._writing = True
            self.witness.moment(f"before {found[0]} {found[1]}")

    def _after(self, _db: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if self.witness is not None and (found := writes(statement)):
            self.witness.wrote(*found, statement, cursor.rowcount)
            self.witness.moment(f"after {found[0]} {found[1]}")

    def _commit(self, connection: Any) -> None:
        witness = self.witness
        if witness is None or not self._writing:
            self._do_commit(connection)
            if witness:
                witness.over()
            return
        self._writing = False
        witness.moment("before commit")
        if witness.mishap("commit"):
            raise self._failure("disk I/O error")
        self._do_commit(connection)
        witness.over()
        witness.committed()
        witness.moment("after commit")
        if witness.mishap("answer to commit"):
            raise self._failure("the connection was lost")

    def _failure(self, what: str) -> Exception:
        """Return an error of the driver, as the connector's engine raises it."""
        if self.database.is_sqlite:
            return sqlite3.OperationalError(what)
        return OperationalError(what, None, psycopg.OperationalError(what))

    def _connected(self, connection: Any, _record: Any) -> None:
        self._raw.append(connection)
        if self.pragma:
            connection.execute(self.pragma)

    def _without_syncs(self, connection: sqlite3.Connection, _record: Any) -> None:
        # A power cut takes what the connector's own setting would not have synced; waiting for a disk as
        # well would take time.
        (setting,) = connection.execute("PRAGMA synchronous").fetchone()
        self.is_synced = setting >= FULL
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA secure_delete=OFF")

    def _rolled_back(self, _db: Connection) -> None:
        if self.witness:
            self.witness.over()


class Disk:
    """The database, new for each life, and the engines on it, which are kept: a file on SQLite."""

    # Whether a transaction in the middle may wait for another process: who meets its locks does not wait.
    pauses_inside = True
    is_sqlite = True

    def __init__(self, folder: Path) -> None:
        self.file = folder / "state.sqlite"
        # Whoever meets a lock is told so at once: the process that holds it does not go on meanwhile.
        self.url = f"sqlite:///{self.file}?timeout=0"
        self._template = folder / "template.sqlite"
        self._slots: list[Slot] = []

    def fresh(self, now: Any) -> None:
        """An empty store; the migrations run once, as they cost more than a whole life."""
        self.close()
        if not self._template.exists():
            _prepare(f"sqlite:///{self._template}", now)
        # Into the same file: an engine notices when another takes its place.
        with closing(sqlite3.connect(self._template)) as template, closing(self.opened()) as file:
            template.backup(file)

    def close(self) -> None:
        """Let go of every connection."""
        for slot in self._slots:
            slot.clear()

    def slot(self) -> Slot:
        """An engine that no process uses."""
        for slot in self._slots:
            if slot.witness is None:
                return slot
        self._slots.append(Slot(self.url))
        return self._slots[-1]

    def opened(self) -> Any:
        """The database as it is, past the connector's own code; a placeholder is a question mark."""
        return sqlite3.connect(self.file, isolation_level=None)

    def _let_go(self) -> None:
        """Close every connection, also those that only the frames of the dead still hold."""
        self.close()
        gc.collect()

    def end_sessions(self) -> None:
        """End every session but this one, as a server does that is restarted; a file has none."""

    def only_read(self, only: bool) -> None:
        """Let everybody only read from now on; whoever has a session of a server loses it."""
        for slot in self.in_use if only else ():
            slot.restrict("PRAGMA query_only=ON")

    @property
    def in_use(self) -> list[Slot]:
        """The engines that processes use now."""
        return [slot for slot in self._slots if slot.witness is not None]

    def files(self) -> Files:
        """The bytes of the database and its log, as the programs see them."""
        paths = {name: self.file.with_name(self.file.name + name) for name in ("", LOG)}
        return {name: path.read_bytes() if path.exists() else b"" for name, path in paths.items()}

    def copied(self) -> Any:
        """A backup, made while nobody uses the database."""
        self._let_go()
        return self.files()

    def content(self) -> bytes:
        """What is committed."""
        with closing(self.opened()) as db:
            return bytes(db.serialize())

    def put(self, copy: Any) -> None:
        """Bring a copy back while nobody uses the database."""
        self._let_go()
        self.file.with_name(f"{self.file.name}-shm").unlink(missing_ok=True)
        for name, content in copy.items():
            # Into the same file: an engine notices when another takes its place.
            self.file.with_name(self.file.name + name).write_bytes(content)


def _prepare(url: str, now: Any) -> None:
    database = open_database(url)
    schema.ready(database, now)
    database.close()


class PostgresDisk(Disk):
    """A database on a server, which is made anew for each life from one that is kept."""

    # Whoever meets a lock there waits for it, and so for ever for one that is suspended.
    pauses_inside = False
    is_sqlite = False

    def __init__(self, server: str, name: str) -> None:
        self._server = make_url(server)
        self._name, self._kept = name, f"{name}_template"
        self.file = Path(name)
        self.url = self._url(name)
        self._slots = []

    def fresh(self, now: Any) -> None:
        self.close()
        with closing(self._connect(self._server)) as admin:
            if not admin.execute("SELECT 1 FROM pg_database WHERE datname = ?", [self._kept]).fetchall():
                admin.execute(f"CREATE DATABASE {self._kept} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
                _prepare(self._url(self._kept), now)
            admin.execute(f"DROP DATABASE IF EXISTS {self._name} WITH (FORCE)")
            admin.execute(f"CREATE DATABASE {self._name} TEMPLATE {self._kept}")

    def drop(self) -> None:
        """Leave nothing on the server."""
        self.close()
        with closing(self._connect(self._server)) as admin:
            for name in (self._name, self._kept):
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def opened(self) -> Any:
        return self._connect(make_url(self.url))

    def copied(self) -> Any:
        """What is committed, table by table, while others may go on; and where its numbers stand."""
        with self._session() as db:
            db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            tables = {}
            for table in metadata.tables:
                with db.cursor().copy(f"COPY {table} TO STDOUT (FORMAT BINARY)".encode()) as copy:
                    tables[table] = b"".join(copy)
            numbers = db.execute(
                "SELECT sequencename, coalesce(last_value, 1), last_value IS NOT NULL FROM pg_sequences"
            )
            return tables, numbers.fetchall()

    def put(self, copy: Any) -> None:
        """Bring a copy back; whoever has a session loses it."""
        tables, numbers = copy
        self.end_sessions()
        with self._session() as db:
            db.execute(f"TRUNCATE {', '.join(tables)}".encode())
            for table, content in tables.items():
                with db.cursor().copy(f"COPY {table} FROM STDIN (FORMAT BINARY)".encode()) as into:
                    into.write(content)
            for number in numbers:
                db.execute("SELECT setval(%s::regclass, %s, %s)", number)

    def end_sessions(self) -> None:
        with self._session() as db:
            db.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    def only_read(self, only: bool) -> None:
        with closing(self._connect(self._server)) as admin:
            setting = "default_transaction_read_only"
            admin.execute(
                f"ALTER DATABASE {self._name} {f'SET {setting} = on' if only else f'RESET {setting}'}"
            )
        self.end_sessions()

    def _session(self) -> psycopg.Connection:
        return psycopg.connect(
            make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        )

    def _url(self, name: str) -> str:
        return self._server.set(drivername="postgresql+psycopg", database=name).render_as_string(
            hide_password=False
        )

    @staticmethod
    def _connect(url: URL) -> "_Opened":
        conninfo = url.set(drivername="postgresql").render_as_string(hide_password=False)
        return _Opened(psycopg.connect(conninfo, autocommit=True, connect_timeout=10))


class _Opened:
    """A connection to a server that takes what SQLite's takes."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def execute(self, query: str, values: Any = ()) -> Any:
        return self._connection.execute(query.replace("?", "%s").encode(), values or None)

    def commit(self) -> None:
        self._connection.commit()

    def close(self) -> None:
        self._connection.close()

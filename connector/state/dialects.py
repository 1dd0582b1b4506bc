"""SQLite and PostgreSQL: how each is opened, and statements that both understand."""

import os
import sqlite3
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Engine, Table, case, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from connector.errors import ConfigurationError, DatabaseUnreachable

BUSY_TIMEOUT = 30.0
# On closing, this process waits no longer for others.
CLOSING_TIMEOUT = 1.0
# When several processes turn a new file to WAL at once, SQLite refuses all but one without waiting.
WAL_TRIES = 10
# Per transaction, since PgBouncer shares sessions: no statement waits for a lock for ever, and a run that
# hangs in the middle of writing loses its locks.
POSTGRES_PATIENCE = (
    "SELECT set_config('lock_timeout', '30s', true), "
    "set_config('idle_in_transaction_session_timeout', '60s', true)"
)


# --- opening -----------------------------------------------------------------------------------------------


def open_sqlite(url: URL) -> Engine:
    """Return an engine on a file, which is created (mode 0600) if it is missing."""
    path = Path(url.database or "")
    _make_private(path)
    engine = create_engine(
        url,
        poolclass=QueuePool,
        hide_parameters=True,
        connect_args={
            "timeout": float(str(url.query.get("timeout", BUSY_TIMEOUT))),
            "check_same_thread": False,
        },
    )
    file = DatabaseFile(path)
    event.listen(engine, "connect", _sqlite_connected)
    event.listen(engine, "connect", lambda *_: file.remember())
    event.listen(engine, "begin", lambda _: file.check())
    event.listen(engine, "begin", _sqlite_begun)
    return engine


class DatabaseFile:
    """A path, and which file was there when it was first opened.

    A process keeps using the files that it has opened, also when they are removed or replaced by a backup.
    Its writes would then be lost without a message, or split between two files.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first: tuple[int, int] | None = None

    def remember(self) -> None:
        """Remember the file at the first connection: an overlay's file changes when it is first opened."""
        self._first = self._first or self._present()

    def check(self) -> None:
        """Raise DatabaseUnreachable if the file was removed or replaced."""
        present = self._present()
        if present != self._first:
            what = "replaced by another file" if present else "removed"
            raise DatabaseUnreachable(
                f"The database file {self._path} was {what} while this process used it.",
                means="The last changes may be in the other file only. This process reads and sends "
                "nothing more.",
                todo="Restore the file. Or restart this process: it continues with the present file, and "
                "may send rows again that only the other file recorded.",
            )

    def _present(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


def _make_private(path: Path) -> None:
    if not path.is_absolute():
        raise ValueError("relative")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # An existing file is not opened here: closing it would drop this process's locks on it.
        if not path.exists():
            path.touch(0o600)
        if path.is_dir():
            raise IsADirectoryError(None, "Is a directory")
    except OSError as error:
        raise DatabaseUnreachable(
            f"The database {path} cannot be opened: {error.strerror}.",
            todo="Set DATABASE_URL to a place that this user may write to.",
        ) from None


def _sqlite_connected(connection: sqlite3.Connection, _entry: Any) -> None:
    # The driver's own transactions begin too late and lose updates.
    connection.isolation_level = None
    _turn_to_wal(connection)
    # The ledger survives a power cut only if each commit has reached the disk.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=ON")


def _turn_to_wal(connection: sqlite3.Connection) -> None:
    for last in (False,) * (WAL_TRIES - 1) + (True,):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if last:
                raise
            connection.execute("BEGIN IMMEDIATE")  # this one waits for its turn
            connection.execute("ROLLBACK")


def _is_reading(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("reading"))


def _sqlite_begun(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN" if _is_reading(connection) else "BEGIN IMMEDIATE")


def truncate_log(connection: sqlite3.Connection) -> None:
    """Empty the write-ahead log, which still holds deleted text."""
    connection.execute(f"PRAGMA busy_timeout={CLOSING_TIMEOUT * 1000:.0f}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def copy_sqlite(connection: sqlite3.Connection, path: Path) -> None:
    """Copy the database as this connection sees it, with SQLite's backup; others may keep working."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    target = sqlite3.connect(path)
    try:
        connection.backup(target)
        # One complete file without a log beside it.
        target.execute("PRAGMA journal_mode=DELETE")
    finally:
        target.close()


def open_postgres(url: URL, workers: int) -> Engine:
    """Return an engine for a server, without connecting to it."""
    if "@" in (url.host or ""):
        # The part before it is the end of the password, and would be taken as a host.
        raise ConfigurationError(
            "The password in DATABASE_URL holds an '@'.",
            todo="Write it as %40, and encode other special characters in the same way.",
        )
    # Prepared statements do not survive PgBouncer in transaction mode. A dead peer is noticed in a minute.
    parameters: dict[str, Any] = {
        "prepare_threshold": None,
        # Else the database's own encoding: with SQL_ASCII (initdb's in the C locale) texts come as
        # bytes.
        "client_encoding": "UTF8",
        "connect_timeout": 10,
        "keepalives_idle": 30,
        "tcp_user_timeout": 60_000,
    }
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        poolclass=QueuePool,
        pool_size=max(2, workers),
        max_overflow=2,
        pool_pre_ping=True,
        hide_parameters=True,
        # What the statements here rely on, whatever the server's default.
        isolation_level="READ COMMITTED",
        connect_args={name: value for name, value in parameters.items() if name not in url.query},
    )
    event.listen(engine, "begin", _postgres_begun)
    event.listen(engine, "connect", _postgres_connected)
    return engine


def _postgres_connected(connection: Any, _entry: Any) -> None:
    """Return as text the PostgreSQL dates that Python lacks: a column's type cannot read them."""
    from psycopg import DataError
    from psycopg.types.datetime import TimestampLoader

    class Lenient(TimestampLoader):
        def load(self, data: Any) -> Any:
            try:
                return super().load(data)
            except DataError:
                return bytes(data).decode()

    connection.adapters.register_loader("timestamp", Lenient)


def _postgres_begun(connection: Connection) -> None:
    if not _is_reading(connection):
        connection.exec_driver_sql(POSTGRES_PATIENCE)


# --- statements --------------------------------------------------------------------------------------------
# Each statement is built once: building costs more than running.

Values = Sequence[Mapping[str, Any]]


def insert_into(dialect: str, table: Table) -> Any:
    """Return an INSERT that supports ON CONFLICT and RETURNING."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    # The import takes a tenth of a sync's start-up time, for nothing on SQLite.
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def add(db: Connection, table: Table, values: Values) -> None:
    """Insert the rows that are missing."""
    if values:
        db.execute(_adding(db.dialect.name, table, None), values)


def add_new(db: Connection, table: Table, values: Values, returning: Column[Any]) -> list[Any]:
    """Insert the rows that are missing, and return a column of those: the database decides."""
    if not values:
        return []
    return list(db.execute(_adding(db.dialect.name, table, returning), values).scalars())


@cache
def _adding(dialect: str, table: Table, returning: Column[Any] | None) -> Any:
    statement = insert_into(dialect, table).on_conflict_do_nothing()
    return statement if returning is None else statement.returning(returning)


def put(db: Connection, table: Table, values: Values, *, without: str = "") -> None:
    """Insert or overwrite rows; an existing row keeps its value in the column `without`."""
    if values:
        db.execute(_putting(db.dialect.name, table, without), values)


@cache
def _putting(dialect: str, table: Table, without: str) -> Any:
    new = insert_into(dialect, table)
    over = [column.name for column in table.c if not column.primary_key and column.name != without]
    return _or_update(table, new, {name: new.excluded[name] for name in over})


def add_up(db: Connection, table: Table, values: Values, name: str) -> None:
    """Insert rows, or add to the column `name` of existing ones."""
    if values:
        db.execute(_adding_up(db.dialect.name, table, name), values)


@cache
def _adding_up(dialect: str, table: Table, name: str) -> Any:
    new = insert_into(dialect, table)
    return _or_update(table, new, {name: table.c[name] + new.excluded[name]})


def keep_larger(db: Connection, table: Table, values: Values, name: str) -> None:
    """Insert rows, or keep the larger value of the column `name`."""
    if values:
        db.execute(_keeping_larger(db.dialect.name, table, name), values)


@cache
def _keeping_larger(dialect: str, table: Table, name: str) -> Any:
    new = insert_into(dialect, table)
    stored, other = table.c[name], new.excluded[name]
    return _or_update(table, new, {name: case((stored < other, other), else_=stored)})


def _or_update(table: Table, new: Any, values: Mapping[str, Any]) -> Any:
    return new.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=values)

"""A SQLite database: its file, its rights, its settings."""

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from connector.errors import DatabaseUnreachable

BUSY_TIMEOUT = 30.0
# What is left to do on closing is left to others rather than waited for.
CLOSING_TIMEOUT = 1.0
# Of several processes that turn a new file to WAL at once, SQLite turns all but one away unwaited.
WAL_TRIES = 10


def open_file(url: URL) -> Engine:
    """An engine on a file, which is created (mode 0600) where there is none."""
    _make_private(Path(url.database or ""))
    engine = create_engine(
        url,
        poolclass=QueuePool,
        hide_parameters=True,
        connect_args={
            "timeout": float(str(url.query.get("timeout", BUSY_TIMEOUT))),
            "check_same_thread": False,
        },
    )
    file = DatabaseFile(Path(url.database or ""))
    event.listen(engine, "connect", _connected)
    event.listen(engine, "connect", lambda *_: file.remember())
    event.listen(engine, "begin", lambda _: file.check())
    event.listen(engine, "begin", _begun)
    return engine


class DatabaseFile:
    """A path, and which file was there when it was first opened.

    A process goes on with the files that it has opened, also when they are removed, or replaced by a backup.
    What it wrote then would be lost without a word, or half of it stand in one file and half in another.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None

    def remember(self) -> None:
        """Once: at the first connection, since a file of an overlay changes when it is first opened."""
        self._file = self._file or self._there()

    def check(self) -> None:
        """Raise DatabaseUnreachable where another file is there by now, or none."""
        found = self._there()
        if found != self._file:
            what = "replaced by another file" if found else "removed"
            raise DatabaseUnreachable(
                f"The database file {self._path} was {what} while this process used it.",
                means="The last changes may be in the other file only. This process reads and sends "
                "nothing more.",
                todo="Restore the file. Or restart this process: it continues with the present file, and "
                "may send rows again that only the other file recorded.",
            )

    def _there(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _make_private(path: Path) -> None:
    if not path.is_absolute():
        raise ValueError("relative")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A file that is there is not opened: closing it would drop the locks this process has on it.
        if not path.exists():
            path.touch(0o600)
        if path.is_dir():
            raise IsADirectoryError(None, "Is a directory")
    except OSError as error:
        raise DatabaseUnreachable(
            f"The database {path} cannot be opened: {error.strerror}.",
            todo="Set DATABASE_URL to a place that this user may write to.",
        ) from None


def _connected(connection: sqlite3.Connection, _entry: Any) -> None:
    # The driver's own transactions begin too late and lose updates.
    connection.isolation_level = None
    _turn_to_wal(connection)
    # The ledger's promise holds through a power cut only if each commit has reached the disk.
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


def _begun(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def truncate_log(connection: sqlite3.Connection) -> None:
    """Empty the write-ahead log, which still holds deleted text."""
    connection.execute(f"PRAGMA busy_timeout={CLOSING_TIMEOUT * 1000:.0f}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def copy_to(connection: sqlite3.Connection, path: Path) -> None:
    """Copy the database as this connection sees it, by SQLite itself, while others may go on."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    target = sqlite3.connect(path)
    try:
        connection.backup(target)
        # One file, whole without a log beside it.
        target.execute("PRAGMA journal_mode=DELETE")
    finally:
        target.close()

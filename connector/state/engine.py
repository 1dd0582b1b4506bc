"""The engine: one way to open the store, one way to begin a transaction."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import QueuePool

from connector.errors import ConfigurationError, StoreUnreachable

BUSY_TIMEOUT = 30.0


class Store:
    """The state store. `write` and `read` are the only ways in."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reading = engine.execution_options(reading=True)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @property
    def path(self) -> Path | None:
        """The file of a SQLite store."""
        name = self.engine.url.database
        return Path(name) if self.is_sqlite and name else None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that writes; on SQLite it holds the write lock from its start."""
        with _errors_filed(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only reads, and on SQLite waits for nobody."""
        with _errors_filed(), self._reading.begin() as connection:
            yield connection

    def insert(self, table: Any) -> Any:
        """An INSERT that knows ON CONFLICT and RETURNING, which both databases spell alike."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def close(self) -> None:
        """Leave nothing behind: SQLite's write-ahead log still holds deleted text until truncated."""
        if self.is_sqlite:
            with _errors_filed(), self.engine.connect() as connection:
                connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
        self.engine.dispose()


@contextmanager
def _errors_filed() -> Iterator[None]:
    """The driver's errors carry statements and values; ours must not."""
    try:
        yield
    except DBAPIError as error:
        raise StoreUnreachable(f"The state store failed: {_first_line(error.orig)}.") from None


def _first_line(error: BaseException | None) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def open_store(url: str) -> Store:
    """Open the store at a SQLAlchemy URL; nothing is created but an empty SQLite file (mode 0600).

    Raises ConfigurationError for a URL that cannot work, StoreUnreachable when nobody answers there.
    """
    try:
        parsed = make_url(url)
        engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgres(parsed)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError):
        raise ConfigurationError(
            "DATABASE_URL is not a database this connector can use.",
            todo="Use sqlite:////absolute/path or postgresql://user@host/database "
            "(the latter needs the extra: pip install 'beamer-segment-connector[postgres]').",
        ) from None
    return Store(engine)


def _postgres(url: URL) -> Engine:
    return create_engine(
        url,
        poolclass=QueuePool,
        pool_size=2,
        max_overflow=2,
        pool_pre_ping=True,
        hide_parameters=True,
        # Prepared statements do not survive PgBouncer in transaction mode.
        connect_args={"prepare_threshold": None, "connect_timeout": 10},
    )


def _sqlite(url: URL) -> Engine:
    _private_file(Path(url.database or ""))
    engine = create_engine(
        url,
        poolclass=QueuePool,
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
    )
    event.listen(engine, "connect", _sqlite_connect)
    event.listen(engine, "begin", _sqlite_begin)
    return engine


def _private_file(path: Path) -> None:
    if not path.is_absolute():
        raise ValueError("relative")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreUnreachable(
            f"The state store {path} cannot be opened: {error.strerror}.",
            todo="Give DATABASE_URL a place that this user may write to.",
        ) from None


def _sqlite_connect(connection: Any, _record: Any) -> None:
    # The driver's own transactions begin too late and lose updates (observed-facts.md).
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _sqlite_begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

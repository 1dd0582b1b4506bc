"""The engine: one way to open the store, one way to begin a transaction."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import QueuePool

from connector.errors import ConfigurationError, StoreUnreachable
from connector.state import sqlite_file
from connector.state.trouble import filed

SQLITE = ("sqlite", "sqlite+pysqlite")
POSTGRES = ("postgresql", "postgresql+psycopg")
# Per transaction, since PgBouncer hands sessions on: nobody waits for a lock for ever, and a run that hangs
# in the middle of writing loses its locks.
POSTGRES_PATIENCE = (
    "SELECT set_config('lock_timeout', '30s', true), "
    "set_config('idle_in_transaction_session_timeout', '60s', true)"
)


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

    def __str__(self) -> str:
        """Where the store is, without user and password."""
        url = self.engine.url
        return str(self.path) if self.is_sqlite else f"{url.database} on {url.host or 'this machine'}"

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that writes; on SQLite it holds the write lock from its start."""
        with filed(str(self)), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only reads, and on SQLite waits for nobody."""
        with filed(str(self)), self._reading.begin() as connection:
            yield connection

    def close(self) -> None:
        """Leave nothing behind; what cannot be cleaned up now is by the next one to close."""
        if self.is_sqlite:
            with contextlib.suppress(StoreUnreachable), filed(str(self)), self.engine.connect() as connection:
                sqlite_file.truncate_log(driver(connection))
        self.engine.dispose()


def driver(connection: Connection) -> Any:
    """The driver's own connection, for what SQLAlchemy has no words for."""
    return connection.connection.driver_connection


def open_store(url: str) -> Store:
    """Open the store at a SQLAlchemy URL; nothing is asked of it yet, only a SQLite file is created.

    Raises ConfigurationError for a URL that cannot work, StoreUnreachable for a file that cannot be made.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in SQLITE:
            return Store(sqlite_file.open_file(parsed))
        if parsed.drivername in POSTGRES:
            return Store(_postgres(parsed))
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError):
        pass
    raise ConfigurationError(
        "DATABASE_URL is not a database this connector can use.",
        todo="Use sqlite:////absolute/path or postgresql://user@host/database "
        "(the latter needs the extra: pip install 'beamer-segment-connector[postgres]').",
    )


def _postgres(url: URL) -> Engine:
    if "@" in (url.host or ""):
        # What stands before it is the end of the password, and would be named as a host.
        raise ConfigurationError(
            "The password in DATABASE_URL holds an '@'.", todo="Write it as %40, and other signs likewise."
        )
    # Prepared statements do not survive PgBouncer in transaction mode. A dead peer is noticed in a minute.
    given: dict[str, Any] = {
        "prepare_threshold": None,
        "connect_timeout": 10,
        "keepalives_idle": 30,
        "tcp_user_timeout": 60_000,
    }
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        poolclass=QueuePool,
        pool_size=2,
        max_overflow=2,
        pool_pre_ping=True,
        hide_parameters=True,
        # What the statements here rely on, whatever the server's default.
        isolation_level="READ COMMITTED",
        connect_args={name: value for name, value in given.items() if name not in url.query},
    )
    event.listen(engine, "begin", _postgres_begun)
    return engine


def _postgres_begun(connection: Connection) -> None:
    if not connection.get_execution_options().get("reading"):
        connection.exec_driver_sql(POSTGRES_PATIENCE)

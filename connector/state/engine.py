"""The engine: one way to open the store, one way to begin a transaction."""

import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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

# In a connection's `info`: the lease that its transaction has made sure of.
HELD = "lease"


class Store:
    """The state store. `write` and `read` are the only ways in."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reading = engine.execution_options(reading=True)
        # SQLite lets one write at a time, and looks only now and then whether it may: threads of one
        # process wait for each other here, without losing time.
        self._turn: AbstractContextManager[object] = threading.Lock() if self.is_sqlite else nullcontext()
        self._mine = threading.local()

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
        if (outer := getattr(self._mine, "connection", None)) is not None:
            with filed(str(self)), _part_of(outer):
                yield outer
            return
        with self._turn, filed(str(self)), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def together(self) -> Iterator[None]:
        """Everything that this thread writes meanwhile is committed at once, at the end.

        Each write is still all or nothing by itself. A commit has to reach the disk, which may take
        longer than all that is written with it.
        """
        with self.write() as connection:
            self._mine.connection = connection
            try:
                yield
            finally:
                self._mine.connection = None

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


@contextmanager
def _part_of(outer: Connection) -> Iterator[None]:
    """A part of a transaction, all or nothing by itself.

    In the driver's own words: SQLAlchemy's way of saying them takes a sixth of what a page of history costs.
    """
    say = driver(outer).execute
    say("SAVEPOINT part")
    try:
        yield
    except BaseException:
        outer.info.pop(HELD, None)
        # A full disk may have undone the whole transaction already: what went wrong first is what is said.
        with contextlib.suppress(Exception):
            say("ROLLBACK TO part")
            say("RELEASE part")
        raise
    say("RELEASE part")


def driver(connection: Connection) -> Any:
    """The driver's own connection, for what SQLAlchemy has no words for."""
    return connection.connection.driver_connection


def open_store(url: str, *, workers: int = 1) -> Store:
    """Open the store at a SQLAlchemy URL; nothing is asked of it yet, only a SQLite file is created.

    `workers` threads of this process will use it at once; it may be more, which then wait for each other.

    Raises ConfigurationError for a URL that cannot work, StoreUnreachable for a file that cannot be made.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in SQLITE:
            return Store(sqlite_file.open_file(parsed))
        if parsed.drivername in POSTGRES:
            return Store(_postgres(parsed, workers))
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError):
        pass
    raise ConfigurationError(
        "DATABASE_URL is not a database this connector can use.",
        todo="Use sqlite:////absolute/path or postgresql://user@host/database.",
    )


def _postgres(url: URL, workers: int) -> Engine:
    if "@" in (url.host or ""):
        # What stands before it is the end of the password, and would be named as a host.
        raise ConfigurationError(
            "The password in DATABASE_URL holds an '@'.", todo="Write it as %40, and other signs likewise."
        )
    # Prepared statements do not survive PgBouncer in transaction mode. A dead peer is noticed in a minute.
    given: dict[str, Any] = {
        "prepare_threshold": None,
        # Else the database's own: of one without (SQL_ASCII, what initdb makes in the C locale) texts come
        # as bytes.
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
        connect_args={name: value for name, value in given.items() if name not in url.query},
    )
    event.listen(engine, "begin", _postgres_begun)
    return engine


def _postgres_begun(connection: Connection) -> None:
    if not connection.get_execution_options().get("reading"):
        connection.exec_driver_sql(POSTGRES_PATIENCE)

"""The database: opened, read and written in transactions, its errors translated to ours."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, exc
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, NoSuchModuleError

from connector.errors import ConfigurationError, DatabaseRefused, DatabaseUnreachable, StateDamaged
from connector.state import damage, dialects
from connector.state.columns import Needed, taken_notes
from connector.state.damage import Unreadable


@contextmanager
def translated_errors(database: str) -> Iterator[None]:
    """Turn errors of the database and its driver into DatabaseUnreachable; `database` is its address.

    An error that lasts until a person changes DATABASE_URL or the database becomes DatabaseRefused.
    """
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        refused, reason = _reason(error)
        if "integer overflow" in reason:
            raise StateDamaged(
                f"A number in the database {database} is out of range.",
                todo="Run `beamer-segment state repair`: it names the value.",
            ) from None
        raise (DatabaseRefused if refused else DatabaseUnreachable)(
            f"The database {database} failed: {reason}.",
            means=_first(MEANS, reason),
            todo=_first(TODO, reason),
        ) from None
    except exc.TimeoutError:
        raise DatabaseUnreachable(f"The database {database} has no free connection.") from None


def _reason(error: Exception) -> tuple[bool, str]:
    """Return whether retrying is useless, and the line that gives the reason.

    It is the first line, because PostgreSQL puts rows into the next ones; none for a refused value.
    """
    driver = error.orig if isinstance(error, DBAPIError) and error.orig else error
    state = getattr(driver, "sqlstate", None)
    if isinstance(error, DataError | IntegrityError):
        return False, f"{type(driver).__name__} {state or ''}".strip()
    lines = str(driver).strip().splitlines() or [type(driver).__name__]
    if state or isinstance(driver, sqlite3.Error):
        return state in REFUSING, lines[0].rstrip(".")
    # One line for each address that was tried. A server's answer explains more than an unreachable address.
    refusing = [line for line in lines if _refuses(line)]
    return bool(refusing), _last_part(refusing[0] if refusing else lines[0])


def _refuses(line: str) -> bool:
    """Return whether only a person can correct a failure to connect: the driver has no code for it."""
    line = line.lower()
    if "fatal:" in line:
        return not any(words in line for words in PASSING)
    return any(words in line for words in REFUSED_SETTINGS)


def _last_part(line: str) -> str:
    """Return a line without the address, which starts it if several were tried."""
    return line.rpartition(": connection failed: ")[2].lstrip("- ").rstrip(".")


# By SQLSTATE: no privilege, no such schema, role or database, wrong password.
REFUSING = frozenset({"42501", "3F000", "28000", "28P01", "3D000"})
# A server also answers FATAL if it is starting or full, or if its pooler has lost it.
PASSING = (
    "starting up",
    "shutting down",
    "recovery",
    "not yet accepting",
    "too many",
    "remaining connection slots",
    "connection limit",
    "no more connections",
    "max clients",
    "max_client_conn",
    "terminating connection",
    "canceling",
    "timeout",
    "timed out",
    "memory",
    "could not",
    "server login has been failing",
    "server_login_retry",
    "cannot connect to server",
    "server down",
    "server conn crashed",
    "pooler_error",
    "paused",
    "request failed",
)
# Messages of the driver and libpq about the URL, or about what the server requires and the URL does not give.
REFUSED_SETTINGS = (
    "invalid connection option",
    "bad value for",
    "connection is bad: invalid",
    "could not match",
    "definition of service",
    "does not support ssl",
    "certificate",
    "private key",
    "no password supplied",
    "password retrieved",
    "authentication",
    "channel binding",
    "gssapi",
)
BACKUP = (
    "from a backup, without its -wal and -shm files. Messages sent since the backup are sent again with "
    "the same messageIds; enter the used requests with `quota set-used`."
)
_SCHEMA = "?options=-csearch_path%3Dname_of_the_schema"
NO_SCHEMA = (
    "Create the schema that the search_path names for this role (CREATE SCHEMA … AUTHORIZATION …), or "
    f"name another schema in DATABASE_URL: {_SCHEMA}"
)
# By the texts of SQLite's result codes and PostgreSQL's messages.
TODO = {
    **dict.fromkeys(
        ('option "schema"', 'option "currentSchema"', 'option "search_path"'),
        f"Name the schema in DATABASE_URL in libpq's form: {_SCHEMA}",
    ),
    'option "ssl"': "In DATABASE_URL write sslmode=require in place of ssl=.",
    'option "pgbouncer"': "Remove pgbouncer= from DATABASE_URL: PgBouncer needs no parameter here.",
    "invalid connection option": "Remove this parameter from DATABASE_URL: only libpq's parameters may "
    "follow the '?', such as sslmode=require.",
    "startup parameter": "Remove options= from DATABASE_URL: PgBouncer does not pass it on. Set the "
    "role's search_path instead: ALTER ROLE … SET search_path = …",
    "support SSL": "Set sslmode= in DATABASE_URL to what the server offers.",
    "certificate": "Correct sslmode=, sslrootcert=, sslcert= or sslkey= in DATABASE_URL.",
    "disk is full": "Free disk space; the next run continues where this one stopped.",
    "disk I/O error": "Check its disk for space and damage; the next run continues where this one stopped.",
    "No space left": "Free disk space; the next run continues where this one stopped.",
    "is locked": "Another program has locked it: wait for that program, or stop it. Then run again.",
    "lock timeout": "Another session has locked it: wait for that session, or stop it. Then run again.",
    "readonly": "Allow this user to write to the file and its folder, or set DATABASE_URL.",
    "unable to open": "Allow this user to write to the file and its folder, or set DATABASE_URL.",
    "read-only": "Set DATABASE_URL to a server that accepts writes.",
    "permission denied for database": "GRANT CONNECT ON DATABASE … TO the role of DATABASE_URL.",
    "permission denied for schema": "GRANT USAGE, CREATE ON SCHEMA … TO the role of DATABASE_URL.",
    "permission denied": "Allow DATABASE_URL's user to create and change tables there.",
    "password": "Correct user and password in DATABASE_URL.",
    "authentication": "Correct user and password in DATABASE_URL.",
    "not permitted to log in": "Allow this role to log in (ALTER ROLE … LOGIN), or change DATABASE_URL.",
    "pg_hba.conf": "Allow this role to connect from this machine (pg_hba.conf), or correct DATABASE_URL.",
    "resolve host": "If this happens again, correct the host in DATABASE_URL.",
    "translate host": "If this happens again, correct the host in DATABASE_URL.",
    "no schema has been selected": NO_SCHEMA,
    "does not exist": "Create what is missing there, or correct DATABASE_URL.",
    "already exists": "The database holds some of the connector's tables, but not their version: restore "
    "all of it from a backup, or set DATABASE_URL to an empty database.",
    "not a database": f"Set DATABASE_URL to another file, or restore this one {BACKUP}",
    "malformed": f"Restore it {BACKUP} Or start with a new file and the same BEAMER_START_DATE.",
}
MEANS = dict.fromkeys(
    ("not a database", "malformed"),
    "Data that only this database held may be lost: waiting messages, ids of sent rows, used requests.",
)


def _first(by_words: Mapping[str, str], reason: str) -> str:
    return next((text for words, text in by_words.items() if words in reason), "")


SQLITE = ("sqlite", "sqlite+pysqlite")
POSTGRES = ("postgresql", "postgresql+psycopg")

# The key in a connection's `info` of its transaction, the lease that this has checked, and its renewals.
HELD = "lease"


class Database:
    """The database; `write` and `read` are the only ways to use it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reading = engine.execution_options(reading=True)
        # SQLite allows one write at a time, and polls for its lock: threads of one process wait for each
        # other with this lock, without losing time.
        self._lock: AbstractContextManager[object] = threading.Lock() if self.is_sqlite else nullcontext()
        self._mine = threading.local()
        # Whether unreadable values are replaced; a command that only reads leaves them.
        self.mends = True
        self.unreadable: dict[str, Unreadable] = {}

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @property
    def path(self) -> Path | None:
        """Return the file of a SQLite database."""
        name = self.engine.url.database
        return Path(name) if self.is_sqlite and name else None

    def __str__(self) -> str:
        """Return the database's location, without user and password."""
        url = self.engine.url
        return str(self.path) if self.is_sqlite else f"{url.database} on {url.host or 'this machine'}"

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes; on SQLite it holds the write lock from its start."""
        if (outer := getattr(self._mine, "connection", None)) is not None:
            with translated_errors(str(self)), _part_of(outer):
                yield outer
            return
        with self._lock, translated_errors(str(self)), self._sound(self.engine) as connection:
            self._mine.writing = True
            try:
                yield connection
            finally:
                self._mine.writing = False
            transaction, lease, renewals = connection.info.get(HELD, (None, None, 0))
            checked = lease if transaction is connection.get_transaction() else None
        if checked:
            checked.committed(renewals)
        self._mend()

    @contextmanager
    def _sound(self, engine: Engine) -> Iterator[Connection]:
        """Open a transaction; raise StateDamaged if it needs a value that cannot be read."""
        try:
            with engine.begin() as connection:
                try:
                    yield connection
                except Needed:
                    # The statement that read the value is still open, and would keep its lock.
                    connection.invalidate()
                    raise
        except Needed as needed:
            with self._reading.begin() as connection:
                raise damage.error(connection, needed) from None

    def _mend(self) -> None:
        """Replace the values that this thread could not read, or note them where they stay."""
        if getattr(self._mine, "writing", False) or not (columns := taken_notes()):
            return
        # On a full or read-only disk the command continues with the replacements.
        with contextlib.suppress(DatabaseUnreachable):
            if self.mends:
                damage.mend(self, columns)
                return
            with translated_errors(str(self)), self._reading.begin() as connection:
                values = damage.unreadable_values(connection, columns)
            self.unreadable |= {value.where: value for value in values}

    @contextmanager
    def together(self) -> Iterator[None]:
        """Commit all writes of this thread inside the block at once, at the end.

        Each write is still all or nothing by itself. One commit waits for the disk once, which may take
        longer than the writes.
        """
        with self.write() as connection:
            self._mine.connection = connection
            try:
                yield
            finally:
                self._mine.connection = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads; on SQLite it does not wait for others."""
        with translated_errors(str(self)), self._sound(self._reading) as connection:
            yield connection
        self._mend()

    def close(self) -> None:
        """Close the database; a failed clean-up is left to the next process that closes it."""
        if self.is_sqlite:
            with (
                contextlib.suppress(DatabaseUnreachable),
                translated_errors(str(self)),
                self.engine.connect() as connection,
            ):
                dialects.truncate_log(driver(connection))
        self.engine.dispose()


@contextmanager
def _part_of(outer: Connection) -> Iterator[None]:
    """Run a part of a transaction, all or nothing by itself.

    Uses the driver: SQLAlchemy's savepoints take a sixth of the time that a page of history costs.
    """
    execute = driver(outer).execute
    execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        outer.info.pop(HELD, None)
        # A full disk may have undone the whole transaction already: report the first error.
        with contextlib.suppress(Exception):
            execute("ROLLBACK TO part")
            execute("RELEASE part")
        raise
    execute("RELEASE part")


def driver(connection: Connection) -> Any:
    """Return the driver's own connection, for what SQLAlchemy cannot express."""
    return connection.connection.driver_connection


def open_database(url: str, *, workers: int = 1) -> Database:
    """Open the database at a SQLAlchemy URL, without connecting; a missing SQLite file is created.

    `workers` threads of this process use it at once; further ones wait for each other.

    Raises ConfigurationError for a URL that cannot work, DatabaseUnreachable for a file it cannot create.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in SQLITE:
            return Database(dialects.open_sqlite(parsed))
        if parsed.drivername in POSTGRES:
            return Database(dialects.open_postgres(parsed, workers))
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError):
        pass
    raise ConfigurationError(
        "DATABASE_URL does not name a database that this connector can use.",
        todo="Use sqlite:////absolute/path or postgresql://user@host/database.",
    )

"""What every test shares: a database on both databases, a clean environment, and no way out but loopback."""

import getpass
import os
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from socket import AF_UNIX
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import URL, make_url

from connector.state import schema
from connector.state.engine import Database, open_database

DEFAULT_SERVER = "postgresql+psycopg://{user}@127.0.0.1:5432/postgres"
NO_SERVER = "no PostgreSQL server answers (set TEST_POSTGRES_URL, or start one on 127.0.0.1:5432)"

PRIVATE_SETTINGS = ("BEAMER_", "SEGMENT_", "AIRFLOW", "DATABASE_URL", "CONNECTOR_", "LOG_")
PLACE_SETTINGS = ("KUBERNETES_SERVICE_HOST", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


# --- stores -------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty store, once as a SQLite file and once as a PostgreSQL database."""
    fixture = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(fixture))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database that is ready, once on each of them."""
    made = open_database(database_url)
    schema.ready(made, datetime(2026, 3, 1, 12, tzinfo=UTC))
    yield made
    made.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'state.sqlite'}"


@pytest.fixture
def postgres_url(postgres_admin: psycopg.Connection | None, postgres_server: str | None) -> Iterator[str]:
    """An empty PostgreSQL database of the test's own, dropped afterwards."""
    if postgres_admin is None or postgres_server is None:
        if os.environ.get("REQUIRE_POSTGRES") or os.environ.get("TEST_POSTGRES_URL"):
            pytest.fail(NO_SERVER)
        pytest.skip(NO_SERVER)
    name = f"beamer_segment_test_{uuid4().hex[:16]}"
    # template0 takes no connections, so that creating never waits for somebody else's.
    postgres_admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'".encode())
    try:
        yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    finally:
        postgres_admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def postgres_admin(postgres_server: str | None) -> Iterator[psycopg.Connection | None]:
    """The connection that makes and drops databases."""
    if postgres_server is None:
        yield None
        return
    with connect(make_url(postgres_server)) as admin:
        yield admin


@pytest.fixture(scope="session")
def postgres_server() -> str | None:
    """The URL of a PostgreSQL server where databases may be made, or None where none answers."""
    named = os.environ.get("TEST_POSTGRES_URL")
    users = ("postgres", getpass.getuser())
    candidates = [named] if named else [DEFAULT_SERVER.format(user=user) for user in users]
    for candidate in candidates:
        url = make_url(candidate).set(drivername="postgresql+psycopg")
        try:
            connect(url).close()
        except psycopg.OperationalError:
            continue
        return url.render_as_string(hide_password=False)
    return None


def connect(url: URL) -> psycopg.Connection:
    conninfo = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(conninfo, autocommit=True, connect_timeout=2)


# --- surroundings -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the settings of whoever runs the tests, and keep their store and env file out of reach."""
    for name in list(os.environ):
        if name.upper().startswith(PRIVATE_SETTINGS) or name.upper() in PLACE_SETTINGS:
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config-home"))


@pytest.fixture(scope="session", autouse=True)
def hanging_up_ends_a_process() -> None:
    """As it does by default: under `nohup` the processes of the tests would begin with SIGHUP ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def loopback_only() -> Iterator[None]:
    """Fail whatever looks up or contacts another machine from this process."""
    guarding = True

    def guard(event: str, args: tuple[object, ...]) -> None:
        if guarding and event in WAYS_OUT:
            refuse_unless_local(event, args)

    sys.addaudithook(guard)  # a hook stays for ever, hence the flag
    yield
    guarding = False


WAYS_OUT = ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")


def refuse_unless_local(event: str, args: tuple[object, ...]) -> None:
    host: object = args[0]
    if event in ("socket.connect", "socket.sendto"):
        if getattr(args[0], "family", None) == AF_UNIX:
            return
        address = args[1]
        host = address[0] if isinstance(address, tuple) else address
    if not is_local(host):
        # Not an Exception, so that no handler in the code under test takes it for a failed connection.
        pytest.fail(f"{event}: a test reached for {host!r}; only loopback may be contacted")


def is_local(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost"):
        return True
    try:
        return ip_address(str(host)).is_loopback
    except ValueError:
        return False

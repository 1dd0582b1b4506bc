"""The composition: settings in, everything that a run works with out."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import make_url

from connector.beamer.catalogue import CATALOGUE, Stream
from connector.clock import Clock
from connector.config import Connection, Settings, ephemeral_place, store_location, surroundings, values
from connector.errors import ConfigurationError, ConnectorError, KeyRefused
from connector.segment.host import host_of
from connector.segment.shape import Naming, Privacy
from connector.state import connections, schema
from connector.state.connections import Identity
from connector.state.engine import Store, open_store
from connector.state.ledger import Ledger, Limits
from connector.state.refusals import Secrets
from connector.sync.policy import Policy

if TYPE_CHECKING:
    from connector.beamer.door import Beamer
    from connector.segment.door import Segment
    from connector.sync.parts import Parts
    from connector.sync.pool import Pool

THREADS = 16
FIRST_DAYS = timedelta(days=30)


def location(settings: Settings) -> str:
    """The SQLAlchemy URL of the state store."""
    return store_location(surroundings(), settings.database_url)


def open_ready(settings: Settings, clock: Clock, *, new: bool = False, workers: int = 1) -> Store:
    """Open the store and bring it up to date, for so many runs side by side.

    Where local disks do not outlive the process, a new store would forget everything each time: there it
    is made only when asked for.
    """
    store = open_any(settings, new=new, workers=workers)
    try:
        schema.ready(store, clock.now())
    except BaseException:
        store.close()
        raise
    return store


def open_any(settings: Settings, *, new: bool = False, workers: int = 1) -> Store:
    """Open the store as it is, whatever its schema."""
    url = location(settings)
    _refuse_ephemeral(url, new)
    _refuse_driverless(url)
    return open_store(url, workers=workers)


def open_existing(settings: Settings) -> Store | None:
    """Open the store if there is one, at whatever revision; nothing is made."""
    url = location(settings)
    file = file_of(url)
    if file and not _is_there(file):
        return None
    _refuse_driverless(url)
    store = open_store(url)
    if schema.version(store) is None:
        store.close()
        return None
    return store


def _refuse_ephemeral(url: str, new: bool) -> None:
    place, file = ephemeral_place(surroundings()), file_of(url)
    if new or place is None or file is None or _is_there(file):
        return
    raise ConfigurationError(
        f"This is {place}, and there is no state store at {file}.",
        means="A store made here could be gone at the next run, which would then send everything again.",
        todo="Set DATABASE_URL to a PostgreSQL database; or, for a disk that lasts, let "
        "`beamer-segment sync --new-store` make it.",
    )


def _refuse_driverless(url: str) -> None:
    """PostgreSQL's driver is an extra: without it nothing is wrong with the URL."""
    if make_url(url).get_backend_name() != "postgresql":
        return
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "The driver for PostgreSQL is not installed.",
            todo="Install the connector with its extra: pip install '.[postgres]' in the clone, or "
            "pip install 'PATH/TO/THE.whl[postgres]'.",
        ) from None


def file_of(url: str) -> Path | None:
    """The file of a SQLite store."""
    parsed = make_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:  # a folder that may not be entered; opening the store says so
        return False


def digest(secret: str) -> str:
    """A name for a key that tells nothing of it."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


def account_of(store: Store | None, connection: Connection) -> str | None:
    """The account on whose ledger the connection draws today; None without a key that names it.

    A name that was set since its last run holds from the next one on, which takes the ledger along.
    """
    found = connections.known(store, connection.name) if store else None
    if found:
        return found.account
    return _account_given(store, connection) or (
        digest(connection.api_key.get_secret_value()) if connection.api_key else None
    )


def _account_given(store: Store | None, connection: Connection) -> str | None:
    """The account's name as set, or as the first other connection with the same key has it."""
    for other, given in ((connection.name, connection.account), *connection.same_key):
        if given:
            return given
        if other != connection.name and store and (found := connections.known(store, other)):
            return found.account
    return None


def other_ledgers(store: Store, connection: Connection, account: str) -> dict[str, str]:
    """Accounts, by connection, of known connections whose key is this one's and whose account is not."""
    known = {other: (given, connections.known(store, other)) for other, given in connection.same_key}
    theirs = {other: given or found.account for other, (given, found) in known.items() if found}
    return {other: its for other, its in theirs.items() if its != account}


def first_sight(store: Store | None, connection: Connection, now: datetime) -> Identity:
    """The names and start date that a first sync would settle, from keys and settings.

    Raises ConfigurationError for a start date that nobody means: once settled it stays.
    """
    key, write_key = secrets(connection)
    try:
        start = values.believable(connection.start_date or now - FIRST_DAYS, now)
    except ValueError as error:
        raise ConfigurationError(
            f"The start date of connection '{connection.name}' cannot be meant: {error}.",
            todo="Correct BEAMER_START_DATE (start_date in TOML): the first sync keeps it for good.",
        ) from None
    return Identity(
        connection.name,
        _account_given(store, connection) or digest(key),
        connection.destination or digest(write_key),
        start,
    )


def looked_up(store: Store | None, connection: Connection, now: datetime) -> tuple[Identity, bool]:
    """The connection's identity and whether it is stored already; nothing is written."""
    found = connections.known(store, connection.name) if store else None
    if found is None:
        return first_sight(store, connection, now), False
    account = connection.account or found.account
    destination = connection.destination or found.destination
    return replace(found, account=account, destination=destination), True


def identity(store: Store, connection: Connection, now: datetime) -> Identity:
    """The connection's names and start date: as stored, or settled now, at the first sync."""
    unnamed = digest(secrets(connection)[0])
    sight, settled = looked_up(store, connection, now)
    others = (connections.known(store, other) for other, _ in connection.same_key if not settled)
    beside = next((other.account for other in others if other), None)
    found = connections.settle(store, sight, now, unnamed=unnamed, beside=beside)
    wanted, _ = looked_up(store, connection, now)
    if wanted == found:
        return found
    names = {"account": wanted.account, "destination": wanted.destination}
    return connections.rename(store, connection.name, **names, now=now)


def secrets(connection: Connection) -> tuple[str, str]:
    """Both keys; loading has made sure that they are there."""
    if connection.api_key is None or connection.write_key is None:
        raise ConfigurationError(f"Connection '{connection.name}' has no keys.")
    return connection.api_key.get_secret_value(), connection.write_key.get_secret_value()


def keys_in_use(connection: Connection) -> Secrets:
    """What a refusal is of: a key at the address that refused it."""
    key, write_key = secrets(connection)
    host = host_of(connection.region, connection.segment_host)
    return {"beamer": f"{key} {connection.base_url}", "segment": f"{write_key} {host}"}


def of_connection(error: ConnectorError, connection: Connection) -> ConnectorError:
    """The error, with what to do about a key said of the variable or file that this connection's stands in.

    The doors know a key, but not whose it is.
    """
    if isinstance(error, KeyRefused):
        for key in ("api_key", "write_key"):
            usual = Connection.settings()[key].environment
            error.todo = error.todo.replace(usual, connection.holder(key))
    return error


def limits(connection: Connection) -> Limits:
    limit = connection.limit
    monthly = None if connection.overdraw else limit.monthly_requests
    return Limits(
        monthly,
        connection.reserved,
        limit.requests_per_second,
        connection.period_day,
        connection.startup_share,
    )


def policy(connection: Connection, found: Identity, *, shared_key: bool = False) -> Policy:
    """What the settings say about a connection's rows."""
    filters, first_page = connection.ignore_filters, connection.first_page
    return Policy(
        streams=frozenset(connection.streams),
        start=found.start_date,
        naming=Naming(found.destination, found.account, found.name, shared_key),
        privacy=Privacy(
            connection.anonymous,
            connection.traits,
            connection.trait_attributes,
            connection.ref_url,
            connection.integrations,
            connection.texts,
        ),
        lookback=connection.lookback,
        max_age=connection.max_age,
        nps_settle=connection.nps_settle,
        team_comments=connection.team_comments,
        metrics=connection.metrics,
        sync_event=connection.sync_event,
        ignore_filters=None if filters == "auto" else filters,
        first_page=None if first_page == "auto" else first_page,
    )


@dataclass(frozen=True, slots=True)
class Doors:
    """The two ways out of the process."""

    beamer: "Beamer"
    segment: "Segment"


def doors(connection: Connection, clock: Clock) -> Doors:
    # Here, since looking at the store needs neither, and their libraries take a tenth of its time.
    from connector.beamer.door import Beamer
    from connector.segment.door import Segment
    from connector.segment.patience import interruptible

    key, write_key = secrets(connection)
    host = host_of(connection.region, connection.segment_host)
    return Doors(
        Beamer(key, connection.base_url, clock, per_second=connection.limit.requests_per_second),
        Segment(write_key, host, post=interruptible(clock)),
    )


def shares_key(settings: Settings, connection: Connection) -> bool:
    """Whether another connection sends to the same source."""
    return any(
        other.name != connection.name and other.write_key == connection.write_key
        for other in settings.connections
    )


@contextmanager
def working(
    settings: Settings,
    connection: Connection,
    store: Store,
    clock: Clock,
    catalogue: Mapping[str, Stream] = CATALOGUE,
) -> "Iterator[Parts]":
    """The parts for as long as a run takes: afterwards neither sockets nor threads are left of them."""
    from connector.sync.pool import ThreadPool

    with closing(ThreadPool(THREADS, clock)) as pool:
        found = parts(settings, connection, store, clock, catalogue, pool)
        with closing(found.beamer):
            yield found


def parts(
    settings: Settings,
    connection: Connection,
    store: Store,
    clock: Clock,
    catalogue: Mapping[str, Stream] = CATALOGUE,
    pool: "Pool | None" = None,
) -> "Parts":
    """Everything that a run of one connection works with."""
    # Here, as the doors: whoever looks at the store runs nothing.
    from connector.sync.parts import Parts
    from connector.sync.pool import ThreadPool

    found = identity(store, connection, clock.now())
    ways = doors(connection, clock)
    return Parts(
        catalogue=catalogue,
        identity=found,
        policy=policy(connection, found, shared_key=shares_key(settings, connection)),
        store=store,
        beamer=ways.beamer,
        segment=ways.segment,
        ledger=Ledger(store, found.account, found.name, limits(connection)),
        clock=clock,
        pool=pool or ThreadPool(THREADS, clock),
        most_waiting=settings.max_waiting_rows,
        most_bytes=int(settings.max_waiting_bytes),
    )

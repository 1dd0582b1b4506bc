"""The composition: settings in, everything that a run works with out."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr
from sqlalchemy import make_url

from connector.beamer.streams import CATALOGUE, Stream
from connector.clock import Clock
from connector.config import Connection, Settings, database_location, ephemeral_location, surroundings, values
from connector.config.addresses import host_of
from connector.errors import ConfigurationError, ConnectorError, KeyRefused
from connector.segment.shaping import Naming, Privacy
from connector.state import connections, credentials, schema
from connector.state.connections import AccountRenamed, Identity
from connector.state.credentials import Change, Credential, Given, Verdict
from connector.state.engine import Database, open_database
from connector.state.ledger import Ledger, Limits
from connector.state.suspensions import Api, Secrets
from connector.sync.policy import Policy

if TYPE_CHECKING:
    from connector.beamer.client import BeamerClient
    from connector.segment.client import SegmentClient
    from connector.sync.context import Parts
    from connector.sync.threads import Pool

THREADS = 16
FIRST_DAYS = timedelta(days=30)


def location(settings: Settings) -> str:
    """The SQLAlchemy URL of the database."""
    return database_location(surroundings(), settings.database_url)


def open_ready(settings: Settings, clock: Clock, *, new: bool = False, workers: int = 1) -> Database:
    """Open the database and bring it up to date, for so many runs side by side.

    Where local disks do not outlive the process, a new database would lose everything each time: there it is
    created only on request.
    """
    database = open_any(settings, new=new, workers=workers)
    try:
        schema.ready(database, clock.now())
    except BaseException:
        database.close()
        raise
    return database


def open_any(settings: Settings, *, new: bool = False, workers: int = 1) -> Database:
    """Open the database as it is, whatever its schema."""
    url = location(settings)
    _refuse_ephemeral(url, new)
    _refuse_driverless(url)
    return open_database(url, workers=workers)


def open_existing(settings: Settings) -> Database | None:
    """Open the database if there is one, at whatever revision; nothing is made."""
    url = location(settings)
    file = file_of(url)
    if file and not _is_there(file):
        return None
    _refuse_driverless(url)
    database = open_database(url)
    database.mends = False
    if schema.version(database) is None:
        database.close()
        return None
    return database


def _refuse_ephemeral(url: str, new: bool) -> None:
    disk, file = ephemeral_location(surroundings()), file_of(url)
    if new or disk is None or file is None or _is_there(file):
        return
    raise ConfigurationError(
        f"This is {disk}, and there is no database at {file}.",
        means="A database created here could be gone at the next run, which would then send everything "
        "again.",
        todo="Set DATABASE_URL to a PostgreSQL database. Or, if the disk is persistent, create the file "
        "with `beamer-segment sync --new-store`.",
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
    """Return the file of a SQLite database."""
    parsed = make_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:  # a folder that may not be entered; opening the database says so
        return False


def digest(secret: str) -> str:
    """A name for a key that tells nothing of it."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


def account_of(database: Database | None, connection: Connection) -> str | None:
    """Return the name of the Beamer account on whose budget the connection draws.

    A stored name comes first: the connection's own, then that of another connection with the same key. A
    new account is named by the settings, else by its key. None: there is no key either.
    """
    names = (_stored_account(database, connection), connection.account, *dict(connection.same_key).values())
    key = connection.api_key
    return next(filter(None, names), None) or (digest(key.get_secret_value()) if key else None)


def _stored_account(database: Database | None, connection: Connection) -> str | None:
    if database is None:
        return None
    if found := connections.known(database, connection.name):
        return found.account
    others = (connections.known(database, name) for name, _ in connection.same_key)
    of_others = {other.account for other in others if other}
    return min(credentials.accounts_of(database, given(connection)) | of_others, default=None)


def refuse_other_name(database: Database | None, connection: Connection) -> None:
    """Raise AccountRenamed where the settings name the account otherwise than the state does.

    One key is one account: other connections with the same key count, too. Nothing is written.
    """
    account = account_of(database, connection)
    of_key = credentials.accounts_of(database, given(connection)) if database else frozenset()
    if account and of_key and account not in of_key:
        raise AccountRenamed.by_key(connection.name, account, min(of_key))
    others = () if _stored_account(database, connection) else connection.same_key
    for name, wanted in ((connection.name, connection.account), *others):
        if account and wanted and wanted != account:
            raise AccountRenamed.by_setting(name, account, wanted)


def first_sight(database: Database | None, connection: Connection, now: datetime) -> Identity:
    """The names and start date that a first sync would settle, from keys and settings.

    Raises ConfigurationError for a start date that nobody means: once settled it stays.
    """
    key, write_key = secrets(connection)
    try:
        start = values.believable(connection.start_date or now - FIRST_DAYS, now)
    except ValueError as error:
        raise ConfigurationError(
            f"The start date of connection '{connection.name}' is not plausible: {error}.",
            todo="Correct BEAMER_START_DATE (start_date in TOML), or this machine's clock. The first "
            "sync stores the date for good.",
        ) from None
    return Identity(
        connection.name,
        account_of(database, connection) or digest(key),
        connection.destination or digest(write_key),
        start,
        provisional=True,
        first_days=None if connection.start_date else FIRST_DAYS,
    )


def stored_or_new_identity(
    database: Database | None, connection: Connection, now: datetime
) -> tuple[Identity, bool]:
    """The connection's identity and whether its start date is settled already; nothing is written.

    It is not where it was counted from this machine's clock, before Beamer's told the time, or where it is
    still to come: nothing was sent since then. It is found anew.
    """
    found = connections.known(database, connection.name) if database else None
    if found is None:
        return first_sight(database, connection, now), False
    named = replace(found, destination=connection.destination or found.destination)
    counted = found.provisional and found.created_at == found.start_date + FIRST_DAYS
    if not counted and not values.in_future(found.start_date, now):
        return named, True
    sight = first_sight(database, connection, now)
    start, days = sight.start_date, sight.first_days
    return replace(named, start_date=start, first_days=days, provisional=True), False


def given(connection: Connection) -> Given:
    """The connection's keys, as digests, and their addresses; only of keys that are there."""
    host = host_of(connection.region, connection.segment_host)
    keys: tuple[tuple[Api, SecretStr | None, str], ...] = (
        ("beamer", connection.api_key, connection.base_url),
        ("segment", connection.write_key, host),
    )
    return {
        api: Credential(credentials.digest(key.get_secret_value()), address)
        for api, key, address in keys
        if key
    }


def change(database: Database | None, connection: Connection) -> Change:
    """How the connection's keys and addresses differ from those of its last run."""
    found = connections.known(database, connection.name) if database else None
    if database is None or found is None:
        return Change()
    destination = connection.destination or found.destination
    return credentials.compared(database, connection.name, destination, given(connection))


def refuse_other_account(database: Database | None, connection: Connection) -> Change:
    """Return how keys and addresses differ from those of the connection's last run.

    Raises OtherAccount where they say by themselves that the state may be another account's, and
    AccountRenamed where the account's name was changed.
    """
    found = change(database, connection)
    credentials.refuse(found, connection.name)
    refuse_other_name(database, connection)
    return found


def identity(database: Database, connection: Connection, now: datetime) -> Identity:
    """Return the connection's names, stored at the first sync, and its start date.

    That is provisional until Beamer's first answer has told the time (see `Work.note_beamer_time`). Raises as
    `refuse_other_account` does, with nothing written. A new name of the destination waits where a changed
    Beamer key is still to be compared.
    """
    refuse_other_account(database, connection)
    sight, _ = stored_or_new_identity(database, connection, now)
    unnamed = digest(secrets(connection)[0])
    found = connections.settle(database, sight, now, unnamed=unnamed, given=given(connection))
    if found.account != sight.account:
        # Another process has stored the connection first, by other settings.
        refuse_other_name(database, connection)
    wanted, _ = stored_or_new_identity(database, connection, now)
    if wanted.destination == found.destination:
        return wanted
    if change(database, connection).verdict is Verdict.COMPARE:
        return replace(wanted, destination=found.destination)
    connections.set_destination(database, connection.name, wanted.destination)
    return wanted


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

    The clients know a key, but not whose it is.
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
class Clients:
    """The clients of both APIs."""

    beamer: "BeamerClient"
    segment: "SegmentClient"


def clients(connection: Connection, clock: Clock) -> Clients:
    # Here, since looking at the database needs neither, and their libraries take a tenth of its time.
    from connector.beamer.client import BeamerClient
    from connector.segment.client import SegmentClient, interruptible

    key, write_key = secrets(connection)
    host = host_of(connection.region, connection.segment_host)
    return Clients(
        BeamerClient(key, connection.base_url, clock, per_second=connection.limit.requests_per_second),
        SegmentClient(write_key, host, post=interruptible(clock)),
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
    database: Database,
    clock: Clock,
    catalogue: Mapping[str, Stream] = CATALOGUE,
) -> "Iterator[Parts]":
    """The parts for as long as a run takes: afterwards neither sockets nor threads are left of them."""
    from connector.sync.threads import ThreadPool

    with closing(ThreadPool(THREADS, clock)) as pool:
        found = parts(settings, connection, database, clock, catalogue, pool)
        with closing(found.beamer):
            yield found


def parts(
    settings: Settings,
    connection: Connection,
    database: Database,
    clock: Clock,
    catalogue: Mapping[str, Stream] = CATALOGUE,
    pool: "Pool | None" = None,
) -> "Parts":
    """Everything that a run of one connection works with."""
    # Here, as the clients: whoever looks at the database runs nothing.
    from connector.sync.context import Parts
    from connector.sync.threads import ThreadPool

    found = identity(database, connection, clock.now())
    used = given(connection)
    ways = clients(connection, clock)
    return Parts(
        catalogue=catalogue,
        identity=found,
        policy=policy(connection, found, shared_key=shares_key(settings, connection)),
        database=database,
        beamer=ways.beamer,
        segment=ways.segment,
        ledger=Ledger(database, found.account, found.name, limits(connection)),
        clock=clock,
        pool=pool or ThreadPool(THREADS, clock),
        given=used,
        change=credentials.compared(database, found.name, found.destination, used),
        most_waiting=settings.max_waiting_rows,
        most_bytes=int(settings.max_waiting_bytes),
    )

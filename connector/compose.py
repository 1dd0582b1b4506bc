"""The composition: it turns settings into everything that a run works with."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import SecretStr
from sqlalchemy import make_url

from connector.beamer.streams import CATALOGUE, Stream
from connector.clock import Clock
from connector.config import Connection, Settings, database_location, ephemeral_location, surroundings, values
from connector.config.addresses import host_of
from connector.domain.budget import Limits
from connector.errors import ConfigurationError, ConnectorError, KeyRefused
from connector.segment.shaping import Naming, Privacy
from connector.state import connections, schema
from connector.state.connections import AccountRenamed, ApiKeys, Credential, Identity, KeyChange, KeyVerdict
from connector.state.engine import Database, open_database
from connector.state.ledger import Ledger
from connector.state.suspensions import Api, Secrets
from connector.sync.policy import Policy

if TYPE_CHECKING:
    from connector.beamer.client import BeamerClient
    from connector.segment.client import SegmentClient
    from connector.segment.public_api import PublicApi
    from connector.sync.context import RunContext

THREADS = 16
FIRST_DAYS = timedelta(days=30)


def open_ready(settings: Settings, clock: Clock, *, new: bool = False, workers: int = 1) -> Database:
    """Open the database and upgrade it, for so many parallel runs.

    `new`: create it even if local disks are gone when the process ends.
    """
    database = open_any(settings, new=new, workers=workers)
    try:
        schema.ready(database, clock.now())
    except BaseException:
        database.close()
        raise
    return database


def open_any(settings: Settings, *, new: bool = False, workers: int = 1) -> Database:
    """Open the database, whatever its schema."""
    url = database_location(surroundings(), settings.database_url)
    _refuse_ephemeral(url, new)
    _refuse_driverless(url)
    return open_database(url, workers=workers)


def open_existing(settings: Settings) -> Database | None:
    """Open the database if there is one, whatever its schema; create nothing."""
    url = database_location(surroundings(), settings.database_url)
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
    """Raise ConfigurationError if PostgreSQL's driver, which is an extra, is not installed."""
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
    """Return a name for a key that does not show it."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


def account_of(database: Database | None, connection: Connection) -> str | None:
    """Return the name of the connection's Beamer account; None if it is unknown and there is no key.

    A stored name comes first: the connection's own, then that of another connection with the same key. A
    new account is named by the settings, else by its key.
    """
    names = (_stored_account(database, connection), connection.account, *dict(connection.same_key).values())
    key = connection.api_key
    return next(filter(None, names), None) or (digest(key.get_secret_value()) if key else None)


def _stored_account(database: Database | None, connection: Connection) -> str | None:
    if database is None:
        return None
    if identity := connections.known(database, connection.name):
        return identity.account
    others = (connections.known(database, name) for name, _ in connection.same_key)
    of_others = {other.account for other in others if other}
    return min(connections.accounts_of(database, api_keys(connection)) | of_others, default=None)


def refuse_other_name(database: Database | None, connection: Connection) -> None:
    """Raise AccountRenamed if the settings name the account otherwise than the state does.

    One key means one account: other connections with the same key count, too. Nothing is written.
    """
    account = account_of(database, connection)
    of_key = connections.accounts_of(database, api_keys(connection)) if database else frozenset()
    if account and of_key and account not in of_key:
        raise AccountRenamed.by_key(connection.name, account, min(of_key))
    others = () if _stored_account(database, connection) else connection.same_key
    for name, wanted in ((connection.name, connection.account), *others):
        if account and wanted and wanted != account:
            raise AccountRenamed.by_setting(name, account, wanted)


def first_sight(database: Database | None, connection: Connection, now: datetime) -> Identity:
    """Return the names and the start date that a first sync would store, from keys and settings.

    Raises ConfigurationError for a start date that is not plausible.
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
    """Return the connection's identity, and whether its start date is settled; write nothing.

    A start date is not settled if it lies in the future, or was counted from this machine's clock before
    Beamer's first answer: nothing was sent since then, and it is determined again.
    """
    stored = connections.known(database, connection.name) if database else None
    if stored is None:
        return first_sight(database, connection, now), False
    named = replace(stored, destination=connection.destination or stored.destination)
    counted = stored.provisional and stored.created_at == stored.start_date + FIRST_DAYS
    if not counted and not values.in_future(stored.start_date, now):
        return named, True
    first = first_sight(database, connection, now)
    return replace(named, start_date=first.start_date, first_days=first.first_days, provisional=True), False


def segment_address(connection: Connection) -> str:
    """Return the address that the connection's events are sent to."""
    return host_of(connection.region, connection.segment_host)


def api_keys(connection: Connection) -> ApiKeys:
    """Return digests of the keys that are set, with their addresses."""
    keys: tuple[tuple[Api, SecretStr | None, str], ...] = (
        ("beamer", connection.api_key, connection.base_url),
        ("segment", connection.write_key, segment_address(connection)),
    )
    return {
        api: Credential(connections.key_digest(key.get_secret_value()), address)
        for api, key, address in keys
        if key
    }


def change(database: Database | None, connection: Connection) -> KeyChange:
    """Return how the connection's keys and addresses differ from those of its last run."""
    stored = connections.known(database, connection.name) if database else None
    if database is None or stored is None:
        return KeyChange()
    destination = connection.destination or stored.destination
    return connections.compare_keys(database, connection.name, destination, api_keys(connection))


def refuse_other_account(database: Database | None, connection: Connection) -> KeyChange:
    """Return how keys and addresses differ from those of the connection's last run.

    Raises OtherAccount if that alone shows that the state may be another account's, and AccountRenamed if the
    account's name was changed.
    """
    difference = change(database, connection)
    difference.refuse(connection.name)
    refuse_other_name(database, connection)
    return difference


def identity(database: Database, connection: Connection, now: datetime) -> Identity:
    """Return the connection's names and its start date, which the first sync stores.

    The date is provisional until Beamer's first answer (see `RunState.note_beamer_time`). A new name of the
    destination is not stored before a changed Beamer key is compared. Raises as `refuse_other_account` does,
    with nothing written.
    """
    refuse_other_account(database, connection)
    first, _ = stored_or_new_identity(database, connection, now)
    unnamed = digest(secrets(connection)[0])
    stored = connections.settle(database, first, now, unnamed=unnamed, api_keys=api_keys(connection))
    if stored.account != first.account:
        # Another process has stored the connection first, by other settings.
        refuse_other_name(database, connection)
    wanted, _ = stored_or_new_identity(database, connection, now)
    if wanted.destination == stored.destination:
        return wanted
    if change(database, connection).verdict is KeyVerdict.COMPARE:
        return replace(wanted, destination=stored.destination)
    connections.set_destination(database, connection.name, wanted.destination)
    return wanted


def secrets(connection: Connection) -> tuple[str, str]:
    """Return both keys; loading the settings has checked that they are set."""
    if connection.api_key is None or connection.write_key is None:
        raise ConfigurationError(f"Connection '{connection.name}' has no keys.")
    return connection.api_key.get_secret_value(), connection.write_key.get_secret_value()


def keys_in_use(connection: Connection) -> Secrets:
    """Return by API what it can refuse: a key at its address."""
    key, write_key = secrets(connection)
    return {"beamer": f"{key} {connection.base_url}", "segment": f"{write_key} {segment_address(connection)}"}


def of_connection(error: ConnectorError, connection: Connection) -> ConnectorError:
    """Return the error, naming the variable or file that holds this connection's key."""
    if isinstance(error, KeyRefused):
        for key in ("api_key", "write_key"):
            usual = Connection.settings()[key].environment
            error.todo = error.todo.replace(usual, connection.holder(key))
    return error


def catalogue(connection: Connection, names: Collection[str] = ()) -> dict[str, Stream]:
    """Return the streams of these names, and their parents; without names, all.

    The policy covers all streams: a narrower one would exclude rows of the other streams for good.
    """
    unknown = [name for name in names if name not in connection.streams]
    if unknown:
        raise ConfigurationError(
            f"Connection '{connection.name}' has no stream {unknown[0]!r}.",
            todo=f"Its streams are: {', '.join(connection.streams)}.",
        )
    wanted = {*names, *(CATALOGUE[name].parent for name in names)} if names else {*CATALOGUE}
    return {name: stream for name, stream in CATALOGUE.items() if name in wanted}


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


def policy(connection: Connection, names: Identity, *, shared_key: bool = False) -> Policy:
    """Return what the settings say about a connection's rows."""
    filters, first_page = connection.ignore_filters, connection.first_page
    return Policy(
        streams=frozenset(connection.streams),
        start=names.start_date,
        naming=Naming(names.destination, names.account, names.name, shared_key),
        privacy=Privacy(
            connection.anonymous,
            connection.traits,
            connection.trait_attributes,
            connection.ref_url,
            connection.integrations,
            connection.texts,
            connection.group_attribute,
        ),
        lookback=connection.lookback,
        max_age=connection.max_age,
        weights=connection.weights,
        hint_share=connection.webhook_share,
        nps_settle=connection.nps_settle,
        team_comments=connection.team_comments,
        metrics=connection.metrics,
        sync_event=connection.sync_event,
        identify=connection.identify,
        ignore_filters=None if filters == "auto" else filters,
        first_page=None if first_page == "auto" else first_page,
    )


class Clients(NamedTuple):
    """The clients of both APIs."""

    beamer: "BeamerClient"
    segment: "SegmentClient"


def clients(connection: Connection, clock: Clock) -> Clients:
    # Imported here: reading the database needs neither, and their libraries take a tenth of its time.
    from connector.beamer.client import BeamerClient
    from connector.segment.client import SegmentClient, interruptible

    key, write_key = secrets(connection)
    return Clients(
        BeamerClient(key, connection.base_url, clock, per_second=connection.limit.requests_per_second),
        SegmentClient(write_key, segment_address(connection), post=interruptible(clock)),
    )


@contextmanager
def public_api(connection: Connection, clock: Clock) -> "Iterator[PublicApi | None]":
    """Yield the client of Segment's Public API; None without a token."""
    token = connection.public_api_token
    if token is None:
        yield None
        return
    # Imported here, like the clients: few commands use it.
    from connector.segment.public_api import ADDRESSES, PublicApi

    address = connection.public_api_url or ADDRESSES[connection.region]
    with closing(PublicApi(token.get_secret_value(), address, clock)) as api:
        yield api


@contextmanager
def working(
    settings: Settings,
    connection: Connection,
    database: Database,
    clock: Clock,
    streams: Mapping[str, Stream] = CATALOGUE,
) -> "Iterator[RunContext]":
    """Yield everything that a run of one connection works with; close sockets and threads afterwards."""
    # Imported here, like the clients: commands that only read the database run nothing.
    from connector.sync.context import RunContext
    from connector.sync.threads import ThreadPool

    names = identity(database, connection, clock.now())
    others = (other for other in settings.connections if other.name != connection.name)
    shared_key = any(other.write_key == connection.write_key for other in others)
    keys = api_keys(connection)
    beamer, segment = clients(connection, clock)
    with closing(ThreadPool(THREADS, clock)) as pool, closing(beamer):
        yield RunContext(
            catalogue=streams,
            identity=names,
            policy=policy(connection, names, shared_key=shared_key),
            database=database,
            beamer=beamer,
            segment=segment,
            ledger=Ledger(database, names.account, names.name, limits(connection)),
            clock=clock,
            pool=pool,
            api_keys=keys,
            change=connections.compare_keys(database, names.name, names.destination, keys),
            most_waiting=settings.max_waiting_rows,
            most_bytes=int(settings.max_waiting_bytes),
            events_per_second=None if settings.events_per_second == "none" else settings.events_per_second,
        )

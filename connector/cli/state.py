"""`state` and `db`: a connection's state exported, imported, reset, confirmed or repaired; the schema."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy
import typer
from sqlalchemy import select, type_coerce
from sqlalchemy.types import NullType

from connector import compose
from connector.beamer.streams import CATALOGUE
from connector.cli.command import (
    ConnectionName,
    EveryConnection,
    Files,
    Group,
    NewStore,
    Session,
    Yes,
    open_session,
    prints_result,
    stream_names,
)
from connector.cli.output import Result
from connector.config import Connection
from connector.errors import Busy, ConfigurationError
from connector.state import connections, damage, leases, outbox, progress, schema, tables, transfer
from connector.state.columns import DROP, LABEL
from connector.state.damage import Unreadable
from connector.state.engine import Database
from connector.text import counted

app = typer.Typer(rich_markup_mode=None)
db_app = typer.Typer(cls=Group, no_args_is_help=True, help="The database schema.")
state_app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Export, import, reset or repair a connection's state, or confirm its new keys.",
)
app.add_typer(db_app, name="db")
app.add_typer(state_app, name="state")

AGAIN = (
    "They keep their messageIds: Segment drops those it received within a day; in a warehouse the id "
    "shows the others; other destinations receive them twice."
)


@db_app.command()
@prints_result
def upgrade(files: Files, new_store: NewStore = False) -> Result:
    """Upgrade the database to this version's schema; a SQLite file is copied first."""
    session = open_session(*files, secrets=False)
    database = compose.open_any(session.settings, new=new_store)
    try:
        before = schema.version(database)
        copy = None if before == schema.HEAD else schema.upgrade(database, session.clock.now())
        after = schema.version(database)
    finally:
        database.close()
    lines = [f"The database was at revision {before or 'none'} and is now at {after}."]
    if before == after:
        lines = [f"The database is already at revision {after}: there was nothing to upgrade."]
    if copy:
        lines.append(f"The old file is kept as {copy}.")
    data = {"revision_before": before, "revision": after, "copy": copy and str(copy)}
    return Result(data, lines)


@state_app.command()
@prints_result
def export(
    files: Files,
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist yet.")],
    connection: ConnectionName = None,
) -> Result:
    """Write a connection's state into a file, to be imported into another database.

    Example: beamer-segment state export default.state
    """
    session = open_session(*files, secrets=False)
    name = session.settings.connection(connection).name
    with session.existing() as database:
        data = _exported(session, database, name, file)
    lines = [
        _moved(data, "exported"),
        "  the file contains waiting messages with their texts: delete it after the import",
        "  use only one database from now on: they do not share the delivery history",
    ]
    return Result(data, lines)


def _exported(session: Session, database: Database | None, name: str, file: Path) -> dict[str, Any]:
    """Write a connection's state into a new file that only its owner reads."""
    if database is None or connections.known(database, name) is None:
        raise _unknown(name, "Nothing was exported.")
    try:
        number = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be created: {error.strerror}.",
            means="Nothing was exported.",
            todo="Name a file that does not exist yet, in a folder that this user may write to.",
        ) from None
    with session.alone_on(database, name), os.fdopen(number, "w", encoding="utf-8") as out:
        count = transfer.export(database, name, out)
    return {"connection": name, "file": str(file), "rows": dict(count)}


@state_app.command("import")
@prints_result
def import_state(
    files: Files,
    file: Annotated[Path, typer.Argument(help="The file that `state export` wrote.")],
    new_store: NewStore = False,
) -> Result:
    """Import an exported state into the database that DATABASE_URL names, completely or not at all.

    Example: DATABASE_URL=postgresql://user@host/name beamer-segment state import default.state
    """
    session = open_session(*files, secrets=False)
    with session.database(new_store) as database:
        data = _imported(database, file)
    return Result(data, [_moved(data, "imported")])


def _imported(database: Database, file: Path) -> dict[str, Any]:
    """Import an exported state into the database that the settings name."""
    try:
        with file.open(encoding="utf-8") as lines:
            name, _ = transfer.verified(lines)
        with file.open(encoding="utf-8") as lines:
            count = transfer.load(database, lines, name)
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is not text"
        raise ConfigurationError(
            f"{file} cannot be read: {said}.",
            means="Nothing was imported.",
            todo="Name a file that `state export` wrote and that this user may read.",
        ) from None
    return {"connection": name, "file": str(file), "rows": dict(count)}


def _moved(data: dict[str, Any], what: str) -> str:
    rows: Counter[str] = Counter(data["rows"])
    most = f"{counted(rows['row'], 'seen id')}, {counted(rows['outbox'], 'message')}"
    return f"{data['connection']}: {what} {counted(rows.total(), 'row')} ({most})"


@state_app.command()
@prints_result
def reset(
    files: Files,
    stream: Annotated[
        str, typer.Option("--stream", help="The stream to read again.", autocompletion=stream_names)
    ],
    connection: ConnectionName = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent again; change nothing.")
    ] = False,
    yes: Yes = False,
) -> Result:
    """Delete the state of one stream; the next sync reads it again from the start date.

    Example: beamer-segment state reset --stream nps --dry-run
    """
    session = open_session(*files, secrets=False)
    name = session.settings.connection(connection).name
    with session.existing() as database:
        if database is None:
            raise _unknown(name, "There is nothing to reset.")
        scope = progress.scope_of(database, name, stream)
        verdicts = progress.verdicts(database, scope)
        if not dry_run:
            if not yes:
                question = "Its rows since the start date will be sent again. Continue?"
                typer.confirm(question, abort=True, err=True)
            with session.alone_on(database, name) as (lease, _):
                progress.reset(database, lease, scope, session.clock.now())
    rows, events = verdicts.total(), verdicts["event"]
    would = "would be " if dry_run else ""
    lines = [
        f"{name}: state of {counted(rows, f'{stream} row')} {would}deleted; the next sync reads the stream "
        "again",
        f"  up to {counted(events, 'event')} {would or 'will be '}sent again. {AGAIN}",
    ]
    data = {"dry_run": dry_run, "connection": name, "stream": stream, "rows": rows, "events": events}
    return Result(data, lines)


@state_app.command("accept-keys")
@prints_result
def accept_keys(files: Files, connection: ConnectionName = None, every: EveryConnection = False) -> Result:
    """Confirm that changed keys and addresses belong to the same accounts; sends no request.

    Use it after a sync stopped with BS-081, and for messages that wait for a former write key. Run it with
    the same settings as the syncs.

    Example: beamer-segment state accept-keys --env-file /etc/beamer-segment.env
    """
    session = open_session(*files)
    chosen = session.chosen(connection, every)
    with session.existing() as database:
        accepted = [accept(session, database, connection) for connection in chosen]
    lines = chain.from_iterable(map(_accepted_lines, accepted))
    return Result({"connections": accepted}, lines)


def accept(session: Session, database: Database | None, connection: Connection) -> dict[str, Any]:
    """Store the keys and addresses of the settings as confirmed for the connection's state."""
    name = connection.name
    identity = connections.known(database, name) if database else None
    if database is None or identity is None:
        raise _unknown(name, "There is nothing to confirm: a first sync accepts any keys.")
    destination = connection.destination or identity.destination
    compose.secrets(connection)
    compose.refuse_other_name(database, connection)
    with session.alone_on(database, name) as (lease, _):
        change, messages = connections.accept_keys(
            database, lease, destination, compose.api_keys(connection), session.clock.now()
        )
    return {"connection": name, "changed": sorted(change.changed), "messages": messages}


def _accepted_lines(done: dict[str, Any]) -> Iterator[str]:
    name, changed, messages = done["connection"], done["changed"], done["messages"]
    if changed:
        yield f"{name}: {connections.in_words(changed)} confirmed; the next sync uses the new values"
    elif not messages:
        yield f"{name}: nothing to confirm, the keys and addresses are those of the last run"
    if messages:
        count = counted(messages, "message")
        yield f"{name}: the next sync sends {count} of a former write key with the new key"


def _unknown(name: str, means: str) -> ConfigurationError:
    return ConfigurationError(
        f"There is no state of connection '{name}'.",
        means=means,
        todo="Check with `beamer-segment config show` that DATABASE_URL names the right database.",
    )


# --- repair ----------------------------------------------------------------------------------------


@state_app.command()
@prints_result
def repair(
    files: Files,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what cannot be read; change nothing.")
    ] = False,
) -> Result:
    """Replace unreadable values in a damaged database, as far as they can be restored.

    Example: beamer-segment state repair --dry-run
    """
    session = open_session(*files, secrets=not dry_run)
    with session.existing() as database:
        values = _repaired(session, database, dry_run=dry_run) if database else []
    unreadable = [_unreadable_dict(value) for value in values]
    lines = ["{table}, {key}: {column} cannot be read; {then}".format(**value) for value in unreadable]
    if not unreadable:
        lines = ["Every value in the database can be read."]
    elif dry_run:
        lines.append("Nothing was changed (--dry-run).")
    return Result({"dry_run": dry_run, "unreadable": unreadable}, lines)


def _repaired(session: Session, database: Database, *, dry_run: bool) -> list[Unreadable]:
    """Replace unreadable values, and return them; raise Busy while a run is in progress."""
    if dry_run:
        with database.read() as db:
            return damage.unreadable_values(db, damage.everywhere()) or _strays(db)
    with database.write() as db:
        _refuse_at_work(session, db)
        return damage.repair(db, lambda db, value: _instead(session, db, value), _strays)


def _strays(db: sqlalchemy.Connection) -> list[Unreadable]:
    return [*progress.strays(db, CATALOGUE), *outbox.strays(db)]


def _unreadable_dict(value: Unreadable) -> dict[str, Any]:
    then = "it is replaced"
    if value.type.instead is DROP:
        then = "its row is deleted and created again"
    elif value.needed and value.table is tables.outbox:
        then = "it is set from the messageId"
    elif value.needed and value.table in (tables.connections, tables.streams):
        then = "it is set from the settings"
    elif value.needed:
        then = f"its row is deleted. {damage.todo((value.table.name, value.column))}"
    return {"table": value.table.name, "key": value.shown_key, "column": value.column, "then": then}


def _refuse_at_work(session: Session, db: sqlalchemy.Connection) -> None:
    for name in _texts(db, tables.leases.c.connection):
        if leases.at_work(db, name, leases.this_process(), session.clock.now()):
            raise Busy(
                f"A run of connection '{name}' is in progress.",
                means="Nothing was changed.",
                todo="Wait until it finishes, then repair.",
            )


def _instead(session: Session, db: sqlalchemy.Connection, value: Unreadable) -> Any:
    """Return the replacement of a value; DROP if the row must be created again."""
    if value.table is tables.connections:
        return _of_connection(session, db, value)
    if value.table is tables.streams:
        return _of_stream(db, value)
    if value.table is tables.outbox:
        return _of_message(db, value)
    return DROP


def _of_connection(session: Session, db: sqlalchemy.Connection, value: Unreadable) -> Any:
    """Return what a first sync would store; the start date must be set."""
    name = value.key["name"]
    if not isinstance(name, str) or not LABEL.fullmatch(name):
        configured = {connection.name for connection in session.settings.connections}
        name = _only(configured - _texts(db, tables.connections.c.name), "the connection", value)
    if value.column == "name":
        return name
    connection = session.settings.connection(name)
    if value.column == "start_date" and connection.start_date is None:
        raise ConfigurationError(
            f"The start date of connection '{name}' cannot be read.",
            means="Nothing was changed.",
            todo="Set BEAMER_START_DATE to the date of its first sent rows, and repair again.",
        )
    return getattr(compose.first_sight(None, connection, session.clock.now()), value.column)


def _of_stream(db: sqlalchemy.Connection, value: Unreadable) -> str:
    """Return the only possible value: its connection has all other streams already."""
    mine = tables.streams.c.scope == value.key["scope"]
    if value.column == "connection":
        (name,) = _texts(db, tables.streams.c.name, mine) or {""}
        having = _texts(db, tables.streams.c.connection, tables.streams.c.name == name)
        return _only(_texts(db, tables.connections.c.name) - having, "the connection", value)
    (connection,) = _texts(db, tables.streams.c.connection, mine) or {""}
    taken = _texts(db, tables.streams.c.name, tables.streams.c.connection == connection)
    return _only(set(CATALOGUE) - taken, "the stream", value)


def _of_message(db: sqlalchemy.Connection, value: Unreadable) -> str:
    """Return the name from its messageId; or the only one that exists."""
    this = tables.outbox.c.id == value.key["id"]
    ident = db.execute(select(tables.outbox.c.message_id).where(this)).scalar_one()
    names = db.execute(
        select(tables.connections.c.name, tables.connections.c.account, tables.connections.c.destination)
    ).all()
    # After the version of the ids: bmr1-DESTINATION-ACCOUNT-…
    rest = str(ident).partition("-")[2]
    matches = [row for row in names if rest.startswith(f"{row.destination}-{row.account}-")]
    wanted = "name" if value.column == "connection" else "destination"
    return _only({getattr(row, wanted) for row in matches or names}, f"the {value.column}", value)


def _texts(db: sqlalchemy.Connection, column: sqlalchemy.Column[Any], *where: Any) -> set[str]:
    """Return the texts of a column without converting them."""
    raw: Iterable[Any] = db.execute(select(type_coerce(column, NullType())).where(*where)).scalars()
    return {value for value in raw if isinstance(value, str) and value}


def _only(left: set[str], what: str, value: Unreadable) -> str:
    if len(left) == 1:
        return left.pop()
    raise ConfigurationError(
        f"The database does not show {what} of a damaged row: {value.where}.",
        means="Nothing was changed.",
        todo="Restore the database from a backup. Messages sent since the backup are sent again with the "
        "same messageIds.",
    )

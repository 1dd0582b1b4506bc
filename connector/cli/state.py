"""`state` and `db`: a connection's state exported, imported, reset, confirmed or repaired; the schema."""

import os
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from connector import compose
from connector.cli.context import Session, open_session
from connector.cli.options import (
    ConfigFile,
    ConnectionName,
    EnvFile,
    EveryConnection,
    NewStore,
    OutputFormat,
    Yes,
    stream_names,
)
from connector.cli.output import Output, Result, render
from connector.config import Connection
from connector.errors import ConfigurationError
from connector.state import credentials, progress, schema, transfer
from connector.state.connections import known
from connector.state.engine import Database
from connector.state.leases import holding_all, this_process

app = typer.Typer(rich_markup_mode=None)
db_app = typer.Typer(no_args_is_help=True, help="The database schema.")
state_app = typer.Typer(
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
def upgrade(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    output: OutputFormat = Output.TEXT,
    new_store: NewStore = False,
) -> None:
    """Upgrade the database to this version's schema; a SQLite file is copied first."""
    session = open_session(config, env_file, secrets=False)
    database = compose.open_any(session.settings, new=new_store)
    try:
        before = schema.version(database)
        copy = None if before == schema.HEAD else schema.upgrade(database, session.clock.now())
        after = schema.version(database)
    finally:
        database.close()
    lines = [f"The database was at revision {before or 'none'} and is now at {after}."]
    if copy:
        lines.append(f"The old file is kept as {copy}.")
    data = {"revision_before": before, "revision": after, "copy": copy and str(copy)}
    render("db upgrade", Result(data, lines), output)


@state_app.command()
def export(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist yet.")],
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Write a connection's state into a file, to be imported into another database.

    Example: beamer-segment state export default.state
    """
    session = open_session(config, env_file, secrets=False)
    name = session.settings.connection(connection).name
    with session.existing() as database:
        data = _exported(session, database, name, file)
    lines = [
        _moved(data, "exported"),
        "  the file contains waiting messages with their texts: delete it after the import",
        "  use only one database from now on: they do not share the delivery history",
    ]
    render("state export", Result(data, lines), output)


def _exported(session: Session, database: Database | None, name: str, file: Path) -> dict[str, Any]:
    """Write a connection's state into a new file that only its owner reads."""
    if database is None or known(database, name) is None:
        raise _unknown(name, "Nothing was exported.")
    try:
        number = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be created: {error.strerror}.",
            means="Nothing was exported.",
            todo="Name a file that does not exist yet, in a folder that this user may write to.",
        ) from None
    with (
        holding_all(database, name, this_process(), session.clock),
        os.fdopen(number, "w", encoding="utf-8") as out,
    ):
        counted = transfer.export(database, name, out)
    return {"connection": name, "file": str(file), "rows": dict(counted)}


@state_app.command("import")
def import_state(
    file: Annotated[Path, typer.Argument(help="The file that `state export` wrote.")],
    config: ConfigFile = None,
    env_file: EnvFile = None,
    output: OutputFormat = Output.TEXT,
    new_store: NewStore = False,
) -> None:
    """Import an exported state into the database that DATABASE_URL names, completely or not at all.

    Example: DATABASE_URL=postgresql://user@host/name beamer-segment state import default.state
    """
    session = open_session(config, env_file, secrets=False)
    with session.database(new_store) as database:
        data = _imported(database, file)
    render("state import", Result(data, [_moved(data, "imported")]), output)


def _imported(database: Database, file: Path) -> dict[str, Any]:
    """Import an exported state into the database that the settings name."""
    try:
        with file.open(encoding="utf-8") as lines:
            name, _ = transfer.verified(lines)
        with file.open(encoding="utf-8") as lines:
            counted = transfer.load(database, lines, name)
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is not text"
        raise ConfigurationError(
            f"{file} cannot be read: {said}.",
            means="Nothing was imported.",
            todo="Name a file that `state export` wrote and that this user may read.",
        ) from None
    return {"connection": name, "file": str(file), "rows": dict(counted)}


def _moved(data: dict[str, Any], what: str) -> str:
    rows: Counter[str] = Counter(data["rows"])
    most = f"{rows['row']:,} seen ids, {rows['outbox']:,} messages"
    return f"{data['connection']}: {what} {rows.total():,} rows ({most})"


@state_app.command()
def reset(
    stream: Annotated[
        str,
        typer.Option(
            "--stream",
            help="The stream to read again.",
            autocompletion=stream_names,
        ),
    ],
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent again; change nothing.")
    ] = False,
    yes: Yes = False,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Delete the state of one stream; the next sync reads it again from the start date.

    Example: beamer-segment state reset --stream nps --dry-run
    """
    session = open_session(config, env_file, secrets=False)
    name = session.settings.connection(connection).name
    with session.existing() as database:
        if database is None:
            raise _unknown(name, "There is nothing to reset.")
        scope = progress.scope_of(database, name, stream)
        counted = progress.verdicts(database, scope)
        if not dry_run:
            if not yes:
                question = "Its rows since the start date will be sent again. Continue?"
                typer.confirm(question, abort=True, err=True)
            with holding_all(database, name, this_process(), session.clock) as (lease, _):
                progress.reset(database, lease, scope, session.clock.now())
    rows, events = counted.total(), counted["event"]
    would = "would be " if dry_run else ""
    lines = [
        (f"{name}: state of {rows:,} {stream} rows {would}deleted; the next sync reads the stream again"),
        f"  up to {events:,} events {would or 'will be '}sent again. {AGAIN}",
    ]
    data = {"dry_run": dry_run, "connection": name, "stream": stream, "rows": rows, "events": events}
    render("state reset", Result(data, lines), output)


@state_app.command("accept-keys")
def accept_keys(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    every: EveryConnection = False,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Confirm that changed keys and addresses belong to the same accounts; sends no request.

    Use it after a sync stopped with BS-081, and for messages that wait for a former write key. Run it with
    the same settings as the syncs.

    Example: beamer-segment state accept-keys --env-file /etc/beamer-segment.env
    """
    session = open_session(config, env_file)
    chosen = session.chosen(connection, every)
    with session.existing() as database:
        accepted = [accept(session, database, connection) for connection in chosen]
    lines = chain.from_iterable(map(_accepted_lines, accepted))
    render("state accept-keys", Result({"connections": accepted}, lines), output)


def accept(session: Session, database: Database | None, connection: Connection) -> dict[str, Any]:
    """Store the keys and addresses of the settings as confirmed for the connection's state."""
    name = connection.name
    identity = known(database, name) if database else None
    if database is None or identity is None:
        raise _unknown(name, "There is nothing to confirm: a first sync accepts any keys.")
    destination = connection.destination or identity.destination
    compose.secrets(connection)
    compose.refuse_other_name(database, connection)
    with holding_all(database, name, this_process(), session.clock) as (lease, _):
        change, messages = credentials.accept(
            database, lease, destination, compose.given(connection), session.clock.now()
        )
    return {"connection": name, "changed": sorted(change.changed), "messages": messages}


def _accepted_lines(done: dict[str, Any]) -> Iterator[str]:
    name, changed, messages = done["connection"], done["changed"], done["messages"]
    if changed:
        yield f"{name}: {credentials.listed(changed)} confirmed; the next sync uses the new values"
    elif not messages:
        yield f"{name}: nothing to confirm, the keys and addresses are those of the last run"
    if messages:
        yield f"{name}: the next sync sends {messages:,} messages of a former write key with the new key"


@state_app.command()
def repair(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what cannot be read; change nothing.")
    ] = False,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Replace unreadable values in a damaged database, as far as they can be restored.

    Example: beamer-segment state repair --dry-run
    """
    from connector.cli.repair import repaired

    session = open_session(config, env_file, secrets=not dry_run)
    with session.existing() as database:
        unreadable = repaired(session, database, dry_run=dry_run)
    lines = [
        f"{value['table']}, {value['key']}: {value['column']} cannot be read; {value['then']}"
        for value in unreadable
    ]
    if not unreadable:
        lines = ["Every value in the database can be read."]
    elif dry_run:
        lines.append("Nothing was changed (--dry-run).")
    render("state repair", Result({"dry_run": dry_run, "unreadable": unreadable}, lines), output)


def _unknown(name: str, means: str) -> ConfigurationError:
    return ConfigurationError(
        f"There is no state of connection '{name}'.",
        means=means,
        todo="Check with `beamer-segment config show` that DATABASE_URL names the right database.",
    )

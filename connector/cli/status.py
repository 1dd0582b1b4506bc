"""`status`: the health of each connection."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import typer

from connector import compose
from connector.cli.context import Session, open_readonly
from connector.cli.options import ConfigFile, ConnectionName, EnvFile, OutputFormat
from connector.cli.output import Output, Result, render
from connector.config import Connection
from connector.errors import StateDamaged
from connector.reporting.status import Status, read_status
from connector.reporting.status_json import as_dict
from connector.reporting.status_text import Screen, lines
from connector.state import connections
from connector.state.engine import Database

app = typer.Typer(rich_markup_mode=None)


@app.command()
def status(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show each connection's health in one word, and the details on one screen; sends no request.

    Example: beamer-segment status --output json
    """
    session = open_readonly(config, env_file)
    with session.existing() as database:
        results = statuses(session, database, session.named(connection))
        data = {"connections": [as_dict(result) for result in results]}
        render("status", Result(data, _lines(results)), output)


def _lines(results: Sequence[Status]) -> Iterator[str]:
    screen = terminal_screen()
    for position, result in enumerate(results):
        yield from [""] * bool(position) + lines(result, screen)


def statuses(session: Session, database: Database | None, chosen: Sequence[Connection]) -> list[Status]:
    """Return the status of each connection as of now."""
    now = session.clock.now()
    return [status_of(database, connection, now) for connection in chosen]


def status_of(database: Database | None, connection: Connection, now: datetime) -> Status:
    """Return a connection's status by its database, as far as that can be read."""
    if database is None:
        return Status(connection.name, None, connection.limit_text, now=now)
    try:
        result = _status_of(database, connection, now)
    except StateDamaged as error:
        return Status(connection.name, None, connection.limit_text, now=now, damaged=error)
    return replace(result, unreadable=tuple(database.unreadable))


def _status_of(database: Database, connection: Connection, now: datetime) -> Status:
    identity = connections.known(database, connection.name)
    policy = compose.policy(connection, identity) if identity else None
    limits = compose.limits(connection)
    result = read_status(database, connection.name, limits, connection.limit_text, policy, now)
    return replace(result, change=compose.change(database, connection))


def terminal_screen() -> Screen:
    """Return what standard output can show, by rich's rules for NO_COLOR, COLUMNS and TERM."""
    if not sys.stdout.isatty():
        return Screen()
    from rich.console import Console

    console = Console()
    fine = not console.options.ascii_only and not console.is_dumb_terminal
    colour = console.color_system is not None and not console.no_color
    return Screen(console.width, fine=fine, colour=colour)

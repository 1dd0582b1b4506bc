"""`status` and `runs`: what the database shows of connections and of past runs."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

import typer

from connector import compose
from connector.cli.command import ConnectionName, Files, Session, open_readonly, prints_result
from connector.cli.output import Result, table_lines
from connector.clock import plain
from connector.config import Connection
from connector.errors import StateDamaged
from connector.reporting import health, rendering
from connector.reporting.status import Status, read_status
from connector.state import connections
from connector.state.engine import Database
from connector.state.leases import holders, this_process
from connector.state.runs import recent

app = typer.Typer(rich_markup_mode=None)

COLUMNS = ("run", "command", "started", "outcome", "exit", "requests", "new", "sent", "connection", "why")


@app.command()
@prints_result
def status(
    files: Files,
    connection: ConnectionName = None,
    fail: Annotated[
        bool, typer.Option("--fail", help="Exit with the code of the worst health; 0 if all is well.")
    ] = False,
) -> Result:
    """Show each connection's health in one word, and the details on one screen; sends no request.

    Example: beamer-segment status --output json
    """
    session = open_readonly(*files)
    with session.existing() as database:
        results = statuses(session, database, session.named(connection))
    data = {"connections": [health.as_dict(result) for result in results]}
    return Result(data, _screens(results), int(health.worst(results).exit) if fail else 0)


def _screens(results: Sequence[Status]) -> Iterator[str]:
    screen = terminal_screen()
    for position, result in enumerate(results):
        yield from [""] * bool(position) + rendering.status_lines(result, screen)


def statuses(session: Session, database: Database | None, chosen: Sequence[Connection]) -> list[Status]:
    """Return the status of each connection as of now."""
    now = session.clock.now()
    return [status_of(database, connection, now) for connection in chosen]


def status_of(database: Database | None, connection: Connection, now: datetime) -> Status:
    """Return a connection's status by its database, as far as that can be read."""
    unknown = Status(connection.name, None, connection.limit_text, now=now)
    if database is None:
        return unknown
    try:
        identity = connections.known(database, connection.name)
        policy = compose.policy(connection, identity) if identity else None
        limits = compose.limits(connection)
        known = read_status(database, connection.name, limits, connection.limit_text, policy, now)
        change = compose.change(database, connection)
    except StateDamaged as error:
        return replace(unknown, damaged=error)
    return replace(known, change=change, unreadable=tuple(database.unreadable))


def terminal_screen() -> rendering.Screen:
    """Return what standard output can show, by rich's rules for NO_COLOR, COLUMNS and TERM."""
    if not sys.stdout.isatty():
        return rendering.Screen()
    from rich.console import Console

    console = Console()
    fine = not console.options.ascii_only and not console.is_dumb_terminal
    colour = console.color_system is not None and not console.no_color
    return rendering.Screen(console.width, fine=fine, colour=colour)


def finding_text(grade: str, what: str, todo: str) -> list[str]:
    """Return a finding of `check` as lines: the finding, and what to do."""
    return rendering.finding_lines(grade, what, todo, terminal_screen())


@app.command()
@prints_result
def runs(
    files: Files,
    connection: ConnectionName = None,
    last: Annotated[int, typer.Option("--last", min=1, help="How many runs to list.")] = 20,
) -> Result:
    """List past runs, newest first, with what they did."""
    session = open_readonly(*files)
    with session.existing() as database:
        name = session.known(connection)
        past = recent(database, name, last) if database else []
        unended = _unended(database, past, session.clock.now()) if database else {}
    data = [{name: plain(value) for name, value in run.items()} for run in past]
    # For a single connection, its name is left out.
    columns = [column for column in COLUMNS if column != "connection" or len(session.named(connection)) > 1]
    rows = [_cells(run, unended) for run in past]
    return Result({"runs": data}, table_lines("", columns, [[row[name] for name in columns] for row in rows]))


def _unended(database: Database, past: Sequence[Mapping[str, Any]], now: datetime) -> Mapping[int, str]:
    """Return the outcome of each run without an end, newest first; only the newest can be in progress."""
    me, outcomes = this_process(), dict[int, str]()
    at_work = {
        (name, holder.work)
        for name in {run["connection"] for run in past}
        for holder in holders(database, name, me, now)
        if not holder.dead
    }
    for run in past:
        work = run["connection"], rendering.work_of(run["command"])
        if run["finished_at"] is None:
            outcomes[run["id"]] = (rendering.UNDER_WAY if work in at_work else rendering.KILLED)[1]
        at_work.discard(work)
    return outcomes


def _cells(run: Mapping[str, Any], unended: Mapping[int, str]) -> dict[str, Any]:
    summary, started = run["summary"] or {}, run["started_at"]
    return {
        "run": run["id"],
        "command": run["command"],
        "started": f"{started:%Y-%m-%d %H:%M}" if started else "never",
        "outcome": run["outcome"] or unended[run["id"]],
        "exit": run["exit"],
        "requests": summary.get("requests_spent"),
        "new": sum(summary.get("rows_new", {}).values()),
        "sent": summary.get("sent"),
        "connection": run["connection"],
        "why": summary.get("error") or summary.get("stopped"),
    }

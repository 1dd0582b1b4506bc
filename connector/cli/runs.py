"""`runs`: past runs, newest first, with what they did."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from connector.cli.context import open_readonly
from connector.cli.options import ConfigFile, ConnectionName, EnvFile, OutputFormat
from connector.cli.output import Output, Result, render, table_lines
from connector.clock import plain
from connector.reporting.status_text import KILLED, UNDER_WAY, work_of
from connector.state import queries
from connector.state.engine import Database
from connector.state.leases import this_process
from connector.state.runs import recent

app = typer.Typer(rich_markup_mode=None)

COLUMNS = ("run", "connection", "command", "started", "outcome", "exit", "requests", "new", "sent", "why")


@app.command()
def runs(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    last: Annotated[int, typer.Option("--last", min=1, help="How many runs to list.")] = 20,
    output: OutputFormat = Output.TEXT,
) -> None:
    """List past runs, newest first, with what they did."""
    session = open_readonly(config, env_file)
    with session.existing() as database:
        name = session.known(connection)
        found = recent(database, name, last) if database else []
        unended = _unended(database, found, session.clock.now()) if database else {}
    data = [{name: plain(value) for name, value in run.items()} for run in found]
    text = table_lines("", COLUMNS, [_cells(run, unended) for run in found])
    render("runs", Result({"runs": data}, text), output)


def _unended(database: Database, runs: Sequence[Mapping[str, Any]], now: datetime) -> Mapping[int, str]:
    """Return the outcome of each run without an end, given newest first; only the newest can be in
    progress.
    """
    me, outcomes = this_process(), dict[int, str]()
    at_work = {
        (name, holder.work)
        for name in {run["connection"] for run in runs}
        for holder in queries.holders(database, name, me, now)
        if not holder.dead
    }
    for run in runs:
        work = run["connection"], work_of(run["command"])
        if run["finished_at"] is None:
            outcomes[run["id"]] = (UNDER_WAY if work in at_work else KILLED)[1]
        at_work.discard(work)
    return outcomes


def _cells(run: Mapping[str, Any], unended: Mapping[int, str]) -> tuple[Any, ...]:
    summary, started = run["summary"] or {}, run["started_at"]
    return (
        run["id"],
        run["connection"],
        run["command"],
        f"{started:%Y-%m-%d %H:%M}" if started else "never",
        run["outcome"] or unended[run["id"]],
        run["exit"],
        summary.get("requests_spent"),
        sum(summary.get("rows_new", {}).values()),
        summary.get("sent"),
        summary.get("error") or summary.get("stopped"),
    )

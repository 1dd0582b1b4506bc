"""`sync` and `audit`: one run of each chosen connection."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from connector.cli.connection_run import SyncOptions, attempted
from connector.cli.context import Session, open_session
from connector.cli.exit_codes import stopping
from connector.cli.hooks import RunHooks
from connector.cli.options import (
    ConfigFile,
    ConnectionName,
    EnvFile,
    EveryConnection,
    MostRequests,
    NewStore,
    OneShard,
    OutputFormat,
    StreamNames,
    Workers,
    parsed,
)
from connector.cli.output import Output, Reporter, Result, render, spinner
from connector.config import Connection, values

app = typer.Typer(rich_markup_mode=None)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the planned requests; send none.")]


@app.command()
def sync(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    every: EveryConnection = False,
    shard: OneShard = None,
    workers: Workers = None,
    stream: StreamNames = None,
    max_requests: MostRequests = None,
    dry_run: DryRun = False,
    no_deliver: Annotated[
        bool, typer.Option("--no-deliver", help="Store events in the outbox; send nothing to Segment.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 65 if rows went into quarantine.")
    ] = False,
    skip_exit_code: Annotated[
        int | None,
        typer.Option(
            "--skip-exit-code",
            min=0,
            max=255,
            help="Exit with this code in place of 75, and of 0 if no request could be sent (Airflow: 99).",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print nothing if all is well; print each new problem once.")
    ] = False,
    ping_url: Annotated[
        str | None,
        typer.Option(
            "--ping-url",
            help="Call this URL after the run, with /fail appended if the run failed.",
            show_default=False,
        ),
    ] = None,
    metrics_file: Annotated[
        Path | None,
        typer.Option(
            "--metrics-file", help="Write metrics for node-exporter's textfile collector.", show_default=False
        ),
    ] = None,
    output: OutputFormat = Output.TEXT,
    new_store: NewStore = False,
) -> None:
    """Read what is new in Beamer and send it to Segment: one incremental run.

    Example: beamer-segment sync --env-file /etc/beamer-segment.env
    """
    options = SyncOptions(tuple(stream or ()), max_requests, not no_deliver, strict, skip_exit_code)
    hooks = RunHooks(quiet, parsed(values.url, ping_url, "--ping-url"), metrics_file)
    session = open_session(config, env_file)
    chosen = session.chosen(connection, every, shard)
    if dry_run:
        _dry_run(session, chosen, options, output)
    _run(session, chosen, options, hooks, output, workers=workers, new_store=new_store)


@app.command()
def audit(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    every: EveryConnection = False,
    shard: OneShard = None,
    workers: Workers = None,
    stream: StreamNames = None,
    max_requests: MostRequests = None,
    dry_run: DryRun = False,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Read every list again that was not read completely within the last day, and send missing rows.

    An audit sends the requests that are available now. It starts with the lists that were read longest ago;
    the next audit continues there.

    Example: beamer-segment audit --max-requests 100
    """
    options = SyncOptions(tuple(stream or ()), max_requests, command="audit")
    session = open_session(config, env_file)
    chosen = session.chosen(connection, every, shard)
    if dry_run:
        _dry_run(session, chosen, options, output)
    _run(session, chosen, options, RunHooks(), output, workers=workers)


def _dry_run(
    session: Session, chosen: Sequence[Connection], options: SyncOptions, output: Output
) -> NoReturn:
    from connector.cli.dry_run import dry_runs

    raise typer.Exit(render(options.command, dry_runs(session, chosen, options), output))


def _run(
    session: Session,
    chosen: Sequence[Connection],
    options: SyncOptions,
    hooks: RunHooks,
    output: Output,
    *,
    workers: int | None = None,
    new_store: bool = False,
) -> NoReturn:
    """Run each connection, report, and exit with the code of the worst."""
    threads, reporter = workers or session.settings.workers, Reporter(output, many=len(chosen) > 1)
    threads = min(threads, len(chosen) or 1)
    doing = "auditing" if options.audit else "syncing"
    with hooks.around(session):
        with (
            session.database(new_store, threads) as database,
            stopping(session.clock) as signalled,
            spinner(doing, not hooks.quiet) as on_progress,
        ):

            def run(connection: Connection) -> dict[str, Any] | None:
                if session.clock.stopped:
                    return None
                return attempted(session, database, connection, options, on_progress, reporter)

            if threads == 1:
                ended = [run(connection) for connection in chosen]
            else:
                with ThreadPoolExecutor(threads, "connection") as pool:
                    ended = list(pool.map(run, chosen))
            results = [result for result in ended if result]
            hooks.after_runs(session, database, chosen)
        hooks.exit = signalled() or options.code(results)
        render(options.command, Result({"connections": results}, exit=hooks.exit), output)
    raise typer.Exit(hooks.exit)

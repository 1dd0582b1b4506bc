"""`sync` and `audit`: one run of each chosen connection, or its plan."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from connector import compose
from connector.cli.command import (
    ConnectionName,
    EveryConnection,
    Files,
    MostRequests,
    NewStore,
    OneShard,
    Session,
    StreamNames,
    Workers,
    open_session,
    parsed,
    prints_result,
)
from connector.cli.connection_run import Runner, SyncOptions, new_notices
from connector.cli.dry_run import plans, samples
from connector.cli.exit_codes import stopping, worst
from connector.cli.notify import alert, ping
from connector.cli.output import Reporter, Result, echo_err, spinner
from connector.config import Connection, values
from connector.errors import Exit
from connector.state.engine import Database
from connector.terminal import buffered_output

app = typer.Typer(rich_markup_mode=None)

# Another run is in progress and reports how it ended; a signal leaves no time.
NO_PING = (Exit.BUSY, Exit.HUNG_UP, Exit.INTERRUPTED, Exit.TERMINATED)

Sample = Annotated[
    int | None,
    typer.Option(
        "--sample",
        min=1,
        help="With --dry-run: read a page of each stream (charged), and print so many events.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the planned requests; send none.")]


@app.command()
@prints_result
def sync(
    files: Files,
    reporter: Reporter,
    connection: ConnectionName = None,
    every: EveryConnection = False,
    shard: OneShard = None,
    workers: Workers = None,
    stream: StreamNames = None,
    max_requests: MostRequests = None,
    dry_run: DryRunOption = False,
    sample: Sample = None,
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
            "--ping-url", help="Call this URL after the run, with /fail appended if the run failed."
        ),
    ] = None,
    metrics_file: Annotated[
        Path | None,
        typer.Option("--metrics-file", help="Write metrics for node-exporter's textfile collector."),
    ] = None,
    new_store: NewStore = False,
) -> Result:
    """Read what is new in Beamer and send it to Segment: one incremental run.

    Example: beamer-segment sync --env-file /etc/beamer-segment.env
    """
    options = SyncOptions(tuple(stream or ()), max_requests, not no_deliver, strict, skip_exit_code)
    hooks = RunHooks(quiet, parsed(values.url, ping_url, "--ping-url"), metrics_file)
    session = open_session(*files)
    chosen = session.chosen(connection, every, shard)
    if sample:
        return samples(session, chosen, options, sample, dry_run=dry_run, new=new_store)
    if dry_run:
        return plans(session, chosen, options)
    return _run(session, chosen, options, hooks, reporter, workers, new_store=new_store)


@app.command()
@prints_result
def audit(
    files: Files,
    reporter: Reporter,
    connection: ConnectionName = None,
    every: EveryConnection = False,
    shard: OneShard = None,
    workers: Workers = None,
    stream: StreamNames = None,
    max_requests: MostRequests = None,
    dry_run: DryRunOption = False,
) -> Result:
    """Read every list again that was not read completely within the last day, and send missing rows.

    An audit sends the requests that are available now. It starts with the lists that were read longest ago;
    the next audit continues there.

    Example: beamer-segment audit --max-requests 100
    """
    options = SyncOptions(tuple(stream or ()), max_requests, command="audit")
    session = open_session(*files)
    chosen = session.chosen(connection, every, shard)
    if dry_run:
        return plans(session, chosen, options)
    return _run(session, chosen, options, RunHooks(), reporter, workers)


# --- with requests ------------------------------------------------------------------------------------


def _run(
    session: Session,
    chosen: Sequence[Connection],
    options: SyncOptions,
    hooks: "RunHooks",
    reporter: Reporter,
    workers: int | None = None,
    *,
    new_store: bool = False,
) -> Result:
    """Run each connection; return the result with the worst exit code."""
    threads = min(workers or session.settings.workers, len(chosen) or 1)
    doing = "auditing" if options.command == "audit" else "syncing"
    with hooks.around(session):
        with (
            session.database(new_store, threads) as database,
            stopping(session.clock) as signalled,
            spinner(doing, not hooks.quiet) as on_progress,
            ThreadPoolExecutor(threads, "connection") as pool,
        ):
            runner = Runner(session, database, Reporter(reporter.output, many=len(chosen) > 1))

            def run(connection: Connection) -> dict[str, Any] | None:
                return None if session.clock.stopped else runner.attempt(connection, options, on_progress)

            ended = list(map(run, chosen) if threads == 1 else pool.map(run, chosen))
            results = [result for result in ended if result]
            hooks.after_runs(session, database, chosen)
        hooks.exit = signalled() or _exit_code(results, options)
    return Result(None if hooks.silent else {"connections": results}, exit=hooks.exit)


def _exit_code(results: Sequence[dict[str, Any]], options: SyncOptions) -> int:
    """Return the worst connection's exit code, or `skip_exit` if nothing was done."""
    code = worst(result["exit"] for result in results)
    if options.skip_exit is None:
        return code
    idle = bool(results) and options.max_requests != 0 and all(result["idle"] for result in results)
    return options.skip_exit if code == Exit.BUSY or (code == Exit.DONE and idle) else code


@dataclass(slots=True)
class RunHooks:
    """What a scheduler needs around a sync: quiet output, a ping, metrics in a file.

    `exit` is the exit code of the command, once it is known.
    """

    quiet: bool = False
    ping_url: str | None = None
    metrics_file: Path | None = None
    exit: int = 0
    _has_notices: bool = field(default=False, init=False)

    @property
    def silent(self) -> bool:
        """Return whether there is nothing for --quiet to print."""
        return self.quiet and not self.exit and not self._has_notices

    @contextmanager
    def around(self, session: Session) -> Iterator[None]:
        """Wrap a command: with `quiet` print nothing without a reason, and ping at the end."""
        with buffered_output(lambda: self.silent) if self.quiet else nullcontext():
            try:
                yield
            except Exception:
                self._ping(session, failed=True)
                raise
            if self.exit not in NO_PING:
                self._ping(session, failed=self.exit != Exit.DONE)

    def after_runs(self, session: Session, database: Database, chosen: Sequence[Connection]) -> None:
        """Write the metrics, and print and post what is new for a person, while the database is open."""
        now = session.clock.now()
        if (url := session.settings.alert_url) and not session.clock.stopped:
            alert(url, database, chosen, session.clock)
        if self.metrics_file:
            from connector.reporting.metrics import of_database, write_file

            limits = {connection.name: compose.limits(connection) for connection in chosen}
            write_file(self.metrics_file, of_database(database, limits, now))
        for connection in chosen if self.quiet else ():
            for notice in new_notices(database, connection.name, now):
                echo_err(f"{connection.name}: {notice}")
                self._has_notices = True

    def _ping(self, session: Session, *, failed: bool) -> None:
        if url := self.ping_url or session.settings.ping_url:
            ping(url, failed=failed)

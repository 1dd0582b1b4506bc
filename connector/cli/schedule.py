"""`schedule`: the daemon that runs every connection when it is due."""

import os
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from datetime import datetime
from typing import Annotated, Any, NoReturn

import structlog
import typer

from connector import compose, heap
from connector.cli.command import (
    ConnectionName,
    Files,
    NewStore,
    OneShard,
    Session,
    Workers,
    open_session,
    prints_result,
)
from connector.cli.connection_run import Runner, SyncOptions
from connector.cli.exit_codes import stopping
from connector.cli.notify import alert
from connector.cli.output import Output, Reporter, Result, render
from connector.cli.report import html
from connector.config import Connection
from connector.daemon.http import Pages, StatusServer, pages
from connector.daemon.scheduler import BEAT_SECONDS, Kind, Pace, RunResult, Scheduler
from connector.daemon.webhooks import Receiver, Webhooks
from connector.errors import ConnectorError, Exit

app = typer.Typer(rich_markup_mode=None)
log = structlog.get_logger()

# Runs that have not stopped by then are abandoned: the next start continues them.
DRAIN_SECONDS = 20.0
# Threads besides the workers that read the database: for pages, and the loop.
OTHERS = 3

OPTIONS = {
    "sync": SyncOptions(),
    # Waiting messages are delivered first, without a request to Beamer.
    "deliver": SyncOptions(max_requests=0, command="deliver"),
    "audit": SyncOptions(command="audit"),
    "hints": SyncOptions(command="hints"),
}


@app.command()
@prints_result
def schedule(
    files: Files,
    reporter: Reporter,
    connection: ConnectionName = None,
    shard: OneShard = None,
    workers: Workers = None,
    interval: Annotated[
        str | None, typer.Option("--interval", help="Shortest time between two syncs of a connection.")
    ] = None,
    max_interval: Annotated[
        str | None, typer.Option("--max-interval", help="Longest time between two syncs of a connection.")
    ] = None,
    bind: Annotated[
        str | None,
        typer.Option("--bind", metavar="HOST:PORT", help="Serve status, health and metrics here; or none."),
    ] = None,
    new_store: NewStore = False,
) -> NoReturn:
    """Sync every connection repeatedly, as its request budget allows, until a signal stops it.

    Example: beamer-segment schedule --config /etc/beamer-segment
    """
    overrides = {
        "CONNECTOR_WORKERS": workers,
        "CONNECTOR_INTERVAL": interval,
        "CONNECTOR_MAX_INTERVAL": max_interval,
        "CONNECTOR_BIND": bind,
    }
    session = open_session(*files, overrides=overrides)
    chosen = session.chosen(connection, every=connection is None, shard=shard)
    run_daemon(session, chosen, reporter.output, new=new_store)


def run_daemon(
    session: Session, chosen: Sequence[Connection], output: Output = Output.TEXT, *, new: bool = False
) -> NoReturn:
    """Run until a signal comes; then finish the runs in progress, and end the process."""
    clock, settings = session.clock, session.settings
    heap.keep_small()
    workers, pace = settings.workers, Pace(settings.interval, settings.max_interval)
    by_name = {connection.name: connection for connection in chosen}
    limits = {name: compose.limits(connection) for name, connection in by_name.items()}
    unlimited = [name for name, limit in limits.items() if limit.usable is None]
    with session.database(new, workers + OTHERS) as database, stopping(clock, second_at_once=True):
        worker = Worker(Runner(session, database, LogReporter(Output.JSON)), chosen)
        scheduler = Scheduler(limits, unlimited, worker.run, database, clock, pace, workers)
        scheduler.start()

        def report(name: str, links: Sequence[tuple[str, str]]) -> str:
            return html(session, database, [by_name[name]], links)

        receivers = {name: Receiver(entry.webhook_secrets, entry.streams) for name, entry in by_name.items()}
        webhooks = Webhooks(receivers, database, clock, scheduler.hint_came)
        apart = settings.webhook_bind
        served = pages(scheduler, database, clock, limits, report, webhooks)
        with (
            _serving(settings.bind, served, None if apart else webhooks),
            _serving(apart if webhooks else None, {}, webhooks),
        ):
            while not clock.stopped:
                clock.sleep(BEAT_SECONDS)
                scheduler.keep_time()
                scheduler.check_for_hints()
            drained = scheduler.drain(DRAIN_SECONDS)
    log.info("schedule_ended", drained=drained)
    render("schedule", Result({"drained": drained}), output)
    # Everything is written and closed. Neither a hanging thread (its lease expires) nor the interpreter's
    # own shutdown, which takes seconds on a busy machine, may delay the exit.
    os._exit(Exit.DONE)


def _serving(bind: str | None, pages: Pages, webhooks: Webhooks | None) -> AbstractContextManager[object]:
    if bind in (None, "none"):
        return nullcontext()
    return closing(StatusServer(bind, pages, webhooks=webhooks))


class Worker:
    """Runs one connection for the scheduler, and returns how the run ended."""

    def __init__(self, runner: Runner, chosen: Sequence[Connection]) -> None:
        self._runner = runner
        self._connections = {connection.name: connection for connection in chosen}

    def run(self, kind: Kind, name: str) -> RunResult:
        result = self._runner.attempt(self._connections[name], OPTIONS[kind])
        if result["exit"] in (Exit.REFUSED, Exit.CONFIGURATION) and self._has_new_keys(name):
            result = self._runner.attempt(self._connections[name], OPTIONS[kind])
        session = self._runner.session
        if (url := session.settings.alert_url) and not session.clock.stopped:
            alert(url, self._runner.database, [self._connections[name]], session.clock)
        return _ended(result, limited=compose.limits(self._connections[name]).usable is not None)

    def _has_new_keys(self, name: str) -> bool:
        """Load the settings again, and return whether a key in a file was replaced."""
        reload = self._runner.session.reload
        if reload is None:
            return False
        try:
            fresh = reload().connection(name)
        except ConnectorError as error:
            log.warning("settings_not_reloaded", connection=name, code=error.code)
            return False
        old = self._connections[name]
        if (fresh.api_key, fresh.write_key) == (old.api_key, old.write_key):
            return False
        # Only the keys: other changes apply from the next start of the process.
        keys = {"api_key": fresh.api_key, "write_key": fresh.write_key}
        self._connections[name] = old.model_copy(update=keys)
        log.info("key_replaced", connection=name)
        return True


def _ended(result: dict[str, Any], *, limited: bool) -> RunResult:
    """Return the parts of a run's summary that the scheduler needs."""
    again = result.get("next_try") or result.get("requests_again_at") if limited else None
    return RunResult(
        exit=int(result["exit"]),
        run=result.get("run"),
        again=datetime.fromisoformat(again) if again else None,
        waiting=int(result.get("waiting") or 0),
        stopped=bool(result.get("interrupted")),
    )


class LogReporter(Reporter):
    """Logs what went wrong in a run, and prints nothing: the scheduler logs how each run ended."""

    def summary(self, _: Sequence[str], connection: str = "", error: Exception | None = None) -> None:
        if isinstance(error, ConnectorError):
            log.warning("run_failed", connection=connection, code=error.code, error=error.what)
        elif error:
            # Not the error's own text, which may hold a row or a key.
            frames = traceback.extract_tb(error.__traceback__)[-6:]
            where = [f"{frame.filename}:{frame.lineno}" for frame in frames]
            log.error("run_crashed", connection=connection, error=type(error).__name__, where=where)

"""`sync`: one incremental run of each connection that was asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connector import compose
from connector.beamer.catalogue import CATALOGUE
from connector.commands.session import Session
from connector.config import Connection
from connector.errors import Busy, ConfigurationError, ConnectorError, Exit
from connector.output import explain, say, table
from connector.service import summary
from connector.state import connections as known_connections
from connector.state import progress
from connector.state.connections import Identity
from connector.state.engine import Store, open_store
from connector.state.progress import Progress, StreamState
from connector.sync import planner
from connector.sync.report import Report
from connector.sync.run import Outcome, Run


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asked for; `skip_exit` replaces 75, and 0 where nothing could be asked."""

    streams: tuple[str, ...]
    max_requests: int | None
    deliver: bool
    strict: bool
    skip_exit: int | None


def narrowed(connection: Connection, streams: Sequence[str]) -> Connection:
    """The connection with fewer streams for this once."""
    strangers = [name for name in streams if name not in connection.streams]
    if strangers:
        raise ConfigurationError(
            f"Connection '{connection.name}' has no stream {strangers[0]!r}.",
            todo=f"Its streams are: {', '.join(connection.streams)}.",
        )
    return connection.model_copy(update={"streams": tuple(streams)}) if streams else connection


def syncs(
    here: Session,
    store: Store,
    chosen: Sequence[Connection],
    wishes: Wishes,
    told: Callable[[str], None],
    *,
    text: bool,
) -> list[dict[str, Any]]:
    """Sync each connection; one that fails leaves the others alone."""
    results = []
    for connection in chosen:
        if here.clock.stopped:
            break
        try:
            results.append(_sync(here, store, narrowed(connection, wishes.streams), wishes, told, text=text))
        except ConnectorError as error:
            explain(error)
            results.append(_failed(connection.name, error, wishes))
    return results


def _sync(
    here: Session,
    store: Store,
    connection: Connection,
    wishes: Wishes,
    told: Callable[[str], None],
    *,
    text: bool,
) -> dict[str, Any]:
    first = known_connections.known(store, connection.name) is None
    parts = compose.parts(here.settings, connection, store, here.clock)
    for line in start_date_lines(connection, parts.identity, first=first):
        if text:
            say(line)
    run = Run(
        parts,
        deliver=wishes.deliver,
        most_requests=wishes.max_requests,
        on_progress=lambda report: told(_counted(report)),
    )
    try:
        outcome = run.go()
    finally:
        parts.beamer.close()
    balance = parts.ledger.balance(here.clock.now())
    if text:
        for line in summary.lines(connection.name, outcome, balance, connection.limit_text):
            say(line)
    result = summary.as_dict(connection.name, outcome, balance, connection.limit_text)
    return {**result, "exit": exit_code(outcome, wishes)}


def exit_code(outcome: Outcome, wishes: Wishes) -> int:
    """The run's own code, or what the wishes make of it."""
    code = int(outcome.exit)
    if code == Exit.DONE and wishes.strict and outcome.report.quarantined:
        return int(Exit.QUARANTINED)
    nothing_asked = code == Exit.DONE and outcome.report.asked == 0 and outcome.report.stopped
    if wishes.skip_exit is not None and nothing_asked and wishes.max_requests != 0:
        return wishes.skip_exit
    return code


def _failed(name: str, error: ConnectorError, wishes: Wishes) -> dict[str, Any]:
    code = int(error.exit)
    if isinstance(error, Busy) and wishes.skip_exit is not None:
        code = wishes.skip_exit
    return {"connection": name, "exit": code, "error": {"code": error.code, "what": error.what}}


def start_date_lines(connection: Connection, identity: Identity, *, first: bool) -> list[str]:
    """Say from when on rows are sent: at the first sync, and when the setting no longer changes it."""
    date = f"{identity.start_date:%Y-%m-%d %H:%M:%S} UTC"
    if first:
        return [f"{connection.name}: sending rows dated {date} or later; this date is kept from now on"]
    asked = connection.start_date
    if asked and asked < identity.start_date:
        return [
            f"{connection.name}: BEAMER_START_DATE is earlier than {date}, the date of the first sync; "
            "sync does not go further back"
        ]
    return []


def _counted(report: Report) -> str:
    return f"{report.asked} requests, {report.new.total()} new rows, {report.sent} sent"


# --- dry run ---------------------------------------------------------------------------------------------


def dry_runs(
    here: Session, chosen: Sequence[Connection], wishes: Wishes, *, text: bool
) -> list[dict[str, Any]]:
    """What a sync would ask, from what the store knows; nobody is asked and nothing is written."""
    store = _existing(compose.location(here.settings))
    try:
        return [_dry_run(here, store, narrowed(each, wishes.streams), text=text) for each in chosen]
    finally:
        if store:
            store.close()


def _existing(url: str) -> Store | None:
    """The store, unless it is a file that is not there yet."""
    if url.startswith("sqlite") and not Path(compose.file_of(url)).exists():
        return None
    return open_store(url)


def _dry_run(here: Session, store: Store | None, connection: Connection, *, text: bool) -> dict[str, Any]:
    now = here.clock.now()
    found = known_connections.known(store, connection.name) if store else None
    identity = found or Identity(connection.name, "-", "-", connection.start_date or now - compose.FIRST_DAYS)
    policy = compose.policy(connection, identity)
    state = progress.peek(store, connection.name) if store and found else Progress()
    for name in CATALOGUE:
        state.streams.setdefault(name, StreamState(0, name))
    probes = planner.first_probes(CATALOGUE, policy, state, identity.first_page, now)
    probes += planner.waiting_children(CATALOGUE, policy, state, identity.first_page)
    cost = planner.cost(probes)
    if text:
        rows = [(probe.stream.name, probe.parent, probe.reason) for probe in probes]
        table(f"{connection.name}: {sum(cost.values())} requests at the least", ("stream", "of", "why"), rows)
        say("More follow where counters have moved; a first sync asks every list that is not empty.")
    return {
        "connection": connection.name,
        "requests_at_least": sum(cost.values()),
        "by_stream": cost,
        "probes": [{"stream": p.stream.name, "parent": p.parent, "reason": p.reason} for p in probes],
        "limit": connection.limit_text,
    }

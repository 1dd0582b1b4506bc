"""One run of one connection, as `sync`, `audit` and `schedule` start it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from structlog.contextvars import bind_contextvars, unbind_contextvars

from connector import compose
from connector.beamer.streams import CATALOGUE, Stream
from connector.cli.context import Session
from connector.cli.exit_codes import unexpected, worst
from connector.cli.output import Reporter
from connector.config import Connection
from connector.errors import ConfigurationError, ConnectorError, Exit
from connector.reporting import health, summary
from connector.reporting.health import UNTRIED
from connector.state import connections, outbox, queries, suspensions
from connector.state.connections import Identity
from connector.state.credentials import CONFIRM, Verdict
from connector.state.engine import Database
from connector.state.ledger import Balance
from connector.state.progress import note_newest
from connector.state.suspensions import Api
from connector.sync.context import Parts
from connector.sync.planning.audit import AuditEverything
from connector.sync.report import Report
from connector.sync.run import Outcome, Run

# An audit cut short by the budget goes on the next time with what was not read in this time.
READ_LATELY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """What was asked for; `skip_exit` replaces 75, and 0 where no request could be sent.

    `command` is the kind of the runs: an `audit` reads again what was not read whole within a day.
    """

    streams: tuple[str, ...] = ()
    max_requests: int | None = None
    deliver: bool = True
    strict: bool = False
    skip_exit: int | None = None
    command: str = "sync"

    @property
    def audit(self) -> bool:
        return self.command == "audit"

    def code(self, results: Sequence[Mapping[str, Any]]) -> int:
        """Return the command's exit code: the worst connection's, or `skip_exit` where nothing was done."""
        code = worst(result["exit"] for result in results)
        if self.skip_exit is None:
            return code
        idle = bool(results) and self.max_requests != 0 and all(result["idle"] for result in results)
        return self.skip_exit if code == Exit.BUSY or (code == Exit.DONE and idle) else code


def narrowed(connection: Connection, streams: Sequence[str]) -> dict[str, Stream]:
    """Return the catalogue with these streams only, and their parents.

    The policy stays as it is: with a narrower one, rows of the other streams would be excluded for good.
    """
    unknown = [name for name in streams if name not in connection.streams]
    if unknown:
        raise ConfigurationError(
            f"Connection '{connection.name}' has no stream {unknown[0]!r}.",
            todo=f"Its streams are: {', '.join(connection.streams)}.",
        )
    wanted = {*streams, *(CATALOGUE[name].parent for name in streams)} if streams else {*CATALOGUE}
    return {name: stream for name, stream in CATALOGUE.items() if name in wanted}


def attempted(
    session: Session,
    database: Database,
    connection: Connection,
    options: SyncOptions,
    on_progress: Callable[[str], None],
    reporter: Reporter,
) -> dict[str, Any]:
    """Run a connection, and return the result, whatever it is."""
    name = connection.name
    try:
        return _sync(session, database, connection, options, on_progress, reporter)
    except ConnectorError as error:
        reporter.error(error, name)
        return _failed(name, error.exit, error.as_dict())
    except Exception as error:
        reporter.unexpected(error, name)
        return _failed(name, Exit.UNEXPECTED, unexpected(error))


@dataclass(frozen=True, slots=True)
class OpenRun:
    """What a run works with. `first`: no sync has settled the start date yet.

    `suspended` names the API whose refusal of a key is to be tried again; `unproved`: the Beamer key has
    changed, and its account is still to be compared.
    """

    parts: Parts
    first: bool
    suspended: Api | None
    unproved: bool


@contextmanager
def open_run(
    session: Session,
    database: Database,
    connection: Connection,
    catalogue: Mapping[str, Stream] = CATALOGUE,
    *,
    tries: bool,
) -> Iterator[OpenRun]:
    """Put a run together; refuse it where its keys may be another account's, or were refused by the API.

    `tries`: a refused key may be tried again once it is time.
    """
    keys, change = compose.keys_in_use(connection), compose.refuse_other_account(database, connection)
    unproved, now = change.verdict is Verdict.COMPARE, session.clock.now()
    suspended = health.refuse_suspended(
        database, connection.name, keys, now if tries else None, unproved=unproved
    )
    _, settled = compose.stored_or_new_identity(database, connection, now)
    with compose.working(session.settings, connection, database, session.clock, catalogue) as parts:
        if suspended and suspended.api == "beamer":
            health.try_again(parts, suspended, keys)
        yield OpenRun(parts, not settled, suspended.api if suspended else None, unproved)


def note_outcome(database: Database, connection: Connection, outcome: Outcome, now: datetime) -> None:
    """Store whether the APIs took the keys: with a refused key the connection is suspended."""
    health.note(
        database,
        connection.name,
        compose.keys_in_use(connection),
        outcome.error,
        now,
        answered=outcome.report.pages > 0,
        delivered=outcome.report.sent > 0,
    )


def _sync(
    session: Session,
    database: Database,
    connection: Connection,
    options: SyncOptions,
    on_progress: Callable[[str], None],
    reporter: Reporter,
) -> dict[str, Any]:
    catalogue = narrowed(connection, options.streams)
    with open_run(session, database, connection, catalogue, tries=options.max_requests != 0) as opened:
        parts = opened.parts
        if options.audit:
            parts = replace(parts, planner=AuditEverything(session.clock.now() - READ_LATELY))
        # With a suspended write key, waiting messages are sent first; nothing is read until one is accepted.
        only_deliver = opened.suspended == "segment" and _has_waiting(parts)
        run = Run(
            parts,
            command=options.command,
            deliver=options.deliver,
            most_requests=0 if only_deliver else options.max_requests,
            on_progress=lambda report: _page_read(report, on_progress),
        )
        try:
            outcome = run.go()
        finally:
            unbind_contextvars("requests")
        balance = parts.ledger.balance(session.clock.now())
    return _reported(session, database, connection, options, opened, outcome, balance, reporter)


def _reported(
    session: Session,
    database: Database,
    connection: Connection,
    options: SyncOptions,
    opened: OpenRun,
    outcome: Outcome,
    balance: Balance,
    reporter: Reporter,
) -> dict[str, Any]:
    """Note what follows from a run, print its summary, and return it."""
    name, now, report = connection.name, session.clock.now(), outcome.report
    identity = connections.known(database, name) or opened.parts.identity
    still_open = identity.provisional and opened.parts.identity.first_days
    notices = [] if still_open else _start_date_lines(connection, identity, first=opened.first)
    note_outcome(database, connection, outcome, now)
    untried = opened.unproved or not suspensions.tried(database, name)
    if not report.requests_spent and options.max_requests != 0 and untried:
        notices.append(f"{name}: {UNTRIED}")
    reporter.summary(notices)
    note_newest(database, name, sorted(report.new), now)
    lines = summary.lines(name, outcome, balance, connection.limit_text)
    held = outbox.held(database, name, opened.parts.identity.destination, opened.parts.write_key)
    if held:
        lines.append(f"  {_for_former_key(held)}")
    reporter.summary(lines, name, outcome.error and compose.of_connection(outcome.error, connection))
    return {
        **summary.as_dict(name, outcome, balance, connection.limit_text),
        "exit": _exit_code(outcome, options),
        "idle": report.requests_spent == 0 and bool(report.stopped),
        "start_date": identity.start_date.isoformat(),
        "waiting_for_former_key": held,
        "notices": notices,
    }


def _has_waiting(parts: Parts) -> bool:
    """Whether messages wait for the connection's own source."""
    name, destination = parts.identity.name, parts.identity.destination
    waiting = queries.waiting(parts.database, name)
    return any(message.destination == destination and not message.held for message in waiting)


def _for_former_key(messages: int) -> str:
    """Say how many messages wait for a former write key, and what to do."""
    return (
        f"for a former write key: {messages:,} messages wait – `{CONFIRM}` sends them with the new key, "
        "if it belongs to the same source; `beamer-segment outbox drop` deletes them"
    )


def _page_read(report: Report, on_progress: Callable[[str], None]) -> None:
    bind_contextvars(requests=report.requests_spent)
    on_progress(f"{report.requests_spent} requests, {report.new.total()} new rows, {report.sent} sent")


def _exit_code(outcome: Outcome, options: SyncOptions) -> int:
    """The run's own code, or 65 where `--strict` asks for it."""
    if outcome.exit is Exit.DONE and options.strict and outcome.report.quarantined:
        return int(Exit.QUARANTINED)
    return int(outcome.exit)


def _failed(name: str, code: int, error: Mapping[str, str]) -> dict[str, Any]:
    return {"connection": name, "exit": int(code), "idle": False, "error": error}


def _start_date_lines(connection: Connection, identity: Identity, *, first: bool) -> list[str]:
    """Say from which date rows are sent: at the first sync, and if the setting names an earlier one."""
    date = f"{identity.start_date:%Y-%m-%d %H:%M:%S} UTC"
    if first:
        return [f"{connection.name}: sending rows dated {date} or later; this start date is stored"]
    setting = connection.start_date
    if setting and setting < identity.start_date:
        return [
            f"{connection.name}: BEAMER_START_DATE is earlier than {date}, the start date that the first "
            f"sync stored; to send older rows: beamer-segment backfill --since {setting:%Y-%m-%d}"
        ]
    return []

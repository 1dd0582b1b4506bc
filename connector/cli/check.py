"""`check`: goes through everything that a sync needs."""

import shlex
from collections.abc import Iterator
from typing import Annotated

import typer

from connector import compose
from connector.cli.check_requests import Subject, destination, with_requests
from connector.cli.context import Session, open_session
from connector.cli.exit_codes import worst
from connector.cli.options import ConfigFile, ConnectionName, EnvFile, NewStore, OutputFormat
from connector.cli.output import Output, Reporter, Result, render
from connector.cli.status import status_of, terminal_screen
from connector.config import Connection
from connector.errors import ConfigurationError, StateDamaged
from connector.files import open_to_others
from connector.reporting.checks import Finding, failed, of_database
from connector.reporting.health import KEYS
from connector.reporting.status_text import finding_lines
from connector.state import connections, suspensions
from connector.state.connections import Identity
from connector.state.credentials import OtherAccount, Verdict, describe_change, todo_of
from connector.state.engine import Database

app = typer.Typer(rich_markup_mode=None)


@app.command()
def check(
    config: ConfigFile = None,
    env_file: EnvFile = None,
    connection: ConnectionName = None,
    offline: Annotated[bool, typer.Option("--offline", help="Send no request.")] = False,
    send_test: Annotated[
        bool, typer.Option("--send-test", help="Send one test event; then look for it in Segment.")
    ] = False,
    output: OutputFormat = Output.TEXT,
    new_store: NewStore = False,
) -> None:
    """Check configuration, database, keys, permissions, clock and destination, and print what to do.

    Example: beamer-segment check --send-test
    """
    session = open_session(config, env_file)
    with session.database(new_store) as database:
        chosen, reporter = session.settings.connection(connection), Reporter(output)
        findings: list[Finding] = []
        for finding in examine(session, database, chosen, offline=offline, send_test=send_test):
            findings.append(finding)
            reporter.summary(finding_text(finding))
    code = worst(finding.exit for finding in findings)
    data = {"findings": [finding.as_dict() for finding in findings]}
    raise typer.Exit(render("check", Result(data, exit=code), output))


def finding_text(finding: Finding) -> list[str]:
    """Return a finding of `check` as lines: what was found, and what to do."""
    what = f"{finding.thing}: {finding.found}"
    return finding_lines(finding.grade, what, finding.todo, terminal_screen())


def examine(
    session: Session, database: Database, connection: Connection, *, offline: bool, send_test: bool
) -> Iterator[Finding]:
    """Yield one finding after the other."""
    try:
        yield from _examined(session, database, connection, offline=offline, send_test=send_test)
    except StateDamaged as error:
        yield failed("database", error)


def _examined(
    session: Session, database: Database, connection: Connection, *, offline: bool, send_test: bool
) -> Iterator[Finding]:
    try:
        identity, settled = compose.stored_or_new_identity(database, connection, session.clock.now())
    except StateDamaged:
        raise
    except ConfigurationError as error:
        # Nothing else can be checked without a start date.
        yield failed("start date", error)
        return
    change = compose.change(database, connection)
    subject = Subject(session, database, connection, identity, change, settled=settled)
    refused, comparing = change.verdict is Verdict.REFUSE, change.verdict is Verdict.COMPARE
    if not refused:
        # What is stored of a key that was refused is deleted once the key has changed.
        suspensions.current_refusal(database, connection.name, subject.keys, unproved=comparing)
    for finding in _without_requests(subject):
        # A changed key is compared by this command itself.
        if finding.thing != KEYS or not (refused or (comparing and not offline)):
            yield finding
    if refused:
        yield failed(KEYS, OtherAccount(describe_change(change, connection.name), todo=todo_of(change)))
        return
    try:
        compose.refuse_other_name(database, connection)
    except ConfigurationError as error:
        yield failed("account", error)
        return
    yield from () if settled else _names_before(database, identity)
    yield _start_date(connection, identity, settled=settled)
    if offline:
        yield Finding("key", "ok", "Not tried (--offline).")
        yield destination(connection)
    else:
        yield from with_requests(subject, send_test=send_test)


def _without_requests(subject: Subject) -> Iterator[Finding]:
    """Yield what settings and database show, without requests."""
    connection, database, identity = subject.connection, subject.database, subject.identity
    yield Finding(
        "configuration", "ok", f"Connection '{connection.name}', {len(connection.streams)} streams."
    )
    for name in subject.session.settings.unused:
        what = f"{name} is not used: no connection in the configuration file names it."
        yield Finding("configuration", "warning", what)
    yield Finding("database", "ok", f"{database} is writable and up to date.")
    for path in open_to_others(database.path) if database.path else ():
        yield Finding(
            "database",
            "warning",
            f"Other users may write to {path}: they could change the record of sent rows and used requests.",
            f"Run: chmod go-w {shlex.quote(str(path))} (or chown it, if it is another user's).",
        )
    yield Finding(
        "names",
        "ok",
        f"Account '{identity.account}', destination '{identity.destination}': part of every messageId, "
        "kept when keys are rotated.",
    )
    yield Finding("plan", "ok", connection.limit_text[:1].upper() + connection.limit_text[1:] + ".")
    yield from of_database(status_of(database, connection, subject.session.clock.now()))


def _names_before(database: Database, identity: Identity) -> Iterator[Finding]:
    """Yield a finding if another connection has sent the same rows: it is probably a renamed connection."""
    for other in connections.alike(database, identity):
        yield Finding(
            "name",
            "warning",
            f"Connection '{other}' has sent rows of the same account to the same destination. The first "
            f"sync of '{identity.name}' sends all of them again since the start date; Segment drops "
            "repeated messages for about 24 hours only.",
            f"Name it '{other}' to continue that connection, unless it sends other streams.",
        )


def _start_date(connection: Connection, identity: Identity, *, settled: bool) -> Finding:
    """The first sync fixes the date; a check only shows it."""
    date = f"{identity.start_date:%Y-%m-%d %H:%M:%S} UTC"
    if not settled:
        return Finding("start date", "ok", f"A first sync stores {date} and sends rows from this date on.")
    if connection.start_date and connection.start_date < identity.start_date:
        return Finding(
            "start date",
            "warning",
            f"Rows dated {date} or later, as the first sync stored it; an earlier setting has no effect.",
        )
    return Finding("start date", "ok", f"Rows dated {date} or later.")

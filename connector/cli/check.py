"""`check`: goes through everything that a sync needs."""

import shlex
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from connector import compose
from connector.beamer.pagination import Answer, BeamerRequest
from connector.cli.command import ConnectionName, Files, NewStore, Session, open_session, prints_result
from connector.cli.exit_codes import worst
from connector.cli.output import Reporter, Result, echo_err
from connector.cli.status import finding_text, status_of
from connector.config import Connection, default_env_file, surroundings
from connector.daemon.webhooks import PATH
from connector.errors import ConfigurationError, ConnectorError, KeyRefused, StateDamaged
from connector.files import exists, is_readable_by_others, open_to_others
from connector.reporting.checks import (
    MOST_REQUESTS,
    WRONG_KEY,
    Examination,
    Finding,
    attribute_finding,
    failed,
    hello_message,
    of_database,
)
from connector.reporting.health import KEYS
from connector.reporting.source_checks import source_findings
from connector.state import connections, hints, suspensions
from connector.state.connections import Identity, KeyChange, KeyVerdict, OtherAccount
from connector.state.engine import Database
from connector.state.ledger import Ledger
from connector.sync.account_check import Get, compare_account
from connector.text import counted

app = typer.Typer(rich_markup_mode=None)

# Posts (also without the permission to ignore filters), feature requests and NPS.
MOST_COMPARED = 4


@app.command()
@prints_result
def check(
    files: Files,
    reporter: Reporter,
    connection: ConnectionName = None,
    offline: Annotated[bool, typer.Option("--offline", help="Send no request.")] = False,
    send_test: Annotated[
        bool, typer.Option("--send-test", help="Send one test event; then look for it in Segment.")
    ] = False,
    new_store: NewStore = False,
) -> Result:
    """Check configuration, database, keys, permissions, clock and destination, and print what to do.

    Example: beamer-segment check --send-test
    """
    session = open_session(*files)
    with session.database(new_store) as database:
        chosen = session.settings.connection(connection)
        findings = examine(session, database, chosen, reporter, offline=offline, send_test=send_test)
    code = worst(finding.exit for finding in findings)
    return Result({"findings": [finding.as_dict() for finding in findings]}, exit=code)


def examine(
    session: Session,
    database: Database,
    connection: Connection,
    reporter: Reporter,
    *,
    offline: bool = False,
    send_test: bool,
) -> list[Finding]:
    """Check one thing after the other, and print each finding at once."""
    findings = []
    for finding in _findings(session, database, connection, offline=offline, send_test=send_test):
        findings.append(finding)
        what = f"{finding.thing}: {finding.found}"
        reporter.summary(finding_text(finding.grade, what, finding.todo))
    return findings


@dataclass(frozen=True, slots=True)
class Subject:
    """A checked connection; `settled`: a sync has fixed the start date."""

    session: Session
    database: Database
    connection: Connection
    identity: Identity
    change: KeyChange
    settled: bool


def _findings(
    session: Session, database: Database, connection: Connection, *, offline: bool, send_test: bool
) -> Iterator[Finding]:
    try:
        identity, settled = compose.stored_or_new_identity(database, connection, session.clock.now())
        change = compose.change(database, connection)
    except StateDamaged as error:
        yield failed("database", error)
        return
    except ConfigurationError as error:
        # Without a start date nothing else can be checked.
        yield failed("start date", error)
        return
    subject = Subject(session, database, connection, identity, change, settled)
    try:
        yield from _examined(subject, offline=offline, send_test=send_test)
    except StateDamaged as error:
        yield failed("database", error)


def _examined(subject: Subject, *, offline: bool, send_test: bool) -> Iterator[Finding]:
    database, connection, change = subject.database, subject.connection, subject.change
    refused, comparing = change.verdict is KeyVerdict.REFUSE, change.verdict is KeyVerdict.COMPARE
    if not refused:
        # A stored refusal is deleted once the key has changed.
        keys = compose.keys_in_use(connection)
        suspensions.current_refusal(database, connection.name, keys, unproved=comparing)
    for finding in _without_requests(subject):
        # A changed key is compared by this command itself.
        if finding.thing != KEYS or not (refused or (comparing and not offline)):
            yield finding
    if refused:
        yield failed(KEYS, OtherAccount(change.describe(connection.name), todo=change.todo))
        return
    try:
        compose.refuse_other_name(database, connection)
    except ConfigurationError as error:
        yield failed("account", error)
        return
    yield from () if subject.settled else _names_before(subject)
    yield _start_date(subject)
    if offline:
        yield Finding("key", "ok", "Not tried (--offline).")
        yield _destination(connection)
        yield from _not_proven(connection)
    else:
        yield from _with_requests(subject, send_test=send_test)


# --- without requests -----------------------------------------------------------------------------------


def _without_requests(subject: Subject) -> Iterator[Finding]:
    """Yield the findings from settings and database."""
    connection, database, identity = subject.connection, subject.database, subject.identity
    yield Finding(
        "configuration",
        "ok",
        f"Connection '{connection.name}', {counted(len(connection.streams), 'stream')}.",
    )
    yield from _env_file(subject.session.settings.env_file)
    for name in subject.session.settings.unused:
        what = f"{name} is not used: no connection in the configuration file names it."
        yield Finding("configuration", "warning", what)
    yield Finding("database", "ok", f"{database} is writable and up to date.")
    if database.path:
        yield from _open(database.path, "database", "the list of sent rows and used requests")
    yield Finding(
        "names",
        "ok",
        f"Account '{identity.account}', destination '{identity.destination}': part of every messageId, "
        "kept when keys are rotated.",
    )
    if finding := attribute_finding(connection.trait_attributes):
        yield finding
    yield from _webhooks(database, connection)
    yield Finding("plan", "ok", connection.limit_source[:1].upper() + connection.limit_source[1:] + ".")
    yield from of_database(status_of(database, connection, subject.session.clock.now()))


def _webhooks(database: Database, connection: Connection) -> Iterator[Finding]:
    """Yield whether hints arrive and are right; nothing if webhooks are not set up."""
    sums = hints.sums(database, connection.name)
    if not sums and not connection.webhook_secrets:
        return
    if not sums:
        todo = (
            "In Beamer's dashboard, add webhooks for posts, comments, reactions and NPS to "
            f"https://YOUR-HOST{PATH}{connection.name}, and their secrets to BEAMER_WEBHOOK_SECRET."
        )
        yield Finding("webhooks", "warning", "No hint has arrived yet.", todo)
        return
    all_of = hints.total(sums.values())
    what = (
        f"The last hint arrived on {all_of.received_at:%Y-%m-%d %H:%M} UTC; confirmed / received: "
        f"{all_of.confirmed:,} / {all_of.received:,} ({all_of.waiting:,} not read yet)."
    )
    yield Finding("webhooks", "ok", what)


def _env_file(used: Path | None) -> Iterator[Finding]:
    """Yield which env file is read, and problems with it or with the unused one that `init` wrote."""
    default = default_env_file(surroundings())
    if used:
        yield Finding("configuration", "ok", f"The env file is {used}.")
        yield from _open(used, "configuration", "keys and settings")
    if default and default != used and exists(default):
        what = f"The env file {default} is not read: another file, or a key in the environment, comes first."
        todo = ""
        if is_readable_by_others(default):
            what += " Other users may read it, and it contains keys."
            todo = f"Run: chmod 600 {shlex.quote(str(default))}"
        yield Finding("configuration", "warning" if todo else "ok", what, todo)


def _open(file: Path, thing: str, content: str) -> Iterator[Finding]:
    for path in open_to_others(file):
        what = f"Other users may write to {path}: they could change {content}."
        todo = f"Run: chmod go-w {shlex.quote(str(path))} (or chown it, if it is another user's)."
        yield Finding(thing, "warning", what, todo)


def _names_before(subject: Subject) -> Iterator[Finding]:
    """Yield a finding if another connection has sent the same rows: it is probably a renamed connection."""
    for other in connections.alike(subject.database, subject.identity):
        yield Finding(
            "name",
            "warning",
            f"Connection '{other}' has sent rows of the same account to the same destination. The first "
            f"sync of '{subject.identity.name}' sends all of them again since the start date; Segment drops "
            "repeated messages for about 24 hours only.",
            f"Name it '{other}' to continue that connection, unless it sends other streams.",
        )


def _start_date(subject: Subject) -> Finding:
    """Return the start date, which the first sync fixes."""
    stored, setting = subject.identity.start_date, subject.connection.start_date
    date = f"{stored:%Y-%m-%d %H:%M:%S} UTC"
    if not subject.settled:
        return Finding("start date", "ok", f"A first sync stores {date} and sends rows from this date on.")
    if setting and setting < stored:
        what = f"Rows dated {date} or later, as the first sync stored it; an earlier setting has no effect."
        return Finding("start date", "warning", what)
    return Finding("start date", "ok", f"Rows dated {date} or later.")


def _destination(connection: Connection) -> Finding:
    """Return where events go."""
    host = compose.segment_address(connection)
    what = f"Events go to {host} (region {connection.region}); not tried."
    return Finding("destination", "ok", what, f"{WRONG_KEY} Send one with --send-test.")


# --- with requests --------------------------------------------------------------------------------------


def _with_requests(subject: Subject, *, send_test: bool) -> Iterator[Finding]:
    """Yield the answers of Beamer and Segment: at most nine requests, and one test event."""
    clients = compose.clients(subject.connection, subject.session.clock)
    with closing(clients.beamer):
        yield from _beamer(subject, clients)
        yield _tested(subject, clients) if send_test else _destination(subject.connection)
    yield from _not_proven(subject.connection) or _source(subject)


def _beamer(subject: Subject, clients: compose.Clients) -> Iterator[Finding]:
    database, connection, identity = subject.database, subject.connection, subject.identity
    clock, comparing = subject.session.clock, subject.change.verdict is KeyVerdict.COMPARE
    wanted = compose.catalogue(connection, connection.streams)
    roots = tuple(stream for stream in wanted.values() if stream.parent is None)
    most = min(MOST_REQUESTS, len(roots) + 1) + MOST_COMPARED * comparing
    echo_err(f"Sending at most {counted(most, 'request')} to Beamer …")
    ledger = Ledger(database, identity.account, identity.name, compose.limits(connection))

    def get(purpose: str, request: BeamerRequest) -> Answer:
        # A person's few requests do not wait for the bucket.
        try:
            with ledger.taken(f"check {purpose}", clock.now(), beyond_bucket=True) as at:
                answer = clients.beamer.get(request, at)
            ledger.note_beamer_time(answer.date, clock.now())
            return answer
        except KeyRefused as error:
            raise compose.of_connection(error, connection) from None

    if comparing:
        finding = _same_account(subject, get)
        yield finding
        if finding.grade == "error":
            return
    answered = refused = False
    for finding in Examination(roots, get, clock.now, settled=subject.settled).findings():
        answered |= finding.thing in wanted
        refused |= finding.grade == "error"
        yield finding
    key = compose.keys_in_use(connection)["beamer"]
    if answered and not refused and suspensions.accept(database, identity.name, "beamer", key, clock.now()):
        yield Finding("suspension", "ok", "Beamer accepts the key again; syncs continue.")
    balance = ledger.balance(clock.now())
    left = "no monthly limit" if balance.left is None else f"{balance.left:,} left"
    yield Finding(
        "quota", "ok", f"{counted(balance.used, 'request')} used since {balance.since:%Y-%m-%d}, {left}."
    )


def _same_account(subject: Subject, get: Get) -> Finding:
    """Compare a changed key or address as a sync does; the sync stores it."""
    identity, change = subject.identity, subject.change
    policy = compose.policy(subject.connection, identity)
    try:
        compare_account(subject.database, identity, policy, change, get)
    except ConnectorError as error:
        return failed(KEYS, error)
    what = f"{change.named[:1].upper()}{change.named[1:]}"
    return Finding(KEYS, "ok", f"{what} changed since the last run and belongs to the same account.")


def _not_proven(connection: Connection) -> list[Finding]:
    """Return the parts that cannot be proved without a token."""
    if connection.public_api_token:
        return []
    what = (
        "Not proven: that the write key is the right one, and that Segment keeps the events. Its Public API "
        "tells both (SEGMENT_PUBLIC_API_TOKEN; Team and Business plans)."
    )
    return [Finding("proof", "ok", what)]


def _source(subject: Subject) -> Iterator[Finding]:
    """Yield the findings of Segment's Public API about the source."""
    connection, clock = subject.connection, subject.session.clock
    _, write_key = compose.secrets(connection)
    with compose.public_api(connection, clock) as api:
        assert api is not None  # noqa: S101 - there is a token
        try:
            yield from source_findings(
                subject.database, api, write_key, connection.source_id, connection.streams, clock.now()
            )
        except ConnectorError as error:
            yield failed("proof", error)


def _tested(subject: Subject, clients: compose.Clients) -> Finding:
    connection, now = subject.connection, subject.session.clock.now()
    message = hello_message(compose.policy(connection, subject.identity), now)
    try:
        clients.segment.send([message.text], now)
    except ConnectorError as error:
        return failed("destination", compose.of_connection(error, connection))
    key = compose.keys_in_use(connection)["segment"]
    suspensions.accept(subject.database, connection.name, "segment", key, now)
    what = f"{compose.segment_address(connection)} accepted '{message.event}' ({message.message_id})."
    return Finding("destination", "ok", what, WRONG_KEY)

"""The part of `check` that sends requests: to Beamer, and a test event to Segment."""

from collections.abc import Iterator
from dataclasses import dataclass

from connector import compose
from connector.beamer.client import BeamerClient
from connector.beamer.request import Answer, BeamerRequest
from connector.beamer.streams import CATALOGUE
from connector.cli.context import Session
from connector.cli.output import echo_err
from connector.config import Connection
from connector.config.addresses import host_of
from connector.errors import ConnectorError, KeyRefused
from connector.reporting.checks import MOST_REQUESTS, WRONG_KEY, Examination, Finding, failed, hello_message
from connector.reporting.health import KEYS
from connector.segment.client import SegmentClient
from connector.state import suspensions
from connector.state.connections import Identity
from connector.state.credentials import Change, Verdict
from connector.state.engine import Database
from connector.state.ledger import Ledger
from connector.state.suspensions import Secrets
from connector.sync.account_check import Get, compare_account
from connector.sync.planning import candidates
from connector.sync.policy import Policy

# Posts (also without the permission to ignore filters), feature requests and NPS.
MOST_COMPARED = 4


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked; `settled`: a sync has fixed the start date."""

    session: Session
    database: Database
    connection: Connection
    identity: Identity
    change: Change
    settled: bool

    @property
    def policy(self) -> Policy:
        return compose.policy(self.connection, self.identity)

    @property
    def keys(self) -> Secrets:
        return compose.keys_in_use(self.connection)


def with_requests(subject: Subject, *, send_test: bool) -> Iterator[Finding]:
    """Yield what Beamer and Segment answer: at most nine requests, and one test event."""
    clients = compose.clients(subject.connection, subject.session.clock)
    try:
        yield from _beamer(subject, clients.beamer)
        yield _tested(subject, clients.segment) if send_test else destination(subject.connection)
    finally:
        clients.beamer.close()


def _beamer(subject: Subject, beamer: BeamerClient) -> Iterator[Finding]:
    database, connection, identity = subject.database, subject.connection, subject.identity
    clock, comparing = subject.session.clock, subject.change.verdict is Verdict.COMPARE
    wanted = candidates.wanted(CATALOGUE, subject.policy)
    roots = tuple(stream for stream in wanted if stream.parent is None)
    most = min(MOST_REQUESTS, len(roots) + 1) + MOST_COMPARED * comparing
    echo_err(f"Sending at most {most} requests to Beamer …")
    ledger = Ledger(database, identity.account, identity.name, compose.limits(connection))

    def get(purpose: str, request: BeamerRequest) -> Answer:
        # A person asks, a handful of requests at most: what has gathered is not waited for.
        try:
            with ledger.taken(f"check {purpose}", clock.now(), beyond_bucket=True) as at:
                answer = beamer.get(request, at)
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
        answered |= finding.thing in {stream.name for stream in roots}
        refused |= finding.grade == "error"
        yield finding
    good, key = answered and not refused, subject.keys["beamer"]
    if good and suspensions.accept(database, identity.name, "beamer", key, clock.now()):
        yield Finding("suspension", "ok", "Beamer accepts the key again; syncs continue.")
    balance = ledger.balance(clock.now())
    left = "no monthly limit" if balance.left is None else f"{balance.left:,} left"
    yield Finding("quota", "ok", f"{balance.used:,} requests used since {balance.since:%Y-%m-%d}, {left}.")


def _same_account(subject: Subject, get: Get) -> Finding:
    """Compare a changed key or address as a sync does; the sync stores it."""
    change = subject.change
    try:
        compare_account(subject.database, subject.identity, subject.policy, change, get)
    except ConnectorError as error:
        return failed(KEYS, error)
    what = f"{change.named[:1].upper()}{change.named[1:]}"
    return Finding(KEYS, "ok", f"{what} changed since the last run and belongs to the same account.")


def destination(connection: Connection) -> Finding:
    """Where events go, without a request."""
    host = host_of(connection.region, connection.segment_host)
    what = f"Events go to {host} (region {connection.region}); not tried."
    return Finding("destination", "ok", what, f"{WRONG_KEY} Send one with --send-test.")


def _tested(subject: Subject, segment: SegmentClient) -> Finding:
    connection, now = subject.connection, subject.session.clock.now()
    message = hello_message(subject.policy, now)
    try:
        segment.send([message.text], now)
    except ConnectorError as error:
        return failed("destination", compose.of_connection(error, connection))
    suspensions.accept(subject.database, connection.name, "segment", subject.keys["segment"], now)
    host = host_of(connection.region, connection.segment_host)
    return Finding(
        "destination", "ok", f"{host} accepted '{message.event}' ({message.message_id}).", WRONG_KEY
    )

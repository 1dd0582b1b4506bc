"""`check`: goes through everything that a sync needs, at most five requests."""

from collections.abc import Iterator

from connector import compose
from connector.beamer.asking import Answer, Ask
from connector.beamer.catalogue import CATALOGUE
from connector.beamer.door import Beamer
from connector.commands.looking import screen_here, status_of
from connector.commands.session import Session
from connector.config import Connection
from connector.errors import ConfigurationError, ConnectorError, KeyRefused
from connector.output import complain, say
from connector.segment.door import Segment
from connector.segment.host import host_of
from connector.service.checks import (
    MOST_REQUESTS,
    WRONG_KEY,
    Examination,
    Finding,
    failed,
    hello_message,
    of_store,
)
from connector.service.screen import finding_lines
from connector.state import connections, refusals
from connector.state.connections import Identity
from connector.state.engine import Store
from connector.state.ledger import Ledger
from connector.sync.planning import candidates


def examine(
    here: Session, store: Store, connection: Connection, *, offline: bool, send_test: bool
) -> Iterator[Finding]:
    """Give one finding after the other."""
    try:
        identity, settled = compose.looked_up(store, connection, here.clock.now())
    except ConfigurationError as error:
        # Without a start date nothing below can be told.
        yield failed("start date", error)
        return
    yield from _at_home(here, store, connection, identity)
    yield from _ledgers(store, connection, identity) if settled else _names_before(store, identity)
    yield _start_date(connection, identity, settled=settled)
    if offline:
        yield Finding("key", "ok", "Not tried (--offline).")
        yield _destination(connection)
        return
    doors = compose.doors(connection, here.clock)
    try:
        yield from _beamer(here, store, connection, identity, doors.beamer)
        if send_test:
            yield _tested(here, store, connection, identity, doors.segment)
        else:
            yield _destination(connection)
    finally:
        doors.beamer.close()


def show(finding: Finding) -> None:
    """A finding for people: what was found, and what to do."""
    for line in finding_lines(
        finding.grade, f"{finding.thing}: {finding.found}", finding.todo, screen_here()
    ):
        say(line)


def _at_home(here: Session, store: Store, connection: Connection, identity: Identity) -> Iterator[Finding]:
    yield Finding(
        "configuration", "ok", f"Connection '{connection.name}', {len(connection.streams)} streams."
    )
    for name in here.settings.ignored:
        yield Finding("configuration", "warning", f"{name} looks like a setting of ours, but is none.")
    # A key that has changed since is no refused one any more, and what is stored of it goes.
    refusals.standing(store, connection.name, compose.keys_in_use(connection))
    where = str(store)
    yield Finding("store", "ok", f"{where} can be written to and is up to date.")
    yield Finding(
        "names",
        "ok",
        f"Account '{identity.account}', destination '{identity.destination}': part of every messageId, "
        "kept when keys are rotated.",
    )
    yield Finding("plan", "ok", connection.limit_text[:1].upper() + connection.limit_text[1:] + ".")
    yield from of_store(status_of(store, connection, here.clock.now()))


def _names_before(store: Store, identity: Identity) -> Iterator[Finding]:
    """A first sync sends what another connection has sent: most likely it is that one, with a new name."""
    for other in connections.alike(store, identity):
        yield Finding(
            "name",
            "warning",
            f"Connection '{other}' has sent what it read of the same account to the same destination. A "
            f"first sync of '{identity.name}' sends all of it again since the start date, and Segment drops "
            "what comes twice for about 24 hours only.",
            f"Name it '{other}' to go on where that one stands, unless it is to send other streams.",
        )


def _ledgers(store: Store, connection: Connection, identity: Identity) -> Iterator[Finding]:
    """One key is one Beamer account, and so is its quota."""
    for other, account in compose.other_ledgers(store, connection, identity.account).items():
        yield Finding(
            "account",
            "warning",
            f"Connection '{other}' has the same Beamer key, but its requests count on account '{account}', "
            f"not on '{identity.account}': together the two may spend the quota twice.",
            f"Give both one name, such as BEAMER_ACCOUNT={account} (`account` of a table): what both have "
            "spent is added up at their next runs. Messages to come carry that name.",
        )


def _start_date(connection: Connection, identity: Identity, *, settled: bool) -> Finding:
    """Looking must not fix the date: that is the first sync's to do."""
    date = f"{identity.start_date:%Y-%m-%d %H:%M:%S} UTC"
    if not settled:
        return Finding("start date", "ok", f"A first sync sends rows dated {date} or later, and keeps to it.")
    if connection.start_date and connection.start_date < identity.start_date:
        return Finding(
            "start date",
            "warning",
            f"Rows dated {date} or later, as the first sync fixed it; an earlier one changes nothing.",
        )
    return Finding("start date", "ok", f"Rows dated {date} or later.")


def _beamer(
    here: Session, store: Store, connection: Connection, identity: Identity, beamer: Beamer
) -> Iterator[Finding]:
    roots = tuple(
        stream
        for stream in candidates.wanted(CATALOGUE, compose.policy(connection, identity))
        if stream.parent is None
    )
    complain(f"Asking Beamer at most {min(MOST_REQUESTS, len(roots) + 1)} times …")
    # A name set since the last run holds from the next one on, which takes the ledger along.
    account = compose.account_of(store, connection) or identity.account
    ledger = Ledger(store, account, identity.name, compose.limits(connection))

    def get(purpose: str, ask: Ask) -> Answer:
        # A person asks, a handful of requests at most: what has gathered is not waited for.
        at = ledger.take(f"check {purpose}", here.clock.now(), beyond_bucket=True)
        try:
            return beamer.get(ask, at)
        except KeyRefused as error:
            raise compose.of_connection(error, connection) from None

    answered = refused = False
    for finding in Examination(roots, get, here.clock.now).findings():
        answered |= finding.thing in {stream.name for stream in roots}
        refused |= finding.grade == "error"
        yield finding
    if answered and not refused and refusals.lift(store, identity.name, "beamer"):
        yield Finding("suspension", "ok", "Beamer takes the key again: syncs go on.")
    balance = ledger.balance(here.clock.now())
    left = "no monthly limit" if balance.left is None else f"{balance.left:,} left"
    yield Finding("quota", "ok", f"{balance.used:,} requests spent since {balance.since:%Y-%m-%d}, {left}.")


def _destination(connection: Connection) -> Finding:
    host = host_of(connection.region, connection.segment_host)
    found = f"Events go to {host} (region {connection.region}); not tried."
    return Finding("destination", "ok", found, f"{WRONG_KEY} Send one with --send-test.")


def _tested(
    here: Session, store: Store, connection: Connection, identity: Identity, segment: Segment
) -> Finding:
    now = here.clock.now()
    message = hello_message(compose.policy(connection, identity), now)
    try:
        segment.send([message.text], now)
    except ConnectorError as error:
        return failed("destination", compose.of_connection(error, connection))
    refusals.lift(store, identity.name, "segment")
    host = host_of(connection.region, connection.segment_host)
    return Finding("destination", "ok", f"{host} took '{message.event}' ({message.message_id}).", WRONG_KEY)

"""`check`: goes through everything that a sync needs, at most five requests."""

from collections.abc import Iterator

from connector import compose
from connector.beamer.catalogue import CATALOGUE
from connector.beamer.door import Answer, Ask
from connector.commands.session import Session
from connector.config import Connection
from connector.errors import ConnectorError
from connector.output import complain
from connector.segment.door import host_of
from connector.service.checks import MOST_REQUESTS, WRONG_KEY, Examination, Finding, failed, hello_message
from connector.state.connections import Identity
from connector.state.engine import Store
from connector.state.ledger import Ledger
from connector.sync import planner


def examine(
    here: Session, store: Store, connection: Connection, *, offline: bool, send_test: bool
) -> Iterator[Finding]:
    """Give one finding after the other."""
    identity = compose.identity(store, connection, here.clock.now())
    yield from _at_home(here, store, connection, identity)
    if offline:
        yield Finding("key", "ok", "Not tried (--offline).")
    else:
        yield from _beamer(here, store, connection, identity)
    yield from _segment(here, connection, identity, send_test=send_test and not offline)


def _at_home(here: Session, store: Store, connection: Connection, identity: Identity) -> Iterator[Finding]:
    yield Finding(
        "configuration", "ok", f"Connection '{connection.name}', {len(connection.streams)} streams."
    )
    for name in here.settings.ignored:
        yield Finding("configuration", "warning", f"{name} looks like a setting of ours, but is none.")
    where = store.path or store.engine.url.render_as_string(hide_password=True)
    yield Finding("store", "ok", f"{where} can be written to and is up to date.")
    yield Finding(
        "names",
        "ok",
        f"Account '{identity.account}', destination '{identity.destination}': part of every messageId, "
        "kept when keys are rotated.",
    )
    yield Finding("start date", "ok", f"Rows dated {identity.start_date:%Y-%m-%d %H:%M:%S} UTC or later.")
    yield Finding("plan", "ok", connection.limit_text[:1].upper() + connection.limit_text[1:] + ".")


def _beamer(here: Session, store: Store, connection: Connection, identity: Identity) -> Iterator[Finding]:
    roots = tuple(
        stream
        for stream in planner.wanted(CATALOGUE, compose.policy(connection, identity))
        if stream.parent is None
    )
    complain(f"Asking Beamer at most {min(MOST_REQUESTS, len(roots) + 1)} times …")
    ledger = Ledger(store, identity.account, identity.name, compose.limits(connection))
    beamer = compose.doors(connection, here.clock).beamer

    def get(purpose: str, ask: Ask) -> Answer:
        return beamer.get(ask, ledger.take(f"check {purpose}", here.clock.now()))

    examination = Examination(roots, get, here.clock.now)
    try:
        yield from examination.findings()
    finally:
        beamer.close()
    balance = ledger.balance(here.clock.now())
    left = "no monthly limit" if balance.left is None else f"{balance.left:,} left"
    yield Finding("quota", "ok", f"{balance.used:,} requests spent in the last 31 days, {left}.")


def _segment(
    here: Session, connection: Connection, identity: Identity, *, send_test: bool
) -> Iterator[Finding]:
    host = host_of(connection.region, connection.segment_host)
    if not send_test:
        found = f"Events go to {host} (region {connection.region}); not tried."
        yield Finding("destination", "ok", found, f"{WRONG_KEY} Send one with --send-test.")
        return
    policy = compose.policy(connection, identity)
    message = hello_message(policy, here.clock.now())
    try:
        compose.doors(connection, here.clock).segment.send([message.text], here.clock.now())
    except ConnectorError as error:
        yield failed("destination", error)
        return
    yield Finding("destination", "ok", f"{host} took '{message.event}' ({message.message_id}).", WRONG_KEY)

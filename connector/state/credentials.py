"""The keys and addresses that a connection's state was used with: they say which accounts it describes."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import Connection, exists, select, update

from connector.errors import Busy, ConfigurationError
from connector.state import leases
from connector.state.engine import Database
from connector.state.leases import Lease, check_lease, this_process
from connector.state.suspensions import Api
from connector.state.tables import connections, credentials, outbox, parents, rows, streams
from connector.state.upserts import put

DIGITS = 16
BEAMER_KEY, BASE_URL, WRITE_KEY, HOST = "Beamer key", "Beamer address", "Segment write key", "Segment address"
KEYS = frozenset({BEAMER_KEY, WRITE_KEY})
PARTS: Mapping[Api, tuple[str, str]] = {"beamer": (BEAMER_KEY, BASE_URL), "segment": (WRITE_KEY, HOST)}
SEGMENT = frozenset(PARTS["segment"])
# In this order they are named.
DESTINATION = "name of the destination"
ORDER = (BEAMER_KEY, BASE_URL, WRITE_KEY, HOST, DESTINATION)

CONFIRM = "beamer-segment state accept-keys"


class OtherAccount(ConfigurationError):
    """Keys or addresses that may be those of another account than the one whose state this is."""

    code = "BS-081"
    default_means = (
        "This may be another account, so nothing was read, sent or written. Two accounts in one state "
        "would lose rows, and one would receive messages of the other."
    )
    default_todo = (
        "If it is another account, give it another connection name (`name` in a TOML file) or another "
        f"DATABASE_URL. If it is the same account with new keys, confirm them: `{CONFIRM}`."
    )


@dataclass(frozen=True, slots=True)
class Credential:
    """A key, by its digest, and the address where it is used."""

    digest: str
    address: str


# Those of the settings; `status` may be run without a key.
Given = Mapping[Api, Credential]


class Verdict(Enum):
    """What is to be done about a change."""

    SAME = "same"
    ACCEPT = "accept"
    COMPARE = "compare"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Change:
    """How the keys and addresses of the settings differ from those that the state was last used with.

    `changed` names what differs, `returned` the keys among them that were replaced before. `new`: what was
    never stored. `moved`: the settings name another destination than the state. `blank`: the state holds
    nothing of an account yet.
    """

    changed: frozenset[str] = frozenset()
    returned: frozenset[str] = frozenset()
    new: frozenset[Api] = frozenset()
    moved: bool = False
    blank: bool = True

    @property
    def verdict(self) -> Verdict:
        if not self.changed:
            return Verdict.ACCEPT if self.new else Verdict.SAME
        if self.blank:
            return Verdict.ACCEPT
        of_beamer = self.changed - SEGMENT
        # Another destination has a key and an address of its own, but not another account.
        together = of_beamer if self.moved else self.changed & KEYS and len(self.changed) > 1
        if self.returned or together:
            return Verdict.REFUSE
        return Verdict.COMPARE if of_beamer else Verdict.ACCEPT

    @property
    def named(self) -> str:
        """What was changed, in words."""
        return listed({*self.changed, *([DESTINATION] if self.moved else [])})


def listed(parts: Collection[str]) -> str:
    """The parts in words: "the Beamer key and the Segment write key"."""
    *most, last = [f"the {part}" for part in ORDER if part in parts] or ["nothing"]
    return f"{', '.join(most)} and {last}" if most else last


def digest(secret: str) -> str:
    """What a key is known by, in this database and in any other that its state is moved to."""
    return hashlib.sha256(f"beamer-segment key {secret}".encode()).hexdigest()[:DIGITS]


def compared(database: Database, name: str, destination: str, given: Given) -> Change:
    """Compare the settings' keys and addresses with those that the connection was last used with."""
    with database.read() as db:
        return _compared(db, name, destination, given)


def _compared(db: Connection, name: str, destination: str, given: Given) -> Change:
    stored = db.execute(select(credentials).where(credentials.c.connection == name)).all()
    before = db.execute(select(connections.c.destination).where(connections.c.name == name)).scalar()
    changed: set[str] = set()
    returned: set[str] = set()
    new: set[Api] = set()
    for api, credential in given.items():
        mine = [row for row in stored if row.api == api and row.destination == _of(api, destination)]
        last = next((row for row in mine if row.current), None)
        if last is None:
            new.add(api)
            there = _of(api, before or "")
            last = next(
                (row for row in stored if row.api == api and row.destination == there and row.current), None
            )
        key, address = PARTS[api]
        if last and last.digest != credential.digest:
            changed.add(key)
            if any(row.digest == credential.digest and not row.current for row in mine):
                returned.add(key)
        if last and last.address != credential.address:
            changed.add(address)
    moved = before is not None and before != destination
    blank = _is_blank(db, name) if changed else True
    return Change(frozenset(changed), frozenset(returned), frozenset(new), moved, blank)


def _of(api: Api, destination: str) -> str:
    """A destination has write keys of its own; the Beamer key belongs to the connection."""
    return destination if api == "segment" else ""


def _is_blank(db: Connection, name: str) -> bool:
    scopes = select(streams.c.scope).where(streams.c.connection == name)
    held = (
        exists().where(rows.c.scope.in_(scopes)),
        exists().where(parents.c.scope.in_(scopes)),
        exists().where(outbox.c.connection == name),
    )
    return not any(db.execute(select(each)).scalar() for each in held)


def accounts_of(database: Database, given: Given) -> frozenset[str]:
    """Return the names that stored connections have for the account of a Beamer key."""
    if (mine := given.get("beamer")) is None:
        return frozenset()
    same = (credentials.c.digest == mine.digest) & (credentials.c.address == mine.address)
    used = (credentials.c.api == "beamer") & credentials.c.current & same
    query = select(connections.c.account).where(
        connections.c.name.in_(select(credentials.c.connection).where(used))
    )
    with database.read() as db:
        return frozenset(db.execute(query).scalars())


def refuse(change: Change, name: str) -> None:
    """Raise OtherAccount where the change says by itself that this may be another account."""
    if change.verdict is Verdict.REFUSE:
        raise OtherAccount(describe_change(change, name), todo=todo_of(change))


def describe_change(change: Change, name: str) -> str:
    """The refusal of a change in a sentence."""
    if change.returned:
        which = listed(change.returned)
        return (
            f"{which[:1].upper()}{which[1:]} of connection '{name}' was replaced earlier and is used again."
        )
    return f"{change.named[:1].upper()}{change.named[1:]} of connection '{name}' were changed together."


def todo_of(change: Change) -> str:
    """What to do about it; a new Segment source needs no connection of its own."""
    if not change.changed <= SEGMENT:
        return OtherAccount.default_todo
    return (
        "If it is another Segment source, give it another SEGMENT_DESTINATION, another connection name "
        "(`name` in a TOML file) or another DATABASE_URL. If it is the same source with a new key, confirm "
        f"that: `{CONFIRM}`."
    )


def take_over(
    database: Database,
    lease: Lease,
    destination: str,
    given: Given,
    expected: Change,
    now: datetime,
    *,
    proved: bool,
) -> None:
    """Store changed keys and addresses as those of the connection, under the lease of a run that uses them.

    `expected` is what was decided on; `proved`: a change that had to be compared was. Raises Busy where
    another process has changed them since, OtherAccount where that makes ours those of another account.
    """
    name = lease.connection
    with database.write() as db:
        check_lease(db, lease, now)
        db.execute(select(connections.c.name).where(connections.c.name == name).with_for_update())
        change = _compared(db, name, destination, given)
        refuse(change, name)
        if change.verdict is Verdict.SAME:
            return
        if (change.verdict, change.changed) != (expected.verdict, expected.changed):
            raise _busy(f"Another run changed the keys of connection '{name}' while this run started.")
        if change.verdict is Verdict.COMPARE and not proved:
            return
        if change.changed and change.blank and leases.others_at_work(db, lease, this_process(), now):
            raise _busy(f"Another run of connection '{name}' is using other keys.")
        _save(db, name, destination, given, change, now)


def _busy(what: str) -> Busy:
    return Busy(what, means="This run read and sent nothing.", todo="Run it again.")


def first(db: Connection, name: str, destination: str, given: Given, now: datetime) -> None:
    """Store those that a connection begins with, in the caller's transaction."""
    _save(db, name, destination, given, Change(new=frozenset(given)), now)


def accept(
    database: Database, lease: Lease, destination: str, given: Given, now: datetime
) -> tuple[Change, int]:
    """Somebody confirms that the keys and addresses are those of the connection's accounts.

    What waits for the destination goes to the new write key. Gives what was changed, and how many messages
    were made for former write keys. The caller holds the leases of all kinds of work.
    """
    name = lease.connection
    with database.write() as db:
        check_lease(db, lease, now)
        change = _compared(db, name, destination, given)
        _save(db, name, destination, given, change, now)
        mine = (outbox.c.connection == name) & (outbox.c.destination == destination)
        key = given["segment"].digest
        former = mine & (outbox.c.write_key != key)
        count = db.execute(update(outbox).where(former).values(write_key=key)).rowcount
    return change, count


def _save(db: Connection, name: str, destination: str, given: Given, change: Change, now: datetime) -> None:
    for api, credential in given.items():
        if api not in change.new and not change.changed & {*PARTS[api]}:
            continue
        here = {"connection": name, "api": api, "destination": _of(api, destination)}
        others = [credentials.c[column] == value for column, value in here.items()]
        db.execute(update(credentials).where(*others).values(current=False))
        value = {"digest": credential.digest, "address": credential.address, "current": True, "since": now}
        put(db, credentials, [{**here, **value}])


def write_keys(db: Connection) -> Mapping[tuple[str, str], str]:
    """The write keys in use, as digests, by connection and destination."""
    mine = (credentials.c.api == "segment") & credentials.c.current
    found: Any = db.execute(select(credentials).where(mine))
    return {(row.connection, row.destination): row.digest for row in found}

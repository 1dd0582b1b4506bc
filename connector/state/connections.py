"""Connections: their names and start date, and the keys and addresses that say which accounts they describe.

Names are fixed at the first run, and stay when a key is replaced.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, exists, select, update

from connector.errors import Busy, ConfigurationError
from connector.state import privacy
from connector.state.dialects import add, add_new, add_up, put
from connector.state.engine import Database
from connector.state.leases import Lease, check_lease, others_at_work, this_process
from connector.state.suspensions import Api
from connector.state.tables import accounts, connections, credentials, outbox, parents, rows, spends, streams


class AccountRenamed(ConfigurationError):
    """Raised when the settings give a known account another name."""

    code = "BS-083"
    default_means = (
        "Nothing was read, sent or written. A new account name changes every messageId and starts a new "
        "request budget: rows would be sent again, and requests would be counted separately."
    )

    @classmethod
    def by_setting(cls, connection: str, account: str, wanted: str) -> "AccountRenamed":
        """Return the error of a setting that names the account otherwise than the state does."""
        return cls(
            f"The Beamer account of connection '{connection}' is '{account}', but BEAMER_ACCOUNT names it "
            f"'{wanted}'.",
            todo=f"Set BEAMER_ACCOUNT (`account` in a TOML file) to '{account}'. If this is another Beamer "
            "account, use its own key and another connection name (`name` in a TOML file).",
        )

    @classmethod
    def by_key(cls, connection: str, account: str, other: str) -> "AccountRenamed":
        """Return the error of a key that another connection uses for an account of another name."""
        return cls(
            f"The Beamer account of connection '{connection}' is '{account}', but another connection uses "
            f"the same Beamer key for account '{other}'.",
            todo=f"Give connection '{connection}' a key of its own account, or use another connection name "
            "(`name` in a TOML file).",
        )


@dataclass(frozen=True, slots=True)
class Credential:
    """A key, by its digest, and the address where it is used."""

    digest: str
    address: str


# The keys in the settings, by API; `status` may be run without one.
ApiKeys = Mapping[Api, Credential]


@dataclass(frozen=True, slots=True)
class Identity:
    """The names in every messageId, the start date, and what was learnt about the account as a whole."""

    name: str
    account: str
    destination: str
    start_date: datetime
    first_page: int | None = None
    ignore_filters: bool | None = None
    # When the key was last refused to ignore filters, if it was not allowed to since.
    filters_at: datetime | None = None
    # Until Beamer's first answer shows the time, this machine's clock may be wrong.
    provisional: bool = field(default=False, compare=False)
    # How long before that answer the start date is; None where a setting gives the date.
    first_days: timedelta | None = field(default=None, compare=False)
    # When it was first seen here; not part of its names.
    created_at: datetime | None = field(default=None, compare=False)


def settle(
    database: Database,
    first_sight: Identity,
    now: datetime,
    *,
    unnamed: str | None = None,
    api_keys: ApiKeys | None = None,
) -> Identity:
    """Store a connection's names, unless they are stored already; return the stored ones.

    `unnamed` is the account's name before the settings gave it one: requests counted under it (by `check`
    and `quota set-used`) count for the account, unless they are another connection's. `api_keys` are the
    keys and addresses that the connection begins with.
    """
    name, account = first_sight.name, first_sight.account
    values = {
        "name": name,
        "account": account,
        "destination": first_sight.destination,
        "start_date": first_sight.start_date,
        "provisional": first_sight.provisional,
        "created_at": now,
    }
    with database.write() as db:
        # A stored name may be unreadable: starting anew would send the connection's rows again.
        db.execute(select(connections.c.name)).all()
        if add_new(db, connections, [values], connections.c.name):
            before = unnamed or account
            _adopt(db, before, account)
            privacy.inherit(db, name, {account, before})
            first = KeyChange(new=frozenset(api_keys or {}))
            _save_keys(db, name, first_sight.destination, api_keys or {}, first, now)
    stored = known(database, name)
    assert stored is not None  # noqa: S101 - written in the lines above
    return stored


def _adopt(db: Connection, unnamed: str, account: str) -> None:
    """Move what was counted under `unnamed` to `account`, unless a connection uses that name."""
    settled = select(connections.c.name).where(connections.c.account == unnamed)
    if unnamed == account or db.execute(settled.limit(1)).first():
        return
    old = select(accounts).where(accounts.c.name == unnamed).with_for_update()
    add(db, accounts, [{**row, "name": account} for row in db.execute(old).mappings()])
    counted = db.execute(select(spends).where(spends.c.account == unnamed)).mappings().all()
    add_up(db, spends, [{**row, "account": account} for row in counted], "requests")
    db.execute(delete(spends).where(spends.c.account == unnamed))
    db.execute(delete(accounts).where(accounts.c.name == unnamed))


def known(database: Database, name: str) -> Identity | None:
    """Return the identity of a connection that has run before."""
    columns = [column for column in connections.c if column is not connections.c.heartbeat_hour]
    with database.read() as db:
        row = db.execute(select(*columns).where(connections.c.name == name)).mappings().one_or_none()
    return Identity(**row) if row else None


def check_names(database: Database, identity: Identity) -> None:
    """Raise Busy where a run that has just got its lease began with other names than the stored ones.

    Another run, with other settings, may have stored another destination meanwhile.
    """
    stored = known(database, identity.name)
    if stored and (stored.account, stored.destination) != (identity.account, identity.destination):
        raise _busy(
            f"Another run changed the account or destination of connection '{identity.name}' while this "
            "run started."
        )


def _busy(what: str) -> Busy:
    return Busy(what, means="This run read and sent nothing.", todo="Run it again.")


def alike(database: Database, identity: Identity) -> list[str]:
    """Return the other connections that send rows of the same account to the same destination."""
    same = (connections.c.account == identity.account) & (connections.c.destination == identity.destination)
    query = select(connections.c.name).where(same & (connections.c.name != identity.name))
    with database.read() as db:
        return sorted(db.execute(query).scalars())


def set_destination(database: Database, name: str, destination: str) -> None:
    """Store the destination's name that was set after the first run; waiting rows keep their old one."""
    with database.write() as db:
        db.execute(update(connections).where(connections.c.name == name).values(destination=destination))


# --- keys and addresses ------------------------------------------------------------------------------------

DIGITS = 16
BEAMER_KEY, BASE_URL, WRITE_KEY, HOST = "Beamer key", "Beamer address", "Segment write key", "Segment address"
KEYS = frozenset({BEAMER_KEY, WRITE_KEY})
PARTS: Mapping[Api, tuple[str, str]] = {"beamer": (BEAMER_KEY, BASE_URL), "segment": (WRITE_KEY, HOST)}
SEGMENT = frozenset(PARTS["segment"])
# The order in which they are named.
DESTINATION = "name of the destination"
ORDER = (BEAMER_KEY, BASE_URL, WRITE_KEY, HOST, DESTINATION)

CONFIRM = "beamer-segment state accept-keys"
# Beamer did not say which feed a key belongs to.
NO_FEED = "none"


class OtherAccount(ConfigurationError):
    """Raised for keys or addresses that may belong to another account than the state."""

    code = "BS-081"
    default_means = (
        "This may be another account, so nothing was read, sent or written. Two accounts in one state "
        "would lose rows, and one would receive messages of the other."
    )
    default_todo = (
        "If it is another account, give it another connection name (`name` in a TOML file) or another "
        f"DATABASE_URL. If it is the same account with new keys, confirm them: `{CONFIRM}`."
    )


class KeyVerdict(Enum):
    """What to do about a change of keys or addresses."""

    SAME = "same"
    ACCEPT = "accept"
    COMPARE = "compare"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class KeyChange:
    """How the keys and addresses of the settings differ from those last used with the state.

    `changed` names what differs, `returned` the keys among them that were replaced before. `new`: what was
    never stored. `moved`: the settings name another destination than the state. `blank`: the state holds
    nothing of an account yet, except for its `feed`: the digest of its feed's URL, where it is known.
    """

    changed: frozenset[str] = frozenset()
    returned: frozenset[str] = frozenset()
    new: frozenset[Api] = frozenset()
    moved: bool = False
    blank: bool = True
    feed: str | None = None

    @property
    def verdict(self) -> KeyVerdict:
        if not self.changed:
            return KeyVerdict.ACCEPT if self.new else KeyVerdict.SAME
        of_beamer = self.changed - SEGMENT
        if self.blank:
            return KeyVerdict.COMPARE if self.feed and of_beamer else KeyVerdict.ACCEPT
        # Another destination has a key and an address of its own, but not another account.
        together = of_beamer if self.moved else self.changed & KEYS and len(self.changed) > 1
        if self.returned or together:
            return KeyVerdict.REFUSE
        return KeyVerdict.COMPARE if of_beamer else KeyVerdict.ACCEPT

    @property
    def named(self) -> str:
        """Return in words what was changed."""
        return in_words({*self.changed, *([DESTINATION] if self.moved else [])})

    def describe(self, name: str) -> str:
        """Return the refusal in a sentence."""
        parts, happened = self.named, "were changed together"
        if self.returned:
            parts, happened = in_words(self.returned), "was replaced earlier and is used again"
        return f"{parts[:1].upper()}{parts[1:]} of connection '{name}' {happened}."

    @property
    def todo(self) -> str:
        """Return what to do about it; a new Segment source needs no connection of its own."""
        if not self.changed <= SEGMENT:
            return OtherAccount.default_todo
        return (
            "If it is another Segment source, give it another SEGMENT_DESTINATION, another connection name "
            "(`name` in a TOML file) or another DATABASE_URL. If it is the same source with a new key, "
            f"confirm that: `{CONFIRM}`."
        )

    def refuse(self, name: str) -> None:
        """Raise OtherAccount where the change by itself shows that this may be another account."""
        if self.verdict is KeyVerdict.REFUSE:
            raise OtherAccount(self.describe(name), todo=self.todo)


def in_words(parts: Collection[str]) -> str:
    """Return the parts in words: "the Beamer key and the Segment write key"."""
    *most, last = [f"the {part}" for part in ORDER if part in parts] or ["nothing"]
    return f"{', '.join(most)} and {last}" if most else last


def key_digest(secret: str) -> str:
    """Return the digest of a key, the same in this database and in any other that its state is moved to."""
    return hashlib.sha256(f"beamer-segment key {secret}".encode()).hexdigest()[:DIGITS]


def compare_keys(database: Database, name: str, destination: str, api_keys: ApiKeys) -> KeyChange:
    """Compare the settings' keys and addresses with those that the connection was last used with."""
    with database.read() as db:
        return _compare_keys(db, name, destination, api_keys)


def _compare_keys(db: Connection, name: str, destination: str, api_keys: ApiKeys) -> KeyChange:
    stored = db.execute(select(credentials).where(credentials.c.connection == name)).all()
    before = db.execute(select(connections.c.destination).where(connections.c.name == name)).scalar()
    changed: set[str] = set()
    returned: set[str] = set()
    new: set[Api] = set()
    feed: str | None = None

    def of(api: Api, destination: str) -> list[Any]:
        wanted = (api, _destination_of(api, destination))
        return [row for row in stored if (row.api, row.destination) == wanted]

    for api, credential in api_keys.items():
        mine = of(api, destination)
        last = next((row for row in mine if row.current), None)
        if last is None:
            new.add(api)
            last = next((row for row in of(api, before or "") if row.current), None)
        key, address = PARTS[api]
        if last and last.digest != credential.digest:
            changed.add(key)
            if any(row.digest == credential.digest and not row.current for row in mine):
                returned.add(key)
        if last and last.address != credential.address:
            changed.add(address)
        if last and api == "beamer" and last.source != NO_FEED:
            feed = last.source
    moved = before is not None and before != destination
    blank = _is_blank(db, name) if changed else True
    return KeyChange(frozenset(changed), frozenset(returned), frozenset(new), moved, blank, feed)


def _destination_of(api: Api, destination: str) -> str:
    """Return the destination a key is stored under: write keys have one, the Beamer key has none."""
    return destination if api == "segment" else ""


def _is_blank(db: Connection, name: str) -> bool:
    scopes = select(streams.c.scope).where(streams.c.connection == name)
    held = (
        exists().where(rows.c.scope.in_(scopes)),
        exists().where(parents.c.scope.in_(scopes)),
        exists().where(outbox.c.connection == name),
    )
    return not any(db.execute(select(holds)).scalar() for holds in held)


def accounts_of(database: Database, api_keys: ApiKeys) -> frozenset[str]:
    """Return the names that stored connections have for the account of a Beamer key."""
    if (mine := api_keys.get("beamer")) is None:
        return frozenset()
    same = (credentials.c.digest == mine.digest) & (credentials.c.address == mine.address)
    used = (credentials.c.api == "beamer") & credentials.c.current & same
    query = select(connections.c.account).where(
        connections.c.name.in_(select(credentials.c.connection).where(used))
    )
    with database.read() as db:
        return frozenset(db.execute(query).scalars())


def take_over_keys(
    database: Database,
    lease: Lease,
    destination: str,
    api_keys: ApiKeys,
    expected: KeyChange,
    now: datetime,
    *,
    proved: bool,
) -> None:
    """Store changed keys and addresses for the connection, under the lease of a run that uses them.

    `expected` is the change that was decided on; `proved`: a change that needs a comparison was compared.
    Raises Busy where another process has changed them since, OtherAccount where they may now be another's.
    """
    name = lease.connection
    with database.write() as db:
        check_lease(db, lease, now)
        db.execute(select(connections.c.name).where(connections.c.name == name).with_for_update())
        change = _compare_keys(db, name, destination, api_keys)
        change.refuse(name)
        if change.verdict is KeyVerdict.SAME:
            return
        if (change.verdict, change.changed) != (expected.verdict, expected.changed):
            raise _busy(f"Another run changed the keys of connection '{name}' while this run started.")
        if change.verdict is KeyVerdict.COMPARE and not proved:
            return
        if change.changed and change.blank and others_at_work(db, lease, this_process(), now):
            raise _busy(f"Another run of connection '{name}' is using other keys.")
        _save_keys(db, name, destination, api_keys, change, now, feed=change.feed if proved else None)


def accept_keys(
    database: Database, lease: Lease, destination: str, api_keys: ApiKeys, now: datetime
) -> tuple[KeyChange, int]:
    """Store that somebody confirmed the keys and addresses as those of the connection's accounts.

    Messages waiting for the destination go to the new write key. Returns the change, and how many messages
    were made for former write keys. The caller holds the leases of all kinds of work.
    """
    name = lease.connection
    with database.write() as db:
        check_lease(db, lease, now)
        change = _compare_keys(db, name, destination, api_keys)
        _save_keys(db, name, destination, api_keys, change, now)
        mine = (outbox.c.connection == name) & (outbox.c.destination == destination)
        key = api_keys["segment"].digest
        former = mine & (outbox.c.write_key != key)
        count = db.execute(update(outbox).where(former).values(write_key=key)).rowcount
    return change, count


def _save_keys(
    db: Connection,
    name: str,
    destination: str,
    api_keys: ApiKeys,
    change: KeyChange,
    now: datetime,
    feed: str | None = None,
) -> None:
    for api, credential in api_keys.items():
        if api not in change.new and not change.changed & {*PARTS[api]}:
            continue
        mine = {"connection": name, "api": api, "destination": _destination_of(api, destination)}
        former = [credentials.c[column] == value for column, value in mine.items()]
        db.execute(update(credentials).where(*former).values(current=False))
        values = {"digest": credential.digest, "address": credential.address, "current": True, "since": now}
        put(db, credentials, [{**mine, **values, **({"source": feed} if api == "beamer" else {})}])


def needs_feed(database: Database, name: str) -> bool:
    """Return whether the feed of the Beamer key in use is unknown."""
    unknown = select(credentials.c.digest).where(_beamer_key(name), credentials.c.source.is_(None))
    with database.read() as db:
        return db.execute(unknown).first() is not None


def set_feed(database: Database, lease: Lease, feed: str, now: datetime) -> None:
    """Store the digest of the feed's URL of the Beamer key in use."""
    with database.write() as db:
        check_lease(db, lease, now)
        db.execute(update(credentials).where(_beamer_key(lease.connection)).values(source=feed))


def _beamer_key(name: str) -> ColumnElement[bool]:
    return (credentials.c.connection == name) & (credentials.c.api == "beamer") & credentials.c.current


def current_write_key(database: Database, name: str, destination: str) -> str | None:
    """Return the digest of the write key that a connection last used for a destination."""
    with database.read() as db:
        return write_keys(db).get((name, destination))


def write_keys(db: Connection) -> Mapping[tuple[str, str], str]:
    """Return the write keys in use, as digests, by connection and destination."""
    mine = (credentials.c.api == "segment") & credentials.c.current
    used: Any = db.execute(select(credentials).where(mine))
    return {(row.connection, row.destination): row.digest for row in used}

"""What a connection is called and since when it sends: fixed at first sight, kept when a key rotates."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, select, update

from connector.errors import Busy, ConfigurationError
from connector.state import credentials, privacy
from connector.state.credentials import Given
from connector.state.engine import Database
from connector.state.tables import accounts, connections, spends
from connector.state.upserts import add, add_new, add_up


class AccountRenamed(ConfigurationError):
    """The settings give an account that is known another name."""

    code = "BS-083"
    default_means = (
        "Nothing was read, sent or written. A new account name changes every messageId and starts a new "
        "request budget: rows would be sent again, and requests would be counted separately."
    )

    @classmethod
    def by_setting(cls, connection: str, account: str, wanted: str) -> "AccountRenamed":
        """Return the refusal of a setting that names the account otherwise than the state does."""
        return cls(
            f"The Beamer account of connection '{connection}' is '{account}', but BEAMER_ACCOUNT names it "
            f"'{wanted}'.",
            todo=f"Set BEAMER_ACCOUNT (`account` in a TOML file) to '{account}'. If this is another Beamer "
            "account, use its own key and another connection name (`name` in a TOML file).",
        )

    @classmethod
    def by_key(cls, connection: str, account: str, other: str) -> "AccountRenamed":
        """Return the refusal of a key that another connection uses for an account of another name."""
        return cls(
            f"The Beamer account of connection '{connection}' is '{account}', but another connection uses "
            f"the same Beamer key for account '{other}'.",
            todo=f"Give connection '{connection}' a key of its own account, or use another connection name "
            "(`name` in a TOML file).",
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """The names in every messageId, the start date, and what was learnt about the account as a whole."""

    name: str
    account: str
    destination: str
    start_date: datetime
    first_page: int | None = None
    ignore_filters: bool | None = None
    # When it was last refused to ignore filters, if it was not allowed to since.
    filters_at: datetime | None = None
    # Until Beamer's first answer tells the time, nobody knows whether this machine's clock is right.
    provisional: bool = field(default=False, compare=False)
    # The start date lies so long before that answer; None where a setting gives it.
    first_days: timedelta | None = field(default=None, compare=False)
    # When it was first seen here: no part of what it is called.
    created_at: datetime | None = field(default=None, compare=False)


def settle(
    database: Database,
    first_sight: Identity,
    now: datetime,
    *,
    unnamed: str | None = None,
    given: Given | None = None,
) -> Identity:
    """Store what a connection is called, unless it is known already; return what is stored.

    `unnamed` is the account's name before the settings gave it one: what was counted under it (by `check`
    and `quota set-used`) counts for the account, unless it is another connection's. `given` are the keys
    and addresses that the connection begins with.
    """
    values = {
        "name": first_sight.name,
        "account": first_sight.account,
        "destination": first_sight.destination,
        "start_date": first_sight.start_date,
        "provisional": first_sight.provisional,
        "created_at": now,
    }
    with database.write() as db:
        # One may be there whose name cannot be read: to begin anew would send its rows again.
        db.execute(select(connections.c.name)).all()
        is_new = bool(add_new(db, connections, [values], connections.c.name))
        if is_new:
            before = unnamed or first_sight.account
            _adopt(db, before, first_sight.account)
            privacy.inherit(db, first_sight.name, {first_sight.account, before})
            credentials.first(db, first_sight.name, first_sight.destination, given or {}, now)
    found = known(database, first_sight.name)
    assert found is not None  # noqa: S101 - written in the lines above
    return found


def _adopt(db: Connection, unnamed: str, account: str) -> None:
    """Let what was counted under `unnamed`, which no connection is settled on, count for `account`."""
    settled = select(connections.c.name).where(connections.c.account == unnamed)
    if unnamed == account or db.execute(settled.limit(1)).first():
        return
    old = select(accounts).where(accounts.c.name == unnamed).with_for_update()
    add(db, accounts, [{**row, "name": account} for row in db.execute(old).mappings()])
    counted = db.execute(select(spends).where(spends.c.account == unnamed)).mappings().all()
    add_up(db, spends, [{**row, "account": account} for row in counted], "requests")
    db.execute(delete(spends).where(spends.c.account == unnamed))
    db.execute(delete(accounts).where(accounts.c.name == unnamed))


def check_names(database: Database, identity: Identity) -> None:
    """Raise Busy where a run that has just got its lease began with other names than are stored now.

    Another run, with other settings, may have stored another destination meanwhile.
    """
    found = known(database, identity.name)
    if found and (found.account, found.destination) != (identity.account, identity.destination):
        raise Busy(
            f"Another run changed the account or destination of connection '{identity.name}' while this "
            "run started.",
            means="This run read and sent nothing.",
            todo="Run it again.",
        )


def alike(database: Database, identity: Identity) -> list[str]:
    """The other connections that send what they read of the same account to the same destination."""
    same = (connections.c.account == identity.account) & (connections.c.destination == identity.destination)
    query = select(connections.c.name).where(same & (connections.c.name != identity.name))
    with database.read() as db:
        return sorted(db.execute(query).scalars())


def known(database: Database, name: str) -> Identity | None:
    """The identity of a connection that has run before."""
    with database.read() as db:
        row = db.execute(select(connections).where(connections.c.name == name)).one_or_none()
    if row is None:
        return None
    return Identity(
        row.name,
        row.account,
        row.destination,
        row.start_date,
        row.first_page,
        row.ignore_filters,
        row.filters_at,
        provisional=row.provisional,
        created_at=row.created_at,
    )


def set_destination(database: Database, name: str, destination: str) -> None:
    """Store the destination's name that was set after the first run; waiting rows keep the one they have."""
    with database.write() as db:
        db.execute(update(connections).where(connections.c.name == name).values(destination=destination))

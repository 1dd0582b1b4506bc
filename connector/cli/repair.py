"""`state repair`: replaces unreadable values of a damaged database, as far as they can be restored."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, Connection, select, type_coerce
from sqlalchemy.types import NullType

from connector import compose
from connector.beamer.streams import CATALOGUE
from connector.cli.context import Session
from connector.errors import Busy, ConfigurationError
from connector.segment.shaping import PREFIX
from connector.state import damage, leases, outbox, progress, tables
from connector.state.columns import DROP, LABEL
from connector.state.damage import Unreadable
from connector.state.engine import Database
from connector.state.leases import this_process
from connector.state.tables import connections, streams

UNCHANGED = "Nothing was changed."


def repaired(session: Session, database: Database | None, *, dry_run: bool) -> list[dict[str, Any]]:
    """Replace unreadable values, or return them; raise Busy while a run is in progress."""
    if database is None:
        return []
    if dry_run:
        with database.read() as db:
            values = damage.unreadable_values(db, damage.everywhere()) or _strays(db)
            return [_as_dict(value) for value in values]
    with database.write() as db:
        _refuse_at_work(session, db)
        values = damage.repair(db, lambda db, value: _instead(session, db, value), _strays)
    return [_as_dict(value) for value in values]


def _strays(db: Connection) -> list[Unreadable]:
    return [*progress.strays(db, CATALOGUE), *outbox.strays(db)]


def _as_dict(value: Unreadable) -> dict[str, Any]:
    then = "it is replaced"
    if value.type.instead is DROP:
        then = "its row is deleted and created again"
    elif value.needed and value.table in (connections, streams, outbox):
        then = "it is set from the settings"
    elif value.needed:
        then = f"its row is deleted. {damage.todo((value.table.name, value.column))}"
    return {"table": value.table.name, "key": value.shown_key, "column": value.column, "then": then}


def _refuse_at_work(session: Session, db: Connection) -> None:
    for name in _texts(db, tables.leases.c.connection):
        if leases.at_work(db, name, this_process(), session.clock.now()):
            raise Busy(
                f"A run of connection '{name}' is in progress.",
                means=UNCHANGED,
                todo="Wait until it finishes, then repair.",
            )


def _instead(session: Session, db: Connection, value: Unreadable) -> Any:
    """Return the replacement of a value; DROP if the row must be created again."""
    if value.table is connections:
        return _of_connection(session, db, value)
    if value.table is streams:
        return _of_stream(db, value)
    if value.table is tables.outbox:
        return _of_message(db, value)
    return DROP


def _of_connection(session: Session, db: Connection, value: Unreadable) -> Any:
    """Return what a first sync would store; the start date must be set."""
    name = value.key["name"]
    if not isinstance(name, str) or not LABEL.fullmatch(name):
        configured = {connection.name for connection in session.settings.connections}
        name = _only(configured - _texts(db, connections.c.name), "the connection", value)
    if value.column == "name":
        return name
    connection = session.settings.connection(name)
    if value.column == "start_date" and connection.start_date is None:
        raise ConfigurationError(
            f"The start date of connection '{name}' cannot be read.",
            means=UNCHANGED,
            todo="Set BEAMER_START_DATE to the date of its first sent rows, and repair again.",
        )
    return getattr(compose.first_sight(None, connection, session.clock.now()), value.column)


def _of_stream(db: Connection, value: Unreadable) -> str:
    """Return the only value left: its connection has all other streams already."""
    mine = streams.c.scope == value.key["scope"]
    if value.column == "connection":
        (name,) = _texts(db, streams.c.name, mine) or {""}
        having = _texts(db, streams.c.connection, streams.c.name == name)
        return _only(_texts(db, connections.c.name) - having, "the connection", value)
    (connection,) = _texts(db, streams.c.connection, mine) or {""}
    taken = _texts(db, streams.c.name, streams.c.connection == connection)
    return _only(set(CATALOGUE) - taken, "the stream", value)


def _of_message(db: Connection, value: Unreadable) -> str:
    """Return the name from its messageId; or the only one that exists."""
    this = tables.outbox.c.id == value.key["id"]
    ident = db.execute(select(tables.outbox.c.message_id).where(this)).scalar_one()
    names = db.execute(select(connections.c.name, connections.c.account, connections.c.destination)).all()
    own = [row for row in names if str(ident).startswith(f"{PREFIX}-{row.destination}-{row.account}-")]
    wanted = "name" if value.column == "connection" else "destination"
    return _only({getattr(row, wanted) for row in own or names}, f"the {value.column}", value)


def _texts(db: Connection, column: Column[Any], *where: Any) -> set[str]:
    """Return the texts of a column without converting them."""
    raw: Iterable[Any] = db.execute(select(type_coerce(column, NullType())).where(*where)).scalars()
    return {value for value in raw if isinstance(value, str) and value}


def _only(left: set[str], what: str, value: Unreadable) -> str:
    if len(left) == 1:
        return left.pop()
    raise ConfigurationError(
        f"The database does not show {what} of a damaged row: {value.where}.",
        means=UNCHANGED,
        todo="Restore the database from a backup. Messages sent since the backup are sent again with the "
        "same messageIds.",
    )

"""When each connection is due: shared by all processes of a schedule."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update

from connector.state.engine import Database
from connector.state.tables import dues
from connector.state.upserts import add_new, put


@dataclass(frozen=True, slots=True)
class Due:
    """The moment, and how many runs in a row have failed before it."""

    at: datetime
    failures: int = 0


def load(database: Database) -> Mapping[str, Due]:
    """Every connection that was ever scheduled."""
    with database.read() as db:
        return {row.connection: Due(row.due_at, row.failures) for row in db.execute(select(dues))}


def of(database: Database, connection: str) -> Due | None:
    """One connection's."""
    with database.read() as db:
        row = db.execute(select(dues).where(dues.c.connection == connection)).one_or_none()
    return Due(row.due_at, row.failures) if row else None


def claim(database: Database, connection: str, seen: Due | None, until: datetime) -> bool:
    """Take on a run that was seen to be due; False if another process was faster.

    Until the moment given nobody else does; should this process die, somebody does then.
    """
    with database.write() as db:
        if seen is None:
            first = {"connection": connection, "due_at": until, "failures": 0}
            return bool(add_new(db, dues, [first], dues.c.connection))
        mine = (dues.c.connection == connection) & (dues.c.due_at == seen.at)
        return db.execute(update(dues).where(mine).values(due_at=until)).rowcount == 1


def save(database: Database, connection: str, due: Due) -> None:
    """Tell all processes."""
    with database.write() as db:
        put(db, dues, [{"connection": connection, "due_at": due.at, "failures": due.failures}])

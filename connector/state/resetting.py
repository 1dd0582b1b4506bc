"""A stream that is to be read from the start date again, as if it had never been seen."""

from collections import Counter
from dataclasses import fields
from datetime import datetime

from sqlalchemy import delete, func, select, update

from connector.errors import ConfigurationError
from connector.state.engine import Store
from connector.state.leases import Fence, hold
from connector.state.progress import StreamState
from connector.state.tables import children, days, parents, rows, streams
from connector.state.verdicts import Verdict

# Of a stream's tables these hold what was seen of it.
SEEN = (rows, children, days)
# What a changed parent becomes: the next change must not get the messageId of one that was sent.
UNSEEN = {"gone": True, "looked_at": None, "proved_at": None, "failures": 0, "failed_at": None}
# Its number and its name stay, and what was learnt about how its lists answer.
KEPT = ("scope", "name", "list_order", "short_ends")


def scope_of(store: Store, connection: str, stream: str) -> int:
    """The stream's number; raises ConfigurationError where it was never read."""
    where = (streams.c.connection == connection) & (streams.c.name == stream)
    with store.read() as db:
        found: int | None = db.execute(select(streams.c.scope).where(where)).scalar()
    if found is None:
        raise ConfigurationError(
            f"Connection '{connection}' has never read the stream '{stream}'.",
            means="There is nothing to reset.",
            todo="Name one of those that `beamer-segment status` lists.",
        )
    return found


def verdicts(store: Store, scope: int) -> Counter[str]:
    """How many rows of a stream were judged how."""
    count = select(rows.c.verdict, func.count()).where(rows.c.scope == scope).group_by(rows.c.verdict)
    with store.read() as db:
        return Counter({Verdict(verdict).label: int(number) for verdict, number in db.execute(count)})


def reset(store: Store, fence: Fence, scope: int, now: datetime) -> None:
    """Forget what was seen of a stream. Messages that wait, and what was learnt of its lists, stay.

    Parents of which a change was sent stay as gone, until they are seen again: how many changes there were
    is part of the next one's messageId.
    """
    fresh = StreamState(scope, "")
    values = {each.name: getattr(fresh, each.name) for each in fields(fresh) if each.name not in KEPT}
    with store.write() as db:
        hold(db, fence, now)
        for table in SEEN:
            db.execute(delete(table).where(table.c.scope == scope))
        db.execute(delete(parents).where(parents.c.scope == scope, parents.c.changes == 0))
        db.execute(update(parents).where(parents.c.scope == scope).values(**UNSEEN))
        db.execute(update(streams).where(streams.c.scope == scope).values(**values))

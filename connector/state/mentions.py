"""What `--quiet` has spoken of already."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, select

from connector.state.engine import Store
from connector.state.tables import mentions
from connector.state.writing import add


def unmentioned(store: Store, connection: str, whats: Collection[str]) -> set[str]:
    """Those that were not spoken of yet. What is over is forgotten, and is news when it comes again."""
    mine = mentions.c.connection == connection
    with store.read() as db:
        known = set(db.execute(select(mentions.c.what).where(mine)).scalars())
    if over := known.difference(whats):
        with store.write() as db:
            db.execute(delete(mentions).where(mine, mentions.c.what.in_(sorted(over))))
    return set(whats) - known


def mention(store: Store, connection: str, whats: Collection[str], now: datetime) -> None:
    """They have been spoken of."""
    with store.write() as db:
        add(db, mentions, [{"connection": connection, "what": each, "since": now} for each in sorted(whats)])

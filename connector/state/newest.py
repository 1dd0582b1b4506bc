"""How late the newest row of each stream was read: kept beside the stream, for metrics."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import bindparam, func, or_, select, update

from connector.state.engine import Store
from connector.state.tables import children, streams

_MARKS = (
    select(streams.c.scope, streams.c.watermark, func.max(children.c.watermark))
    .outerjoin(children, children.c.scope == streams.c.scope)
    .where(streams.c.connection == bindparam("whose"), streams.c.name.in_(bindparam("names", expanding=True)))
    .group_by(streams.c.scope, streams.c.watermark)
)
_NOTE = (
    update(streams)
    .where(
        streams.c.scope == bindparam("here"),
        or_(streams.c.newest.is_(None), streams.c.newest < bindparam("mark")),
    )
    .values(newest=bindparam("mark"), delay=bindparam("late"))
)


def note_newest(store: Store, connection: str, names: Collection[str], now: datetime) -> None:
    """Streams in which a run has just found rows: where one is the newest so far, how old it is already."""
    if not names:
        return
    with store.write() as db:
        for scope, own, of_lists in db.execute(_MARKS, {"whose": connection, "names": list(names)}).all():
            mark = max(filter(None, (own, of_lists)), default=None)
            if mark:
                late = max(0.0, (now - mark).total_seconds())
                db.execute(_NOTE, {"here": scope, "mark": mark, "late": late})

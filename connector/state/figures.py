"""Figures of all connections at once, for metrics: a handful of statements, however many connections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from connector.state.engine import Store
from connector.state.quarantined import IN_QUARANTINE
from connector.state.tables import accounts, connections, outbox, quarantine, runs, streams, tallies

OF_STREAMS = ("newest", "delay", "complete_through", "distrusted", "trouble")

_later = runs.alias("later")
# Each answered from the end of an index, however many runs there are of a connection.
_NEWEST_FIRST = select(_later.c.id, _later.c.finished_at).order_by(_later.c.id.desc()).limit(1)
_OF_IT = _NEWEST_FIRST.where(_later.c.connection == connections.c.name).correlate(connections)
_LAST_ENDED = _OF_IT.where(_later.c.finished_at.is_not(None)).with_only_columns(_later.c.id).scalar_subquery()
_SUCCEEDED = _OF_IT.where(_later.c.exit == 0).with_only_columns(_later.c.finished_at).scalar_subquery()
_RUNS = select(
    connections.c.name,
    connections.c.account,
    _SUCCEEDED.label("succeeded"),
    runs.c.started_at,
    runs.c.finished_at,
    runs.c.exit,
).select_from(connections.outerjoin(runs, runs.c.id == _LAST_ENDED))


@dataclass(frozen=True, slots=True)
class Figures:
    """Rows as they come from the store: last runs, streams, sums, messages, accounts; quarantined rows."""

    runs: Sequence[Any] = ()
    streams: Sequence[Any] = ()
    sums: Sequence[Any] = ()
    messages: Sequence[Any] = ()
    quarantined: Mapping[str, int] = field(default_factory=dict)
    accounts: Sequence[Any] = ()


def figures(store: Store, now: datetime) -> Figures:
    """All that the store can say at once; `now` tells which accounts are closed."""
    sizes = (outbox.c.connection, outbox.c.state)
    held = select(*sizes, func.count().label("messages"), func.min(outbox.c.made_at).label("oldest"))
    bad = select(quarantine.c.connection, func.count()).where(IN_QUARANTINE)
    bad = bad.group_by(quarantine.c.connection)
    of_streams = (streams.c.connection, streams.c.name, *(streams.c[name] for name in OF_STREAMS))
    closed = (accounts.c.closed_until > now).label("closed")
    with store.read() as db:
        return Figures(
            db.execute(_RUNS).all(),
            db.execute(select(*of_streams)).all(),
            db.execute(select(tallies)).all(),
            db.execute(held.group_by(*sizes)).all(),
            {row[0]: int(row[1]) for row in db.execute(bad)},
            db.execute(select(accounts.c.name, accounts.c.drawn, accounts.c.refusals, closed)).all(),
        )

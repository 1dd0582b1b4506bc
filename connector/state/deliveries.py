"""Deliveries: how many messages Segment confirmed, by hour and event; how many Segment counts."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Protocol

from sqlalchemy import Connection, case, delete, func, or_, select, update

from connector.domain.proof import HOUR, Key, Sent
from connector.state.dialects import add_new, insert_into, put
from connector.state.engine import Database
from connector.state.tables import credentials, deliveries, proofs

KEPT = timedelta(days=60)
EVERY = HOUR
# Nobody compares any more: the token was removed, or no sync runs.
OUTDATED = timedelta(days=2)


class Confirmed(Protocol):
    """The part of an outbox message that is counted."""

    @property
    def event(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def unsure(self) -> bool: ...
    @property
    def resent(self) -> bool: ...


def start_of_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def counts_of(
    connection: str, write_key: str, messages: Iterable[Confirmed], now: datetime
) -> list[dict[str, Any]]:
    """Parse confirmed messages; return the rows that `count` adds."""
    counted: dict[str, Sent] = {}
    for message in messages:
        date = _date_of(message.text)
        one = Sent(1, int(message.unsure), int(message.resent), date, date)
        counted[message.event] = counted.get(message.event, Sent()).plus(one)
    key = {"connection": connection, "write_key": write_key, "hour": start_of_hour(now)}
    # Always in one order, so that a sync and a backfill never wait for each other.
    return [{**key, "event": event, **asdict(sent)} for event, sent in sorted(counted.items())]


def count(db: Connection, counts: Sequence[Mapping[str, Any]]) -> None:
    """Count confirmed messages, in the caller's transaction."""
    if counts:
        db.execute(_counting(db.dialect.name), counts)


def _date_of(text: str) -> datetime | None:
    """Return a message's date: its row's, or when a change was seen."""
    try:
        date = datetime.fromisoformat(json.loads(text)["timestamp"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


@cache
def _counting(dialect: str) -> Any:
    new, stored = insert_into(dialect, deliveries), deliveries.c
    of = new.excluded
    return new.on_conflict_do_update(
        index_elements=list(deliveries.primary_key.columns),
        set_={
            "messages": stored.messages + of.messages,
            "unsure": stored.unsure + of.unsure,
            "resent": stored.resent + of.resent,
            "oldest": case((stored.oldest < of.oldest, stored.oldest), else_=of.oldest),
            "newest": case((stored.newest > of.newest, stored.newest), else_=of.newest),
        },
    )


def delete_old(db: Connection, latest: datetime) -> None:
    """Delete counts that are too old, in the caller's transaction; `latest`: the latest possible time."""
    db.execute(delete(deliveries).where(deliveries.c.hour < latest - KEPT))


def write_keys_of(database: Database, write_key: str) -> set[str]:
    """Return the digests of all write keys used here for the source of a write key."""
    used = credentials.alias()
    of_source = select(used.c.connection, used.c.destination).where(
        used.c.api == "segment", used.c.digest == write_key, used.c.current
    )
    with database.read() as db:
        digests: set[str] = set()
        for connection, destination in db.execute(of_source):
            where = (credentials.c.connection == connection) & (credentials.c.destination == destination)
            digests.update(
                db.scalars(select(credentials.c.digest).where(where, credentials.c.api == "segment"))
            )
    return digests | {write_key}


def sent(database: Database, write_keys: Collection[str], since: datetime) -> dict[Key, Sent]:
    """Return the confirmed messages since a moment, by event and hour, of all connections together."""
    where = deliveries.c.write_key.in_(write_keys) & (deliveries.c.hour >= since)
    totals: dict[Key, Sent] = {}
    with database.read() as db:
        for row in db.execute(select(deliveries).where(where)):
            key = row.event, row.hour
            totals[key] = totals.get(key, Sent()).plus(_sent(row))
    return totals


def by_event(database: Database, connections: Collection[str], since: datetime) -> dict[str, int]:
    """Return how many messages of each event connections have delivered since a moment."""
    where = deliveries.c.connection.in_(connections) & (deliveries.c.hour >= since)
    query = select(deliveries.c.event, func.sum(deliveries.c.messages)).where(where)
    with database.read() as db:
        return {event: int(count) for event, count in db.execute(query.group_by(deliveries.c.event))}


def _sent(row: Any) -> Sent:
    return Sent(row.messages, row.unsure, row.resent, row.oldest, row.newest)


# --- the source of a write key ---


def source_of(database: Database, write_key: str) -> str | None:
    """Return the id of the source that has a write key, as Segment reported it."""
    where = (credentials.c.api == "segment") & (credentials.c.digest == write_key)
    query = select(credentials.c.source).where(where, credentials.c.source.is_not(None))
    with database.read() as db:
        return db.scalar(query.limit(1))


def set_source(database: Database, write_key: str, source: str) -> None:
    """Store which source has a write key."""
    where = (credentials.c.api == "segment") & (credentials.c.digest == write_key)
    with database.write() as db:
        db.execute(update(credentials).where(where).values(source=source))


# --- what was found when Segment was asked ---


def claim(database: Database, connection: str, now: datetime) -> bool:
    """Return whether to compare with Segment now: at most once an hour, by one process."""
    due = or_(proofs.c.compared_at <= now - EVERY, proofs.c.compared_at > now)
    with database.write() as db:
        new = [{"connection": connection, "compared_at": now, "found": "{}"}]
        if add_new(db, proofs, new, proofs.c.connection):
            return True
        where = (proofs.c.connection == connection) & due
        return db.execute(update(proofs).where(where).values(compared_at=now)).rowcount == 1


def save(database: Database, connection: str, result: Mapping[str, Any], now: datetime) -> None:
    """Store the result of a comparison."""
    with database.write() as db:
        put(db, proofs, [{"connection": connection, "compared_at": now, "found": json.dumps(result)}])


@dataclass(frozen=True, slots=True)
class LastProof:
    """The problems of the last comparison, with what to do; `unproven`: why there was no comparison."""

    problems: tuple[tuple[str, str], ...] = ()
    unproven: str | None = None


def last(database: Database, connection: str, now: datetime) -> LastProof:
    """Return the result of the last comparison; nothing if it is too old."""
    with database.read() as db:
        row = db.execute(select(proofs).where(proofs.c.connection == connection)).one_or_none()
    if row is None or now - row.compared_at > OUTDATED:
        return LastProof()
    result = json.loads(row.found)
    stored, unproven = result.get("problems"), result.get("unproven")
    problems = [row for row in stored if isinstance(row, dict)] if isinstance(stored, list) else []
    return LastProof(
        tuple((str(problem.get("found")), str(problem.get("todo"))) for problem in problems),
        str(unproven) if unproven else None,
    )

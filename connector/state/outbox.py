"""The outbox: messages wait until Segment confirms them; dead letters stay with the answer."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    true,
    update,
)

from connector.domain.state import Outgoing
from connector.errors import StateDamaged
from connector.state import deliveries
from connector.state.columns import Moment
from connector.state.connections import write_keys
from connector.state.damage import Unreadable
from connector.state.dialects import add_new, add_up
from connector.state.engine import Database
from connector.state.leases import Lease, check_lease
from connector.state.tables import IS_DEAD, LIVE, connections, outbox, tallies

WAITING, FLIGHT, DEAD = "waiting", "flight", "dead"
# Segment forgets a messageId after about 24 hours: after this time, an unconfirmed message that is sent
# again may arrive twice. Such messages are counted and reported.
POSSIBLE_DOUBLE_AFTER = timedelta(hours=20)
# A row's number never has more digits, and the drivers accept none that has.
MOST_DIGITS = 18


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """One message of a batch; `possible_double` if it was sent unconfirmed long ago.

    `unsure`: it was sent before without an answer; `resent`: it is sent once more on purpose.
    """

    id: int
    message_id: str
    stream: str
    text: str = field(repr=False)
    size: int
    possible_double: bool
    event: str = ""
    unsure: bool = False
    resent: bool = False


def enqueue(
    db: Connection,
    lease: Lease,
    destination: str,
    events: Iterable[Outgoing],
    now: datetime,
    stream: str = "",
    *,
    again: bool = False,
    write_key: str = "",
) -> None:
    """Put finished messages into the outbox, in the caller's transaction.

    `stream` is the default for messages that name none. `again`: dead letters of the same messageIds, and
    messages for a former write key, wait again. `write_key`: the digest of the key they are made for.
    """
    same = {
        "connection": lease.connection,
        "destination": destination,
        "work": lease.work,
        "write_key": write_key,
        "made_at": now,
        "state": "waiting",
        "tries": 0,
        "resent": again,
    }
    values = [
        {
            **same,
            "message_id": event.message_id,
            "stream": event.stream or stream,
            "event": event.event,
            "message": event.text,
            "size": event.size,
        }
        for event in events
    ]
    if again and values:
        _revive(db, values)
    new = add_new(db, outbox, values, outbox.c.message_id)
    if len(new) < len(values):
        _take_over(db, lease, [value["message_id"] for value in values if value["message_id"] not in new])


def _take_over(db: Connection, lease: Lease, ids: Sequence[object]) -> None:
    """Move messages of another connection, which may be a former name of this one, to this connection.

    Messages that another run has locked are skipped, without waiting.
    """
    theirs = db.scalars(_OF_OTHERS, {"ids": ids, "mine": lease.connection}).all()
    if theirs:
        db.execute(_TAKE_OVER, {"those": theirs, "mine": lease.connection, "kind": lease.work})


def _revive(db: Connection, values: Sequence[Mapping[str, Any]]) -> None:
    """Let dead letters wait again with their new text; those that may have arrived still count as unsure."""
    ids = [value["message_id"] for value in values]
    dead = set(db.scalars(_DEAD_OF, {"ids": ids, "key": values[0]["write_key"]}))
    names = ("work", "write_key", "made_at", "message", "size", "resent")
    if revived := [value for value in values if value["message_id"] in dead]:
        db.execute(_REVIVE, [{"of": v["message_id"], **{f"new_{n}": v[n] for n in names}} for v in revived])


class Outbox:
    """The messages of one connection that were made by one kind of run, under the lease of such a run.

    `write_key` is the digest of the key that they are sent with; messages for other keys are not touched.
    A message sent without an answer longer ago than `double_after` is a possible double when sent again.
    """

    def __init__(
        self,
        database: Database,
        lease: Lease,
        destination: str,
        write_key: str = "",
        *,
        double_after: timedelta = POSSIBLE_DOUBLE_AFTER,
    ) -> None:
        self._double_after = double_after
        self._database = database
        self._lease = lease
        self._mine = {
            "whose": lease.connection,
            "where": destination,
            "kind": lease.work,
            "key": write_key,
        }

    def claim(self, most: int, now: datetime) -> list[OutboxMessage]:
        """Mark the oldest waiting messages as in flight, in a transaction before they are sent.

        Those that an earlier run left in flight are included: whether they arrived is unknown, and the
        same messageId may be sent again.
        """
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            rows = db.execute(_CLAIM, {**self._mine, "most": most, "at": now}).all()
        return sorted((self._message(row, now) for row in rows), key=lambda message: message.id)

    def sample(self, most: int, chance: float, now: datetime) -> list[OutboxMessage]:
        """Mark the newest waiting message, and some from other positions, as in flight.

        `chance`, from 0 to 1, moves the positions, so that another try takes others.
        """
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            waiting = db.execute(_IDS, self._mine).scalars().all()
            step = max(1, len(waiting) // (most - 1))
            positions = {*waiting[-1:], *waiting[int(chance * step) :: step][: most - 1]}
            rows = db.execute(_CLAIM_THESE, {"at": now, "these": list(positions)}).all() if positions else []
        return [self._message(row, now) for row in rows]

    def confirm(self, messages: Sequence[OutboxMessage], now: datetime) -> None:
        """Delete messages that Segment has confirmed, and count them as sent."""
        sent = Counter(message.stream for message in messages)
        key = {"connection": self._lease.connection, "what": "sent"}
        counts = [{**key, "stream": stream, "count": count} for stream, count in sorted(sent.items())]
        # Before the transaction, for which all others wait.
        delivered = deliveries.counts_of(self._lease.connection, self._mine["key"], messages, now)
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            db.execute(delete(outbox).where(_these(messages)))
            deliveries.count(db, delivered)
            add_up(db, tallies, counts, "count")

    def put_back(self, messages: Sequence[OutboxMessage], now: datetime, *, not_arrived: bool) -> None:
        """Let messages wait again. Those that did not arrive count as not sent; the others keep theirs."""
        values: dict[str, Any] = {"state": WAITING}
        if not_arrived:
            values |= _NOT_SENT
        self._set(messages, now, values)

    def mark_dead(
        self, message: OutboxMessage, answer: str, now: datetime, latest: datetime, *, unsure: bool = False
    ) -> None:
        """Store a message that Segment refused for good as a dead letter, with the answer.

        `latest`: the latest possible time; the letter is kept for 30 days from then on.
        `unsure`: this run had sent it before without an answer, and it may have arrived then.
        """
        values: dict[str, Any] = {"state": DEAD, "answer": answer, "answered_at": latest}
        self._set([message], now, values if unsure else values | _NOT_SENT)

    def check_values(self) -> None:
        """Raise StateDamaged if a message waits for an unknown connection: it would never be sent."""
        with self._database.read() as db:
            known = set(db.execute(select(connections.c.name)).scalars())
            unknown = {row.connection for row in db.execute(_WHOSE)} - known
        if unknown:
            raise StateDamaged(
                f"Messages wait for a connection that does not exist: table {outbox.name}, column "
                f"connection, value '{min(unknown)}'.",
                todo="Run `beamer-segment state repair`: it finds their connection by their messageIds.",
            )

    def waiting(self) -> int:
        """Return how many messages wait for this destination, in-flight ones included."""
        with self._database.read() as db:
            return int(db.execute(_WAITING, self._mine).scalar_one())

    def weight(self) -> int:
        """Return how many bytes wait for this destination."""
        with self._database.read() as db:
            return int(db.execute(_WEIGHT, self._mine).scalar_one())

    def _set(self, messages: Sequence[OutboxMessage], now: datetime, values: Mapping[str, Any]) -> None:
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            db.execute(update(outbox).where(_these(messages) & (outbox.c.state == FLIGHT)).values(values))

    def _message(self, row: Any, now: datetime) -> OutboxMessage:
        # If the time cannot be read, it may be long ago.
        late = row.first_sent_at is None or now - row.first_sent_at > self._double_after
        short = (row.id, row.message_id, row.stream, row.message, row.size, late, row.event)
        return OutboxMessage(*short, unsure=row.tries > 1 and not row.resent, resent=row.resent)


# The last try does not count: nothing of it arrived.
_NOT_SENT: dict[str, Any] = {
    "tries": outbox.c.tries - 1,
    "first_sent_at": case((outbox.c.tries > 1, outbox.c.first_sent_at)),
}

_LIVE = and_(
    outbox.c.connection == bindparam("whose"),
    outbox.c.destination == bindparam("where"),
    outbox.c.work == bindparam("kind"),
    outbox.c.write_key == bindparam("key"),
    LIVE,
)
_WHOSE = select(outbox.c.connection, outbox.c.destination, outbox.c.work).where(LIVE).distinct()
_WAITING = select(func.count()).select_from(outbox).where(_LIVE)
_WEIGHT = select(func.coalesce(func.sum(outbox.c.size), 0)).where(_LIVE)
_OLDEST = select(outbox.c.id).where(_LIVE).order_by(outbox.c.id).limit(bindparam("most"))
_IDS = select(outbox.c.id).where(_LIVE, outbox.c.state == WAITING).order_by(outbox.c.id)
_CLAIMING = (
    update(outbox)
    .values(
        state=FLIGHT,
        tries=outbox.c.tries + 1,
        first_sent_at=func.coalesce(outbox.c.first_sent_at, bindparam("at", type_=Moment)),
    )
    .returning(
        outbox.c.id,
        outbox.c.message_id,
        outbox.c.stream,
        outbox.c.message,
        outbox.c.size,
        outbox.c.tries,
        outbox.c.first_sent_at,
        outbox.c.event,
        outbox.c.resent,
    )
)
_OF_OTHERS = (
    select(outbox.c.id)
    .where(
        outbox.c.message_id.in_(bindparam("ids", expanding=True)), outbox.c.connection != bindparam("mine")
    )
    .with_for_update(skip_locked=True)
)
_TAKE_OVER = (
    update(outbox)
    .where(outbox.c.id.in_(bindparam("those", expanding=True)))
    .values(connection=bindparam("mine"), work=bindparam("kind"))
)
# A messageId names the account and the destination, too.
_OVER = or_(outbox.c.state == DEAD, and_(outbox.c.state == WAITING, outbox.c.write_key != bindparam("key")))
_DEAD_OF = select(outbox.c.message_id).where(_OVER, outbox.c.message_id.in_(bindparam("ids", expanding=True)))
_REVIVE = (
    update(outbox)
    .where(outbox.c.message_id == bindparam("of"), outbox.c.state.in_((DEAD, WAITING)))
    .values(
        state=WAITING,
        answer=None,
        answered_at=None,
        work=bindparam("new_work"),
        write_key=bindparam("new_write_key"),
        made_at=bindparam("new_made_at"),
        message=bindparam("new_message"),
        size=bindparam("new_size"),
        resent=bindparam("new_resent"),
    )
)
_CLAIM = _CLAIMING.where(outbox.c.id.in_(_OLDEST))
_CLAIM_THESE = _CLAIMING.where(outbox.c.id.in_(bindparam("these", expanding=True)))


def strays(db: Connection) -> list[Unreadable]:
    """Return waiting messages of an unknown connection."""
    known = select(connections.c.name)
    ids = db.scalars(select(outbox.c.id).where(LIVE, outbox.c.connection.not_in(known)))
    return [Unreadable(outbox, "connection", {"id": number}) for number in ids]


def _these(messages: Sequence[OutboxMessage]) -> ColumnElement[bool]:
    return outbox.c.id.in_([message.id for message in messages])


def enqueue_heartbeat(
    database: Database,
    lease: Lease,
    destination: str,
    event: Outgoing,
    hour: datetime,
    now: datetime,
    *,
    write_key: str = "",
) -> bool:
    """Put Beamer Sync Completed into the outbox, unless there was one for this hour or a later one.

    The clock that `hour` was taken from may have been set back: no hour must be sent twice.
    """
    sent_for = connections.c.heartbeat_hour
    mine = (connections.c.name == lease.connection) & or_(sent_for.is_(None), sent_for < hour)
    with database.write() as db:
        check_lease(db, lease, now)
        if db.execute(update(connections).where(mine).values(heartbeat_hour=hour)).rowcount != 1:
            return False
        enqueue(db, lease, destination, [event], now, write_key=write_key)
    return True


# --- what waits, for people and metrics --------------------------------------------------------------------

_SHORT = [column for column in outbox.c if column.name not in ("message", "write_key")]


def listed(
    database: Database, connection: str | None, state: str | None, most: int
) -> Sequence[Mapping[str, Any]]:
    """Return rows without their text, oldest first; `held`: made for a former write key."""
    where = _where(connection) & (outbox.c.state == state if state else true())
    query = select(*_SHORT, outbox.c.write_key).where(where).order_by(outbox.c.id).limit(most)
    with database.read() as db:
        keys, rows = write_keys(db), [dict(row) for row in db.execute(query).mappings()]
    for row in rows:
        key = row.pop("write_key")
        row["held"] = key != keys.get((row["connection"], row["destination"]), key)
    return rows


def message(database: Database, message_id: str) -> Mapping[str, Any] | None:
    """Return a stored message, without its text."""
    return _row(database, select(*_SHORT).where(outbox.c.message_id == message_id))


def shown(database: Database, which: str) -> Mapping[str, Any] | None:
    """Return one row with its exact message, by its number or its messageId."""
    return _row(database, select(outbox).where(_named([which])))


def _row(database: Database, query: Any) -> Mapping[str, Any] | None:
    with database.read() as db:
        row = db.execute(query).mappings().first()
    return dict(row) if row else None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for one destination; `held`: for a write key that is not in use there any more."""

    destination: str
    messages: int
    oldest: datetime
    held: bool = False


def waiting(database: Database, connection: str) -> Sequence[Waiting]:
    """Return what waits for Segment, by destination: messages for a replaced source may still wait."""
    by = (outbox.c.destination, outbox.c.write_key)
    query = select(*by, func.count(), func.min(outbox.c.made_at)).where(
        outbox.c.connection == connection, LIVE
    )
    by_destination: dict[tuple[str, bool], Waiting] = {}
    with database.read() as db:
        keys = write_keys(db)
        for destination, key, messages, oldest in db.execute(query.group_by(*by)).all():
            held = key != keys.get((connection, destination), key)
            others = by_destination.get((destination, held), Waiting(destination, 0, oldest, held))
            total = others.messages + messages, min(others.oldest, oldest)
            by_destination[destination, held] = Waiting(destination, *total, held)
    return list(by_destination.values())


def held(database: Database, connection: str, destination: str, write_key: str) -> int:
    """Return how many messages wait for former write keys of a destination."""
    mine = (outbox.c.connection == connection) & (outbox.c.destination == destination)
    query = select(func.count()).select_from(outbox).where(mine, outbox.c.write_key != write_key, LIVE)
    with database.read() as db:
        return int(db.execute(query).scalar_one())


def follow_key(database: Database, connection: str, destination: str, former: str, key: str) -> int:
    """Move messages that wait for a former write key of the same source to its new key; return how many."""
    mine = (outbox.c.connection == connection) & (outbox.c.destination == destination)
    where = mine & (outbox.c.write_key == former) & (outbox.c.state == WAITING)
    with database.write() as db:
        return db.execute(update(outbox).where(where).values(write_key=key)).rowcount


def sizes(database: Database, connection: str) -> Mapping[str, int]:
    """Return how many messages are in each state."""
    return _counts(database, outbox.c.state, outbox.c.connection == connection)


def dead_by_stream(database: Database, connection: str) -> Mapping[str, int]:
    """Return how many dead letters each stream has."""
    return _counts(database, outbox.c.stream, IS_DEAD & (outbox.c.connection == connection))


def _counts(database: Database, by: Any, where: ColumnElement[bool]) -> Mapping[str, int]:
    with database.read() as db:
        counts = db.execute(select(by, func.count()).where(where).group_by(by))
        return {name: int(number) for name, number in counts}


def retry(database: Database, connection: str | None, which: Iterable[str]) -> int:
    """Let the named dead letters, or all, wait again; return how many there were."""
    where = _where(connection) & (outbox.c.state == DEAD) & _named(list(which))
    values = {"state": WAITING, "answer": None, "answered_at": None}
    with database.write() as db:
        return db.execute(update(outbox).where(where).values(values)).rowcount


def drop(database: Database, connection: str | None, which: Iterable[str]) -> int:
    """Delete the named messages, or all, unsent; return how many. A message in flight is not touched."""
    where = _where(connection) & (outbox.c.state != FLIGHT) & _named(list(which))
    with database.write() as db:
        return db.execute(delete(outbox).where(where)).rowcount


def _where(connection: str | None) -> ColumnElement[bool]:
    return outbox.c.connection == connection if connection else true()


def _named(which: list[str]) -> ColumnElement[bool]:
    if not which:
        return true()
    numbers = [int(name) for name in which if name.isdecimal() and len(name) < MOST_DIGITS]
    return or_(outbox.c.message_id.in_(which), outbox.c.id.in_(numbers))

"""The outbox: messages wait here until Segment has confirmed them, and dead letters stay with the answer."""

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

from connector.domain.changes import Outgoing
from connector.errors import StateDamaged
from connector.state.columns import Moment
from connector.state.credentials import write_keys
from connector.state.damage import Unreadable
from connector.state.engine import Database
from connector.state.leases import Lease, check_lease
from connector.state.tables import LIVE, connections, outbox, tallies
from connector.state.upserts import add_new, add_up

WAITING, FLIGHT, DEAD = "waiting", "flight", "dead"
# Segment forgets a messageId after about 24 hours: past this, an unconfirmed message that is sent again may
# arrive twice. These are counted and reported.
POSSIBLE_DOUBLE_AFTER = timedelta(hours=20)
# No number of a row has as many, and the drivers take none that does.
MOST_DIGITS = 18


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """One message of a batch in hand; `possible_double` when it was sent unconfirmed long ago."""

    id: int
    message_id: str
    stream: str
    text: str = field(repr=False)
    size: int
    possible_double: bool


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

    `stream` is that of messages that name none. `again`: a dead letter of the same messageId waits once more,
    and so does one that waits for a former write key. `write_key`: the digest of the one they are made for.
    """
    same = {
        "connection": lease.connection,
        "destination": destination,
        "work": lease.work,
        "write_key": write_key,
        "made_at": now,
        "state": "waiting",
        "tries": 0,
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
        _take_over(db, lease, [each for value in values if (each := value["message_id"]) not in new])


def _take_over(db: Connection, lease: Lease, ids: Sequence[object]) -> None:
    """What lies there under another connection's name, which may be this one's former name, becomes ours.

    What a living one has in hand is left to it, and nobody waited for.
    """
    found = db.scalars(_OF_OTHERS, {"ids": ids, "mine": lease.connection}).all()
    if found:
        db.execute(_TAKE_OVER, {"those": found, "mine": lease.connection, "kind": lease.work})


def _revive(db: Connection, values: Sequence[Mapping[str, Any]]) -> None:
    """Dead letters wait again as they are made now; one that may have arrived once still may."""
    ids = [value["message_id"] for value in values]
    dead = set(db.scalars(_DEAD_OF, {"ids": ids, "key": values[0]["write_key"]}))
    names = ("work", "write_key", "made_at", "message", "size")
    if made := [value for value in values if value["message_id"] in dead]:
        db.execute(_REVIVE, [{"of": v["message_id"], **{f"new_{n}": v[n] for n in names}} for v in made])


class Outbox:
    """The outbox of one connection, under the lease of the run that empties it: what such runs have made.

    `write_key` is the digest of the key that they send with; what was made for another one is not touched.
    """

    def __init__(self, database: Database, lease: Lease, destination: str, write_key: str = "") -> None:
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

        Those that an earlier run left in flight come with them: whether they arrived is unknown, and
        the same messageId may go again.
        """
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            found = db.execute(_CLAIM, {**self._mine, "most": most, "at": now}).all()
        return sorted((_outbox_message(row, now) for row in found), key=lambda message: message.id)

    def sample(self, most: int, chance: float, now: datetime) -> list[OutboxMessage]:
        """Mark the newest waiting message, and some from other places, as in flight.

        `chance`, from 0 to 1, moves the places, so that another try finds others.
        """
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            waiting = db.execute(_IDS, self._mine).scalars().all()
            step = max(1, len(waiting) // (most - 1))
            positions = {*waiting[-1:], *waiting[int(chance * step) :: step][: most - 1]}
            found = db.execute(_CLAIM_THESE, {"at": now, "these": list(positions)}).all() if positions else []
        return [_outbox_message(row, now) for row in found]

    def confirm(self, messages: Sequence[OutboxMessage], now: datetime) -> None:
        """Segment has taken them: delete them, and count them as sent."""
        sent = Counter(message.stream for message in messages)
        here = {"connection": self._lease.connection, "what": "sent"}
        counts = [{**here, "stream": stream, "count": count} for stream, count in sorted(sent.items())]
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            db.execute(delete(outbox).where(_these(messages)))
            add_up(db, tallies, counts, "count")

    def put_back(self, messages: Sequence[OutboxMessage], now: datetime, *, not_arrived: bool) -> None:
        """They wait again. Those that did not arrive count as not sent; else the first try's time stays."""
        values: dict[str, Any] = {"state": WAITING}
        if not_arrived:
            values |= _NOT_SENT
        self._set(messages, now, values)

    def mark_dead(
        self, message: OutboxMessage, answer: str, now: datetime, latest: datetime, *, unsure: bool = False
    ) -> None:
        """Segment refused it for good: a dead letter, with the answer it got.

        `latest`: the latest that it may be; it is kept for 30 days from then on.
        `unsure`: this run had sent it before without an answer, and it may have arrived then.
        """
        values: dict[str, Any] = {"state": DEAD, "answer": answer, "answered_at": latest}
        self._set([message], now, values if unsure else values | _NOT_SENT)

    def check_values(self) -> None:
        """Read whose each waiting message is: one of which that is damaged would wait for ever unseen."""
        with self._database.read() as db:
            known = set(db.execute(select(connections.c.name)).scalars())
            strays = {row.connection for row in db.execute(_WHOSE)} - known
        if strays:
            raise StateDamaged(
                f"Messages wait for a connection that does not exist: table {outbox.name}, column "
                f"connection, value '{min(strays)}'.",
                todo="Run `beamer-segment state repair`: it finds their connection by their messageIds.",
            )

    def waiting(self) -> int:
        """How many messages wait for this destination, in flight ones included."""
        with self._database.read() as db:
            return int(db.execute(_WAITING, self._mine).scalar_one())

    def weight(self) -> int:
        """How many bytes wait for this destination."""
        with self._database.read() as db:
            return int(db.execute(_WEIGHT, self._mine).scalar_one())

    def _set(self, messages: Sequence[OutboxMessage], now: datetime, values: Mapping[str, Any]) -> None:
        with self._database.write() as db:
            check_lease(db, self._lease, now)
            db.execute(update(outbox).where(_these(messages) & (outbox.c.state == FLIGHT)).values(values))


# The last try counts as none: for sure nothing of it arrived.
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
# A messageId tells the account and the destination, too.
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
    )
)
_CLAIM = _CLAIMING.where(outbox.c.id.in_(_OLDEST))
_CLAIM_THESE = _CLAIMING.where(outbox.c.id.in_(bindparam("these", expanding=True)))


def strays(db: Connection) -> list[Unreadable]:
    """Messages of a connection that there is not."""
    known = select(connections.c.name)
    found = db.scalars(select(outbox.c.id).where(LIVE, outbox.c.connection.not_in(known)))
    return [Unreadable(outbox, "connection", {"id": number}) for number in found]


def _these(messages: Sequence[OutboxMessage]) -> ColumnElement[bool]:
    return outbox.c.id.in_([message.id for message in messages])


def _outbox_message(row: Any, now: datetime) -> OutboxMessage:
    # Of one that cannot be read, it may be long ago.
    late = row.first_sent_at is None or now - row.first_sent_at > POSSIBLE_DOUBLE_AFTER
    return OutboxMessage(row.id, row.message_id, row.stream, row.message, row.size, late)


def listed(
    database: Database, connection: str | None, state: str | None, most: int
) -> Sequence[Mapping[str, Any]]:
    """Rows of the outbox without their text, oldest first; `held`: made for a former write key."""
    columns = [column for column in outbox.c if column.name not in ("message", "write_key")]
    where = _where(connection) & (outbox.c.state == state if state else true())
    with database.read() as db:
        keys = write_keys(db)
        found = db.execute(
            select(*columns, outbox.c.write_key).where(where).order_by(outbox.c.id).limit(most)
        )
        return [_listed(dict(row._mapping), keys) for row in found]


def _listed(row: dict[str, Any], keys: Mapping[tuple[str, str], str]) -> Mapping[str, Any]:
    key = row.pop("write_key")
    return {**row, "held": key != keys.get((row["connection"], row["destination"]), key)}


def held(database: Database, connection: str, destination: str, write_key: str) -> int:
    """How many messages wait for former write keys of a destination."""
    mine = (outbox.c.connection == connection) & (outbox.c.destination == destination)
    query = select(func.count()).select_from(outbox).where(mine, outbox.c.write_key != write_key, LIVE)
    with database.read() as db:
        return int(db.execute(query).scalar_one())


def shown(database: Database, which: str) -> Mapping[str, Any] | None:
    """One row with its exact message, by its number or its messageId."""
    with database.read() as db:
        row = db.execute(select(outbox).where(_named([which]))).first()
        return dict(row._mapping) if row else None


def retry(database: Database, connection: str | None, which: Iterable[str]) -> int:
    """Dead letters wait again: those named, or all of them; one that may have arrived once still may."""
    where = _where(connection) & (outbox.c.state == DEAD) & _named(list(which))
    with database.write() as db:
        values = {
            "state": WAITING,
            "answer": None,
            "answered_at": None,
        }
        return db.execute(update(outbox).where(where).values(values)).rowcount


def drop(database: Database, connection: str | None, which: Iterable[str]) -> int:
    """Delete those named, or all, unsent; an in-flight one is not touched."""
    where = _where(connection) & (outbox.c.state != FLIGHT) & _named(list(which))
    with database.write() as db:
        return db.execute(delete(outbox).where(where)).rowcount


def _where(connection: str | None) -> ColumnElement[bool]:
    return outbox.c.connection == connection if connection else true()


def _named(which: list[str]) -> ColumnElement[bool]:
    if not which:
        return true()
    numbers = [int(each) for each in which if each.isdecimal() and len(each) < MOST_DIGITS]
    return or_(outbox.c.message_id.in_(which), outbox.c.id.in_(numbers))

"""The tables. Every name is prefixed: a shared database must not hit another application's."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)

PREFIX = "beamer_segment_"
VERSION_TABLE = f"{PREFIX}alembic_version"

metadata = MetaData()


class Moment(TypeDecorator[datetime]):
    """Aware UTC in, aware UTC out.

    Kept without a zone: PostgreSQL would hand back every date in the server's, and none past year 9999.
    """

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ARG002
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None]:
        # Composed by hand: a run reads thousands of them, most of them empty.
        parse = self.impl_instance.result_processor(dialect, coltype)

        def aware(value: Any) -> datetime | None:
            if value is None:
                return None
            naive: Any = parse(value) if parse else value
            found: datetime = naive.replace(tzinfo=UTC)
            return found

        return aware


class Words(TypeDecorator[str]):
    """Somebody else's text, escaped: PostgreSQL takes no NUL, and neither database a lone surrogate."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else json.dumps(value)[1:-1]

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else json.loads(f'"{value}"')


def _table(name: str, *columns: Any, **options: Any) -> Table:
    return Table(PREFIX + name, metadata, *columns, **options)


connections = _table(
    "connection",
    Column("name", String(40), primary_key=True),
    Column("account", String(40), nullable=False),
    Column("destination", String(40), nullable=False),
    Column("start_date", Moment, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("first_page", SmallInteger),
    # Whether the key may ignore filters, and when that was last tried.
    Column("ignore_filters", Boolean),
    Column("filters_at", Moment),
    # The hour of the last Beamer Sync Completed.
    Column("told_for", Moment),
)

# People whose rows are not sent any more, as digests made with this store's own random key.
forgotten = _table(
    "forgotten",
    Column("connection", String(40), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("since", Moment, nullable=False),
)
keys = _table(
    "key",
    Column("name", String(20), primary_key=True),
    Column("value", String(64), nullable=False),
)

# Keys that were refused, as digests made with this store's own random key: no request until they change.
refusals = _table(
    "refusal",
    Column("connection", String(40), primary_key=True),
    # 'beamer' or 'segment'.
    Column("door", String(10), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("what", Words, nullable=False),
    Column("since", Moment, nullable=False),
)

# What `--quiet` has spoken of, so that it does so once.
mentions = _table(
    "mention",
    Column("connection", String(40), primary_key=True),
    Column("what", String(80), primary_key=True),
    Column("since", Moment, nullable=False),
)

# When `schedule` next syncs each connection, after how many failures in a row: shared by its processes.
dues = _table(
    "due",
    Column("connection", String(40), primary_key=True),
    Column("due_at", Moment, nullable=False),
    Column("failures", Integer, nullable=False),
)

# One row per Beamer account: pacing, its budget's bucket, and whether 429 has closed it. Shared by its
# connections.
accounts = _table(
    "account",
    Column("name", String(40), primary_key=True),
    # Microseconds since the epoch: the one statement that paces does arithmetic on it.
    Column("next_at", BigInteger, nullable=False),
    # How many more requests may go at once, after the account has been idle for a second.
    Column("burst", Integer, nullable=False, server_default="0"),
    Column("closed_until", Moment),
    Column("refusals", Integer, nullable=False),
    # When it was first charged.
    Column("began_at", Moment, nullable=False),
    # Requests that had gathered at `level_at`, in microseconds since the epoch; without it nothing was
    # granted yet.
    Column("level", Float, nullable=False, server_default="0"),
    Column("level_at", BigInteger),
    # Every request ever: by it the shares of all requests go round.
    Column("drawn", BigInteger, nullable=False, server_default="0"),
)

# Requests by UTC day and purpose: what the quota is reckoned from.
spends = _table(
    "spend",
    Column("account", String(40), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("connection", String(40), primary_key=True),
    Column("purpose", String(40), primary_key=True),
    Column("requests", Integer, nullable=False),
)

# One lease for each kind of work on a connection: a backfill goes on while syncs run.
leases = _table(
    "lease",
    Column("connection", String(40), primary_key=True),
    Column("work", String(10), primary_key=True),
    Column("token", BigInteger, nullable=False),
    Column("host", String(255), nullable=False),
    Column("machine", String(64), nullable=False),
    Column("boot", String(64), nullable=False),
    Column("space", String(64), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", String(32), nullable=False),
    Column("expires_at", Moment, nullable=False),
)

streams = _table(
    "stream",
    Column("scope", Integer, primary_key=True),
    Column("connection", String(40), nullable=False),
    Column("name", String(40), nullable=False),
    Column("watermark", Moment),
    Column("complete_through", Moment),
    # The list was once read to its far end.
    Column("complete", Boolean, nullable=False),
    Column("place", Text),
    Column("list_order", String(10), nullable=False),
    Column("short_ends", Boolean),
    # When a list without parents was last read, and how many rows are recent (sync/planning/curves.py).
    Column("looked_at", Moment),
    Column("recent", Float, nullable=False, server_default="0"),
    # When its counts were last compared with what is held.
    Column("audited_at", Moment),
    # What such an audit has still to count or to read, as JSON.
    Column("windows", Text),
    # How rows come at a parent as it grows older, fitted to this account, and when.
    Column("curve", Text),
    Column("fitted_at", Moment),
    # How many rows were judged lately, and how many of those were to be sent (sync/planning/sending.py).
    Column("judged", Float, nullable=False, server_default="0"),
    Column("wanted", Float, nullable=False, server_default="0"),
    # Rows that the counters announced, and rows that came without a word of theirs.
    Column("announced", Float, nullable=False, server_default="0"),
    Column("silent", Float, nullable=False, server_default="0"),
    Column("distrusted", Boolean, nullable=False, server_default=false()),
    Column("trouble", Words),
    Column("trouble_at", Moment),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("failed_at", Moment),
    # The date of the newest row, and how many seconds after it that was read.
    Column("newest", Moment),
    Column("delay", Float),
    UniqueConstraint("connection", "name", name=f"{PREFIX}stream_name"),
)

parents = _table(
    "parent",
    Column("scope", Integer, primary_key=True, autoincrement=False),
    Column("id", String(64), primary_key=True),
    Column("date", Moment, nullable=False),
    Column("status", Words),
    Column("changes", Integer, nullable=False),
    # Views, unique views and clicks as last sent, and the UTC day when that was.
    Column("metrics", Text),
    Column("metrics_day", Integer),
    Column("gone", Boolean, nullable=False),
    # When it was first and last seen on a page, and when a reading last made sure that nothing hides there.
    Column("known_at", Moment),
    Column("looked_at", Moment),
    Column("proved_at", Moment),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("failed_at", Moment),
)

# A child list: its counter as last seen, and as it stood when the last whole sweep began.
children = _table(
    "child",
    Column("scope", Integer, primary_key=True, autoincrement=False),
    Column("parent", String(64), primary_key=True),
    Column("counter", Text, nullable=False),
    Column("swept", Text),
    Column("surplus", Integer, nullable=False),
    Column("watermark", Moment),
    Column("place", Text),
    # When it was last read to its end, how many rows it then showed before its counter did, and whether
    # the counter has fallen since.
    Column("swept_at", Moment),
    Column("early", Integer, nullable=False, server_default="0"),
    # When it was last read back over the whole lookback, and when from its first row to its last.
    Column("deep_at", Moment),
    Column("whole_at", Moment),
    Column("fell", Boolean, nullable=False, server_default=false()),
    # The mean moment at which the rows that wait appeared; how many rows are recent, and as of when.
    Column("waits_since", Moment),
    Column("recent", Float, nullable=False, server_default="0"),
    Column("recent_at", Moment),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("failed_at", Moment),
)

# Every id ever judged, with its verdict. Kept for ever, so it is kept small.
rows = _table(
    "row",
    Column("scope", Integer, primary_key=True, autoincrement=False),
    Column("parent", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("verdict", SmallInteger, nullable=False),
    Column("run", Integer, nullable=False),
    sqlite_with_rowid=False,
)

LIVE, DEAD = text("state <> 'dead'"), text("state = 'dead'")

# The texts come last: what stands behind a long one is slow to reach.
outbox = _table(
    "outbox",
    Column("id", Integer, primary_key=True),
    Column("connection", String(40), nullable=False),
    Column("destination", String(40), nullable=False),
    # Whose lease delivers it.
    Column("work", String(10), nullable=False, server_default="sync"),
    Column("message_id", String(100), nullable=False, unique=True),
    Column("stream", String(40), nullable=False),
    Column("event", String(100), nullable=False),
    Column("size", Integer, nullable=False),
    Column("made_at", Moment, nullable=False),
    Column("state", String(10), nullable=False),
    # How often it was sent without being taken, and when first.
    Column("tries", Integer, nullable=False),
    Column("first_sent_at", Moment),
    Column("answered_at", Moment),
    Column("answer", Words),
    Column("message", Text, nullable=False),
    # What waits is found in its order without sorting, however much there is of it. On PostgreSQL both are
    # partial, too, as the migration makes them; saying so here would load its dialect at every start.
    Index(f"{PREFIX}outbox_live", "connection", "destination", "work", "id", sqlite_where=LIVE),
    Index(f"{PREFIX}outbox_dead", "answered_at", sqlite_where=DEAD),
)

quarantine = _table(
    "quarantine",
    Column("id", Integer, primary_key=True),
    Column("connection", String(40), nullable=False),
    Column("stream", String(40), nullable=False),
    Column("parent", String(64), nullable=False),
    Column("row", String(64)),
    Column("digest", String(64), nullable=False),
    Column("reason", Words, nullable=False),
    Column("body", Text, nullable=False),
    Column("seen_at", Moment, nullable=False),
    UniqueConstraint("connection", "stream", "parent", "digest", name=f"{PREFIX}quarantine_row"),
)

# A history that is being brought: a range of dates under settings that judge rows one way.
backfills = _table(
    "backfill",
    Column("id", Integer, primary_key=True),
    Column("connection", String(40), nullable=False),
    Column("since", Moment, nullable=False),
    Column("until", Moment),
    # Which streams, and what judges their rows: what the same range is known by when it is asked for again.
    Column("streams", String(200), nullable=False),
    Column("judging", String(64), nullable=False),
    Column("resend", Boolean, nullable=False),
    Column("integrations", Text),
    Column("began_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("requests", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    # What it was estimated to cost.
    Column("expected", Integer),
    Index(f"{PREFIX}backfill_of", "connection", "id"),
)

# Its lists that are not read to their end: where each stands, and what its rows want to know of their parent.
readings = _table(
    "reading",
    Column("id", Integer, primary_key=True),
    Column("backfill", Integer, nullable=False),
    Column("stream", String(40), nullable=False),
    Column("parent", String(64), nullable=False),
    Column("since", Moment),
    Column("until", Moment),
    Column("date", Moment),
    Column("place", Text, nullable=False),
    Column("title", Words),
    Index(f"{PREFIX}reading_of", "backfill"),
)

# How many rows of a list without parents are held of each UTC day: what the audit compares counts with.
days = _table(
    "day",
    Column("scope", Integer, primary_key=True, autoincrement=False),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("rows", Integer, nullable=False),
)

# Sums for `status`, so that it never counts a million rows.
tallies = _table(
    "tally",
    Column("connection", String(40), primary_key=True),
    Column("stream", String(40), primary_key=True),
    Column("what", String(20), primary_key=True),
    Column("count", BigInteger, nullable=False),
)

runs = _table(
    "run",
    Column("id", Integer, primary_key=True),
    Column("connection", String(40), nullable=False),
    Column("command", String(20), nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("outcome", String(20)),
    Column("exit", Integer),
    Column("summary", Text),
    Index(f"{PREFIX}run_recent", "connection", "id"),
    # Every run deletes what is old, of all connections.
    Index(f"{PREFIX}run_old", "started_at"),
)

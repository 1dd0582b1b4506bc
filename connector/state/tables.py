"""The tables. Every name has a prefix: a shared database may hold another application's tables."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    false,
    text,
)

from connector.state.columns import (
    DROP,
    EPOCH,
    NEEDED,
    Checked,
    Counters,
    Digest,
    Flag,
    Id,
    Json,
    Label,
    Large,
    Message,
    Moment,
    Name,
    Real,
    Small,
    Whole,
    Words,
)

PREFIX = "beamer_segment_"
VERSION_TABLE = f"{PREFIX}alembic_version"

metadata = MetaData()

# Replacements for unreadable values. An account of unknown age counts as new: that allows fewer requests.
NEVER = datetime(9998, 1, 1, tzinfo=UTC)
# Later than any token that a run may still hold.
LATE_TOKEN = 2**40
# A change's id must not be one that was sent.
MANY_CHANGES = 1_000_000
MOST_DAYS, MOST_SURPLUS, MOST_BYTES = 3_000_000, 1_000_000_000, 32_768
WORKS, STATES = ("sync", "backfill"), ("waiting", "flight", "dead")
ORDERS = ("unknown", "newest", "oldest", "none")
STAGES = ("open", "ended", "done")


def _table(name: str, *columns: Any, **options: Any) -> Table:
    table = Table(PREFIX + name, metadata, *columns, **options)
    for column in table.c:
        if isinstance(column.type, Checked):
            column.type.column = (table.name, column.name)
    return table


connections = _table(
    "connection",
    Column("name", Label(40, instead=NEEDED), primary_key=True),
    Column("account", Label(40, instead=NEEDED), nullable=False),
    Column("destination", Label(40, instead=NEEDED), nullable=False),
    Column("start_date", Moment(instead=NEEDED), nullable=False),
    # True until Beamer's clock has confirmed this machine's: the start date is not final.
    Column("provisional", Flag(instead=False), nullable=False, server_default=false()),
    Column("created_at", Moment(instead=EPOCH), nullable=False),
    Column("first_page", Small(most=1)),
    # Whether the key may ignore filters, and when it was last refused that, if it was not allowed to since.
    Column("ignore_filters", Flag),
    Column("filters_at", Moment),
    # The hour of the last Beamer Sync Completed.
    Column("heartbeat_hour", Moment),
)

# The keys (as digests) and addresses that a connection was used with: they identify its accounts. A write
# key belongs to a destination, the Beamer key to the connection (''); one of each is current.
credentials = _table(
    "credential",
    Column("connection", String(40), primary_key=True),
    # 'beamer' or 'segment'.
    Column("api", String(10), primary_key=True),
    Column("destination", String(40), primary_key=True),
    Column("digest", String(16), primary_key=True),
    Column("address", Message(instead=DROP), nullable=False),
    Column("current", Flag(instead=DROP), nullable=False),
    # Of a write key: the id of its source in Segment's Public API. Of a Beamer key, if nothing else
    # identifies its account: the digest of its feed's URL, or NO_FEED.
    Column("source", Name(64)),
    Column("since", Moment(instead=EPOCH), nullable=False),
)

# People whose rows are not sent any more, as digests made with this database's own random key.
forgotten = _table(
    "forgotten",
    Column("connection", String(40), primary_key=True),
    Column("digest", Digest(64, instead=NEEDED), primary_key=True),
    Column("since", Moment(instead=EPOCH), nullable=False),
)
keys = _table(
    "key",
    Column("name", String(20), primary_key=True),
    Column("value", Digest(64, instead=NEEDED), nullable=False),
)

# What is known of the keys in use, as digests made with this database's own random key
# (state/suspensions.py).
refusals = _table(
    "refusal",
    Column("connection", String(40), primary_key=True),
    # 'beamer' or 'segment'.
    Column("api", Name(10, instead=DROP, words=("beamer", "segment")), primary_key=True),
    Column("digest", Digest(64, instead=DROP), nullable=False),
    Column("what", Words(instead="unknown"), nullable=False),
    Column("since", Moment(instead=EPOCH), nullable=False),
    # In how many runs it was refused, the last one at `tried_at`; 0 for one that was accepted.
    Column("refused", Whole(instead=0, least=-1), nullable=False),
    Column("tried_at", Moment(instead=EPOCH), nullable=False),
)

# The problems that `--quiet` has mentioned, so that it mentions each once.
mentions = _table(
    "mention",
    Column("connection", String(40), primary_key=True),
    Column("what", Name(80, instead=DROP), primary_key=True),
    Column("since", Moment(instead=DROP), nullable=False),
)

# The word of health that was last sent to the webhook for alerts (state/alerts.py).
alerts = _table(
    "alert",
    Column("connection", String(40), primary_key=True),
    Column("word", Name(20, instead="healthy"), nullable=False),
    Column("sent_at", Moment(instead=EPOCH), nullable=False),
)

# When `schedule` next syncs each connection, after how many failures in a row: shared by its processes.
dues = _table(
    "due",
    Column("connection", String(40), primary_key=True),
    Column("due_at", Moment(instead=EPOCH), nullable=False),
    Column("failures", Whole(instead=0), nullable=False),
)

# One row per Beamer account: pacing, its budget's bucket, and whether 429 has closed it. Shared by its
# connections.
accounts = _table(
    "account",
    Column("name", String(40), primary_key=True),
    # Microseconds since the epoch, for the arithmetic of the pacing statement.
    Column("next_at", Large(instead=0), nullable=False),
    # How many more requests may be sent at once, after the account has been idle for a second.
    Column("burst", Whole(instead=0, least=-1), nullable=False, server_default="0"),
    Column("closed_until", Moment),
    Column("refusals", Whole(instead=0), nullable=False),
    # When it was first charged.
    Column("began_at", Moment(instead=NEVER), nullable=False),
    # Beamer's clock at its last answer, and this machine's at the same moment (domain/beamer_time.py).
    Column("beamer_time", Moment),
    Column("local_time", Moment),
    # By how many seconds Beamer's clock is ahead by the last answer, if that was not believed.
    Column("doubted", Large(least=-MOST_SURPLUS * 1000)),
    # The bucket's requests at `level_at`, in microseconds since the epoch; without `level_at` nothing was
    # granted yet.
    Column("level", Real(instead=0.0, least=-MOST_SURPLUS), nullable=False, server_default="0"),
    Column("level_at", Large),
    # The number of all requests ever: it alternates the shares of all requests.
    Column("drawn", Large(instead=0), nullable=False, server_default="0"),
)

# When the next batch of events may go to Segment, in microseconds since the epoch: one row for all runs.
paces = _table(
    "pace",
    Column("name", String(20), primary_key=True),
    Column("next_at", Large(instead=0), nullable=False),
)

# How many messages Segment confirmed, by hour and event, to compare with its own counts. Kept for 60
# days. The other columns are those of Sent (domain/proof.py).
deliveries = _table(
    "delivery",
    Column("connection", String(40), primary_key=True),
    Column("write_key", Name(16, instead=DROP), primary_key=True),
    Column("hour", Moment(instead=DROP), primary_key=True),
    Column("event", Name(100, instead=DROP), primary_key=True),
    Column("messages", Whole(instead=0), nullable=False),
    Column("unsure", Whole(instead=0), nullable=False),
    Column("resent", Whole(instead=0), nullable=False),
    Column("oldest", Moment),
    Column("newest", Moment),
)

# When Segment's counts were last compared, and the result (reporting/proof.py).
proofs = _table(
    "proof",
    Column("connection", String(40), primary_key=True),
    Column("compared_at", Moment(instead=EPOCH), nullable=False),
    Column("found", Json(instead="{}"), nullable=False),
)

# What `identify` last sent of each user, as digests made with the key of forgotten people.
users = _table(
    "user",
    Column("connection", String(40), primary_key=True),
    Column("digest", Digest(64, instead=DROP), primary_key=True),
    Column("traits", Digest(64, instead=DROP), nullable=False),
)

# How far a connection's users were read: the columns are those of Reading (state/users.py).
user_readings = _table(
    "user_reading",
    Column("connection", String(40), primary_key=True),
    Column("tried_at", Moment),
    Column("through", Moment),
    Column("newest", Moment),
    Column("page", Whole(instead=0), nullable=False),
)

# Requests by UTC day and purpose, from which the quota is computed.
spends = _table(
    "spend",
    Column("account", String(40), primary_key=True),
    Column("day", Whole(instead=NEEDED, most=MOST_DAYS), primary_key=True, autoincrement=False),
    Column("connection", Name(40, instead=""), primary_key=True),
    Column("purpose", Name(40, instead=""), primary_key=True),
    Column("requests", Whole(instead=NEEDED), nullable=False),
)

# One lease for each kind of work on a connection: a backfill continues while syncs run.
leases = _table(
    "lease",
    Column("connection", String(40), primary_key=True),
    Column("work", Name(10, instead=DROP, words=WORKS), primary_key=True),
    Column("token", Large(instead=LATE_TOKEN), nullable=False),
    Column("host", Name(255, instead=""), nullable=False),
    Column("machine", Name(64, instead=""), nullable=False),
    Column("boot", Name(64, instead=""), nullable=False),
    Column("space", Name(64, instead=""), nullable=False),
    Column("pid", Whole(instead=0), nullable=False),
    Column("started", Name(32, instead=""), nullable=False),
    Column("expires_at", Moment(instead=EPOCH), nullable=False),
    Column("renewals", Large(instead=0), nullable=False),
)

# StreamState, ParentState and ChildState (domain/state.py) say what the columns of these three tables mean.
streams = _table(
    "stream",
    Column("scope", Integer, primary_key=True),
    Column("connection", Label(40, instead=NEEDED), nullable=False),
    Column("name", Label(40, instead=NEEDED), nullable=False),
    Column("watermark", Moment),
    Column("complete_through", Moment),
    Column("complete", Flag(instead=False), nullable=False),
    Column("cursor", Json),
    Column("list_order", Name(10, instead="unknown", words=ORDERS), nullable=False),
    Column("short_ends", Flag),
    Column("page_rows", Small(least=1, most=1000)),
    Column("checked_at", Moment),
    Column("recent", Real(instead=0.0), nullable=False, server_default="0"),
    Column("audited_at", Moment),
    Column("windows", Json),
    Column("curve", Json()),
    Column("fitted_at", Moment),
    Column("verdict_count", Real(instead=0.0), nullable=False, server_default="0"),
    Column("to_send_count", Real(instead=0.0), nullable=False, server_default="0"),
    Column("announced", Real(instead=0.0), nullable=False, server_default="0"),
    Column("silent", Real(instead=0.0), nullable=False, server_default="0"),
    Column("distrusted", Flag(instead=False), nullable=False, server_default=false()),
    Column("late_share", Real(instead=0.5), nullable=False, server_default="0.5"),
    Column("hint_share", Real(instead=0.0), nullable=False, server_default="0"),
    Column("trouble", Words),
    Column("trouble_code", Words),
    Column("unread", Words),
    Column("trouble_at", Moment),
    Column("failures", Whole(instead=0), nullable=False, server_default="0"),
    Column("failed_at", Moment),
    # The date of the newest row, and how many seconds after it that was read.
    Column("newest", Moment),
    Column("delay", Real),
    UniqueConstraint("connection", "name", name=f"{PREFIX}stream_name"),
)

parents = _table(
    "parent",
    Column("scope", Integer, primary_key=True, autoincrement=False),
    Column("id", Id(64, instead=DROP), primary_key=True),
    Column("date", Moment(instead=EPOCH, before=10_000), nullable=False),
    Column("status", Words),
    Column("other_status", Words),
    Column("other_shown", Small(instead=0, least=-2, most=2), nullable=False, server_default="0"),
    Column("changes", Whole(instead=MANY_CHANGES), nullable=False),
    Column("metrics", Counters),
    Column("metrics_day", Whole(most=MOST_DAYS)),
    Column("gone", Flag(instead=False), nullable=False),
    Column("known_at", Moment),
    Column("checked_at", Moment),
    Column("proved_at", Moment),
    Column("failures", Whole(instead=0), nullable=False, server_default="0"),
    Column("failed_at", Moment),
    Column("title", Name(16)),
)

children = _table(
    "child",
    Column("scope", Integer, primary_key=True, autoincrement=False),
    Column("parent", Id(64, instead=DROP), primary_key=True),
    Column("counter", Counters(instead="?"), nullable=False),
    Column("read_counter", Counters),
    Column("surplus", Whole(instead=0, least=-MOST_SURPLUS, most=MOST_SURPLUS), nullable=False),
    Column("watermark", Moment),
    Column("cursor", Json),
    Column("read_at", Moment),
    Column("early", Whole(instead=0), nullable=False, server_default="0"),
    Column("deep_at", Moment),
    Column("whole_at", Moment),
    Column("fell", Flag(instead=False), nullable=False, server_default=false()),
    Column("waits_since", Moment),
    Column("recent", Real(instead=0.0), nullable=False, server_default="0"),
    Column("recent_at", Moment),
    Column("failures", Whole(instead=0), nullable=False, server_default="0"),
    Column("failed_at", Moment),
    Column("short_since", Moment),
)

# Every id with a verdict. Kept for ever, so the rows are kept small.
rows = _table(
    "row",
    Column("scope", Integer, primary_key=True, autoincrement=False),
    Column("parent", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("verdict", Small(instead=1, least=1, most=7), nullable=False),
    Column("run", Whole(instead=0), nullable=False),
    sqlite_with_rowid=False,
)

LIVE, IS_DEAD = text("state <> 'dead'"), text("state = 'dead'")

# The texts come last: columns behind a long one are slow to read.
outbox = _table(
    "outbox",
    Column("id", Integer, primary_key=True),
    Column("connection", Label(40, instead=NEEDED), nullable=False),
    Column("destination", Label(40, instead=NEEDED), nullable=False),
    # Whose lease delivers it.
    Column("work", Name(10, instead="sync", words=WORKS), nullable=False, server_default="sync"),
    # The digest of the write key that it was made for: no other one is used unless somebody confirms it.
    Column("write_key", Name(16, instead=""), nullable=False, server_default=""),
    Column("message_id", String(100), nullable=False, unique=True),
    Column("stream", Name(40, instead=""), nullable=False),
    Column("event", Name(100, instead=""), nullable=False),
    Column("size", Whole(instead=MOST_BYTES, most=MOST_BYTES), nullable=False),
    Column("made_at", Moment(instead=EPOCH), nullable=False),
    Column("state", Name(10, instead="waiting", words=STATES), nullable=False),
    # How often it was sent without being taken, and when first.
    Column("tries", Whole(instead=0), nullable=False),
    # Sent once more on purpose: Segment may have it.
    Column("resent", Flag(instead=False), nullable=False, server_default=false()),
    Column("first_sent_at", Moment),
    Column("answered_at", Moment),
    Column("answer", Words),
    Column("message", Message(instead=""), nullable=False),
    # Waiting messages are read in order without sorting, however many there are. On PostgreSQL both are
    # partial, too, as the migration makes them; declaring that would load its dialect at every start.
    Index(f"{PREFIX}outbox_live", "connection", "destination", "work", "id", sqlite_where=LIVE),
    Index(f"{PREFIX}outbox_dead", "answered_at", sqlite_where=IS_DEAD),
)

quarantine = _table(
    "quarantine",
    Column("id", Integer, primary_key=True),
    Column("connection", String(40), nullable=False),
    Column("stream", Name(40, instead=""), nullable=False),
    Column("parent", Name(64, instead=""), nullable=False),
    Column("row", Name(64)),
    Column("digest", Name(64, instead=DROP), nullable=False),
    Column("reason", Words(instead="unknown"), nullable=False),
    Column("body", Message(instead=""), nullable=False),
    Column("seen_at", Moment(instead=EPOCH), nullable=False),
    UniqueConstraint("connection", "stream", "parent", "digest", name=f"{PREFIX}quarantine_row"),
)

# What remains of a row's text after 30 days; until then the row counts as in quarantine.
EMPTIED = ""
IN_QUARANTINE = quarantine.c.body != EMPTIED

# A backfill's range of dates, under settings that judge rows one way.
backfills = _table(
    "backfill",
    Column("id", Integer, primary_key=True),
    Column("connection", String(40), nullable=False),
    Column("since", Moment(instead=DROP), nullable=False),
    Column("until", Moment(instead=DROP)),
    # Its streams, and the settings that judge rows: they identify the range when it is requested again.
    Column("streams", Name(200, instead=DROP), nullable=False),
    Column("judging", Name(64, instead=DROP), nullable=False),
    Column("resend", Flag(instead=DROP), nullable=False),
    Column("integrations", Json(instead=DROP)),
    Column("began_at", Moment(instead=EPOCH), nullable=False),
    Column("finished_at", Moment(instead=DROP)),
    Column("requests", Large(instead=0), nullable=False),
    Column("rows", Large(instead=0), nullable=False),
    Column("events", Large(instead=0), nullable=False),
    # The estimated number of requests.
    Column("expected", Whole),
    Index(f"{PREFIX}backfill_of", "connection", "id"),
)

# The lists that a backfill reads, or parts of them: how far each was read, and the parent's data that its
# events need. They are kept until the backfill ends, so that none is read twice.
readings = _table(
    "reading",
    Column("backfill", Integer, primary_key=True, autoincrement=False),
    Column("stream", Name(40, instead=DROP), primary_key=True),
    Column("parent", Id(64, instead=DROP), primary_key=True),
    Column("part", Large(instead=DROP), primary_key=True, autoincrement=False),
    Column("since", Moment(instead=DROP)),
    Column("until", Moment(instead=DROP)),
    Column("date", Moment(instead=DROP)),
    Column("title", Words),
    Column("stage", Name(8, instead=DROP, words=STAGES), nullable=False),
    Column("cursor", Json(instead=DROP)),
    # How many rows it has shown since it began, how many the last complete reading showed, how many a counter
    # or count announces, and since when fewer were read.
    Column("seen", Whole(instead=0), nullable=False, server_default="0"),
    Column("found", Whole),
    Column("expected", Whole),
    Column("doubted_at", Moment),
)

# How many rows of a list without parents are stored of each UTC day, to compare with counts in the audit.
days = _table(
    "day",
    Column("scope", Integer, primary_key=True, autoincrement=False),
    Column(
        "day", Whole(instead=DROP, least=-MOST_DAYS, most=MOST_DAYS), primary_key=True, autoincrement=False
    ),
    Column("rows", Whole(instead=0), nullable=False),
)

# What webhooks announced at each list: all of it, and what is not read yet. The parent is '0' if it is
# unknown, or if there is none.
hints = _table(
    "hint",
    Column("connection", String(40), primary_key=True),
    Column("stream", Name(40, instead=DROP), primary_key=True),
    Column("parent", Id(64, instead=DROP), primary_key=True),
    Column("received", Large(instead=0), nullable=False),
    Column("received_at", Moment(instead=EPOCH), nullable=False),
    Column("confirmed", Large(instead=0), nullable=False, server_default="0"),
    # How many rows wait to be read, and since when.
    Column("waiting", Whole(instead=0), nullable=False),
    Column("since", Moment(instead=EPOCH), nullable=False),
)

# Sums for `status`, so that it never counts a million rows.
tallies = _table(
    "tally",
    Column("connection", String(40), primary_key=True),
    Column("stream", Name(40, instead=DROP), primary_key=True),
    Column("what", Name(20, instead=DROP), primary_key=True),
    Column("count", Large(instead=0), nullable=False),
)

runs = _table(
    "run",
    Column("id", Integer, primary_key=True),
    Column("connection", String(40), nullable=False),
    Column("command", Name(20, instead="sync"), nullable=False),
    Column("started_at", Moment(instead=EPOCH), nullable=False),
    Column("finished_at", Moment),
    Column("outcome", Name(20)),
    Column("exit", Whole(most=255)),
    Column("summary", Json),
    Index(f"{PREFIX}run_recent", "connection", "id"),
    # For the deletion of old runs of all connections, in every run.
    Index(f"{PREFIX}run_old", "started_at"),
)

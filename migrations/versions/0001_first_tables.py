"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "beamer_segment_account",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("burst", sa.Integer(), server_default="0", nullable=False),
        sa.Column("closed_until", sa.DateTime(), nullable=True),
        sa.Column("refusals", sa.Integer(), nullable=False),
        sa.Column("began_at", sa.DateTime(), nullable=False),
        sa.Column("level", sa.Float(), server_default="0", nullable=False),
        sa.Column("level_at", sa.BigInteger(), nullable=True),
        sa.Column("drawn", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "beamer_segment_backfill",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("connection", sa.String(length=40), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.Column("until", sa.DateTime(), nullable=True),
        sa.Column("streams", sa.String(length=200), nullable=False),
        sa.Column("judging", sa.String(length=64), nullable=False),
        sa.Column("resend", sa.Boolean(), nullable=False),
        sa.Column("integrations", sa.Text(), nullable=True),
        sa.Column("began_at", sa.DateTime(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("expected", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("beamer_segment_backfill_of", "beamer_segment_backfill", ["connection", "id"])
    op.create_table(
        "beamer_segment_reading",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("backfill", sa.Integer(), nullable=False),
        sa.Column("stream", sa.String(length=40), nullable=False),
        sa.Column("parent", sa.String(length=64), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=True),
        sa.Column("until", sa.DateTime(), nullable=True),
        sa.Column("date", sa.DateTime(), nullable=True),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("beamer_segment_reading_of", "beamer_segment_reading", ["backfill"])
    op.create_table(
        "beamer_segment_child",
        sa.Column("scope", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("parent", sa.String(length=64), nullable=False),
        sa.Column("counter", sa.Text(), nullable=False),
        sa.Column("swept", sa.Text(), nullable=True),
        sa.Column("surplus", sa.Integer(), nullable=False),
        sa.Column("watermark", sa.DateTime(), nullable=True),
        sa.Column("place", sa.Text(), nullable=True),
        sa.Column("swept_at", sa.DateTime(), nullable=True),
        sa.Column("early", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deep_at", sa.DateTime(), nullable=True),
        sa.Column("whole_at", sa.DateTime(), nullable=True),
        sa.Column("fell", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("waits_since", sa.DateTime(), nullable=True),
        sa.Column("recent", sa.Float(), server_default="0", nullable=False),
        sa.Column("recent_at", sa.DateTime(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("scope", "parent"),
    )
    op.create_table(
        "beamer_segment_connection",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("account", sa.String(length=40), nullable=False),
        sa.Column("destination", sa.String(length=40), nullable=False),
        sa.Column("start_date", sa.DateTime(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("first_page", sa.SmallInteger(), nullable=True),
        sa.Column("ignore_filters", sa.Boolean(), nullable=True),
        sa.Column("filters_at", sa.DateTime(), nullable=True),
        sa.Column("told_for", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "beamer_segment_day",
        sa.Column("scope", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "day"),
    )
    op.create_table(
        "beamer_segment_due",
        sa.Column("connection", sa.String(length=40), nullable=False),
        sa.Column("due_at", sa.DateTime(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("connection"),
    )
    op.create_table(
        "beamer_segment_forgotten",
        sa.Column("connection", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("connection", "digest"),
    )
    op.create_table(
        "beamer_segment_key",
        sa.Column("name", sa.String(length=20), nullable=False),
        sa.Column("value", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "beamer_segment_lease",
        sa.Column("connection", sa.String(length=40), nullable=False),
        sa.Column("work", sa.String(length=10), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("machine", sa.String(length=64), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("space", sa.String(length=64), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started", sa.String(length=32), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("connection", "work"),
    )
    op.create_table(
        "beamer_segment_mention",
        sa.Column("connection", sa.String(length=40), nullable=False),
        sa.Column("what", sa.String(length=80), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("connection", "what"),
    )
    op.create_table(
        "beamer_segment_outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("connection", sa.String(length=40), nullable=False),
        sa.Column("destination", sa.String(length=40), nullable=False),
        sa.Column("work", sa.String(length=10), server_default="sync", nullable=False),
        sa.Column("message_id", sa.String(length=100), nullable=False),
        sa.Column("stream", sa.String(length=40), nullable=False),
        sa.Column("event", sa.String(length=100), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("made_at", sa.DateTime(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("first_sent_at", sa.DateTime(), nullable=True),
        sa.Column("answered_at", sa.DateTime(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("message_id"),
    )
    live, dead = sa.text("state <> 'dead'"), sa.text("state = 'dead'")
    op.create_index(
        "beamer_segment_outbox_live",
        "beamer_segment_outbox",
        ["connection", "destination", "work", "id"],
        sqlite_where=live,
        postgresql_where=live,
    )
    op.create_index(
        "beamer_segment_outbox_dead",
        "beamer_segment_outbox",
        ["answered_at"],
        sqlite_where=dead,
        postgresql_where=dead,
    )
    op.create_table(
        "beamer_segment_parent",
        sa.Column("scope", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("date", sa.DateTime(), nullable=False),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=True),
        sa.Column("metrics_day", sa.Integer(), nullable=True),
        sa.Column("gone", sa.Boolean(), nullable=False),
        sa.Column("known_at", sa.DateTime(), nullable=True),
        sa.Column("looked_at", sa.DateTime(), nullable=True),
        sa.Column("proved_at", sa.DateTime(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("scope", "id"),
    )
    op.create_table(
        "beamer_segment_quarantine",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("connection", sa.String(length=40), nullable=False),
        sa.Column("stream", sa.String(length=40), nullable=False),
        sa.Column("parent", sa.String(length=64), nullable=False),
        sa.Column("row", sa.String(length=64), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("connection", "stream", "parent", "digest", name="beamer_segment_quarantine_row"),
    )
    op.create_table(
        "beamer_segment_refusal",
        sa.Column("connection", sa.String(length=40), nullable=False),
        sa.Column("door", sa.String(length=10), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("connection", "door"),
    )
    op.create_table(
        "beamer_segment_row",
        sa.Column("scope", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("parent", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("verdict", sa.SmallInteger(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "parent", "id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "beamer_segment_run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("connection", sa.String(length=40), nullable=False),
        sa.Column("command", sa.String(length=20), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.Column("outcome", sa.String(length=20), nullable=True),
        sa.Column("exit", sa.Integer(), nullable=True),
        sa.Column("summary", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("beamer_segment_run_recent", "beamer_segment_run", ["connection", "id"], unique=False)
    op.create_index("beamer_segment_run_old", "beamer_segment_run", ["started_at"], unique=False)
    op.create_table(
        "beamer_segment_spend",
        sa.Column("account", sa.String(length=40), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("connection", sa.String(length=40), nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("account", "day", "connection", "purpose"),
    )
    op.create_table(
        "beamer_segment_stream",
        sa.Column("scope", sa.Integer(), nullable=False),
        sa.Column("connection", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("watermark", sa.DateTime(), nullable=True),
        sa.Column("complete_through", sa.DateTime(), nullable=True),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("place", sa.Text(), nullable=True),
        sa.Column("list_order", sa.String(length=10), nullable=False),
        sa.Column("short_ends", sa.Boolean(), nullable=True),
        sa.Column("looked_at", sa.DateTime(), nullable=True),
        sa.Column("recent", sa.Float(), server_default="0", nullable=False),
        sa.Column("audited_at", sa.DateTime(), nullable=True),
        sa.Column("windows", sa.Text(), nullable=True),
        sa.Column("curve", sa.Text(), nullable=True),
        sa.Column("fitted_at", sa.DateTime(), nullable=True),
        sa.Column("judged", sa.Float(), server_default="0", nullable=False),
        sa.Column("wanted", sa.Float(), server_default="0", nullable=False),
        sa.Column("announced", sa.Float(), server_default="0", nullable=False),
        sa.Column("silent", sa.Float(), server_default="0", nullable=False),
        sa.Column("distrusted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.Column("trouble_at", sa.DateTime(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed_at", sa.DateTime(), nullable=True),
        sa.Column("newest", sa.DateTime(), nullable=True),
        sa.Column("delay", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("scope"),
        sa.UniqueConstraint("connection", "name", name="beamer_segment_stream_name"),
    )
    op.create_table(
        "beamer_segment_tally",
        sa.Column("connection", sa.String(length=40), nullable=False),
        sa.Column("stream", sa.String(length=40), nullable=False),
        sa.Column("what", sa.String(length=20), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("connection", "stream", "what"),
    )

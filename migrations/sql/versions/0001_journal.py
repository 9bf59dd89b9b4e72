"""The journal: events, their tags, stream heads, the reading order, snapshots.

Events and tags can be added and never changed or deleted: triggers refuse it, whoever asks.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_IMMUTABLE = ("journal_events", "journal_tags")


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "journal_events",
        sa.Column("position", big, primary_key=True, autoincrement=False),
        sa.Column("stream", sa.String(200), nullable=False),
        sa.Column("sequence", big, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("schema_version", sa.Integer, nullable=False),
        sa.Column("time", sa.String(27), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("causation_id", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.UniqueConstraint("stream", "sequence", name="uq_journal_events_stream_sequence"),
        sa.UniqueConstraint("id", name="uq_journal_events_id"),
    )
    op.create_index("ix_journal_events_stream_position", "journal_events", ["stream", "position"])
    op.create_index("ix_journal_events_type", "journal_events", ["type", "position"])
    op.create_index("ix_journal_events_actor", "journal_events", ["actor", "position"])
    op.create_index("ix_journal_events_time", "journal_events", ["time", "position"])
    op.create_table(
        "journal_tags",
        sa.Column("tag", sa.String(200), nullable=False),
        sa.Column("position", big, nullable=False),
        sa.PrimaryKeyConstraint("tag", "position", name="pk_journal_tags"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "journal_streams",
        sa.Column("stream", sa.String(200), primary_key=True),
        sa.Column("sequence", big, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_table(
        "journal_order",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", big, nullable=False),
    )
    op.execute("INSERT INTO journal_order (id, position) VALUES (1, 0)")
    op.create_table(
        "journal_snapshots",
        sa.Column("stream", sa.String(200), nullable=False),
        sa.Column("sequence", big, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("stream", "sequence", name="pk_journal_snapshots"),
    )
    _forbid_changes()


def _forbid_changes() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for table in _IMMUTABLE:
            for verb in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    "BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END"
                )
        # INSERT OR REPLACE deletes what is in its way without asking the delete trigger.
        op.execute(
            "CREATE TRIGGER journal_events_no_replace BEFORE INSERT ON journal_events WHEN EXISTS ("
            "SELECT 1 FROM journal_events WHERE position = NEW.position OR id = NEW.id "
            "OR (stream = NEW.stream AND sequence = NEW.sequence)) "
            "BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END"
        )
        return
    op.execute(
        "CREATE FUNCTION journal_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the journal is append-only'; END $$"
    )
    for table in _IMMUTABLE:
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION journal_refuse()"
        )


def downgrade() -> None:
    for table in ("journal_snapshots", "journal_order", "journal_streams", "journal_tags", "journal_events"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION journal_refuse()")

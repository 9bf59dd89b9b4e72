"""The tables of the journal, for building statements. `migrations/sql` is what makes them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()
_Big = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER is a row id in SQLite

events = Table(
    "journal_events",
    metadata,
    Column("position", _Big, primary_key=True, autoincrement=False),  # the global reading order: 1, 2, 3 without gaps
    Column("stream", String(200), nullable=False),
    Column("sequence", _Big, nullable=False),
    Column("id", String(64), nullable=False),
    Column("type", String(100), nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("time", String(27), nullable=False),  # 2026-01-31T23:59:59.123456Z: fixed width, so that it sorts as time
    Column("actor", Text, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("causation_id", Text, nullable=False),
    Column("tags", Text, nullable=False),  # JSON list, as hashed; journal_tags is its index
    Column("payload", Text, nullable=False),  # JSON object
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    UniqueConstraint("stream", "sequence", name="uq_journal_events_stream_sequence"),
    UniqueConstraint("id", name="uq_journal_events_id"),
    Index("ix_journal_events_stream_position", "stream", "position"),
    Index("ix_journal_events_type", "type", "position"),
    Index("ix_journal_events_actor", "actor", "position"),
    Index("ix_journal_events_time", "time", "position"),
)

tags = Table(
    "journal_tags",
    metadata,
    Column("tag", String(200), nullable=False),
    Column("position", _Big, nullable=False),
    PrimaryKeyConstraint("tag", "position", name="pk_journal_tags"),
    sqlite_with_rowid=False,
)

streams = Table(
    "journal_streams",
    metadata,
    Column("stream", String(200), primary_key=True),
    Column("sequence", _Big, nullable=False),  # of the newest event: what an append is checked against
    Column("hash", String(64), nullable=False),
)

order = Table(
    "journal_order",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # one row, 1: whoever locks it appends
    Column("position", _Big, nullable=False),  # of the newest event
)

snapshots = Table(
    "journal_snapshots",
    metadata,
    Column("stream", String(200), nullable=False),
    Column("sequence", _Big, nullable=False),
    Column("state", Text, nullable=False),  # JSON object
    PrimaryKeyConstraint("stream", "sequence", name="pk_journal_snapshots"),
)

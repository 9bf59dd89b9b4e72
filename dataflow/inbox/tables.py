"""The tables of the inbox, as its statements name them; the migrations make them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
)

metadata = MetaData()

staged = Table(
    "inbox_staged",
    metadata,
    Column("token", String(32), primary_key=True),
    Column("pipeline", String(200), nullable=False),
    Column("batch_id", String(200), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("records", Integer, nullable=False),
    Column("source_offset", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),  # of the JSON lines
    Column("staged_at", BigInteger, nullable=False),  # milliseconds since 1970, as all times here
    Column("payload", LargeBinary, nullable=False),  # JSON lines, zstd
    Index("ix_inbox_staged_at", "staged_at"),
)

batches = Table(
    "inbox_batches",  # for ever
    metadata,
    Column("pipeline", String(200), nullable=False),
    Column("batch_id", String(200), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("records", Integer, nullable=False),
    Column("first_offset", BigInteger, nullable=False),
    Column("source_offset", BigInteger, nullable=False),
    Column("token", String(32), nullable=False),
    Column("admitted_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("pipeline", "batch_id", name="pk_inbox_batches"),
)

blocks = Table(
    "inbox_blocks",  # until they are settled
    metadata,
    Column("pipeline", String(200), nullable=False),
    Column("first_offset", BigInteger, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("batch_id", String(200), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("admitted_at", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    PrimaryKeyConstraint("pipeline", "first_offset", name="pk_inbox_blocks"),
)

streams = Table(
    "inbox_streams",
    metadata,
    Column("pipeline", String(200), primary_key=True),
    Column("next_offset", BigInteger, nullable=False),  # whoever locks the row admits
)

"""The tables of the inbox. They are made where they are missing, and carry the version of their shape."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    inspect,
    text,
)

from dataflow.errors import Rejected

VERSION = 1

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

schema = Table("inbox_schema", metadata, Column("version", Integer, primary_key=True, autoincrement=False))


def prepare(connection: Connection) -> None:
    """Make the tables where there are none, in a transaction that may write. Only one process does it at a time.

    Raises `Rejected` (SCHEMA_TOO_NEW) where a later version of DataFlow has been at work."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(7235102)"))  # any number that nobody else takes
    if inspect(connection).has_table(schema.name):
        found = connection.execute(schema.select()).scalar()
        if found is not None and found > VERSION:
            raise Rejected(
                f"the inbox has schema {found}, this version of DataFlow knows {VERSION}",
                code="SCHEMA_TOO_NEW",
                hint="install the DataFlow that wrote it, or a newer one",
            )
        if found is not None:
            return
    metadata.create_all(connection)
    connection.execute(schema.insert().values(version=VERSION))

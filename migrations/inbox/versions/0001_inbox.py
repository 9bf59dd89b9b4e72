"""The inbox: batches that wait, those that were admitted, their records, and how far each pipeline's go.

Before there were migrations DataFlow made these tables itself and noted so in `inbox_schema`. Where they are, they stay
with what is in them, and so does the note: that DataFlow reads it still.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = ("inbox_staged", "inbox_batches", "inbox_blocks", "inbox_streams")


def upgrade() -> None:
    if sa.inspect(op.get_bind()).has_table("inbox_streams"):
        return
    op.create_table(
        "inbox_staged",
        sa.Column("token", sa.String(32), primary_key=True),
        sa.Column("pipeline", sa.String(200), nullable=False),
        sa.Column("batch_id", sa.String(200), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("records", sa.Integer, nullable=False),
        sa.Column("source_offset", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("staged_at", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_inbox_staged_at", "inbox_staged", ["staged_at"])
    op.create_table(
        "inbox_batches",
        sa.Column("pipeline", sa.String(200), nullable=False),
        sa.Column("batch_id", sa.String(200), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("records", sa.Integer, nullable=False),
        sa.Column("first_offset", sa.BigInteger, nullable=False),
        sa.Column("source_offset", sa.BigInteger, nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("admitted_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("pipeline", "batch_id", name="pk_inbox_batches"),
    )
    op.create_table(
        "inbox_blocks",
        sa.Column("pipeline", sa.String(200), nullable=False),
        sa.Column("first_offset", sa.BigInteger, nullable=False),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        sa.Column("batch_id", sa.String(200), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("admitted_at", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("pipeline", "first_offset", name="pk_inbox_blocks"),
    )
    op.create_table(
        "inbox_streams",
        sa.Column("pipeline", sa.String(200), primary_key=True),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
    if sa.inspect(op.get_bind()).has_table("inbox_schema"):
        op.drop_table("inbox_schema")

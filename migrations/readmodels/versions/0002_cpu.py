"""The metrics by minute and hour tell the CPU time that a pipeline took.

With a default: a projector of the version before, which does not know the column, goes on writing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SLOTS = ("a", "b")
GRAINS = {"pipeline_metrics_minute": "minute", "pipeline_metrics_hourly": "hour"}
COUNTS = (
    "records_read",
    "records_processed",
    "records_failed",
    "records_filtered",
    "records_dead_lettered",
    "bytes_read",
    "batches",
    "processing_ms",
    "retries",
    "timeouts",
    "failures",
)
RATES = (
    "CASE WHEN batches > 0"
    " THEN CAST(records_processed + records_failed AS DOUBLE PRECISION) / batches ELSE 0.0 END AS avg_batch_size",
    "CASE WHEN records_processed + records_failed > 0"
    " THEN CAST(records_failed AS DOUBLE PRECISION) / (records_processed + records_failed) ELSE 0.0 END AS error_rate",
)


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    for view in GRAINS:
        op.execute(f"DROP VIEW {view}")
        for slot in SLOTS:
            op.add_column(f"{view}_{slot}", sa.Column("cpu_ms", big, nullable=False, server_default="0"))
        _view(view, (*COUNTS, "cpu_ms"))


def downgrade() -> None:
    for view in GRAINS:
        op.execute(f"DROP VIEW {view}")
        for slot in SLOTS:
            op.drop_column(f"{view}_{slot}", "cpu_ms")
        _view(view, COUNTS)


def _view(view: str, counts: tuple[str, ...]) -> None:
    grain = GRAINS[view]
    if op.get_bind().dialect.name == "postgresql":
        grain = f"CAST({grain} AS timestamptz) AS {grain}"
    columns = ", ".join(("pipeline_id", grain, *counts, *RATES))
    parts = [
        f"SELECT {columns} FROM {view}_{slot} WHERE (SELECT slot FROM projections WHERE name = 'metrics') = '{slot}'"
        for slot in SLOTS
    ]
    op.execute(f"CREATE VIEW {view} AS {' UNION ALL '.join(parts)}")

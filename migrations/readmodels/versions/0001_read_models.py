"""The read models: status, metrics by minute and hour, audit log; and how far each has come.

Every table is there twice, `_a` and `_b`: one is read, the other is empty or being built anew. The views of the plain
names show the one that is read; a single row of `projections` says which, so a swap is one UPDATE.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SLOTS = ("a", "b")
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
VIEWS = {
    "pipeline_status": "status",
    "pipeline_metrics_minute": "metrics",
    "pipeline_metrics_hourly": "metrics",
    "audit_log": "audit",
}
TIMES = {"created_at", "updated_at", "minute", "hour", "time"}
RATES = (
    "CASE WHEN batches > 0"
    " THEN CAST(records_processed + records_failed AS DOUBLE PRECISION) / batches ELSE 0.0 END AS avg_batch_size",
    "CASE WHEN records_processed + records_failed > 0"
    " THEN CAST(records_failed AS DOUBLE PRECISION) / (records_processed + records_failed) ELSE 0.0 END AS error_rate",
)


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "projections",
        sa.Column("name", sa.String(50), primary_key=True),
        sa.Column("slot", sa.String(1), nullable=False),
        sa.Column("position", big, nullable=False),
        sa.Column("event_time", sa.String(27), nullable=False),
        sa.Column("building", big, nullable=True),
        sa.Column("building_version", sa.Integer, nullable=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("kept_from", sa.Text, nullable=False),
    )
    for name in dict.fromkeys(VIEWS.values()):
        op.execute(
            "INSERT INTO projections (name, slot, position, event_time, version, kept_from) "
            f"VALUES ('{name}', 'a', 0, '', 1, '{{}}')"
        )
    for slot in SLOTS:
        _status(slot, big)
        _metrics("minute", f"pipeline_metrics_minute_{slot}", big)
        _metrics("hour", f"pipeline_metrics_hourly_{slot}", big)
        _audit(slot, big)
    for view, name in VIEWS.items():
        _view(view, name)


def _status(slot: str, big: sa.types.TypeEngine[int]) -> None:
    table = f"pipeline_status_{slot}"
    op.create_table(
        table,
        sa.Column("pipeline_id", sa.String(200), primary_key=True),
        sa.Column("pipeline_name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("source_type", sa.Text, nullable=False),
        sa.Column("sink_type", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("generation", big, nullable=False),
        sa.Column("total_records", big, nullable=False),
        sa.Column("total_batches", big, nullable=False),
        sa.Column("total_failures", big, nullable=False),
        sa.Column("error_code", sa.Text, nullable=False),
        sa.Column("error_message", sa.Text, nullable=False),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("updated_at", sa.String(27), nullable=False),
        sa.Column("version", big, nullable=False),
    )
    op.create_index(f"ix_{table}_status", table, ["status"])
    op.create_index(f"ix_{table}_updated_at", table, ["updated_at"])


def _metrics(grain: str, table: str, big: sa.types.TypeEngine[int]) -> None:
    op.create_table(
        table,
        sa.Column("pipeline_id", sa.String(200), nullable=False),
        sa.Column(grain, sa.String(27), nullable=False),
        *(sa.Column(name, big, nullable=False) for name in COUNTS),
        sa.PrimaryKeyConstraint("pipeline_id", grain, name=f"pk_{table}"),
    )
    op.create_index(f"ix_{table}_{grain}", table, [grain])


def _audit(slot: str, big: sa.types.TypeEngine[int]) -> None:
    table = f"audit_log_{slot}"
    op.create_table(
        table,
        sa.Column("position", big, primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.String(64), nullable=False),
        sa.Column("stream", sa.String(200), nullable=False),
        sa.Column("sequence", big, nullable=False),
        sa.Column("time", sa.String(27), nullable=False),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("causation_id", sa.Text, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    for column in ("stream", "actor", "type", "time"):
        op.create_index(f"ix_{table}_{column}", table, [column, "position"])


def _view(view: str, name: str) -> None:
    bind = op.get_bind()
    columns = []
    for column in sa.inspect(bind).get_columns(f"{view}_a"):
        timed = column["name"] in TIMES and bind.dialect.name == "postgresql"  # Grafana wants times, not text
        columns.append(f"CAST({column['name']} AS timestamptz) AS {column['name']}" if timed else column["name"])
    if name == "metrics":
        columns += RATES
    parts = [
        f"SELECT {', '.join(columns)} FROM {view}_{slot} "
        f"WHERE (SELECT slot FROM projections WHERE name = '{name}') = '{slot}'"
        for slot in SLOTS
    ]
    op.execute(f"CREATE VIEW {view} AS {' UNION ALL '.join(parts)}")


def downgrade() -> None:
    for view in VIEWS:
        op.execute(f"DROP VIEW {view}")
        for slot in SLOTS:
            op.drop_table(f"{view}_{slot}")
    op.drop_table("projections")

"""The tables of the read models, for building statements. `migrations/readmodels` makes them; a test compares."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import BigInteger, Column, Integer, MetaData, PrimaryKeyConstraint, String, Table, Text

metadata = MetaData()
_Big = BigInteger().with_variant(Integer, "sqlite")
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
    "cpu_ms",
    "retries",
    "timeouts",
    "failures",
)

projections = Table(
    "projections",
    metadata,
    Column("name", String(50), primary_key=True),
    Column("slot", String(1), nullable=False),  # which tables are read
    Column("position", _Big, nullable=False),  # of the last event in them
    Column("event_time", String(27), nullable=False),  # of that event
    Column("building", _Big),  # position of the last event in the other tables, where they are being built
    Column("building_version", Integer),  # of the code that builds them
    Column("version", Integer, nullable=False),  # of the code that filled the tables that are read
    Column("kept_from", Text, nullable=False),  # JSON object, table -> time: earlier rows were dropped, and stay away
)


def _status(name: str) -> Table:
    texts = ("pipeline_name", "description", "status", "source_type", "sink_type", "owner")
    totals = ("generation", "total_records", "total_batches", "total_failures")
    return Table(
        name,
        metadata,
        Column("pipeline_id", String(200), primary_key=True),
        *(Column(text, Text, nullable=False) for text in texts),
        *(Column(total, _Big, nullable=False) for total in totals),
        Column("error_code", Text, nullable=False),
        Column("error_message", Text, nullable=False),
        Column("created_at", String(27), nullable=False),
        Column("updated_at", String(27), nullable=False),
        Column("version", _Big, nullable=False),  # sequence of the last event taken in
    )


def _metrics(name: str, grain: str) -> Table:
    return Table(
        name,
        metadata,
        Column("pipeline_id", String(200), nullable=False),
        Column(grain, String(27), nullable=False),
        *(Column(count, _Big, nullable=False) for count in COUNTS),
        PrimaryKeyConstraint("pipeline_id", grain),
    )


def _audit(name: str) -> Table:
    texts = ("type", "actor", "correlation_id", "causation_id", "summary", "hash")
    return Table(
        name,
        metadata,
        Column("position", _Big, primary_key=True, autoincrement=False),
        Column("event_id", String(64), nullable=False),
        Column("stream", String(200), nullable=False),
        Column("sequence", _Big, nullable=False),
        Column("time", String(27), nullable=False),
        *(Column(text, Text, nullable=False) for text in texts),
    )


_TABLES: Mapping[tuple[str, str], Table] = {
    (table.name[:-2], slot): table
    for slot in SLOTS
    for table in (
        _status(f"pipeline_status_{slot}"),
        _metrics(f"pipeline_metrics_minute_{slot}", "minute"),
        _metrics(f"pipeline_metrics_hourly_{slot}", "hour"),
        _audit(f"audit_log_{slot}"),
    )
}


def table(name: str, slot: str) -> Table:
    """One of the two tables of that name."""
    return _TABLES[name, slot]


def other(slot: str) -> str:
    """The slot that is not read."""
    return "b" if slot == "a" else "a"

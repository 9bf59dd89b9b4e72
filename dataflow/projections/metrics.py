"""Read model: what each pipeline did in every minute and every hour. Sums of the events, whole numbers only, so that
they are the same in whatever batches the events come."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from dataflow.domain import events as e
from dataflow.domain.record import EventRecord
from dataflow.journal.base import Entry
from dataflow.journal.sql_statements import time_text
from dataflow.projections.base import of_a_pipeline
from dataflow.projections.sql_tables import COUNTS, table

GRAINS: Mapping[str, tuple[str, int]] = {
    "pipeline_metrics_minute": ("minute", len("2026-01-31T23:59")),
    "pipeline_metrics_hourly": ("hour", len("2026-01-31T23")),
}
"""Table -> its column of time, and how much of a time's text it keeps."""

_REST = ":00:00Z"
_COUNTED = ("BatchIngested", "BatchProcessed", "RetryScheduled", "BatchTimedOut", "PipelineFailed")


def counts_of(record: EventRecord) -> Mapping[str, int]:
    """What the event adds to its pipeline's sums."""
    if record.type not in _COUNTED:
        return {}
    match e.unseal(record):
        case e.BatchIngested() as event:
            return {"records_read": event.record_count}
        case e.BatchProcessed() as event:
            return {
                "records_processed": event.success_count,
                "records_failed": event.failure_count,
                "records_filtered": event.counters.filtered,
                "records_dead_lettered": event.counters.dead_lettered,
                "bytes_read": event.counters.bytes_read,
                "batches": 1,
                "processing_ms": event.processing_time_ms,
                "cpu_ms": event.cpu_ms,
            }
        case e.RetryScheduled():
            return {"retries": 1}
        case e.BatchTimedOut():
            return {"timeouts": 1}
        case e.PipelineFailed():
            return {"failures": 1}
        case _:
            return {}


def begin_of(time: str, kept: int) -> str:
    """The minute or hour that the time is in, written as its first second."""
    return time[:kept] + _REST[kept - len("2026-01-31T23") :]


class MetricsModel:
    """`pipeline_metrics_minute` and `pipeline_metrics_hourly`; the views add `avg_batch_size` and `error_rate`."""

    name: Final = "metrics"
    version: Final = 1
    tables: Final = tuple(GRAINS)

    def fold(self, connection: Connection, slot: str, entries: Sequence[Entry], kept_from: Mapping[str, str]) -> None:
        """As `TableModel.fold`."""
        sums: dict[str, dict[tuple[str, str], Counter[str]]] = {name: defaultdict(Counter) for name in GRAINS}
        for entry in entries:
            if not of_a_pipeline(entry.record) or not (counts := counts_of(entry.record)):
                continue
            time = time_text(entry.record.time)
            for name, (_, kept) in GRAINS.items():
                begin = begin_of(time, kept)
                if begin >= kept_from.get(name, ""):
                    sums[name][entry.record.stream, begin].update(counts)
        for name, (grain, _) in GRAINS.items():
            if sums[name]:
                rows = [
                    {"pipeline_id": pipeline, grain: begin, **{count: found[count] for count in COUNTS}}
                    for (pipeline, begin), found in sums[name].items()
                ]
                _add(connection, name, slot, grain, rows)


def _add(connection: Connection, name: str, slot: str, grain: str, rows: list[dict[str, object]]) -> None:
    to = table(name, slot)
    inserting = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(to)
    sums = {count: to.c[count] + inserting.excluded[count] for count in COUNTS}
    connection.execute(inserting.on_conflict_do_update(index_elements=["pipeline_id", grain], set_=sums), rows)

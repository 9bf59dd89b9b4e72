"""Read model: where each pipeline stands, one row for each. Deleted ones stay, as `deleted`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from dataflow.domain import events as e
from dataflow.domain.record import EventRecord
from dataflow.domain.state import Status
from dataflow.domain.transitions import TABLE
from dataflow.errors import Corrupt
from dataflow.journal.base import Entry
from dataflow.journal.sql_statements import time_text
from dataflow.projections.base import of_a_pipeline
from dataflow.projections.sql_tables import table

Row = dict[str, Any]

_COUNTED_ELSEWHERE = ("BatchIngested", "CheckpointUpdated", "MetricsReported", "PipelinePlanned")


def row_after(row: Mapping[str, Any] | None, record: EventRecord) -> Row:
    """The row after this event; None is the row before the first. `Corrupt` where the event does not
    follow."""
    where = f"{record.stream}/{record.sequence}"
    before: Row = dict(row) if row else _empty(record.stream)
    if record.sequence != before["version"] + 1:
        raise Corrupt(f"event {before['version'] + 1} is expected next in the read model", where=where)
    status = TABLE[record.type].get(Status(before["status"]))
    if status is None:
        raise Corrupt(f"{record.type} cannot happen to a pipeline that is {before['status']}", where=where)
    changed = {} if record.type in _COUNTED_ELSEWHERE else _changes(before, e.unseal(record))
    at = time_text(record.time)
    created = before["created_at"] or at
    return {
        **before,
        **changed,
        "status": str(status),
        "created_at": created,
        "updated_at": at,
        "version": record.sequence,
    }


def _empty(pipeline: str) -> Row:
    texts = ("pipeline_name", "description", "source_type", "sink_type", "owner", "error_code", "error_message")
    totals = ("total_records", "total_batches", "total_failures", "version")
    return {
        "pipeline_id": pipeline,
        "status": str(Status.EMPTY),
        "generation": 1,
        **dict.fromkeys(texts, ""),
        **dict.fromkeys(totals, 0),
        "created_at": "",
        "updated_at": "",
    }


def _changes(row: Row, event: e.Event) -> Row:
    match event:
        case e.PipelineCreated():
            return {"pipeline_name": event.name, "description": event.description, **_kinds(event.spec)}
        case e.ConfigUpdated():
            spec = event.spec
            named = {"pipeline_name": str(spec["name"]), "description": str(spec.get("description", ""))}
            return {**named, **_kinds(spec), "generation": event.generation}
        case e.BatchProcessed():
            return {
                "total_records": row["total_records"] + event.success_count,
                "total_batches": row["total_batches"] + 1,
                "total_failures": row["total_failures"] + event.failure_count,
            }
        case e.RetryScheduled() | e.PipelineFailed():
            return {"error_code": event.error.code, "error_message": event.error.message}
        case e.PipelineStarted() | e.PipelineCompleted():
            return {"error_code": "", "error_message": ""}
        case e.PipelineReset():
            return {"error_code": "", "error_message": "", "generation": event.generation}
        case _:
            return {}


def _kinds(spec: Mapping[str, Any]) -> Row:
    sinks = dict.fromkeys(str(sink.get("type", "")) for sink in spec.get("sinks", ()))
    return {
        "source_type": str(spec.get("source", {}).get("type", "")),
        "sink_type": ",".join(sinks),
        "owner": str(spec.get("owner", "")),
    }


class StatusModel:
    """`pipeline_status`. `total_records`, `total_batches` and `total_failures` count all runs; the error is the latest
    one of the current run."""

    name: Final = "status"
    version: Final = 1
    tables: Final = ("pipeline_status",)

    def fold(self, connection: Connection, slot: str, entries: Sequence[Entry], kept_from: Mapping[str, str]) -> None:
        """As `TableModel.fold`; no row is ever too old."""
        records = [entry.record for entry in entries if of_a_pipeline(entry.record)]
        if not records:
            return
        rows = table("pipeline_status", slot)
        ids = list(dict.fromkeys(record.stream for record in records))
        known = {
            row["pipeline_id"]: dict(row)
            for row in connection.execute(select(rows).where(rows.c.pipeline_id.in_(ids))).mappings()
        }
        changed: dict[str, Row] = dict(known)
        for record in records:
            changed[record.stream] = row_after(changed.get(record.stream), record)
        if known:
            connection.execute(delete(rows).where(rows.c.pipeline_id.in_(list(known))))
        connection.execute(insert(rows), list(changed.values()))

"""Read model: everything that ever happened, one row for each event, with who did it and what it was in short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, insert

from dataflow.journal.base import Entry
from dataflow.journal.sql_statements import time_text
from dataflow.projections.sql_tables import table
from dataflow.projections.words import summary


class AuditModel:
    """`audit_log`: the events of all streams, also those of kinds this version does not know."""

    name: Final = "audit"
    version: Final = 1
    tables: Final = ("audit_log",)

    def fold(self, connection: Connection, slot: str, entries: Sequence[Entry], kept_from: Mapping[str, str]) -> None:
        """As `TableModel.fold`."""
        since = kept_from.get("audit_log", "")
        rows = [row for entry in entries if (row := row_of(entry))["time"] >= since]
        if rows:
            connection.execute(insert(table("audit_log", slot)), rows)


def row_of(entry: Entry) -> dict[str, Any]:
    """The event's row."""
    record = entry.record
    return {
        "position": entry.position,
        "event_id": record.id,
        "stream": record.stream,
        "sequence": record.sequence,
        "time": time_text(record.time),
        "type": record.type,
        "actor": record.actor,
        "correlation_id": record.correlation_id,
        "causation_id": record.causation_id,
        "summary": summary(record),
        "hash": record.hash,
    }

"""What is found by words: documents of pipelines, events and errors, and their mappings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from dataflow.journal.base import Entry
from dataflow.journal.sql_statements import time_text
from dataflow.projections.status import Row
from dataflow.projections.words import error_of, summary

KINDS: Final = ("pipelines", "events", "errors")
MAPPING: Final = 1
"""Rises with every change of the mappings: the indices are built anew then."""

_WORD: Final = {"type": "keyword", "ignore_above": 1024}
_TEXT: Final = {"type": "text"}
_TIME: Final = {"type": "date"}
_NUMBER: Final = {"type": "long"}

MAPPINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "pipelines": {
        "dynamic": False,
        "properties": {
            "pipeline": _WORD,
            "name": _WORD,
            "words": _TEXT,  # the name's parts, and everything else there is to find
            "description": _TEXT,
            "error": _TEXT,
            "status": _WORD,
            "source_type": _WORD,
            "sink_type": _WORD,
            "owner": _WORD,
            "updated_at": _TIME,
            "row": {"type": "object", "enabled": False},  # kept, not searched: what the next event is added to
        },
    },
    "events": {
        "dynamic": False,
        "properties": {
            "pipeline": _WORD,
            "position": _NUMBER,
            "sequence": _NUMBER,
            "time": _TIME,
            "type": _WORD,
            "actor": _WORD,
            "tags": _WORD,
            "correlation_id": _WORD,
            "words": _TEXT,
            "summary": _TEXT,
        },
    },
    "errors": {
        "dynamic": False,
        "properties": {
            "pipeline": _WORD,
            "position": _NUMBER,
            "time": _TIME,
            "type": _WORD,
            "code": _WORD,
            "where": _WORD,
            "words": _TEXT,
            "message": _TEXT,
        },
    },
}
SEARCHED: Final[Mapping[str, tuple[str, ...]]] = {
    "pipelines": ("words^3", "description^2", "error"),
    "events": ("words", "summary"),
    "errors": ("words", "message^2"),
}
"""Kind -> the fields that words are looked for in, with their weights."""


def parts(*texts: str) -> str:
    """Names as people search for them: whole, and cut at `_`, `-`, `.`, `/` and where small letters end."""
    cut = [re.sub(r"[-_./:]+|(?<=[a-z0-9])(?=[A-Z])", " ", text) for text in texts]
    return " ".join(dict.fromkeys(word for text in (*texts, *cut) for word in text.split()))


def pipeline_document(row: Row) -> dict[str, Any]:
    """Of a row of the status model."""
    kinds = (row["source_type"], row["sink_type"], row["owner"], row["status"])
    return {
        "pipeline": row["pipeline_id"],
        "name": row["pipeline_name"],
        "words": parts(row["pipeline_id"], row["pipeline_name"], *kinds),
        "description": row["description"],
        "error": f"{row['error_code']} {row['error_message']}".strip(),
        "status": row["status"],
        "source_type": row["source_type"],
        "sink_type": row["sink_type"].split(","),
        "owner": row["owner"],
        "updated_at": row["updated_at"],
        "row": row,
    }


def event_document(entry: Entry) -> dict[str, Any]:
    """Of any event."""
    record = entry.record
    return {
        "pipeline": record.stream,
        "position": entry.position,
        "sequence": record.sequence,
        "time": time_text(record.time),
        "type": record.type,
        "actor": record.actor,
        "tags": list(record.tags),
        "correlation_id": record.correlation_id,
        "words": parts(record.stream, record.type, record.actor),
        "summary": summary(record),
    }


def error_document(entry: Entry) -> dict[str, Any] | None:
    """Of an event that tells of an error, None for the others."""
    record = entry.record
    error = error_of(record)
    if error is None and record.type != "BatchTimedOut":
        return None
    told = error or {"code": "BATCH_TIMEOUT", "message": summary(record)}
    return {
        "pipeline": record.stream,
        "position": entry.position,
        "time": time_text(record.time),
        "type": record.type,
        "code": str(told.get("code", "")),
        "where": str(told.get("where", "")),
        "words": parts(record.stream, record.type, str(told.get("code", ""))),
        "message": str(told.get("message", "")),
    }

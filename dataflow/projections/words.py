"""Events in few words, for lists and for searching."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataflow.domain.record import EventRecord

WIDTH = 500


def gist(payload: Mapping[str, Any], width: int = 80) -> str:
    """The payload's plain values, `key=value`, cut to a width."""
    plain = [f"{key}={value}" for key, value in payload.items() if not isinstance(value, dict | list) and value != ""]
    text = " ".join(plain).replace("\n", " ")
    return text if len(text) <= width else text[: width - 3] + "..."


def error_of(record: EventRecord) -> Mapping[str, Any] | None:
    """The error that the event tells of, as it is stored."""
    error = record.payload.get("error")
    return error if isinstance(error, Mapping) else None


def summary(record: EventRecord) -> str:
    """The event in one line: its error, and its plain values. Definitions are left out: they are long."""
    error = error_of(record)
    said = gist(record.payload, WIDTH)
    if error is None:
        return said
    place = f" at {error['where']}" if error.get("where") else ""
    return f"{error.get('code', '')}{place}: {error.get('message', '')} {said}".strip()[:WIDTH]

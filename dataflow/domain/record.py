"""The envelope every event is stored in, and the hash chain that ties a stream's envelopes together.

The hash of a record is the SHA-256, in lower-case hexadecimal, of its canonical JSON: one object with all fields of
`EventRecord` but `hash`, in ASCII, without white space. Keys stand in code point order at every depth. In strings `"`
and `\\` are escaped by a backslash, the control characters that have a short form as `\\b \\t \\n \\f \\r`, all others
outside U+0020 to U+007E as `\\uxxxx` in lower case (surrogate pairs above the basic plane). Integers are digits; other
numbers the shortest text that reads back as the same IEEE 754 double, as Python's `repr` writes it (`1.0`, `1e+22`);
NaN and infinities do not occur. `time` is `YYYY-MM-DDTHH:MM:SS.ffffffZ`, always six digits; `tags` an array. The first
record of a stream has 64 zeros as `previous_hash`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from dataflow.domain.state import GENESIS

NAMESPACE = uuid5(NAMESPACE_URL, "urn:dataflow:event")
"""Event ids are UUIDs of version 5 in this namespace, named `stream/sequence`: the same event, the same id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """One stored event: what happened (`type`, `schema_version`, `payload`), where in which stream, when and by whom.

    `sequence` counts from 1 without gaps. `payload` is plain JSON. Empty ids mean there is none.
    """

    id: str
    stream: str
    sequence: int
    type: str
    schema_version: int
    time: datetime
    actor: str = "system"
    correlation_id: str = ""
    causation_id: str = ""
    tags: tuple[str, ...] = ()
    payload: Mapping[str, Any] = field(default_factory=dict)
    previous_hash: str = GENESIS
    hash: str = ""


def event_id(stream: str, sequence: int) -> str:
    """The id of that event."""
    return str(uuid5(NAMESPACE, f"{stream}/{sequence}"))


def canonical(record: EventRecord) -> bytes:
    """The bytes the hash is taken of; see the head of this module."""
    document = {f.name: getattr(record, f.name) for f in fields(record) if f.name != "hash"}
    document["time"] = record.time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
    document["tags"] = list(record.tags)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def digest(record: EventRecord) -> str:
    """The hash this record should have."""
    return sha256(canonical(record)).hexdigest()


def hashed(record: EventRecord) -> EventRecord:
    """The record with its hash filled in. `time` must be aware: ValueError."""
    if record.time.tzinfo is None:
        raise ValueError(f"the time of event {record.stream}/{record.sequence} has no time zone")
    return replace(record, hash=digest(record))


def verify(records: Iterable[EventRecord], previous_hash: str = GENESIS) -> int | None:
    """The sequence of the first record that does not fit, None if all do.

    A record fits if it is linked to the one before it (`previous_hash` for the first), follows it without a gap, and
    has the hash of its own content. The first record's sequence is taken as it comes.
    """
    expected: int | None = None
    for record in records:
        gap = expected is not None and record.sequence != expected
        if gap or record.previous_hash != previous_hash or record.hash != digest(record):
            return record.sequence
        previous_hash, expected = record.hash, record.sequence + 1
    return None

"""How the journal's records lie in Cassandra: their text, their buckets, what they are found by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from zlib import crc32

from dataflow.domain.record import EventRecord, canonical
from dataflow.errors import Corrupt
from dataflow.journal.base import Entry

STREAM_BUCKET = 1000
"""Events of one stream in one partition."""

LOG_BUCKET = 1000
"""Positions of the log in one partition. An append that begins in it lies in it whole."""

CHUNK = 10_000
"""Positions of the log whose events with one tag (type, actor, day) share a partition of the index."""

SHARDS = 16
"""Partitions of the streams' heads."""

DAYS = "days"
"""The facet whose chunks are not numbers of chunks but the days on which there are events (proleptic ordinals)."""


@dataclass(frozen=True, slots=True)
class LogRow:
    """One event in the log."""

    bucket: int
    position: int
    slot: int
    stream: str
    sequence: int
    text: str
    hash: str

    @classmethod
    def of(cls, bucket: int, position: int, slot: int, record: EventRecord) -> LogRow:
        text = canonical(record).decode("ascii")
        return cls(bucket, position, slot, record.stream, record.sequence, text, record.hash)

    @property
    def entry(self) -> Entry:
        return entry_of(self.position, self.stream, self.sequence, self.text, self.hash)


def entry_of(position: int, stream: str, sequence: int, text: str, hash: str) -> Entry:
    """The event as it was written: its text is what the hash was taken of (`dataflow.domain.record`), to the byte.

    Raises `Corrupt` where it is not, or where it lies in another event's place."""
    where = f"{stream}/{sequence}"
    try:
        if sha256(text.encode()).hexdigest() != hash:
            raise ValueError("it is not what its hash was taken of")
        document: dict[str, Any] = json.loads(text)
        document["time"] = datetime.fromisoformat(document["time"])
        document["tags"] = tuple(document["tags"])
        record = EventRecord(**document, hash=hash)
        if (record.stream, record.sequence) != (stream, sequence):
            raise ValueError(f"the event {record.stream}/{record.sequence} lies here")
    except (TypeError, ValueError, KeyError, AttributeError, UnicodeEncodeError) as error:
        raise Corrupt(f"the stored event cannot be read: {error}", where=where) from error
    return Entry(position, record)


def log_bucket(position: int) -> int:
    return (position - 1) // LOG_BUCKET


def stream_bucket(sequence: int) -> int:
    return (sequence - 1) // STREAM_BUCKET


def chunk_of(position: int) -> int:
    return (position - 1) // CHUNK


def shard_of(stream: str) -> int:
    return crc32(stream.encode()) % SHARDS


def facets(record: EventRecord) -> Iterator[str]:
    """What the event is indexed by."""
    yield from (facet("tag", tag) for tag in dict.fromkeys(record.tags))
    yield facet("type", record.type)
    yield facet("actor", record.actor)
    yield facet("day", str(day_of(record.time)))


def facet(kind: str, value: str) -> str:
    return f"{kind}/{value}"


def time_text(time: datetime) -> str:
    """Fixed width, so that text order is time order: 2026-01-31T23:59:59.123456Z. ValueError for a naive time."""
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone")
    return time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def day_of(time: datetime) -> int:
    """The day in UTC, as an ordinal. ValueError for a naive time."""
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone")
    return time.astimezone(UTC).toordinal()

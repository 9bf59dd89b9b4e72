"""The audit trail: has anything been edited, removed, inserted or reordered; and all of it, to take away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataflow.domain.record import EventRecord, canonical, verify
from dataflow.domain.state import GENESIS
from dataflow.errors import Corrupt
from dataflow.journal.base import Entry, Journal

EXPORTED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Broken:
    """The first place at which a stream is not what was written. `reason` is for people."""

    stream: str
    sequence: int
    reason: str


async def audit_verify(journal: Journal, stream: str) -> Broken | None:
    """Walk the stream's chain of hashes; the first broken place, None where the stream is whole (or unknown).

    Finds an edit of any field of an event, an event taken out, put in or moved, and events cut off at the end (the
    stream's head is noted apart from its events). Whoever can rewrite events, every later hash and the head leaves a
    whole chain: compare the head's hash with one kept elsewhere (an export, a log) to find that out."""
    sequence, last_hash = 0, GENESIS
    while True:
        walked = sequence
        try:
            async for record in journal.read(stream, after=sequence):
                sequence += 1
                if reason := _fault(record, stream, sequence, last_hash):
                    return Broken(stream, sequence, reason)
                last_hash = record.hash
        except Corrupt:
            return await _unreadable(journal, stream, sequence)
        head = await journal.head(stream)
        noted = (head.sequence, head.hash) if head else (0, GENESIS)
        if noted == (sequence, last_hash):
            return None
        if noted[0] <= sequence:
            return Broken(stream, max(sequence, 1), f"the stream is noted to end at {noted[0]} with another hash")
        if walked == sequence and walked:  # nothing more came: it was not appended since the last look
            return Broken(stream, sequence + 1, f"the stream should go on to {noted[0]}: its end is missing")
        if not sequence and not await _appended(journal, stream):
            return Broken(stream, 1, f"the stream should go on to {noted[0]}: its end is missing")


async def _appended(journal: Journal, stream: str) -> bool:
    """Whether the stream has a first event by now."""
    async for _ in journal.read(stream, limit=1):
        return True
    return False


async def audit_verify_all(journal: Journal) -> list[Broken]:
    """The first broken place of every stream that has one, and of the reading order over all streams. Where the end of
    that is gone, the stream is empty and the sequence is the first missing position. Others may append meanwhile."""
    found = [await audit_verify(journal, stream) for stream in await journal.streams()]
    broken = [one for one in found if one is not None]
    out_of_order = await _reading_order(journal, broken)
    return [*broken, out_of_order] if out_of_order and out_of_order not in broken else broken


async def _reading_order(journal: Journal, broken: Sequence[Broken]) -> Broken | None:
    position = 0
    reached: dict[str, int] = {}
    try:
        async for entry in _everything(journal):
            record = entry.record
            if entry.position != position + 1:
                return Broken(record.stream, record.sequence, f"nothing is left at position {position + 1} before it")
            if record.sequence != reached.get(record.stream, 0) + 1:
                return Broken(record.stream, record.sequence, f"it has position {position + 1}, which is not its own")
            position, reached[record.stream] = entry.position, record.sequence
    except Corrupt as error:
        if broken:
            return None  # named as the first broken place of its stream
        # A backend that keeps the reading order apart from the streams: the damage is there alone.
        return await _unreadable_position(journal, position, error)
    end = await journal.end()
    if position < end and not await journal.tail(position, 1):
        return Broken("", position + 1, f"events up to position {end} are noted")
    return None if position <= end else Broken("", end + 1, f"events up to position {end} are noted")


async def _unreadable_position(journal: Journal, after: int, error: Corrupt) -> Broken:
    """Which position cannot be read: the journal reads many at once and only said that one of them is damaged."""
    while True:
        try:
            entries = await journal.tail(after, 1)
        except Corrupt as one:
            error = one
            break
        if not entries:
            break
        after = entries[0].position
    return Broken("", after + 1, f"the event at this position cannot be read: {error}")


def _fault(record: EventRecord, stream: str, sequence: int, previous_hash: str) -> str:
    if record.stream != stream:
        return f"an event of the stream {record.stream!r} is here"
    if record.sequence != sequence:
        return f"the event is missing: {record.sequence} comes next"
    if record.previous_hash != previous_hash:
        return "the event does not follow the one before it: one of them was changed or exchanged"
    if verify([record], previous_hash) is not None:
        return "the event is not what its hash was taken of"
    return ""


async def _unreadable(journal: Journal, stream: str, after: int) -> Broken:
    """Which event cannot be read: the journal reads many at once and only said that one of them is damaged."""
    while True:
        try:
            found = [record async for record in journal.read(stream, after=after, limit=1)]
        except Corrupt as error:
            return Broken(stream, after + 1, f"the event cannot be read: {error.message}")
        if not found or found[0].sequence != after + 1:
            return Broken(stream, after + 1, "the event is missing")
        after += 1


async def export_jsonl(journal: Journal, write: Callable[[bytes], object], stream: str | None = None) -> int:
    """Write one line for each event of the stream in order, or of all streams in the reading order; returns how many.

    A line is the event's canonical JSON (`dataflow.domain.record`) with `hash` among its keys, so the hash can be
    recomputed from the line alone: take the key `hash` out, write it canonically again, SHA-256."""
    count = 0
    records = journal.read(stream) if stream is not None else (entry.record async for entry in _everything(journal))
    async for record in records:
        write(jsonl(record))
        count += 1
    return count


async def export_parquet(journal: Journal, path: Path, stream: str | None = None) -> int:
    """The same as one Parquet file with the columns of `dataflow.journal.archive.SCHEMA`; of a single stream the
    positions are its sequences. Returns how many events."""
    from pyarrow.parquet import ParquetWriter

    from dataflow.journal.archive import frame

    count = 0
    entries = _everything(journal) if stream is None else _numbered(journal, stream)
    with ParquetWriter(path, frame([]).to_arrow().schema, compression="zstd") as writer:
        page: list[Entry] = []
        async for entry in entries:
            page.append(entry)
            count += 1
            if len(page) == EXPORTED_AT_ONCE * 20:
                await asyncio.to_thread(writer.write_table, frame(page).to_arrow())
                page = []
        if page:
            await asyncio.to_thread(writer.write_table, frame(page).to_arrow())
    return count


async def _numbered(journal: Journal, stream: str) -> AsyncIterator[Entry]:
    async for record in journal.read(stream):
        yield Entry(record.sequence, record)


def jsonl(record: EventRecord) -> bytes:
    """The record as a line of JSON, its newline included."""
    document = {**json.loads(canonical(record)), "hash": record.hash}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


async def _everything(journal: Journal) -> AsyncIterator[Entry]:
    position = 0
    while entries := await journal.tail(position, EXPORTED_AT_ONCE):
        for entry in entries:
            yield entry
        position = entries[-1].position

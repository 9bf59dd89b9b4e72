"""The journal as Parquet files: a copy for ever, read through the same interface as the journal itself.

A folder holds files of consecutive positions and `manifest.json`, which lists them with their SHA-256, how far they
reach, and the head of every stream then. A file counts once the manifest names it; the manifest is replaced in one
act. So archiving goes on where it was killed, and what a half-written file holds is never read.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, Self

import polars as pl

from dataflow.domain.record import EventRecord, verify
from dataflow.domain.state import GENESIS
from dataflow.errors import Corrupt, Rejected
from dataflow.journal.base import Entry, Head, Journal, Page, Snapshot, decode_cursor, page_of

FILE_ROWS = 50_000
"""Events of one file at most: what archiving holds in memory."""

PAGE = 1000
MANIFEST = "manifest.json"
SCHEMA = pl.Schema(
    {
        "position": pl.Int64(),
        "stream": pl.String(),
        "sequence": pl.Int64(),
        "id": pl.String(),
        "type": pl.String(),
        "schema_version": pl.Int64(),
        "time": pl.Datetime("us", "UTC"),
        "actor": pl.String(),
        "correlation_id": pl.String(),
        "causation_id": pl.String(),
        "tags": pl.List(pl.String()),
        "payload": pl.String(),  # a JSON object: payloads of different types have no columns in common
        "previous_hash": pl.String(),
        "hash": pl.String(),
    }
)


def frame(entries: Sequence[Entry]) -> pl.DataFrame:
    """Entries as rows of `SCHEMA`."""
    rows = [
        {
            **{name: getattr(entry.record, name) for name in SCHEMA if name not in ("position", "payload", "tags")},
            "position": entry.position,
            "tags": list(entry.record.tags),
            "payload": json.dumps(entry.record.payload, separators=(",", ":"), allow_nan=False),
        }
        for entry in entries
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def _entry(row: Mapping[str, Any]) -> Entry:
    try:
        record = EventRecord(
            **{name: row[name] for name in SCHEMA if name not in ("position", "payload", "tags")},
            tags=tuple(row["tags"]),
            payload=json.loads(row["payload"]),
        )
    except (TypeError, ValueError) as error:
        where = f"{row.get('stream')}/{row.get('sequence')}"
        raise Corrupt(f"the archived event cannot be read: {error}", where=where) from error
    return Entry(row["position"], record)


@dataclass(slots=True)
class Manifest:
    """What an archive holds. `files`: name, first and last position, SHA-256; `heads`: sequence and hash by stream."""

    end: int = 0
    files: list[tuple[str, int, int, str]] = field(default_factory=list)
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Of the folder, empty where there is none. `Corrupt` where it is no manifest."""
        try:
            stored = json.loads((folder / MANIFEST).read_bytes())
            files = [(str(n), int(a), int(b), str(h)) for n, a, b, h in stored["files"]]
            return cls(int(stored["end"]), files, {s: (int(n), str(h)) for s, (n, h) in stored["heads"].items()})
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"the archive's manifest cannot be read: {error}", where=str(folder / MANIFEST)) from error

    def write(self, folder: Path) -> None:
        """In place of the one before, in one act."""
        text = json.dumps({"end": self.end, "files": self.files, "heads": self.heads}, sort_keys=True)
        _published(folder / MANIFEST, lambda path: path.write_text(text))


async def archive(journal: Journal, folder: Path, on_progress: Callable[[int, int], object] | None = None) -> int:
    """Copy what the archive does not hold yet, and return the position it reaches now. Every stream's chain of hashes
    is checked on the way: `Corrupt` names the first event that is not what was written, and nothing after it is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = await asyncio.to_thread(Manifest.read, folder)
    end = await journal.end()
    while manifest.end < end:
        entries: list[Entry] = []
        while len(entries) < FILE_ROWS:
            after = manifest.end + len(entries)
            page = await journal.tail(after, min(PAGE, FILE_ROWS - len(entries)))
            if not page:
                break
            if page[0].position != after + 1 or page[-1].position != after + len(page):
                raise Corrupt(f"the journal's reading order has a hole behind {after}")
            entries += page
        if not entries:
            raise Corrupt(f"the journal ends at {manifest.end}, it should go on to {end}")
        await asyncio.to_thread(_add, folder, manifest, entries)
        if on_progress:
            on_progress(manifest.end, end)
    return manifest.end


def _add(folder: Path, manifest: Manifest, entries: Sequence[Entry]) -> None:
    for entry in entries:
        record = entry.record
        sequence, last = manifest.heads.get(record.stream, (0, GENESIS))
        if record.sequence != sequence + 1 or verify([record], last) is not None:
            raise Corrupt("the event is not what was written", where=f"{record.stream}/{record.sequence}")
        manifest.heads[record.stream] = (record.sequence, record.hash)
    first, last_position = entries[0].position, entries[-1].position
    name = f"events-{first:015d}-{last_position:015d}.parquet"
    rows = frame(entries)
    _published(folder / name, lambda path: rows.write_parquet(path, compression="zstd", row_group_size=10_000))
    manifest.files.append((name, first, last_position, hashlib.sha256((folder / name).read_bytes()).hexdigest()))
    manifest.end = last_position
    manifest.write(folder)


def _published(path: Path, write: Callable[[Path], object]) -> None:
    """Written beside, forced to the disk, then put in place."""
    beside = path.with_name(f".{path.name}.new")
    write(beside)
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class ArchiveJournal:
    """`Journal` over an archive's folder, for reading. Entering checks every file against the manifest: `Corrupt` where
    one was changed or is missing, `Rejected` where there is no archive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._manifest = Manifest()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._open)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Nothing to release."""

    def _open(self) -> None:
        if not (self.folder / MANIFEST).is_file():
            raise Rejected("there is no archive here", code="NOT_FOUND", where=str(self.folder))
        self._manifest = Manifest.read(self.folder)
        after = 0
        for name, first, last, digest in self._manifest.files:
            path = self.folder / name
            if first != after + 1 or not path.is_file():
                raise Corrupt(f"events {after + 1} to {last} are missing from the archive", where=str(path))
            if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                raise Corrupt("the file is not what was archived", where=str(path))
            after = last

    def _scan(self, first: int = 1, last: int | None = None) -> pl.LazyFrame:
        """The files that may hold positions from `first` to `last`."""
        files = [
            self.folder / name
            for name, begins, ends, _ in self._manifest.files
            if ends >= first and (last is None or begins <= last)
        ]
        return pl.scan_parquet(files) if files else pl.LazyFrame(schema=SCHEMA)

    async def _ask(self, found: pl.LazyFrame) -> list[Entry]:
        rows = await asyncio.to_thread(found.collect)
        return [_entry(row) for row in rows.iter_rows(named=True)]

    async def read(
        self, stream: str, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> AsyncGenerator[EventRecord, None]:
        left, column = limit, pl.col("sequence")
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            wanted = (pl.col("stream") == stream) & (column > after)
            if upto is not None:
                wanted &= column <= upto
            page = await self._ask(self._scan().filter(wanted).sort("sequence").head(size))
            for entry in page:
                yield entry.record
            if len(page) < size:
                return
            after = page[-1].record.sequence
            left = None if left is None else left - size

    async def last(self, stream: str) -> EventRecord | None:
        found = await self._ask(self._scan().filter(pl.col("stream") == stream).sort("sequence").tail(1))
        return found[0].record if found else None

    async def find(self, event_id: str) -> Entry | None:
        found = await self._ask(self._scan().filter(pl.col("id") == event_id).head(1))
        return found[0] if found else None

    async def query(
        self,
        *,
        stream: str | None = None,
        tag: str | None = None,
        type: str | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
        newest_first: bool = False,
    ) -> Page:
        place, position = decode_cursor(after), pl.col("position")
        found = self._scan()
        if place is not None:
            found = (
                self._scan(last=place).filter(position < place)
                if newest_first
                else self._scan(place + 1).filter(position > place)
            )
        for name, value in (("stream", stream), ("type", type), ("actor", actor)):
            if value is not None:
                found = found.filter(pl.col(name) == value)
        if tag is not None:
            found = found.filter(pl.col("tags").list.contains(tag))
        if since is not None:
            found = found.filter(pl.col("time") >= since)
        if until is not None:
            found = found.filter(pl.col("time") < until)
        return page_of(await self._ask(found.sort("position", descending=newest_first).head(limit + 1)), limit)

    async def by_tag(self, tag: str, after_position: int = 0, limit: int = 500) -> list[Entry]:
        wanted = (pl.col("position") > after_position) & pl.col("tags").list.contains(tag)
        return await self._ask(self._scan(after_position + 1).filter(wanted).sort("position").head(limit))

    async def tail(self, after_position: int = 0, limit: int = 500) -> list[Entry]:
        last = after_position + limit  # positions have no gaps
        wanted = pl.col("position").is_between(after_position + 1, last)
        return await self._ask(self._scan(after_position + 1, last).filter(wanted).sort("position"))

    async def end(self) -> int:
        return self._manifest.end

    async def head(self, stream: str) -> Head | None:
        noted = self._manifest.heads.get(stream)
        return None if noted is None else Head(*noted)

    async def streams(self) -> list[str]:
        return sorted(self._manifest.heads)

    async def latest_snapshot(self, stream: str, at_or_before: int | None = None) -> Snapshot | None:
        """None: an archive holds events only, and folding them gives the same."""
        return None

    async def append(self, stream: str, expected_sequence: int, records: Sequence[EventRecord]) -> None:
        """`Rejected`: an archive is only read."""
        self._refuse()

    async def snapshot(self, stream: str, sequence: int, state: Mapping[str, Any]) -> None:
        """`Rejected`: an archive is only read."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise Rejected("an archive of the journal is only read", code="READ_ONLY", where=str(self.folder))

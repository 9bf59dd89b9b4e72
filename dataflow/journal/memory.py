"""The journal in this process's memory: for tests, and for trying things out. It forgets everything at the end."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from dataflow.domain.record import EventRecord
from dataflow.errors import Conflict
from dataflow.journal.base import (
    Entry,
    Head,
    Page,
    Snapshot,
    check_records,
    decode_cursor,
    outdated,
    page_of,
    remaining,
)


@dataclass(slots=True)
class MemoryStore:
    """What is stored. Several `MemoryJournal` objects may share it, as several processes share a database."""

    entries: list[Entry] = field(default_factory=list)
    streams: dict[str, list[EventRecord]] = field(default_factory=dict)
    snapshots: dict[str, dict[int, str]] = field(default_factory=dict)


class MemoryJournal:
    """`Journal` over a `MemoryStore`, its own one by default. Payloads and states are copied through JSON, as any other
    backend does it."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def append(self, stream: str, expected_sequence: int, records: Sequence[EventRecord]) -> None:
        check_records(stream, expected_sequence, records)
        known = self.store.streams.get(stream, [])
        stored = [record.hash for record in known[expected_sequence : expected_sequence + len(records)]]
        new = [_copied(r) for r in remaining(stream, expected_sequence, records, await self.head(stream), stored)]
        # No await from here on: the whole append is one step of the event loop.
        if new:
            self.store.streams.setdefault(stream, []).extend(new)
        for record in new:
            self.store.entries.append(Entry(len(self.store.entries) + 1, record))

    async def read(
        self, stream: str, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> AsyncGenerator[EventRecord, None]:
        end = None if limit is None else after + limit
        if upto is not None:
            end = upto if end is None else min(upto, end)
        for record in self.store.streams.get(stream, [])[after:end]:
            yield record

    async def last(self, stream: str) -> EventRecord | None:
        known = self.store.streams.get(stream)
        return known[-1] if known else None

    async def find(self, event_id: str) -> Entry | None:
        return next((entry for entry in self.store.entries if entry.record.id == event_id), None)

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
        place = decode_cursor(after)

        def wanted(entry: Entry) -> bool:
            record = entry.record
            return (
                (stream is None or record.stream == stream)
                and (tag is None or tag in record.tags)
                and (type is None or record.type == type)
                and (actor is None or record.actor == actor)
                and (since is None or record.time >= since)
                and (until is None or record.time < until)
            )

        entries = self.store.entries
        candidates: Iterator[Entry]
        if newest_first:
            candidates = reversed(entries if place is None else entries[: max(place - 1, 0)])
        else:
            candidates = iter(entries[place or 0 :])
        return page_of([entry for entry in candidates if wanted(entry)][: limit + 1], limit)

    async def by_tag(self, tag: str, after_position: int = 0, limit: int = 500) -> list[Entry]:
        return [entry for entry in self.store.entries[after_position:] if tag in entry.record.tags][:limit]

    async def tail(self, after_position: int = 0, limit: int = 500) -> list[Entry]:
        return self.store.entries[after_position : after_position + limit]

    async def end(self) -> int:
        return len(self.store.entries)

    async def head(self, stream: str) -> Head | None:
        record = await self.last(stream)
        return Head(record.sequence, record.hash) if record else None

    async def streams(self) -> list[str]:
        return sorted(self.store.streams)

    async def snapshot(self, stream: str, sequence: int, state: Mapping[str, Any]) -> None:
        if not 0 < sequence <= len(self.store.streams.get(stream, [])):
            raise Conflict("there is no such event to take a snapshot of", where=f"{stream}/{sequence}")
        kept = self.store.snapshots.setdefault(stream, {})
        kept[sequence] = json.dumps(state, allow_nan=False)
        for old in outdated(list(kept)):
            del kept[old]

    async def latest_snapshot(self, stream: str, at_or_before: int | None = None) -> Snapshot | None:
        kept = self.store.snapshots.get(stream, {})
        found = max((n for n in kept if at_or_before is None or n <= at_or_before), default=None)
        return None if found is None else Snapshot(stream, found, json.loads(kept[found]))

    async def close(self) -> None:
        """Nothing to release; the store keeps its events for other handles."""


def _copied(record: EventRecord) -> EventRecord:
    return replace(record, payload=json.loads(json.dumps(record.payload, allow_nan=False)))

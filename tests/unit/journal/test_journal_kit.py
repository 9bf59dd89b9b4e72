"""Every backend passes the kit, and the kit catches journals that are broken on purpose."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest

from dataflow.domain.record import EventRecord
from dataflow.errors import Conflict
from dataflow.journal import Journal, MemoryJournal, Page, open_journal
from dataflow.journal.base import Entry, Snapshot
from dataflow.journal.memory import MemoryStore
from dataflow.testing import journal_kit as kit


class Memory:
    """`open_journal` for journals in memory: handles of one name share a store."""

    def __init__(self, journal=MemoryJournal):
        self.stores = {}
        self.journal = journal

    def __call__(self, store: str) -> AbstractAsyncContextManager[Journal]:
        return self.journal(self.stores.setdefault(store, MemoryStore()))


@pytest.fixture(params=["memory", "sqlite"])
def backend(request, tmp_path):
    return Memory() if request.param == "memory" else lambda name: open_journal(f"sqlite:///{tmp_path}/{name}.db")


@pytest.mark.parametrize("check", kit.CHECKS, ids=lambda check: check.__name__)
async def test_backend_passes(backend, check):
    await check(backend)


def test_all_checks_are_listed():
    named = {name for name in dir(kit) if name.startswith("check_")} - {"check_acknowledged"}
    assert {check.__name__ for check in kit.CHECKS} == named


class NumberedAtBegin(MemoryJournal):
    """Positions are given out when a transaction begins, as BIGSERIAL does, and shown when it commits."""

    taken: dict[int, int] = {}  # noqa: RUF012

    async def append(self, stream, expected_sequence, records):
        key = id(self.store)
        first = self.taken.get(key, 0) + 1
        self.taken[key] = first + len(records) - 1
        for _ in range(first % 4):
            await asyncio.sleep(0)
        before = len(self.store.entries)
        await super().append(stream, expected_sequence, records)
        added = [replace(e, position=first + n) for n, e in enumerate(self.store.entries[before:])]
        self.store.entries[before:] = added

    async def tail(self, after_position=0, limit=500):
        behind = [e for e in self.store.entries if e.position > after_position]
        return sorted(behind, key=lambda e: e.position)[:limit]

    async def by_tag(self, tag, after_position=0, limit=500):
        return await self.tail(after_position, limit)


class Repeating(MemoryJournal):
    """Not idempotent: what is there already is a conflict."""

    async def append(self, stream: str, expected_sequence: int, records: Sequence[EventRecord]) -> None:
        if expected_sequence < len(self.store.streams.get(stream, [])):
            raise Conflict("taken")
        await super().append(stream, expected_sequence, records)


class LastWins(MemoryJournal):
    """No compare-and-set: whoever comes last has the place."""

    async def append(self, stream, expected_sequence, records):
        known = self.store.streams.get(stream, [])
        if [r.hash for r in known[expected_sequence:]] != [r.hash for r in records]:
            del known[expected_sequence:]
        await super().append(stream, expected_sequence, records)


class HalfAppends(MemoryJournal):
    """Not atomic: records before the refused one stay."""

    async def append(self, stream, expected_sequence, records):
        for n, record in enumerate(records):
            await super().append(stream, expected_sequence + n, [record])


class SkippingPages(MemoryJournal):
    """The cursor is one too far."""

    async def query(self, **conditions):
        page = await super().query(**conditions)
        return page if page.cursor is None else Page(page.entries, f"p{int(page.cursor[1:]) + 1}")


class InclusiveUntil(MemoryJournal):
    async def query(self, *, until=None, **conditions):
        return await super().query(until=until and until.replace(microsecond=until.microsecond + 1), **conditions)


class DeletingOnSnapshot(MemoryJournal):
    """As the original platform did: a snapshot takes the events before it away."""

    async def snapshot(self, stream, sequence, state):
        await super().snapshot(stream, sequence, state)
        self.store.streams[stream] = [r for r in self.store.streams[stream] if r.sequence > sequence - 500]


class KeepingAllSnapshots(MemoryJournal):
    async def latest_snapshot(self, stream: str, at_or_before: int | None = None) -> Snapshot | None:
        found = await super().latest_snapshot(stream, at_or_before)
        if found is None and at_or_before is not None and at_or_before >= 100:
            return Snapshot(stream, at_or_before // 100 * 100, {})
        return found


class RoundingTimes(MemoryJournal):
    """Keeps milliseconds, as some databases do: and the hash no longer fits."""

    async def read(self, stream, **bounds) -> AsyncGenerator[EventRecord, None]:
        async for record in super().read(stream, **bounds):
            yield replace(record, time=record.time.replace(microsecond=record.time.microsecond // 1000 * 1000))


class ForgettingAtClose(MemoryJournal):
    async def close(self):
        self.store.streams.clear()
        self.store.entries.clear()


class TagsOutOfOrder(MemoryJournal):
    async def by_tag(self, tag: str, after_position: int = 0, limit: int = 500) -> list[Entry]:
        return list(reversed(await super().by_tag(tag, after_position, limit)))


BROKEN = {
    NumberedAtBegin: kit.check_reading_order,
    Repeating: kit.check_repeated_append,
    LastWins: kit.check_two_writers,
    HalfAppends: kit.check_refusals,
    SkippingPages: kit.check_pages,
    InclusiveUntil: kit.check_queries,
    DeletingOnSnapshot: kit.check_snapshots,
    KeepingAllSnapshots: kit.check_snapshots,
    RoundingTimes: kit.check_append_and_read,
    ForgettingAtClose: kit.check_closing,
    TagsOutOfOrder: kit.check_reading_order,
}


@pytest.mark.parametrize(("journal", "check"), BROKEN.items(), ids=lambda each: each.__name__)
async def test_kit_catches(journal, check):
    with pytest.raises((AssertionError, Conflict)):
        await check(Memory(journal))


async def test_whole_kit_at_once():
    await kit.exercise_journal(Memory())

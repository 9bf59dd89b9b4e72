"""What every journal must do, as functions to call: `await exercise_journal(open_journal)`.

`open_journal(store)` opens a handle on the store of that name: the same name is the same store (two handles stand for
two processes), a name not used before is an empty store. Each check takes a store of its own and raises AssertionError
with what went wrong. `CHECKS` are the single checks, for a test runner that wants to name them.

Outside `exercise_journal` stands the kill: run `append_and_acknowledge` in a process of its own, `kill -9` it, and give
what it acknowledged to `check_acknowledged`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

from dataflow.domain.events import ConfigUpdated, Event, PipelinePaused, PipelineReset, seal
from dataflow.domain.record import EventRecord, verify
from dataflow.domain.state import GENESIS
from dataflow.errors import Conflict, Corrupt, DataFlowError, Rejected
from dataflow.journal.base import MILESTONE, Entry, Journal

OpenJournal = Callable[[str], AbstractAsyncContextManager[Journal]]
Check = Callable[[OpenJournal], Awaitable[None]]

START = datetime(2026, 1, 31, 23, 59, 58, 123456, tzinfo=UTC)
AWKWARD: Mapping[str, Any] = {
    "text": "naïve 数据 \U0001f4be \x00 \u2028 ' \" \\",
    "big": 2**63 + 1,
    "small": 5e-324,
    "float": 0.1,
    "whole": 1.0,
    "nested": {"list": [1, [None, True], {}], "": ""},
}
"""A payload that careless storage changes: and with it the hash."""


class Writing:
    """The writer of one stream: seals events behind its last record, one second apart."""

    def __init__(self, stream: str, sequence: int = 0, last_hash: str = GENESIS) -> None:
        self.stream = stream
        self.sequence = sequence
        self.hash = last_hash

    def next(self, *events: Event, actor: str = "kit", zone: timezone = UTC) -> tuple[EventRecord, ...]:
        """Records for these events; the writer goes on behind them."""
        records: list[EventRecord] = []
        for event in events:
            time = (START + timedelta(seconds=self.sequence)).astimezone(zone)
            sealed = seal(
                [event],
                stream=self.stream,
                after_sequence=self.sequence,
                previous_hash=self.hash,
                time=time,
                actor=actor,
                correlation_id=f"correlation-{self.sequence}",
                causation_id="cause",
            )
            records.extend(sealed)
            self.sequence, self.hash = sealed[-1].sequence, sealed[-1].hash
        return tuple(records)

    def some(self, count: int, actor: str = "kit") -> tuple[EventRecord, ...]:
        """`count` records of no particular meaning."""
        return self.next(*(PipelinePaused(reason=f"{self.stream} {n}") for n in range(count)), actor=actor)


def expect(truth: object, message: str) -> None:
    """AssertionError unless it holds; kept where Python runs with -O."""
    if not truth:
        raise AssertionError(message)


@asynccontextmanager
async def refusing(kind: type[DataFlowError], what: str) -> AsyncIterator[None]:
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{what} was not refused by {kind.__name__}")


async def all_of(journal: Journal, stream: str, **bounds: Any) -> list[EventRecord]:
    return [record async for record in journal.read(stream, **bounds)]


async def check_append_and_read(open_journal: OpenJournal) -> None:
    """What was appended comes back equal and in order, through another handle and after closing, too."""
    one, other = Writing("one"), Writing("other")
    first = one.next(ConfigUpdated(spec=AWKWARD, generation=1), PipelineReset(from_start=True, generation=2))
    second = one.next(*[PipelinePaused(reason="p")] * 8, zone=timezone(timedelta(hours=5, minutes=30)))
    async with open_journal("append") as journal, open_journal("append") as again:
        expect(await journal.last("one") is None, "an unknown stream has a last event")
        expect(await journal.head("one") is None, "an unknown stream has a head")
        expect(await all_of(journal, "one") == [], "an unknown stream has events")
        expect(await journal.end() == 0, "an empty journal does not end at position 0")
        await journal.append("one", 0, first)
        await again.append("one", 2, second)
        await journal.append("other", 0, other.some(1))
    async with open_journal("append") as journal:
        records = [*first, *second]
        expect(await all_of(journal, "one") == records, "the records read are not those appended")
        expect(verify(await all_of(journal, "one")) is None, "the chain of hashes is broken by storing")
        expect(await all_of(journal, "one", after=3, upto=6) == records[3:6], "after=3, upto=6 is not 4, 5, 6")
        expect(await all_of(journal, "one", after=3, limit=2) == records[3:5], "after=3, limit=2 is not 4, 5")
        expect(await all_of(journal, "one", limit=0) == [], "limit=0 gives records")
        expect(await all_of(journal, "one", after=10) == [], "there are records behind the last")
        expect(await journal.last("one") == records[-1], "last is not the last record")
        head = await journal.head("one")
        expect(head and (head.sequence, head.hash) == (10, records[-1].hash), "the head is not the last record's")
        expect(await journal.streams() == ["one", "other"], "the streams are not one, other")
        found = await journal.find(records[4].id)
        expect(found and found.record == records[4] and found.position == 5, "an event is not found by its id")
        expect(await journal.find("no such id") is None, "an unknown id is found")
        expect(await journal.end() == 11, "11 events do not end at position 11")


async def check_repeated_append(open_journal: OpenJournal) -> None:
    """The same records again are a success without effect, however they are cut this time."""
    writer = Writing("s")
    records = writer.some(6)
    async with open_journal("repeat") as journal:
        await journal.append("s", 0, records[:4])
        for _ in range(2):
            await journal.append("s", 0, records[:4])
        await journal.append("s", 1, records[1:3])
        await journal.append("s", 2, records[2:])
        await journal.append("s", 0, records)
        await journal.append("s", 6, [])
        expect(await all_of(journal, "s") == list(records), "appending again changed the stream")
        expect([e.record for e in await journal.tail()] == list(records), "appending again changed the reading order")


async def check_refusals(open_journal: OpenJournal) -> None:
    """Other records in a place that is taken, gaps and broken chains are refused, and leave nothing behind."""
    writer = Writing("s")
    records = writer.some(3)
    rival = Writing("s", 1, records[0].hash).next(*[PipelineReset(from_start=False, generation=1)] * 4)
    async with open_journal("refuse") as journal:
        await journal.append("s", 0, records)
        async with refusing(Conflict, "another record in a place that is taken"):
            await journal.append("s", 1, rival)
        async with refusing(Conflict, "another first record"):
            await journal.append("s", 0, Writing("s").next(PipelineReset(from_start=False, generation=1)))
        async with refusing(Conflict, "a gap"):
            await journal.append("s", 4, Writing("s", 4, records[2].hash).some(1))
        async with refusing(Conflict, "a gap before an empty list"):
            await journal.append("s", 4, [])
        async with refusing(Conflict, "a record of another sequence"):
            await journal.append("s", 3, Writing("s", 4, records[2].hash).some(1))
        async with refusing(Corrupt, "a record that is not chained to the last one"):
            await journal.append("s", 3, Writing("s", 3, GENESIS).some(1))
        async with refusing(Corrupt, "a good record with one behind it that is not chained to it"):
            good = Writing("s", 3, records[2].hash).some(1)
            await journal.append("s", 3, [*good, *Writing("s", 4, GENESIS).some(1)])
        async with refusing(Rejected, "a record of another stream"):
            await journal.append("s", 3, Writing("t", 3, records[2].hash).some(1))
        expect(await all_of(journal, "s") == list(records), "a refused append left something behind")
        expect(await journal.end() == 3, "a refused append took a position")
        expect(await journal.streams() == ["s"], "a refused append left a stream behind")


async def check_two_writers(open_journal: OpenJournal) -> None:
    """Two writers at one place, again and again: exactly one wins, the other gets its Conflict."""
    async with open_journal("race") as left, open_journal("race") as right:
        sequence, last = 0, GENESIS
        for n in range(20):
            rivals = [Writing("s", sequence, last).some(2, actor=side) for side in ("left", "right")]
            outcomes = await asyncio.gather(
                left.append("s", sequence, rivals[n % 2]),
                right.append("s", sequence, rivals[1 - n % 2]),
                return_exceptions=True,
            )
            lost = [o for o in outcomes if isinstance(o, Conflict)]
            expect(outcomes.count(None) == 1 and len(lost) == 1, f"two writers at {sequence}: {outcomes}")
            newest = await left.last("s")
            winner = rivals[n % 2] if outcomes[0] is None else rivals[1 - n % 2]
            expect(newest == winner[-1], "the writer that was refused is the one that is stored")
            sequence, last = winner[-1].sequence, winner[-1].hash
        expect(verify(await all_of(right, "s")) is None, "two writers broke the chain of hashes")


async def check_pages(open_journal: OpenJournal) -> None:
    """1 000 events in pages of 100, without gaps or repeats, also while others append; from either end."""
    writer, other = Writing("s"), Writing("other")
    async with open_journal("pages") as journal, open_journal("pages") as meanwhile:
        for start in range(0, 1000, 50):
            await journal.append("s", start, writer.some(50))
            await journal.append("other", other.sequence, other.some(1))
        for newest_first in (False, True):
            pages: list[Sequence[Entry]] = []
            cursor: str | None = None
            while True:
                page = await journal.query(stream="s", after=cursor, limit=100, newest_first=newest_first)
                pages.append(page.entries)
                await meanwhile.append("other", other.sequence, other.some(1))
                if (cursor := page.cursor) is None or len(pages) > 10:
                    break
            expect([len(page) for page in pages] == [100] * 10, "1 000 events are not ten pages of 100")
            seen = [entry.record.sequence for page in pages for entry in page]
            wanted = list(range(1000, 0, -1)) if newest_first else list(range(1, 1001))
            expect(seen == wanted, "pages have gaps, repeats or another order")
        for bad in ("x", "", "p-1", "p1.5"):
            async with refusing(Rejected, f"the cursor {bad!r}"):
                await journal.query(after=bad)


async def check_queries(open_journal: OpenJournal) -> None:
    """By stream, tag, type, actor and time, alone and together."""
    a, b = Writing("a"), Writing("b")
    async with open_journal("query") as journal:
        await journal.append("a", 0, a.next(PipelinePaused(reason=""), ConfigUpdated(spec={}, generation=1)))
        await journal.append("b", 0, b.next(*[PipelinePaused(reason="")] * 3, actor="ops"))
        await journal.append("a", 2, a.next(PipelineReset(from_start=True, generation=2), actor="ops"))

        async def places(**conditions: Any) -> list[str]:
            entries = (await journal.query(**conditions)).entries
            return [f"{entry.record.stream}{entry.record.sequence}" for entry in entries]

        second = START + timedelta(seconds=1)
        wanted: list[tuple[dict[str, Any], list[str]]] = [
            ({}, ["a1", "a2", "b1", "b2", "b3", "a3"]),
            ({"stream": "a"}, ["a1", "a2", "a3"]),
            ({"tag": "pipeline-lifecycle"}, ["a1", "a2", "b1", "b2", "b3", "a3"]),
            ({"tag": "failure-events"}, []),
            ({"type": "PipelinePaused"}, ["a1", "b1", "b2", "b3"]),
            ({"actor": "ops"}, ["b1", "b2", "b3", "a3"]),
            ({"since": second}, ["a2", "b2", "b3", "a3"]),
            ({"until": second}, ["a1", "b1"]),
            ({"since": second, "until": second + timedelta(microseconds=1)}, ["a2", "b2"]),
            ({"since": second.astimezone(timezone(timedelta(hours=-8))), "stream": "b"}, ["b2", "b3"]),
            ({"tag": "all-events", "type": "PipelinePaused", "actor": "kit", "stream": "a"}, ["a1"]),
            ({"stream": "none"}, []),
            ({"newest_first": True, "limit": 2}, ["a3", "b3"]),
            ({"tag": "all-events", "newest_first": True, "limit": 2}, ["a3", "b3"]),
        ]
        for conditions, places_wanted in wanted:
            found = await places(**conditions)
            expect(found == places_wanted, f"query({conditions}) gives {found}, not {places_wanted}")
        tagged = [entry.position for entry in await journal.by_tag("pipeline-lifecycle", 2, 3)]
        expect(tagged == [3, 4, 5], f"by_tag behind 2, three at most: {tagged}")
        expect([e.position for e in await journal.tail(4, 10)] == [5, 6], "tail behind 4 is not 5, 6")


async def check_snapshots(open_journal: OpenJournal) -> None:
    """The newest two are kept, and those at milestones; no event is ever touched."""
    writer = Writing("s")
    last = 3 * MILESTONE + 350
    async with open_journal("snapshots") as journal, open_journal("snapshots") as again:
        expect(await journal.latest_snapshot("s") is None, "an unknown stream has a snapshot")
        while writer.sequence < last:
            await journal.append("s", writer.sequence, writer.some(50))
            if writer.sequence % 100 == 0:
                await journal.snapshot("s", writer.sequence, {**AWKWARD, "at": writer.sequence})
        # 900 and 800 are the newest; 600, 400 and 200 the milestones before.
        places = ((None, 900), (899, 800), (800, 800), (799, 600), (599, 400), (399, 200), (199, None))
        for at_or_before, wanted in places:
            found = await again.latest_snapshot("s", at_or_before)
            expect((found and found.sequence) == wanted, f"the snapshot at or before {at_or_before} is not {wanted}")
        newest = await again.latest_snapshot("s")
        expect(newest and newest.state == {**AWKWARD, "at": 900}, "a snapshot's state is changed by storing")
        await again.snapshot("s", 900, {"at": "again"})
        newest = await journal.latest_snapshot("s")
        expect(newest and newest.state == {"at": "again"}, "a snapshot taken again does not replace the first")
        for nowhere in (0, last + 1):
            async with refusing(Conflict, f"a snapshot at {nowhere}"):
                await journal.snapshot("s", nowhere, {})
        sequences = [record.sequence for record in await all_of(journal, "s")]
        expect(sequences == list(range(1, last + 1)), "snapshots took events away")


async def check_reading_order(open_journal: OpenJournal) -> None:
    """The race of commits: while several writers append, whoever reads behind the last position read misses nothing.

    A journal that numbers events when their transactions begin shows 7 before 6, and the reader never sees 6."""
    writers, rounds = 4, 15
    done = asyncio.Event()

    async def write(n: int) -> None:
        writer = Writing(f"writer-{n}")
        async with open_journal("order") as journal:
            for turn in range(rounds):
                await journal.append(writer.stream, writer.sequence, writer.some(1 + (turn + n) % 3))
                await asyncio.sleep(0)

    async def follow(page: Callable[[Journal, int], Awaitable[list[Entry]]]) -> list[Entry]:
        seen: list[Entry] = []
        async with open_journal("order") as journal:
            while True:
                last_look = done.is_set()
                while entries := await page(journal, position := seen[-1].position if seen else 0):
                    expect(_ascending([position, *(e.position for e in entries)]), "a page goes back in the order")
                    seen.extend(entries)
                if last_look:
                    return seen
                await asyncio.sleep(0)

    async def write_all() -> None:
        try:
            await asyncio.gather(*(write(n) for n in range(writers)))
        finally:
            done.set()

    readers = {
        "tail": asyncio.create_task(follow(lambda journal, position: journal.tail(position, 7))),
        "by_tag": asyncio.create_task(follow(lambda journal, position: journal.by_tag("all-events", position, 7))),
    }
    await write_all()
    followed = dict(zip(readers, await asyncio.gather(*readers.values()), strict=True))
    async with open_journal("order") as journal:
        everything = await journal.tail(0, 10_000)
    expect([e.position for e in everything] == list(range(1, len(everything) + 1)), "positions have gaps or repeats")
    expect(len(everything) == sum(1 + (t + n) % 3 for t in range(rounds) for n in range(writers)), "events are lost")
    for name, seen in followed.items():
        missed = {e.record.id for e in everything} - {e.record.id for e in seen}
        expect(not missed, f"a reader following by {name} missed {len(missed)} events")
        expect(seen == everything, f"a reader following by {name} saw another order than there is now")


def _ascending(positions: Sequence[int]) -> bool:
    return all(low < high for low, high in pairwise(positions))


async def check_closing(open_journal: OpenJournal) -> None:
    """Closing waits for what is under way, and may be repeated."""
    writer = Writing("s")
    records = writer.some(3)
    async with open_journal("close") as journal:
        appending = asyncio.create_task(journal.append("s", 0, records))
        await asyncio.sleep(0)
        await journal.close()
        await appending
        await journal.close()
    async with open_journal("close") as journal:
        expect(await all_of(journal, "s") == list(records), "an append under way was lost at closing")


CHECKS: Sequence[Check] = (
    check_append_and_read,
    check_repeated_append,
    check_refusals,
    check_two_writers,
    check_pages,
    check_queries,
    check_snapshots,
    check_reading_order,
    check_closing,
)


async def exercise_journal(open_journal: OpenJournal) -> None:
    """Everything a journal must do, one check after the other, each with an empty store."""
    for check in CHECKS:
        await check(open_journal)


async def append_and_acknowledge(
    journal: Journal, stream: str, acknowledge: Callable[[int], object], count: int, *, at_once: int = 3
) -> None:
    """Append `count` records behind what is there, `at_once` at a time, and call `acknowledge` with the last sequence
    as soon as the journal says that it is kept. Meant to be killed at any moment, and to be run again."""
    head = await journal.head(stream)
    writer = Writing(stream, head.sequence, head.hash) if head else Writing(stream)
    end = writer.sequence + count
    while writer.sequence < end:
        before = writer.sequence
        await journal.append(stream, before, writer.some(min(at_once, end - before)))
        acknowledge(writer.sequence)


async def check_acknowledged(journal: Journal, stream: str, acknowledged: int) -> int:
    """After the kill: every acknowledged event is there, sequences have no gap, the chain is whole, the reading order
    too. Returns how many events there are (those whose acknowledgement did not get out any more, included)."""
    records = await all_of(journal, stream)
    expect([r.sequence for r in records] == list(range(1, len(records) + 1)), "the sequences have a gap")
    expect(len(records) >= acknowledged, f"{acknowledged} events were acknowledged, {len(records)} are there")
    expect(verify(records) is None, "the chain of hashes is broken")
    head = await journal.head(stream)
    expect((head.sequence if head else 0) == len(records), "the head is not the last event's")
    position = 0
    while entries := await journal.tail(position):
        expect([e.position for e in entries] == list(range(position + 1, position + 1 + len(entries))), "positions")
        position = entries[-1].position
    expect(position == await journal.end(), "the reading order does not end where the journal says")
    return len(records)

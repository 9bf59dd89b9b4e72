"""The kernel over a scripted source and a recording writer: epochs, bounds, stops, failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

import polars as pl
import pytest

from dataflow.chain import Chain, Stage
from dataflow.domain.flow import Counters, Lane, OnRecord, Position, Receipt
from dataflow.errors import BadRecord, Fenced, Retryable, TimedOut
from dataflow.move import Limits, Mover, move, waiting_since
from dataflow.queues import ITEM, ByteQueue
from dataflow.seams import REJECTS, Applied, Chunk

LANE = Lane(pipeline="p", generation=1, sink="sink", number=0, splits=("a", "b"))
SCHEMA = pl.Schema({"n": pl.Int64})


@dataclass
class Numbers:
    """Each split counts from 0; a position is the next number. `hang` waits for ever before that number."""

    upto: dict[str, int]
    chunk: int = 1
    bounded: bool = True
    hang: int | None = None
    broken: int | None = None
    taken: int = 0

    async def __aenter__(self) -> Numbers:
        return self

    async def __aexit__(self, *exc: object) -> None: ...

    async def read(
        self, split: str, start: Position | None, *, pin: str, columns: Sequence[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        at = int(start or 0)
        while at < self.upto[split]:
            if at == self.hang:
                await asyncio.Event().wait()
            if at == self.broken:
                raise Retryable("the source broke", code="NETWORK_ERROR")
            end = min(at + self.chunk, self.upto[split])
            self.taken += 1
            rows = pl.DataFrame({"n": range(at, end)}, SCHEMA)
            yield Chunk(rows, Position(str(end)), bytes_read=8 * rows.height)
            at = end
            await asyncio.sleep(0)


@dataclass
class Recorder:
    receipts: list[Receipt] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    open_rows: list[int] = field(default_factory=list)
    writes: list[int] = field(default_factory=list)
    slow: float = 0.0
    fence_at: int | None = None

    async def last_receipt(self) -> Receipt | None:
        return self.receipts[-1] if self.receipts else None

    async def write(self, rows: pl.DataFrame) -> None:
        if self.slow:
            await asyncio.sleep(self.slow)
        self.writes.append(rows.height)
        self.open_rows += rows["n"].to_list()

    async def reject(self, rejected: pl.DataFrame) -> None:
        self.dead += [int(text) for text in rejected["record"]]

    async def commit(self, receipt: Receipt) -> None:
        await asyncio.sleep(self.slow)
        if receipt.epoch == self.fence_at:
            raise Fenced("overtaken")
        self.rows.append(self.open_rows)
        self.open_rows = []
        self.receipts.append(receipt)


@dataclass
class Sevens:
    """Refuses multiples of 7 and filters the other even numbers out."""

    on_error: OnRecord | None = None

    def bind(self, schema: pl.Schema) -> pl.Schema:
        return schema

    fallible = True

    def needs(self, columns: frozenset[str]) -> frozenset[str]:
        return columns

    def apply(self, rows: pl.DataFrame) -> Applied:
        bad = rows.filter(pl.col("n") % 7 == 0)
        good = rows.filter(pl.col("n") % 7 != 0)
        odd = good.filter(pl.col("n") % 2 == 1)
        refused = bad.select(
            stage=pl.lit(""),
            code=pl.lit("SEVEN"),
            message=pl.lit("no"),
            where=pl.lit(""),
            record=pl.col("n").cast(pl.String),
        )
        return Applied(odd, pl.DataFrame(refused, REJECTS), filtered=good.height - odd.height)


def chain(*transforms: Sevens, on_record: OnRecord = OnRecord.DEAD_LETTER) -> Chain:
    made = Chain([Stage(f"transforms[{i}]", t) for i, t in enumerate(transforms)], on_record)
    made.bind(SCHEMA)
    return made


async def test_every_row_once_with_positions_and_counters() -> None:
    sink = Recorder()
    report = await move(LANE, Numbers({"a": 20, "b": 5}, chunk=3), "{}", chain(Sevens()), sink, Limits(max_rows=4))
    odd = [n for n in range(20) if n % 2 and n % 7] + [1, 3]
    assert [n for epoch in sink.rows for n in epoch] == odd
    assert sink.dead == [0, 7, 14, 0]
    assert report.ended
    assert report.receipt.positions == {"a": "20", "b": "5"}
    assert report.receipt.counters == Counters(
        read=25, written=len(odd), filtered=25 - 4 - len(odd), failed=4, dead_lettered=4, bytes_read=200
    )
    assert [receipt.epoch for receipt in sink.receipts] == list(range(1, report.receipt.epoch + 1))
    assert all(
        after.counters.read - before.counters.read >= 4
        for before, after in zip(sink.receipts, sink.receipts[1:-1], strict=False)
    )


async def test_goes_on_from_the_last_receipt() -> None:
    sink = Recorder()
    first = await move(LANE, Numbers({"a": 9, "b": 9}), "{}", chain(), sink, Limits(max_rows=1, max_epochs=5))
    assert not first.ended
    assert first.receipt.epoch == 5
    second = await move(LANE, Numbers({"a": 9, "b": 9}), "{}", chain(), sink, Limits(max_rows=1))
    assert second.first_epoch == 6
    assert second.ended
    assert [n for epoch in sink.rows for n in epoch] == [*range(9), *range(9)]


async def test_an_idle_source_ends_its_segment_and_commits_nothing_empty() -> None:
    sink = Recorder()
    source = Numbers({"a": 5, "b": 5}, hang=3, bounded=False)
    report = await move(LANE, source, "{}", chain(), sink, Limits(segment=0.2, interval=0.05))
    assert not report.ended
    assert sorted(n for epoch in sink.rows for n in epoch) == [0, 0, 1, 1, 2, 2]
    again = await move(LANE, source, "{}", chain(), sink, Limits(segment=0.1))
    assert again.receipt == report.receipt


async def test_stop_commits_what_was_written_and_returns() -> None:
    sink = Recorder(slow=0.01)
    mover = Mover(LANE, Numbers({"a": 10_000, "b": 1}), "{}", chain(), Limits(interval=60))
    running = asyncio.create_task(mover.run(sink))
    while len(sink.open_rows) < 5:
        await asyncio.sleep(0.005)
    mover.stop()
    report = await running
    assert not report.ended
    assert sink.rows[0][:5] == [0, 1, 2, 3, 4]
    assert report.receipt.positions["a"] == str(len(sink.rows[0]))


async def test_a_slow_sink_stops_the_source() -> None:
    sink, source = Recorder(slow=0.02), Numbers({"a": 10_000, "b": 1}, chunk=100)
    mover = Mover(LANE, source, "{}", chain(), Limits(interval=60, buffer_bytes=4_000))
    running = asyncio.create_task(mover.run(sink))
    while len(sink.writes) < 5:
        await asyncio.sleep(0.005)
    assert source.taken <= len(sink.writes) + 2 * (4_000 // 800) + 4
    mover.stop()
    await running


async def test_a_broken_source_leaves_what_came_before_committed() -> None:
    sink = Recorder()
    mover = Mover(LANE, Numbers({"a": 9, "b": 1}, broken=4), "{}", chain(), Limits())
    with pytest.raises(Retryable, match="the source broke"):
        await mover.run(sink)
    assert sink.rows == [[0, 1, 2, 3]]
    assert mover.report.receipt.positions == {"a": "4"}
    assert mover.progress.culprit == "source"


async def test_policy_fail_names_the_record_and_policy_skip_counts_it() -> None:
    sink = Recorder()
    mover = Mover(LANE, Numbers({"a": 9, "b": 0}), "{}", chain(Sevens(OnRecord.FAIL)), Limits())
    with pytest.raises(BadRecord, match=r"transforms\[0\]: no") as failed:
        await mover.run(sink)
    assert failed.value.code == "SEVEN"
    assert mover.progress.culprit == "transform"
    report = await move(LANE, Numbers({"a": 9, "b": 0}), "{}", chain(Sevens(OnRecord.SKIP)), Recorder(), Limits())
    assert (report.receipt.counters.failed, report.receipt.counters.dead_lettered) == (2, 0)


async def test_a_fenced_writer_gives_way() -> None:
    sink = Recorder(fence_at=3)
    with pytest.raises(Fenced):
        await move(LANE, Numbers({"a": 9, "b": 9}), "{}", chain(), sink, Limits(max_rows=1))
    assert len(sink.receipts) == 2


async def test_a_batch_has_a_time_limit() -> None:
    with pytest.raises(TimedOut, match="not committed within"):
        await move(LANE, Numbers({"a": 9, "b": 9}), "{}", chain(), Recorder(slow=30), Limits(batch_timeout=0.05))


async def test_an_epoch_ends_in_time_for_its_commit_however_long_the_interval() -> None:
    waiting = Numbers({"a": 3, "b": 0}, hang=2)
    sink = Recorder(slow=0.01)
    for _ in range(2):  # the second one begins with an epoch that is under way
        await move(LANE, waiting, "{}", chain(), sink, Limits(interval=3600, batch_timeout=0.6, segment=0.9))
        waiting.hang = None
    assert sink.rows == [[0, 1], [2]]


async def test_writes_are_cut_to_the_sinks_batch_size() -> None:
    sink = Recorder()
    await move(LANE, Numbers({"a": 250, "b": 0}, chunk=250), "{}", chain(), sink, Limits(write_rows=100))
    assert sink.writes == [100, 100, 50]


async def test_the_ledger_stays_compact_and_whole() -> None:
    report = await move(LANE, Numbers({"a": 1000, "b": 0}), "{}", chain(), Recorder(), Limits(max_rows=1))
    ledger = report.ledger
    assert len(ledger) <= 64
    assert [entry.first for entry in ledger] == [1, *(entry.last + 1 for entry in ledger[:-1])]
    assert ledger[-1].last == report.receipt.epoch
    assert sum(entry.read for entry in ledger) == 1000


@dataclass
class Picky(Sevens):
    """Wants no column of its input but `n`."""

    fallible = False

    def needs(self, columns: frozenset[str]) -> frozenset[str]:
        return frozenset({"n"})


def test_columns_nobody_wants_are_left_out_unless_a_dead_letter_would_miss_them() -> None:
    schema = pl.Schema({"n": pl.Int64, "note": pl.String})
    picky, fallible = Chain([Stage("a", Picky())], OnRecord.DEAD_LETTER), Picky()
    picky.bind(schema)
    assert picky.columns() == ["n"]
    fallible.fallible = True
    whole = Chain([Stage("a", fallible)], OnRecord.DEAD_LETTER)
    whole.bind(schema)
    assert whole.columns() == ["n", "note"]
    fallible.on_error = OnRecord.SKIP
    assert whole.columns() == ["n"]


def test_epochs_keep_their_interval_though_commits_take_time() -> None:
    assert waiting_since(begun=10.0, ended=10.1, interval=1.0) == 10.0
    assert waiting_since(begun=10.0, ended=13.0, interval=1.0) == 12.5  # a slow sink still gets epochs worth a commit


async def test_many_empty_items_are_bounded_too() -> None:
    queue: ByteQueue[int] = ByteQueue(10 * ITEM)
    for number in range(10):
        await queue.put(number, 0)
    waiting = asyncio.create_task(queue.put(10, 0))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert await queue.get() == 0
    await waiting

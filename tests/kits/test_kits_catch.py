"""The kits are only worth something if they catch broken connectors: each of these breaks one promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Self

import polars as pl
import pytest

from dataflow.domain.flow import Delivery, Lane, Position, Receipt
from dataflow.errors import Fenced
from dataflow.seams import REJECTS, Applied, Chunk, Discovery
from dataflow.testing import exercise_sink, exercise_source, exercise_transform
from dataflow.testing.sink_kit import MOMENTS

CRASHES = [moment for moment in MOMENTS if moment not in ("zombie", "overtaken")]


class TinySink:
    """Lists in memory: keeps the whole contract in as few lines as possible."""

    delivery = Delivery.EXACTLY_ONCE
    max_lanes: int | None = None

    def __init__(self, writer: type[TinyWriter]) -> None:
        self.writer = writer
        self.rows: list[dict[str, Any]] = []
        self.dead: list[dict[str, Any]] = []
        self.receipts: dict[str, Receipt] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def prepare(self, schema: pl.Schema, lanes: Sequence[Lane]) -> None:
        return None

    def open(self, lane: Lane, schema: pl.Schema) -> TinyWriter:
        return self.writer(self, lane)

    async def complete(self, lanes: Sequence[Lane]) -> Mapping[str, Any]:
        return {}


class TinyWriter:
    def __init__(self, sink: TinySink, lane: Lane) -> None:
        self.sink, self.lane = sink, lane.name
        self.rows: list[dict[str, Any]] = []
        self.dead: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def last_receipt(self) -> Receipt | None:
        return self.sink.receipts.get(self.lane)

    async def write(self, rows: pl.DataFrame) -> None:
        self.rows += rows.to_dicts()

    async def reject(self, rejected: pl.DataFrame) -> None:
        self.dead += rejected.to_dicts()

    def fence(self, receipt: Receipt) -> None:
        last = self.sink.receipts.get(self.lane)
        if (last.epoch if last else 0) != receipt.epoch - 1:
            raise Fenced(f"{self.lane}: {receipt.epoch} is not next")

    async def commit(self, receipt: Receipt) -> None:
        self.fence(receipt)
        self.sink.rows += self.rows
        self.sink.dead += self.dead
        self.sink.receipts[self.lane] = receipt
        self.rows, self.dead = [], []


class Unfenced(TinyWriter):
    def fence(self, receipt: Receipt) -> None:
        return None


class Eager(TinyWriter):
    async def write(self, rows: pl.DataFrame) -> None:
        self.sink.rows += rows.to_dicts()


class EagerDead(TinyWriter):
    async def reject(self, rejected: pl.DataFrame) -> None:
        self.sink.dead += rejected.to_dicts()


class ReceiptFirst(TinyWriter):
    async def commit(self, receipt: Receipt) -> None:
        self.fence(receipt)
        self.sink.receipts[self.lane] = receipt
        await asyncio.sleep(0)
        self.sink.rows += self.rows
        self.sink.dead += self.dead
        self.rows, self.dead = [], []


class RowsFirst(TinyWriter):
    async def commit(self, receipt: Receipt) -> None:
        self.fence(receipt)
        self.sink.rows += self.rows
        self.sink.dead += self.dead
        self.rows, self.dead = [], []
        await asyncio.sleep(0)
        self.sink.receipts[self.lane] = receipt


class ForgetsCounters(TinyWriter):
    async def last_receipt(self) -> Receipt | None:
        last = await super().last_receipt()
        return last and Receipt(
            pipeline=last.pipeline,
            generation=last.generation,
            lane=last.lane,
            epoch=last.epoch,
            positions=last.positions,
        )


class KeepsOpenEpoch(TinyWriter):
    """Rows of the last epoch are written again with the next one."""

    async def commit(self, receipt: Receipt) -> None:
        kept = list(self.rows)
        await super().commit(receipt)
        self.rows = kept


def exercise(writer: type[TinyWriter], moments: Sequence[str] = MOMENTS, *, visible_at_once: bool = False) -> None:
    exercise_sink(
        lambda: TinySink(writer),
        lambda sink: sink.rows,  # type: ignore[attr-defined]
        lambda sink: sink.dead,  # type: ignore[attr-defined]
        moments=moments,
        visible_at_once=visible_at_once,
    )


@pytest.mark.parametrize("visible_at_once", [False, True])
def test_a_sound_sink_passes(visible_at_once: bool) -> None:
    exercise(TinyWriter, visible_at_once=visible_at_once)


@pytest.mark.parametrize(
    "writer", [Unfenced, Eager, EagerDead, ReceiptFirst, RowsFirst, ForgetsCounters, KeepsOpenEpoch]
)
def test_a_broken_sink_is_caught(writer: type[TinyWriter]) -> None:
    with pytest.raises(AssertionError):
        exercise(writer)


def test_only_an_attempt_that_wakes_late_finds_missing_fences() -> None:
    exercise(Unfenced, CRASHES)


SCHEMA = pl.Schema({"n": pl.Int64, "text": pl.String, "half": pl.Float64})


class ListSource:
    """Two splits of a few rows; every fifth is no row but a rejected record."""

    bounded = True
    sizes: Mapping[str, int] = {"a": 23, "b": 4, "empty": 0}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def discover(self) -> Discovery:
        return Discovery(splits=list(self.sizes), schema=SCHEMA, total_rows=sum(self.sizes.values()))

    async def read(
        self, split: str, start: Position | None, *, pin: str, columns: Sequence[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        at, end = self.begin(start), self.sizes[split]
        while at < end:
            numbers = range(at, min(at + 3, end))
            at = numbers[-1] + 1
            bad = [n for n in numbers if n % 5 == 4]
            rows = self.frame([n for n in numbers if n % 5 != 4])
            rejected = pl.DataFrame({name: [f"{name} {n}" for n in bad] for name in REJECTS}, schema=REJECTS)
            yield Chunk(rows.select(columns) if columns else rows, self.resume(at), rejected)

    def begin(self, start: Position | None) -> int:
        return int(start or 0)

    def resume(self, at: int) -> Position:
        return Position(str(at))

    def frame(self, numbers: list[int]) -> pl.DataFrame:
        values = {"n": numbers, "text": [f"t{n}" for n in numbers], "half": [n / 2 for n in numbers]}
        return pl.DataFrame(values, schema=SCHEMA)

    async def settle(self, split: str, upto: Position) -> None:
        return None


class OffByOne(ListSource):
    def resume(self, at: int) -> Position:
        return Position(str(at - 1))


class SkipsOne(ListSource):
    def begin(self, start: Position | None) -> int:
        return int(start) + 1 if start else 0


class NamesVary(ListSource):
    looks = 0

    async def discover(self) -> Discovery:
        NamesVary.looks += 1
        return Discovery(splits=[f"split-{NamesVary.looks}"], schema=SCHEMA)


class OtherTypes(ListSource):
    def frame(self, numbers: list[int]) -> pl.DataFrame:
        return super().frame(numbers).with_columns(pl.col("n").cast(pl.Float64))


class WrongColumn(ListSource):
    async def read(
        self, split: str, start: Position | None, *, pin: str, columns: Sequence[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        async for chunk in super().read(split, start, pin=pin):
            yield Chunk(chunk.rows.with_columns(n=0) if columns else chunk.rows, chunk.resume, chunk.rejected)


class WrongTotal(ListSource):
    async def discover(self) -> Discovery:
        return Discovery(splits=list(self.sizes), schema=SCHEMA, total_rows=28)


class LosesRejectedOnResume(ListSource):
    async def read(
        self, split: str, start: Position | None, *, pin: str, columns: Sequence[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        async for chunk in super().read(split, start, pin=pin, columns=columns):
            yield Chunk(chunk.rows, chunk.resume, chunk.rejected if start is None else None)


def test_a_sound_source_passes() -> None:
    exercise_source(ListSource)


@pytest.mark.parametrize(
    "source", [OffByOne, SkipsOne, NamesVary, OtherTypes, WrongColumn, WrongTotal, LosesRejectedOnResume]
)
def test_a_broken_source_is_caught(source: type[ListSource]) -> None:
    with pytest.raises(AssertionError):
        exercise_source(source)


class Halve:
    """Keeps even numbers halved, rejects multiples of five, filters the other odd ones."""

    on_error = None
    fallible = True

    def bind(self, schema: pl.Schema) -> pl.Schema:
        return pl.Schema({"n": pl.Int64, "text": pl.String})

    def needs(self, columns: frozenset[str]) -> frozenset[str]:
        return columns | {"n"}

    def apply(self, rows: pl.DataFrame) -> Applied:
        bad = rows.filter(pl.col("n") % 5 == 0)
        good = rows.filter(pl.col("n") % 5 != 0)
        kept = good.filter(pl.col("n") % 2 == 0).select(pl.col("n") // 2, "text")
        return Applied(kept, self.letters(bad), good.height - kept.height)

    def letters(self, bad: pl.DataFrame) -> pl.DataFrame:
        return bad.select(pl.col("n").cast(pl.String).alias(name) for name in REJECTS)


class LosesOne(Halve):
    def apply(self, rows: pl.DataFrame) -> Applied:
        applied = super().apply(rows)
        return Applied(applied.rows.head(-1), applied.rejected, applied.filtered)


class Remembers(Halve):
    seen = 0

    def apply(self, rows: pl.DataFrame) -> Applied:
        applied = super().apply(rows)
        self.seen += 1
        return Applied(applied.rows.with_columns(text=pl.lit(str(self.seen))), applied.rejected, applied.filtered)


class BatchWide(Halve):
    """The sum of the batch: depends on how the input was cut."""

    def apply(self, rows: pl.DataFrame) -> Applied:
        applied = super().apply(rows)
        return Applied(applied.rows.with_columns(pl.col("n").sum()), applied.rejected, applied.filtered)


class OtherType(Halve):
    def apply(self, rows: pl.DataFrame) -> Applied:
        applied = super().apply(rows)
        return Applied(applied.rows.with_columns(pl.col("n").cast(pl.Float64)), applied.rejected, applied.filtered)


class NeedsMore(Halve):
    def needs(self, columns: frozenset[str]) -> frozenset[str]:
        return columns


ROWS = pl.DataFrame({"n": range(40), "text": [f"t{n}" for n in range(40)], "other": [1.5] * 40})


def test_a_sound_transform_passes() -> None:
    exercise_transform(Halve, ROWS)


@pytest.mark.parametrize("transform", [LosesOne, Remembers, BatchWide, OtherType, NeedsMore])
def test_a_broken_transform_is_caught(transform: type[Halve]) -> None:
    with pytest.raises(AssertionError):
        exercise_transform(transform, ROWS)

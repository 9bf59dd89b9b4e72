"""The kits are only worth something if they catch broken connectors: each of these breaks one promise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import polars as pl
import pytest

from dataflow.domain.flow import Delivery, Lane, Receipt
from dataflow.errors import Fenced
from dataflow.seams import REJECTS, Applied, Audit, Fault, LaneAudit
from dataflow.testing import exercise_sink, exercise_transform
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


class Leftovers(TinyWriter):
    """What an attempt wrote before it died is committed by the next one."""

    def __init__(self, sink: TinySink, lane: Lane) -> None:
        super().__init__(sink, lane)
        self.rows = sink.__dict__.setdefault(f"open {self.lane}", [])

    async def commit(self, receipt: Receipt) -> None:
        rows, self.rows = self.rows, list(self.rows)
        await super().commit(receipt)
        rows.clear()
        self.rows = rows


class LosesTheLastReceipt(TinyWriter):
    """A receipt is safe only once its attempt has gone on, or left in order."""

    kept: Receipt | None = None

    async def commit(self, receipt: Receipt) -> None:
        before = self.sink.receipts.get(self.lane)
        await super().commit(receipt)
        self.kept, self.before = receipt, before

    async def __aexit__(self, *exc: object) -> None:
        if exc[0] is not None and self.kept is self.sink.receipts.get(self.lane) and self.kept is not None:
            self.sink.receipts.pop(self.lane)
            if self.before:
                self.sink.receipts[self.lane] = self.before


class LooksOnce(TinyWriter):
    """Compares with what was committed when it began, not with what is now."""

    async def __aenter__(self) -> Self:
        last = self.sink.receipts.get(self.lane)
        self.epoch = last.epoch if last else 0
        return self

    def fence(self, receipt: Receipt) -> None:
        if receipt.epoch != self.epoch + 1:
            raise Fenced(f"{self.lane}: {receipt.epoch} is not next")
        self.epoch = receipt.epoch


class GrowsWhenComplete(TinySink):
    async def complete(self, lanes: Sequence[Lane]) -> Mapping[str, Any]:
        self.completed = getattr(self, "completed", 0) + 1
        return {"files": self.completed}


class Audited(TinySink):
    more = 0

    async def audit(self, lanes: Sequence[Lane]) -> Audit:
        def held(lane: Lane) -> LaneAudit:
            rows = sum(row["lane"] == lane.number for row in self.rows)
            letters = sum(json.loads(letter["record"])["lane"] == lane.number for letter in self.dead)
            return LaneAudit(receipt=self.receipts.get(lane.name), rows=rows + self.more, dead_letters=letters)

        return Audit(lanes={lane.name: held(lane) for lane in lanes})


class Miscounts(Audited):
    more = 1


class SeesFaults(Audited):
    async def audit(self, lanes: Sequence[Lane]) -> Audit:
        return replace(await super().audit(lanes), faults=[Fault("here", "something")])


def exercise(
    writer: type[TinyWriter],
    moments: Sequence[str] = MOMENTS,
    *,
    visible_at_once: bool = False,
    sink: type[TinySink] = TinySink,
) -> None:
    exercise_sink(
        lambda: sink(writer),
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


@pytest.mark.parametrize(
    ("writer", "moment"),
    [
        (Eager, "after write"),
        (Leftovers, "after write"),
        (EagerDead, "before commit"),
        (Leftovers, "before commit"),
        (ReceiptFirst, "during commit"),
        (RowsFirst, "during commit"),
        (LosesTheLastReceipt, "after commit"),
        (LooksOnce, "overtaken"),
        (LooksOnce, "zombie"),
        (Unfenced, "overtaken"),
    ],
)
def test_each_moment_finds_what_an_undisturbed_run_does_not(writer: type[TinyWriter], moment: str) -> None:
    exercise(writer, [""])
    with pytest.raises(AssertionError):
        exercise(writer, ["", moment])


def test_complete_must_be_repeatable() -> None:
    with pytest.raises(AssertionError, match="repeatable"):
        exercise(TinyWriter, sink=GrowsWhenComplete)


def test_a_sink_that_can_be_counted_is_counted() -> None:
    exercise(TinyWriter, sink=Audited)


@pytest.mark.parametrize("sink", [Miscounts, SeesFaults])
def test_a_broken_audit_is_caught(sink: type[TinySink]) -> None:
    with pytest.raises(AssertionError, match="audit"):
        exercise(TinyWriter, sink=sink)


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

"""The kits are only worth something if they catch broken connectors: each of these sources breaks one promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import ClassVar, Self

import polars as pl
import pytest

from dataflow.domain.flow import Position
from dataflow.seams import REJECTS, Chunk, Discovery
from dataflow.testing import exercise_source

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


class Sequenced(ListSource):
    def precedes(self, split: str, one: Position, other: Position) -> bool:
        return int(one) < int(other)


class Backwards(ListSource):
    def precedes(self, split: str, one: Position, other: Position) -> bool:
        return int(one) > int(other)


class AsText(ListSource):
    """ "9" comes after "12"."""

    def precedes(self, split: str, one: Position, other: Position) -> bool:
        return one < other


class TakesBack(ListSource):
    """A reading that is closed or cancelled early takes the next row with it: whoever goes on there misses it."""

    taken: ClassVar[set[tuple[str, int]]] = set()
    on: tuple[type[BaseException], ...] = (GeneratorExit, asyncio.CancelledError)

    async def read(
        self, split: str, start: Position | None, *, pin: str, columns: Sequence[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        at = self.begin(start)
        skip = columns is None and (split, at) in self.taken
        try:
            async for chunk in super().read(split, start, pin=pin, columns=columns):
                rows = chunk.rows.slice(1) if skip else chunk.rows
                skip, at = False, int(chunk.resume)
                await asyncio.sleep(0)
                yield Chunk(rows, chunk.resume, chunk.rejected)
        except self.on:
            if at < self.sizes[split]:
                self.taken.add((split, at))
            raise


class TakesBackWhenCancelled(TakesBack):
    taken: ClassVar[set[tuple[str, int]]] = set()
    on = (asyncio.CancelledError,)


@pytest.mark.parametrize("source", [ListSource, Sequenced])
def test_a_sound_source_passes(source: type[ListSource]) -> None:
    exercise_source(source)


@pytest.mark.parametrize("end", ["closed", "unread", "left"])
def test_each_end_finds_what_readings_to_the_end_do_not(end: str) -> None:
    exercise_source(TakesBackWhenCancelled, ends=[end])
    TakesBackWhenCancelled.taken.clear()
    with pytest.raises(AssertionError, match="disturbed"):
        exercise_source(TakesBackWhenCancelled, ends=["cancelled"])
    TakesBackWhenCancelled.taken.clear()
    with pytest.raises(AssertionError):
        exercise_source(TakesBack, ends=[end])
    TakesBack.taken.clear()


@pytest.mark.parametrize(
    "source",
    [OffByOne, SkipsOne, NamesVary, OtherTypes, WrongColumn, WrongTotal, LosesRejectedOnResume, Backwards, AsText],
)
def test_a_broken_source_is_caught(source: type[ListSource]) -> None:
    with pytest.raises(AssertionError):
        exercise_source(source)

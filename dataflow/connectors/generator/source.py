"""`generator`: made-up but realistic records, for trying things out, for tests and for measuring.

The same seed gives the same records for ever, however they are chunked, split or resumed (`records` says how).
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Self

import polars as pl
from pydantic import AfterValidator, Field, model_validator

from dataflow.components import Component, Config, Kind
from dataflow.connectors.generator.records import RecordKind, Rows, frame, schema
from dataflow.domain.flow import Position
from dataflow.domain.spec import Seconds
from dataflow.errors import Corrupt
from dataflow.seams import Chunk, Context, Discovery

CHUNK_ROWS = 131_072  # about 10 MB of the widest kind
BURST_SECONDS = 0.1  # a rate is kept over this long a time: chunks are no longer, arrears no greater

_LAST = datetime(9999, 12, 31, tzinfo=UTC)
_SPLIT = re.compile(r"rows (\d+)\.\.(\d+)|rows (\d+) of every (\d+)")


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class GeneratorConfig(Config):
    kind: RecordKind = Field(RecordKind.ORDER, description="What the records are.")
    rows: int | None = Field(None, ge=0, le=10**12, description="How many records; without it the source is endless.")
    rate: float | None = Field(
        None, gt=0, le=10**9, description="Records a second over all splits; default: as fast as the sink takes them."
    )
    seed: int = Field(0, description="The same seed gives the same records, always.")
    start: Annotated[datetime, AfterValidator(_utc)] = Field(
        datetime(2024, 1, 1, tzinfo=UTC), description="Time in the first record; without an offset it is UTC."
    )
    every: Seconds = Field(0.1, le=86_400, description="Time from one record to the next, in the records' own time.")

    @model_validator(mode="after")
    def _ends_before_time_does(self) -> Self:
        if self.start.timestamp() + (self.rows or 0) * self.every > _LAST.timestamp():
            raise ValueError("the last record's time is after the year 9999: fewer rows, or a smaller `every`")
        return self


@dataclass(frozen=True, slots=True)
class Split:
    """Row indices first, first + step ... below `end`, which is None where the source is endless. In its name the end
    is outside: `rows 0..10` are the ten rows 0 to 9."""

    first: int
    step: int
    end: int | None

    @property
    def name(self) -> str:
        if self.end is None:
            return f"rows {self.first} of every {self.step}"
        return f"rows {self.first}..{self.end}"

    @classmethod
    def parse(cls, name: str) -> Split:
        found = _SPLIT.fullmatch(name)
        if not found:
            raise Corrupt(f"{name!r} is not a split of a generator")
        first, end, offset, step = found.groups()
        return cls(int(first), 1, int(end)) if first else cls(int(offset), int(step), None)

    def index(self, row: int, count: int) -> pl.Series:
        """At most `count` row indices from `row` on."""
        end = row + count * self.step
        if self.end is not None:
            end = min(end, self.end)
        return pl.int_range(row, end, self.step, dtype=pl.UInt64, eager=True)


def splits(rows: int | None, parallelism: int) -> list[Split]:
    """Bounded: ranges of equal length, a single empty one where there are no rows. Endless: interleaved, so that the
    splits advance together."""
    if rows is None:
        return [Split(n, parallelism, None) for n in range(parallelism)]
    count = max(1, min(parallelism, rows))
    return [Split(a, 1, b) for a, b in pairwise(rows * n // count for n in range(count + 1))]


class Bucket:
    """A token bucket: `take(n)` returns when n more records keep to `rate` (per second). What was not taken while
    the reader was held up is forgiven but for `BURST_SECONDS`, so that a pause is not followed by a flood."""

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.rate = rate
        self.burst = max(1, int(rate * BURST_SECONDS))  # records of one chunk
        self._clock, self._sleep = clock, sleep
        self._due = clock()  # when the next record may go: the first at once

    async def take(self, count: int) -> None:
        now = self._clock()
        due = max(self._due, now - self.burst / self.rate)
        self._due = due + count / self.rate
        if due > now:
            await self._sleep(due - now)


class GeneratorSource:
    """Positions are `{"v":1,"row":N}`: the index of the next row. Splits: see `Split`."""

    def __init__(self, config: GeneratorConfig, context: Context) -> None:
        self._config = config
        self._chunk_rows = min(CHUNK_ROWS, context.chunk_rows or CHUNK_ROWS)
        self._splits = splits(config.rows, context.parallelism)
        self.bounded = config.rows is not None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def discover(self) -> Discovery:
        """The pin is empty: the definition says all."""
        return Discovery(
            splits=[split.name for split in self._splits],
            schema=schema(self._config.kind),
            total_rows=self._config.rows,
        )

    async def read(
        self, split: str, start: Position | None, *, pin: str, columns: Sequence[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        part = Split.parse(split)
        row = part.first if start is None else _row(start)
        bucket = Bucket(self._config.rate / max(1, len(self._splits))) if self._config.rate else None
        size = min(self._chunk_rows, bucket.burst) if bucket else self._chunk_rows
        while part.end is None or row < part.end:
            index = part.index(row, size)
            if bucket:
                await bucket.take(len(index))
            rows = await asyncio.to_thread(self._rows, index, columns)
            row += len(index) * part.step
            yield Chunk(rows, position(row))

    def precedes(self, split: str, one: Position, other: Position) -> bool:
        return _row(one) < _row(other)

    async def settle(self, split: str, upto: Position) -> None:
        """Nothing is held upstream."""

    def _rows(self, index: pl.Series, columns: Sequence[str] | None) -> pl.DataFrame:
        config = self._config
        start, step = round(config.start.timestamp() * 1e6), round(config.every * 1e6)
        return frame(Rows(config.kind, config.seed, index, start, step), columns)


def position(row: int) -> Position:
    return Position(json.dumps({"v": 1, "row": row}, separators=(",", ":")))


def _row(start: Position) -> int:
    match json.loads(start):
        case {"v": 1, "row": int(row)}:
            return row
    raise Corrupt(f"{start!r} is not a position of a generator")


SOURCE = Component(
    Kind.SOURCE,
    "generator",
    GeneratorConfig,
    GeneratorSource,
    "Made-up records of four kinds, reproducible by their seed.",
)

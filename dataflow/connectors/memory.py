"""`memory`: named tables and stores inside this process, for tests, previews and conformance kits.

A store keeps the whole contract of a sink (rows, dead letters and receipt in one act, fencing, generations), but only
as long as the process lives.
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import polars as pl
from pydantic import Field

from dataflow.components import Component, Config, Kind
from dataflow.domain.flow import Delivery, Lane, Position, Receipt
from dataflow.domain.state import Rewind
from dataflow.errors import Corrupt, Fenced, NotFound
from dataflow.seams import REJECTS, Chunk, Context, Discovery

_tables: dict[str, Mapping[str, pl.DataFrame]] = {}
_stores: dict[str, Store] = {}
_guard = threading.Lock()  # of the two above


class MemorySourceConfig(Config):
    name: str = Field(min_length=1, description="Name of a table that `memory.provide` was given.")
    chunk_rows: int = Field(10_000, ge=1, description="Rows of one chunk at most.")


class MemorySinkConfig(Config):
    name: str = Field(min_length=1, description="Name of the store; made when first used, found by `memory.store`.")


def provide(name: str, rows: pl.DataFrame | Mapping[str, pl.DataFrame]) -> None:
    """Name a table, or one frame for each split, that sources of this process can read. All have one schema."""
    with _guard:
        _tables[name] = {"all": rows} if isinstance(rows, pl.DataFrame) else dict(rows)


def store(name: str) -> Store:
    """The store of that name; made when first asked for."""
    with _guard:
        return _stores.setdefault(name, Store())


def forget(name: str) -> None:
    """Drop the table and the store of that name, where there are any."""
    with _guard:
        _tables.pop(name, None)
        _stores.pop(name, None)


class MemorySource:
    """Reads frames it is given, or the table that `config.name` names. Positions are `{"v":1,"row":N}`."""

    bounded = True

    def __init__(self, splits: Mapping[str, pl.DataFrame] | pl.DataFrame | str, *, chunk_rows: int = 10_000) -> None:
        self._given = {"all": splits} if isinstance(splits, pl.DataFrame) else splits
        self._chunk_rows = chunk_rows

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    def _splits(self) -> Mapping[str, pl.DataFrame]:
        if not isinstance(self._given, str):
            return self._given
        if self._given not in _tables:
            raise NotFound(f"there is no table {self._given!r} in this process", hint="memory.provide(name, rows)")
        return _tables[self._given]

    async def discover(self) -> Discovery:
        splits = self._splits()
        schema = next((frame.schema for frame in splits.values()), pl.Schema())
        rows = sum(frame.height for frame in splits.values())
        size = sum(frame.estimated_size() for frame in splits.values())
        return Discovery(splits=list(splits), schema=schema, total_rows=rows, total_bytes=int(size))

    async def read(
        self, split: str, start: Position | None, *, pin: str, columns: Sequence[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        frame = self._splits().get(split)
        if frame is None:
            raise NotFound(f"there is no split {split!r}")
        if columns is not None:
            frame = frame.select([name for name in frame.columns if name in columns])
        row = 0 if start is None else _row(start)
        while row < frame.height:
            rows = frame.slice(row, self._chunk_rows)
            row += rows.height
            yield Chunk(rows, _position(row), bytes_read=int(rows.estimated_size()))

    def precedes(self, split: str, one: Position, other: Position) -> bool:
        return _row(one) < _row(other)

    async def settle(self, split: str, upto: Position) -> None:
        """The frames stay as they are."""


@dataclass(slots=True)
class _LaneState:
    """What is committed of one lane, and the newest attempt that opened it."""

    attempt: int = 0
    receipt: Receipt | None = None
    rows: list[tuple[int, pl.DataFrame]] = field(default_factory=list)  # with their epochs
    rejected: list[tuple[int, pl.DataFrame]] = field(default_factory=list)

    def cut(self, epoch: int) -> None:
        """Take away what came after that epoch."""
        self.rows = [(at, frame) for at, frame in self.rows if at <= epoch]
        self.rejected = [(at, frame) for at, frame in self.rejected if at <= epoch]


class Store:
    """Committed rows, dead letters and receipts of one named sink. Every method is one act under one lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._generations: dict[str, int] = {}  # newest of each pipeline
        self._lanes: dict[tuple[str, int, str], _LaneState] = {}
        self._schema = pl.Schema()

    @property
    def rows(self) -> pl.DataFrame:
        """Every committed row, lane by lane, in commit order; empty with the prepared schema before the first."""
        with self._lock:
            frames = [frame for lane in self._lanes.values() for _, frame in lane.rows]
            return pl.concat(frames) if frames else pl.DataFrame(schema=self._schema)

    @property
    def rejected(self) -> pl.DataFrame:
        """Every committed dead letter; columns of `REJECTS`."""
        with self._lock:
            frames = [frame for lane in self._lanes.values() for _, frame in lane.rejected]
            return pl.concat(frames) if frames else pl.DataFrame(schema=REJECTS)

    @property
    def receipts(self) -> list[Receipt]:
        """The newest receipt of every lane that has one."""
        with self._lock:
            return [lane.receipt for lane in self._lanes.values() if lane.receipt]

    def prepare(self, schema: pl.Schema, pipeline: str, generation: int, rewind: Rewind | None = None) -> None:
        """Raises `Fenced` where a later generation is there already. Of the one that is rewound stays what is kept."""
        with self._lock:
            self._refuse_older(pipeline, generation)
            self._generations[pipeline] = generation
            self._schema = schema
            for key in [key for key in self._lanes if key[0] == pipeline and key[1] < generation]:
                if rewind is None:
                    del self._lanes[key]
                elif key[1] == rewind.generation and rewind.kept is not None:
                    self._lanes[key].cut(rewind.kept.get(key[2], 0))

    def open(self, lane: Lane) -> int:
        """A new attempt at the lane: its number, which fences all attempts before it."""
        with self._lock:
            self._refuse_older(lane.pipeline, lane.generation)
            state = self._lanes.setdefault((lane.pipeline, lane.generation, lane.name), _LaneState())
            state.attempt += 1
            return state.attempt

    def last_receipt(self, lane: Lane) -> Receipt | None:
        with self._lock:
            state = self._lanes.get((lane.pipeline, lane.generation, lane.name))
            return state.receipt if state else None

    def commit(
        self, lane: Lane, attempt: int, rows: Sequence[pl.DataFrame], rejected: Sequence[pl.DataFrame], receipt: Receipt
    ) -> None:
        with self._lock:
            self._refuse_older(lane.pipeline, lane.generation)
            state = self._lanes.get((lane.pipeline, lane.generation, lane.name))
            if state is None or state.attempt != attempt:
                raise Fenced(f"another attempt took over {lane.name}")
            last = state.receipt.epoch if state.receipt else 0
            if last != receipt.epoch - 1:  # Invariant 2: an epoch commits only on its predecessor
                raise Fenced(f"{lane.name} is at epoch {last}: epoch {receipt.epoch} does not follow")
            # Invariant 1: rows, dead letters and receipt become visible together, under the lock
            state.rows += [(receipt.epoch, frame) for frame in rows]
            state.rejected += [(receipt.epoch, frame) for frame in rejected]
            state.receipt = receipt

    def _refuse_older(self, pipeline: str, generation: int) -> None:
        newest = self._generations.get(pipeline, 0)
        if generation < newest:
            raise Fenced(f"generation {generation} of {pipeline} is over: {newest} has begun")


class MemoryWriter:
    """One attempt at one lane of a `Store`."""

    def __init__(self, kept: Store, lane: Lane) -> None:
        self._store, self._lane = kept, lane
        self._attempt = 0
        self._rows: list[pl.DataFrame] = []
        self._rejected: list[pl.DataFrame] = []

    async def __aenter__(self) -> Self:
        self._attempt = self._store.open(self._lane)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._rows, self._rejected = [], []

    async def last_receipt(self) -> Receipt | None:
        return self._store.last_receipt(self._lane)

    async def write(self, rows: pl.DataFrame) -> None:
        self._rows.append(rows)

    async def reject(self, rejected: pl.DataFrame) -> None:
        self._rejected.append(rejected)

    async def commit(self, receipt: Receipt) -> None:
        self._store.commit(self._lane, self._attempt, self._rows, self._rejected, receipt)
        self._rows, self._rejected = [], []


class MemorySink:
    """Commits into a `Store`: any number of lanes, exactly once while the process lives."""

    delivery = Delivery.EXACTLY_ONCE
    max_lanes: int | None = None

    def __init__(self, kept: Store, rewind: Rewind | None = None) -> None:
        self._store, self._rewind = kept, rewind

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def prepare(self, schema: pl.Schema, lanes: Sequence[Lane]) -> None:
        for lane in lanes:
            self._store.prepare(schema, lane.pipeline, lane.generation, self._rewind)

    def open(self, lane: Lane, schema: pl.Schema) -> MemoryWriter:
        return MemoryWriter(self._store, lane)

    async def complete(self, lanes: Sequence[Lane]) -> Mapping[str, Any]:
        return {"rows": self._store.rows.height, "dead_letters": self._store.rejected.height}


def _position(row: int) -> Position:
    return Position(json.dumps({"v": 1, "row": row}, separators=(",", ":")))


def _row(start: Position) -> int:
    match json.loads(start):
        case {"v": 1, "row": int(row)}:
            return row
    raise Corrupt(f"{start!r} is not a position of a memory source")


def _source(config: MemorySourceConfig, context: Context) -> MemorySource:
    return MemorySource(config.name, chunk_rows=min(config.chunk_rows, context.chunk_rows or config.chunk_rows))


def _sink(config: MemorySinkConfig, context: Context) -> MemorySink:
    return MemorySink(store(config.name), context.rewind)


SOURCE = Component(Kind.SOURCE, "memory", MemorySourceConfig, _source, "A named table of this process, for tests.")
SINK = Component(Kind.SINK, "memory", MemorySinkConfig, _sink, "A named store of this process, for tests.")

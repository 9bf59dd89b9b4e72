"""The source: one split, the pipeline's own records in the inbox, in the order in which they were admitted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any, Self

import polars as pl
from pydantic import Field, field_validator

from dataflow.components import Component, Config, Kind
from dataflow.connectors.declared import declared_schema
from dataflow.connectors.json_columns import columns_of
from dataflow.connectors.numbered import offset_of, position
from dataflow.connectors.push.decode import Decoder, Refusal
from dataflow.domain.flow import Position
from dataflow.domain.spec import Seconds
from dataflow.errors import Corrupt, NothingYet, Rejected
from dataflow.inbox import Block, Inbox
from dataflow.inbox.store import lines_of
from dataflow.schemas import format_schema, parse_schema
from dataflow.seams import REJECTS, Chunk, Context, Discovery

SPLIT = "inbox"
CHUNK_ROWS = 10_000
CHUNK_BYTES = 16 * 2**20
SHORTEST, LONGEST = 0.02, 0.25
"""Seconds between two looks at an inbox that has nothing new: short at first, then longer."""


class PushConfig(Config):
    """Records are pushed to `POST /api/v1/pipelines/{id}/records`, by `dataflow ingest`, or by `Client.ingest`."""

    columns: Mapping[str, str] | None = Field(
        None,
        description="name: type of the columns to take; default: inferred from the first batch, for which the pipeline "
        "waits, and then fixed.",
    )
    keep: Seconds = Field(
        7 * 86_400.0,
        description="How long records stay in the inbox after every sink has committed them: so far back can the "
        "pipeline be reset. Ids of batches are never forgotten.",
    )

    @field_validator("columns")
    @classmethod
    def _types(cls, value: Mapping[str, str] | None) -> Mapping[str, str] | None:
        if value is not None:
            declared_schema(value)
        return value


class PushSource:
    """Positions are `{"v":1,"offset":N}`: the next record of the inbox."""

    bounded = False

    def __init__(self, config: PushConfig, context: Context) -> None:
        self._config = config
        self._pipeline = context.pipeline
        self._inbox = Inbox(context.inbox or f"sqlite:///{context.home.absolute() / 'inbox.db'}")
        self._chunk_rows = min(CHUNK_ROWS, context.chunk_rows or CHUNK_ROWS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.to_thread(self._inbox.close)

    async def discover(self) -> Discovery:
        """See the seam. Raises `NothingYet` where columns are to be inferred and no batch was pushed so far."""
        first, end = await self._inbox.extent(self._pipeline) if self._inbox.exists else (0, 0)
        if self._config.columns is not None:
            schema = declared_schema(self._config.columns)
        else:
            schema = await self._inferred(first, end)
        Decoder(schema, others=True)  # refuses columns it cannot read
        pin = json.dumps({"v": 1, "start": first, "columns": format_schema(schema)}, separators=(",", ":"))
        return Discovery([SPLIT], schema, pin)

    async def _inferred(self, first: int, end: int) -> pl.Schema:
        if first == end:
            raise NothingYet(
                f"nothing was pushed to {self._pipeline} yet: its first batch tells the columns",
                hint="push a batch, or declare them with columns: {name: type}",
            )
        oldest = (await self._inbox.read(self._pipeline, first, records=1))[0]
        found = await asyncio.to_thread(lambda: columns_of(lines_of(oldest)))
        if not found:
            raise Rejected(
                f"the records of batch {oldest.batch_id!r} have no fields", code="EMPTY", hint="declare columns"
            )
        return found

    async def read(
        self, split: str, start: Position | None, *, pin: str, columns: Sequence[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """See the seam. Endless. Raises `Rejected` (LOST_OFFSETS) where records that are still to be read are gone."""
        if split != SPLIT:
            raise Corrupt(f"{split!r} is not a split of a push source")
        begin, schema = _pinned(pin)
        at = begin if start is None else offset_of(start)
        decoder = Decoder(schema, others=self._config.columns is not None)
        wanted = [name for name in schema if columns is None or name in columns]
        pause = SHORTEST
        while True:
            blocks = await self._inbox.read(self._pipeline, at, self._chunk_rows, CHUNK_BYTES)
            if not blocks:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST)
                continue
            pause = SHORTEST
            for chunk in await asyncio.to_thread(self._chunks, blocks, at, decoder, wanted):
                yield chunk
            at = blocks[-1].next_offset

    def _chunks(self, blocks: Sequence[Block], at: int, decoder: Decoder, wanted: Sequence[str]) -> list[Chunk]:
        lines: list[bytes] = []
        for block in blocks:
            lines += lines_of(block)[max(0, at - block.first_offset) :]
        return [
            self._chunk(blocks, at + n, lines[n : n + self._chunk_rows], decoder, wanted)
            for n in range(0, len(lines), self._chunk_rows)
        ]

    def _chunk(
        self, blocks: Sequence[Block], at: int, lines: Sequence[bytes], decoder: Decoder, wanted: Sequence[str]
    ) -> Chunk:
        rows, refused = decoder.decode(lines)
        return Chunk(
            rows.select(wanted),
            position(at + len(lines)),
            rejected=_rejects(blocks, at, lines, refused) if refused else None,
            bytes_read=sum(map(len, lines)),
        )

    async def locate(self, split: str, place: int | datetime, *, pin: str) -> Position:
        """See `Locating`: an offset, or the first record that was pushed at or after a time."""
        first, end = await self._inbox.extent(self._pipeline)
        at = await self._inbox.at_time(self._pipeline, place.timestamp()) if isinstance(place, datetime) else place
        if at < first:
            raise Rejected(f"offset {at} is no longer in the inbox, which begins at {first}", code="LOST_OFFSETS")
        if at > end:
            raise Rejected(f"the inbox ends at {end}: there is no offset {at} yet", code="OUT_OF_RANGE")
        return position(at)

    async def settle(self, split: str, upto: Position) -> None:
        """Records before `upto` may go from the inbox, once they are older than `keep`."""
        await self._inbox.settle(self._pipeline, offset_of(upto), self._config.keep)

    def precedes(self, split: str, one: Position, other: Position) -> bool:
        """See `Ordered`."""
        return offset_of(one) < offset_of(other)


def _pinned(pin: str) -> tuple[int, pl.Schema]:
    try:
        found: Any = json.loads(pin)
        if found["v"] != 1:
            raise ValueError("another version")
        return int(found["start"]), parse_schema(found["columns"])
    except (ValueError, TypeError, KeyError) as error:
        raise Corrupt(f"not what a push source pinned: {pin[:200]!r}") from error


def _rejects(blocks: Sequence[Block], at: int, lines: Sequence[bytes], refused: Sequence[Refusal]) -> pl.DataFrame:
    """Located as `batch-id@offset`."""
    rows = []
    for bad in refused:
        offset = at + bad.index
        batch = next(block.batch_id for block in blocks if block.next_offset > offset)
        rows.append(("source", bad.code, bad.message, f"{batch}@{offset}", lines[bad.index].decode()))
    return pl.DataFrame(rows, schema=REJECTS, orient="row")


def _build(config: PushConfig, context: Context) -> PushSource:
    return PushSource(config, context)


SOURCE = Component(
    Kind.SOURCE, "push", PushConfig, _build, "Records that callers push, each batch exactly once by its id."
)

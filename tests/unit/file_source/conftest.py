from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dataflow.connectors.file import SOURCE
from dataflow.domain.flow import Position
from dataflow.seams import REJECTS, Chunk, Context, Discovery


class Read:
    """What a source gave: everything together, and chunk by chunk."""

    def __init__(self, found: Discovery, chunks: list[Chunk]) -> None:
        self.found = found
        self.chunks = chunks
        self.rows = (
            pl.concat([found.schema.to_frame().select(chunks[0].rows.columns), *(c.rows for c in chunks)])
            if chunks
            else found.schema.to_frame()
        )
        self.rejected = pl.concat([REJECTS.to_frame(), *(c.rejected for c in chunks if c.rejected is not None)])
        self.bytes_read = sum(c.bytes_read for c in chunks)

    @property
    def refused(self) -> list[tuple[str, str]]:
        return list(zip(self.rejected["where"], self.rejected["code"], strict=True))


async def read_all(
    path: Path | str,
    *,
    base: Path | None = None,
    start: Position | None = None,
    chunk_rows: int | None = None,
    needed: list[str] | None = None,
    parallelism: int = 1,
    split: str | None = None,
    pin: str | None = None,
    **options: Any,
) -> Read:
    config = SOURCE.config.model_validate({"path": str(path), **options})
    context = Context(pipeline="test", base=base or Path(), chunk_rows=chunk_rows, parallelism=parallelism)
    async with SOURCE.build(config, context) as source:
        found = await source.discover()
        chunks = [
            chunk
            for name in ([split] if split else found.splits)
            async for chunk in source.read(name, start, pin=pin or found.pin, columns=needed)
        ]
    return Read(found, chunks)


@pytest.fixture
def read() -> Callable[..., Awaitable[Read]]:
    return read_all

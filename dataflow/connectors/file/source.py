"""`file` as a source: the files of a path, folder or glob, in order, in as many splits as are read in parallel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Self

from dataflow.components import Component, Kind
from dataflow.connectors.file.config import FileSourceConfig
from dataflow.connectors.file.discovery import find_pin
from dataflow.connectors.file.pin import pinned
from dataflow.connectors.file.position import Place, place
from dataflow.connectors.file.reader import Reader
from dataflow.connectors.file.worklist import share, splits, worklist
from dataflow.domain.flow import Position
from dataflow.seams import Chunk, Context, Discovery


class FileSource:
    """Reads in threads; several splits at once are independent of each other.

    A pipeline reads the files that are there when a segment begins. A file that is added later is read if its name
    sorts behind those already read."""

    bounded = True

    def __init__(self, config: FileSourceConfig, context: Context) -> None:
        self._config = config
        self._context = context

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def discover(self) -> Discovery:
        return await asyncio.to_thread(self._discover)

    def _discover(self) -> Discovery:
        files = worklist(self._context.base, self._config.path)
        found = find_pin(self._config, files)
        return Discovery(
            splits=splits(files, self._context.parallelism),
            schema=found.schema,
            pin=found.text(),
            total_bytes=sum(file.size for file in files),
        )

    async def read(
        self, split: str, start: Position | None, *, pin: str, columns: Sequence[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        chunks: Iterator[Chunk] | None = None
        coming: asyncio.Future[Chunk | None] | None = None
        try:
            chunks = await asyncio.to_thread(self._chunks, split, start, pin, columns)
            while True:
                coming = asyncio.ensure_future(asyncio.to_thread(next, chunks, None))
                chunk = await asyncio.shield(coming)
                coming = None
                if chunk is None:
                    return
                yield chunk
        finally:
            if coming is not None:
                await asyncio.wait([coming])  # a thread cannot be interrupted; its generator is closed when it is back
                coming.exception() if not coming.cancelled() else None
            if chunks is not None:
                await asyncio.to_thread(chunks.close)  # type: ignore[attr-defined]

    def _chunks(self, split: str, start: Position | None, pin: str, columns: Sequence[str] | None) -> Iterator[Chunk]:
        files = share(worklist(self._context.base, self._config.path), split)
        reader = Reader(self._config, pinned(pin), columns, self._context.chunk_rows)
        return reader.chunks(files, place(start) if start is not None else None)

    def precedes(self, split: str, one: Position, other: Position) -> bool:
        """Files are read in the order of their names, a file from its front."""
        return _order(place(one)) < _order(place(other))

    async def settle(self, split: str, upto: Position) -> None:
        """Files are not ours to remove."""


def _order(at: Place) -> tuple[str, bool, int, int]:
    return at.file, at.done, at.offset, at.line


SOURCE = Component(
    Kind.SOURCE,
    "file",
    FileSourceConfig,
    FileSource,
    "Files: csv, jsonl, json, text, parquet; plain, gzip or zstd; one, a folder or a glob.",
)

"""Parquet, row group by row group, across epochs and processes.

Polars encodes frames as whole files in memory, on all cores; their row groups are put one after the other with moved
offsets (`parquet_footer`). What the final footer needs to know of an epoch's row groups follows them in the file:
a block of their Thrift structs and a trailer that points to the block before. To readers these blocks are gaps that
no column refers to, so a finished file needs no second pass over its data.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import polars as pl

from dataflow.connectors.file.formats import Compression
from dataflow.connectors.file.parquet_footer import MAGIC, Struct, footer_bytes, moved_groups, split_file
from dataflow.connectors.file.sink_config import FileSinkConfig
from dataflow.connectors.in_memory import in_memory
from dataflow.errors import Corrupt, Rejected

_GROUP_ROWS = 250_000
_ZSTD_LEVEL = 2  # on columns as small as level 3, within 4 % either way, in 5 to 40 % less time (docs/decisions/0027)
_HOLD_ROWS = 120_000
_HOLD_BYTES = 32 * 2**20
_TRAILER = struct.Struct("<IIQQ4s")  # bytes of the block, row groups, rows, end of the block before, mark
_MARK = b"DFRG"


class ParquetEncoder:
    """Small frames are held back until they make a row group worth reading."""

    def __init__(self, schema: pl.Schema, config: FileSinkConfig, state: Mapping[str, Any] | None) -> None:
        self._schema = schema
        codec = config.codec
        self._codec: Literal["uncompressed", "gzip", "zstd"]
        self._codec = "uncompressed" if codec is Compression.NONE else codec.value  # type: ignore[assignment]
        self._level = config.compression_level or (_ZSTD_LEVEL if codec is Compression.ZSTD else None)
        self._length: int = state["length"] if state else 0
        self._end: int = state["end"] if state else 0
        self._held: list[pl.DataFrame] = []
        self._held_rows = self._held_bytes = 0
        self._groups: list[bytes] = []
        self._rows = 0
        self._template = self._empty()

    def _empty(self) -> Struct:
        try:
            return split_file(self._parquet(self._schema.to_frame()))
        except (pl.exceptions.PolarsError, NotImplementedError) as error:
            raise Rejected(f"these columns cannot be written as parquet: {error}", code="UNSUPPORTED_TYPE") from error

    def _parquet(self, rows: pl.DataFrame) -> memoryview:
        return in_memory(
            partial(
                rows.write_parquet,
                compression=self._codec,
                compression_level=self._level,
                row_group_size=_GROUP_ROWS,
                statistics=True,
            )
        )

    def add(self, rows: pl.DataFrame) -> list[bytes | memoryview]:
        if rows.is_empty():
            return []
        self._held.append(rows)
        self._held_rows += rows.height
        self._held_bytes += int(rows.estimated_size())
        return self._encode() if self._held_rows >= _HOLD_ROWS or self._held_bytes >= _HOLD_BYTES else []

    def _encode(self) -> list[bytes | memoryview]:
        if not self._held:
            return []
        rows = pl.concat(self._held) if len(self._held) > 1 else self._held[0]
        self._held, self._held_rows, self._held_bytes = [], 0, 0
        data = self._parquet(rows)
        out: list[bytes | memoryview] = [] if self._length else [MAGIC]
        self._length = self._length or len(MAGIC)
        end, count, groups = moved_groups(split_file(data), self._length)
        self._groups += groups
        self._rows += count
        self._length += end - len(MAGIC)
        out.append(data[len(MAGIC) : end])
        return out

    def flush(self) -> list[bytes | memoryview]:
        out = self._encode()
        if not self._groups:
            return out
        block = b"".join(struct.pack("<I", len(group)) + group for group in self._groups)
        trailer = _TRAILER.pack(len(block), len(self._groups), self._rows, self._end, _MARK)
        self._length += len(block) + len(trailer)
        self._end = self._length
        self._groups, self._rows = [], 0
        return [*out, block, trailer]

    def state(self) -> dict[str, Any]:
        return {"length": self._length, "end": self._end}

    def finish(self, read: Callable[[int, int], bytes]) -> list[bytes | memoryview]:
        out = self._encode()
        if not self._length:
            out.append(MAGIC)
        before, rows = _collect(read, self._end)
        out.append(footer_bytes(self._template, rows + self._rows, before + self._groups))
        return out


def _collect(read: Callable[[int, int], bytes], end: int) -> tuple[list[bytes], int]:
    """The row groups of all blocks up to `end`, walking back from block to block, and their rows."""
    blocks: list[list[bytes]] = []
    rows = 0
    while end:
        length, count, here, previous, mark = _TRAILER.unpack(read(_TRAILER.size, end - _TRAILER.size))
        if mark != _MARK or previous >= end:
            raise Corrupt(f"no row group block ends at byte {end} of the committed Parquet data")
        data = read(length, end - _TRAILER.size - length)
        groups, at = [], 0
        for _ in range(count):
            (size,) = struct.unpack_from("<I", data, at)
            groups.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        blocks.append(groups)
        rows += here
        end = previous
    return [group for groups in reversed(blocks) for group in groups], rows

"""Questions about the bytes of a piece of text, answered at memory speed: no loop of Python over them."""

from __future__ import annotations

from typing import cast

import polars as pl
import pyarrow as pa


def view(data: bytes | memoryview) -> pl.Series:
    """The bytes as a column of UInt8, without a copy."""
    column = pa.Array.from_buffers(pa.uint8(), len(data), [None, pa.py_buffer(data)])
    return cast(pl.Series, pl.from_arrow(column))


def count(column: pl.Series, byte: int) -> int:
    return int((column == byte).sum())


def followers(column: pl.Series, byte: int) -> pl.Series:
    """The bytes right after each occurrence of `byte` (but one at the very end), in order."""
    return column.slice(1).filter(column.slice(0, len(column) - 1) == byte)


def only(column: pl.Series, allowed: bytes) -> bool:
    """Whether it holds none but the allowed bytes."""
    fine = column == allowed[0]
    for byte in allowed[1:]:
        fine = fine | (column == byte)
    return bool(fine.all())


def is_utf8(data: bytes) -> bool:
    offsets = pa.array([0, len(data)], pa.int64()).buffers()[1]
    text = pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, pa.py_buffer(data)])
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def lines_within(data: bytes, end: bytes, longest: int) -> bool:
    """Whether no line is longer than `longest` bytes, without its line end. `data` ends with a line end."""
    at = 0
    while at < len(data):
        found = data.rfind(end, at, at + longest + 1)
        if found < 0:
            return False
        at = found + 1
    return True

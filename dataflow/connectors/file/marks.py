"""Questions about the bytes of a piece of text, answered at memory speed: no loop of Python over them."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pyarrow as pa


@dataclass(frozen=True, slots=True)
class _Column:
    """An array that tells no more of itself than how to get at its memory: `pl.from_arrow` would load `pyarrow.compute`
    to look for what only it can convert, which takes longer than a small file does."""

    array: pa.Array

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        found: tuple[object, object] = self.array.__arrow_c_array__(requested_schema)
        return found


def column(array: pa.Array) -> pl.Series:
    """The array as a column of Polars, without a copy."""
    return pl.Series(_Column(array))


def view(data: bytes | memoryview) -> pl.Series:
    """The bytes as a column of UInt8, without a copy."""
    return column(pa.Array.from_buffers(pa.uint8(), len(data), [None, pa.py_buffer(data)]))


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

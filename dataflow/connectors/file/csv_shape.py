"""Whether every CSV record of a piece has its fields, found at memory speed: bits of bytes, 64 to a word.

A byte is inside quotes where the number of quotes up to it is odd: a prefix sum of bits modulo 2, worked out word by
word as in simdjson (Langdale and Lemire, "Parsing gigabytes of JSON per second", VLDB Journal 28, 2019, 3.1.1). What
is left outside are the delimiters and line ends that count; of them, every n-th has to be a line end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from dataflow.connectors.file.csv_records import Dialect

Words = npt.NDArray[np.uint64]
_STEPS = tuple(np.uint64(step) for step in (1, 2, 4, 8, 16, 32))
_ONE, _TOP = np.uint64(1), np.uint64(63)
_BLOCK = 16384  # words worked on at a time: what a core keeps close to itself


@dataclass(frozen=True, slots=True)
class Shape:
    """`ends` marks the bytes that end a record; `lines` counts all line ends, those inside quotes too."""

    records: int
    lines: int
    ends: pl.Series

    def longest(self) -> int:
        """Bytes of the longest record, its line end included."""
        after = self.ends.arg_true() + 1
        return int((after - after.shift(1, fill_value=0)).max() or 0)  # type: ignore[arg-type]


def shape(column: pl.Series, dialect: Dialect, wide: int) -> Shape | None:
    """The shape of whole records, given as a column of bytes that begins with a record and ends with a line end.

    None where one of them has more or fewer fields than `wide`, where a quote neither opens a field, closes it nor is
    doubled inside one, and where a line is blank."""
    ends, counts = np.zeros((2, -(-len(column) // 64)), np.uint64)
    quoted = _Quoted() if dialect.quote else None
    lines = 0
    for at in range(0, len(ends), _BLOCK):
        block = column.slice(at * 64, _BLOCK * 64)
        end, mark = ends[at : at + _BLOCK], counts[at : at + _BLOCK]
        _fill(end, block, dialect.end)
        _fill(mark, block, dialect.delimiter)
        lines += int(np.bitwise_count(end).sum())
        mark |= end
        if quoted and not quoted.leave_out(block, dialect.quote, end, mark):
            return None
    if quoted and quoted.open:
        return None
    found = _bits(ends, len(column))
    # One bit for each delimiter and line end that counts: is it a line end?
    order = found.filter(_bits(counts, len(column)))
    every = order.gather_every(wide, wide - 1)
    records = int(np.bitwise_count(ends).sum())
    if records * wide != len(order) or len(every) != records or not every.all():
        return None
    return Shape(records, lines, found)


class _Quoted:
    """Takes what is inside quotes out of masks, block after block. `open`: a quote is not closed yet."""

    def __init__(self) -> None:
        self._scratch = np.zeros((4, _BLOCK), np.uint64)
        self._odd = np.uint64(0)  # all ones where the block begins inside quotes
        self._last_quote = self._last_plain = np.uint64(0)  # of the byte before: a quote, an ordinary byte outside

    @property
    def open(self) -> bool:
        return bool(self._odd)

    def leave_out(self, block: pl.Series, quote: bytes, ends: Words, marks: Words) -> bool:
        """Clear the bits of `ends` and `marks` (which includes them) that are inside quotes. False where a quote
        stands beside an ordinary byte outside: in the middle of an unquoted field, or in front of more text."""
        quotes, inside, plain, shifted = self._scratch[:, : len(ends)]
        _fill(quotes, block, quote)
        np.copyto(inside, quotes)
        for step in _STEPS:
            np.left_shift(inside, step, out=shifted)
            np.bitwise_xor(inside, shifted, out=inside)
        np.right_shift(inside, _TOP, out=shifted)
        np.bitwise_xor.accumulate(shifted, out=shifted)
        np.negative(shifted, out=shifted)
        np.bitwise_xor(inside[1:], shifted[:-1], out=inside[1:])
        np.bitwise_xor(inside, self._odd, out=inside)
        self._odd ^= shifted[-1]
        np.bitwise_or(marks, quotes, out=plain)
        np.bitwise_or(plain, inside, out=plain)
        np.invert(plain, out=plain)
        if 64 * len(ends) > len(block):
            plain[-1] &= (_ONE << np.uint64(len(block) % 64)) - _ONE
        # A quote before or behind an ordinary byte: the one shifted onto the other, over the ends of words and blocks.
        stray = (self._last_quote & plain[0]) | (self._last_plain & quotes[0])
        self._last_quote, self._last_plain = quotes[-1] >> _TOP, plain[-1] >> _TOP
        np.left_shift(quotes, _ONE, out=shifted)
        shifted[1:] |= quotes[:-1] >> _TOP
        shifted |= quotes >> _ONE
        shifted[:-1] |= quotes[1:] << _TOP
        shifted &= plain
        if stray & _ONE or shifted.any():
            return False
        np.invert(inside, out=inside)
        ends &= inside
        marks &= inside
        return True


def _fill(words: Words, block: pl.Series, byte: bytes) -> None:
    """Where the byte stands in the block: a bit for each, the first in the lowest of the first word."""
    bits = cast(Any, (block == byte[0]).to_arrow()).buffers()[1]
    whole, rest = divmod(len(block), 64)
    words[:whole] = np.frombuffer(bits, np.uint64, count=whole)
    if rest:
        last = int.from_bytes(memoryview(bits)[whole * 8 : -(-len(block) // 8)], "little")
        words[-1] = last & ((1 << rest) - 1)


def _bits(words: Words, count: int) -> pl.Series:
    """The first `count` bits as a column of booleans, without a copy."""
    return cast(pl.Series, pl.from_arrow(pa.Array.from_buffers(pa.bool_(), count, [None, pa.py_buffer(words)])))

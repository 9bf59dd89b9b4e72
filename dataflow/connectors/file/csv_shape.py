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
from dataflow.connectors.file.marks import column, view

Words = npt.NDArray[np.uint64]
_STEPS = tuple(np.uint64(step) for step in (1, 2, 4, 8, 16, 32))
_ONE, _TOP = np.uint64(1), np.uint64(63)
_BLOCK = 16384  # words worked on at a time: fewer are more calls, more leave the cache
_HIGH = np.uint64(0x8080808080808080)  # set in eight bytes that are not all ASCII


@dataclass(frozen=True, slots=True)
class Shape:
    """`ends` marks the bytes that end a record; `lines` counts all line ends, those inside quotes too. `ascii`: there
    is no other byte. `returns`: there is a CR."""

    records: int
    lines: int
    ends: pl.Series
    ascii: bool
    returns: bool

    def longest(self) -> int:
        """Bytes of the longest record, its line end included."""
        after = self.ends.arg_true() + 1
        return int((after - after.shift(1, fill_value=0)).max() or 0)  # type: ignore[arg-type]


def shape(data: bytes, dialect: Dialect, wide: int) -> Shape | None:
    """The shape of whole records: `data` begins with a record and ends with a line end.

    None where one of them has more or fewer fields than `wide`, where a quote neither opens a field, closes it nor is
    doubled inside one, and where a line is blank."""
    octets, eights = view(data), np.frombuffer(data, np.uint64, count=len(data) // 8)
    ends, marks = np.empty((2, -(-len(data) // 64)), np.uint64)
    quoted = _Quoted() if dialect.quote else None
    lines, high, returns = 0, np.uint64(0), False
    for at in range(0, len(ends), _BLOCK):
        block = octets.slice(at * 64, _BLOCK * 64)
        # All that is asked of the bytes is asked block by block: memory is read once.
        high |= np.bitwise_or.reduce(eights[at * 8 : (at + _BLOCK) * 8])
        returns = returns or data.find(b"\r", at * 64, (at + _BLOCK) * 64) >= 0
        found, end, mark = block == dialect.end[0], ends[at : at + _BLOCK], marks[at : at + _BLOCK]
        lines += int(found.sum())
        whole = _words(found)
        np.bitwise_or(whole, _words(block == dialect.delimiter[0]), out=mark)
        if quoted is None:
            np.copyto(end, whole)
        elif not quoted.leave_out(_words(block == dialect.quote[0]), len(block), whole, end, mark):
            return None
    if quoted and quoted.open:
        return None
    ending = _bits(ends, len(data))
    # One bit for each delimiter and line end that counts: is it a line end?
    order = ending.filter(_bits(marks, len(data)))
    records = int(ending.sum())
    if records * wide != len(order) or not _every(order, wide):
        return None
    return Shape(records, lines, ending, not high & _HIGH and data[8 * len(eights) :].isascii(), returns)


class _Quoted:
    """Takes what is inside quotes out of masks, block after block. `open`: a quote is not closed yet."""

    def __init__(self) -> None:
        self._scratch = np.empty((3, _BLOCK), np.uint64)
        self._odd = np.uint64(0)  # all ones where the block begins inside quotes
        self._last_quote = self._last_plain = np.uint64(0)  # of the byte before: a quote, an ordinary byte outside

    @property
    def open(self) -> bool:
        return bool(self._odd)

    def leave_out(self, quotes: Words, size: int, found: Words, ends: Words, marks: Words) -> bool:
        """Of a block of `size` bytes, `quotes` and `found` (its line ends): write the line ends outside quotes to
        `ends`, and clear the bits of `marks` (which includes them) that are inside. False where a quote stands beside
        an ordinary byte outside: in the middle of an unquoted field, or in front of more text."""
        if not (self._odd or self._last_quote or quotes.any()):
            self._last_plain = ~marks[-1] >> _TOP
            np.copyto(ends, found)
            return True
        inside, plain, shifted = self._scratch[:, : len(quotes)]
        np.copyto(inside, quotes)
        for step in _STEPS:
            np.left_shift(inside, step, out=shifted)
            np.bitwise_xor(inside, shifted, out=inside)
        np.right_shift(inside, _TOP, out=shifted)
        np.bitwise_xor.accumulate(shifted, out=shifted)
        np.negative(shifted, out=shifted)
        np.bitwise_xor(inside[1:], shifted[:-1], out=inside[1:])
        if self._odd:
            np.invert(inside, out=inside)
        self._odd ^= shifted[-1]
        np.bitwise_or(marks, quotes, out=plain)
        np.bitwise_or(plain, inside, out=plain)
        np.invert(plain, out=plain)
        if 64 * len(quotes) > size:
            plain[-1] &= (_ONE << np.uint64(size % 64)) - _ONE
        if (
            self._last_quote & plain[0] & _ONE
            or self._last_plain & quotes[0] & _ONE
            or _followed(quotes, plain, shifted)
            or _followed(plain, quotes, shifted)
        ):
            return False
        self._last_quote, self._last_plain = quotes[-1] >> _TOP, plain[-1] >> _TOP
        np.invert(inside, out=inside)
        np.bitwise_and(found, inside, out=ends)
        np.bitwise_and(marks, inside, out=marks)
        return True


def _followed(first: Words, second: Words, scratch: Words) -> bool:
    """Whether any bit of `first` has one of `second` right behind it."""
    np.left_shift(first, _ONE, out=scratch)
    np.bitwise_and(scratch, second, out=scratch)
    if scratch.any():
        return True
    across = scratch[1:]
    np.right_shift(first[:-1], _TOP, out=across)
    np.bitwise_and(across, second[1:], out=across)
    return bool(across.any())


def _every(order: pl.Series, wide: int) -> bool:
    """Whether it is true at every `wide`-th place, given that as many are true as there are such places."""
    whole = len(order) // (8 * wide) * wide  # bytes: eight records fill as many as one has fields
    bits = np.frombuffer(cast(Any, order.to_arrow()).buffers()[1], np.uint8, count=whole)
    expected = np.packbits(np.arange(8 * wide) % wide == wide - 1, bitorder="little")
    rest = order.slice(8 * whole).gather_every(wide, wide - 1)
    return bool((bits.reshape(-1, wide) == expected).all()) and bool(rest.all())


def _words(bits: pl.Series) -> Words:
    """Booleans as words, the first in the lowest bit of the first word; zeros fill the last word up."""
    buffer = cast(Any, bits.to_arrow()).buffers()[1]
    whole, rest = divmod(len(bits), 64)
    words = np.frombuffer(buffer, np.uint64, count=whole)
    if not rest:
        return words
    last = int.from_bytes(memoryview(buffer)[whole * 8 : -(-len(bits) // 8)], "little")
    return np.append(words, np.uint64(last & ((1 << rest) - 1)))


def _bits(words: Words, count: int) -> pl.Series:
    """The first `count` bits as a column of booleans, without a copy."""
    return column(pa.Array.from_buffers(pa.bool_(), count, [None, pa.py_buffer(words)]))

"""Values of binary formats, whole columns at once: numbers, texts and lists, one behind the other in each row.

A row's value is made of *parts*: columns of bytes that are joined in the end, and only there (`joined`). What stands in
front of a part (a tag, a length, the number of a branch) is handed on as its *lead*, and written with its first number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dataflow.errors import BadRecord

Columns = Mapping[str, pa.Array]

Mask = npt.NDArray[np.bool_]
"""Which rows have the value at all: the others have no bytes."""

Whole = npt.NDArray[np.int64]
Number = tuple[npt.NDArray[np.uint64], Whole]
"""A number a row, to be written seven bits a byte, and how many bytes it takes (none where it is not there)."""

Lead = tuple[Number, ...]
Parts = list[pa.LargeBinaryArray]
Writer = Callable[[pa.Array, Mask, Lead], Parts]
"""The parts of a column. Where the mask says so there is a value: NULL is the business of who calls."""

BINARY = pa.large_binary()
_BITS = tuple(range(7, 64, 7))


def columns_of(rows: pl.DataFrame) -> dict[str, pa.Array]:
    """The columns in Arrow, of one piece each, in the plain layouts."""
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    return {name: _one(table.column(name)) for name in table.column_names}


def _one(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def joined(parts: Sequence[Any], count: int) -> pa.LargeBinaryArray:
    """The parts of each row one behind the other; scalars are the same in each. NULL is no bytes."""
    if not any(isinstance(part, pa.Array) for part in parts):
        parts = [pa.repeat(pa.scalar(b"", BINARY), count), *parts]
    if len(parts) == 1:
        return parts[0]
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", BINARY), null_handling="replace", null_replacement="")


def valid(column: pa.Array) -> Mask:
    return cast(Mask, column.is_valid().to_numpy(zero_copy_only=False))


def masked(column: pa.Array, there: Mask) -> pa.Array:
    """The same with NULL in every row that is not there."""
    if bool(there.all()) or not (valid(column) & ~there).any():
        return column
    return pc.if_else(pa.array(there), column, pa.scalar(None, column.type))


# --- numbers ----------------------------------------------------------------------------------------------------------


def whole(column: pa.Array, kind: str, where: str) -> Whole:
    """The column as that integer type, zero for NULL. Raises `BadRecord` where a number does not fit."""
    return cast(Whole, cast_to(column, getattr(pa, kind)(), where).fill_null(0).to_numpy(zero_copy_only=False))


def cast_to(column: pa.Array, kind: pa.DataType, where: str) -> pa.Array:
    """Raises `BadRecord` where a value does not fit the type."""
    try:
        return column if column.type == kind else pc.cast(column, kind)
    except pa.ArrowInvalid as error:
        raise misfit(where, str(error)) from error


def misfit(where: str, why: str) -> BadRecord:
    return BadRecord(f"{where} does not fit the schema: {why}", hint="filter such rows out, or change them in a map")


def plain(values: npt.NDArray[Any], there: Mask) -> Number:
    """As it is, negative numbers as 64 bits in two's complement."""
    known = values.astype(np.int64, copy=False).view(np.uint64) if values.dtype.kind == "i" else values
    known = known.astype(np.uint64, copy=False)
    most = int(known.max(initial=0))
    sizes = there.astype(np.int64)
    for bits in _BITS:
        if most < 1 << bits:
            break
        sizes += (known >= np.uint64(1 << bits)) & there
    return known, sizes


def zigzag(values: Whole, there: Mask) -> Number:
    known = values.astype(np.int64, copy=False)
    return plain(((known << 1) ^ (known >> 63)).view(np.uint64), there)


def same(value: int, there: Mask) -> Number:
    """That number, as it is, in each row that is there."""
    size = max(1, -(-value.bit_length() // 7))
    return np.full(len(there), value, np.uint64), there.astype(np.int64) * size


def numbers(lead: Lead) -> Parts:
    """What has been collected, as one part; none where there is nothing."""
    if not lead:
        return []
    count = len(lead[0][0])
    bounds = np.zeros(count + 1, np.int64)
    np.cumsum(sum(sizes for _, sizes in lead), out=bounds[1:])
    made = np.zeros(int(bounds[-1]), np.uint8)
    at = bounds[:-1]
    for values, sizes in lead:
        _write(made, at, values, sizes)
        at = at + sizes
    return [_column(bounds, made)]


def _write(made: npt.NDArray[np.uint8], at: Whole, values: npt.NDArray[np.uint64], sizes: Whole) -> None:
    least, most = int(sizes.min(initial=1)), int(sizes.max(initial=0))
    if most == 1:
        byte = values.astype(np.uint8)
        if least == 1:
            made[at] = byte
        else:
            there = np.flatnonzero(sizes)
            made[at[there]] = byte[there]
        return
    for place in range(most):
        byte = ((values >> np.uint64(7 * place)) & np.uint64(127)).astype(np.uint8)
        byte |= (sizes > place + 1).astype(np.uint8) << 7
        if place < least:
            made[at + place] = byte
        else:
            more = np.flatnonzero(sizes > place)
            made[at[more] + place] = byte[more]


def fixed(values: npt.NDArray[Any], there: Mask) -> pa.LargeBinaryArray:
    """Numbers as the bytes that they are in memory, little end first."""
    width = values.dtype.itemsize
    bounds = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.where(there, width, 0), out=bounds[1:])
    kept = values if bool(there.all()) else values[there]
    return _column(bounds, np.ascontiguousarray(kept).view(np.uint8))


def _column(bounds: Whole, data: npt.NDArray[np.uint8]) -> pa.LargeBinaryArray:
    return pa.LargeBinaryArray.from_buffers(BINARY, len(bounds) - 1, [None, pa.py_buffer(bounds), pa.py_buffer(data)])


# --- texts and lists --------------------------------------------------------------------------------------------------


def texts(column: pa.Array, there: Mask) -> tuple[pa.LargeBinaryArray, Whole]:
    """Text or bytes as bytes, and how long each is."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    made = masked(pc.cast(column, BINARY), there)
    return made, lengths(made)


def lengths(column: pa.LargeBinaryArray) -> Whole:
    return cast(Whole, pc.binary_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64))


def items(column: pa.Array, there: Mask) -> tuple[pa.Array, Whole]:
    """The items of all lists that are there, one after the other, and how many each list has."""
    column = masked(column, there)
    counts = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return column.flatten(), cast(Whole, counts)


def regrouped(each: pa.LargeBinaryArray, counts: Whole) -> pa.LargeBinaryArray:
    """The bytes of items as those of their lists: the same bytes, with fewer bounds."""
    _, bounds, data = each.buffers()
    ends = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=ends[1:])
    if not len(each):
        return _column(ends, np.zeros(0, np.uint8))
    known = np.frombuffer(bounds, np.int64)[each.offset : each.offset + len(each) + 1]
    return pa.LargeBinaryArray.from_buffers(BINARY, len(counts), [None, pa.py_buffer(known[ends]), data])


def constant(value: bytes, there: Mask) -> pa.LargeBinaryArray:
    """The same bytes in each row that is there."""
    return pc.if_else(pa.array(there), pa.scalar(value, BINARY), pa.scalar(None, BINARY))


def decimals(column: pa.Array, scale: int, width: int | None, there: Mask, where: str) -> pa.LargeBinaryArray:
    """The unscaled numbers, great end first, in so many bytes, or as few as hold them."""
    known = cast_to(column, pa.decimal128(38, scale), where)
    raw = np.frombuffer(known.buffers()[1], np.uint8)[16 * known.offset : 16 * (known.offset + len(known))]
    great = raw.reshape(-1, 16)[there][:, ::-1]
    sign = np.where(great[:, :1] & 0x80, 0xFF, 0).astype(np.uint8)
    idle = great == sign  # leading bytes that only repeat the sign
    lead = np.where(idle.all(axis=1), 15, idle.argmin(axis=1))
    kept = np.take_along_axis(great, lead[:, None], 1)
    lead -= ((kept ^ sign)[:, 0] & 0x80 != 0) & (lead > 0)
    if width is not None:
        if (16 - lead > width).any():
            raise misfit(where, f"a number needs more than {width} bytes")
        great = np.concatenate((np.repeat(sign, max(width - 16, 0), axis=1), great[:, max(16 - width, 0) :]), axis=1)
        lead = np.zeros(len(great), np.int64)
    sizes = np.zeros(len(there), np.int64)
    sizes[there] = great.shape[1] - lead
    bounds = np.zeros(len(there) + 1, np.int64)
    np.cumsum(sizes, out=bounds[1:])
    return _column(bounds, np.ascontiguousarray(great[np.arange(great.shape[1]) >= lead[:, None]]))

"""Record batches as they come from the broker, in columns: where each record's parts lie within one buffer.

What happens to a record happens to all of a fetch at once; only the chain of lengths that leads from one record to the
next is followed one by one (`_starts`), as each is found by the one before.
The format (magic 2): https://kafka.apache.org/documentation/#recordbatch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast, overload

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from aiokafka.errors import CorruptRecordException

Positions = npt.NDArray[np.int64]
Buffer = npt.NDArray[np.uint8]

_INLINE = 12  # bytes of a value that Arrow's binary view holds in itself
_GAP = 64  # bytes between two values: with more, cutting out each value is cheaper than blanking what is between
_PADDING = 16  # bytes behind the last record, so that looking for a number's end is never beyond the buffer's
_SHORTEST = 6  # bytes of a record behind its length: one for each part
_SPACE, _BREAK, _OPEN, _CLOSE = b" \n{}"


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one partition in the order of their offsets. Lengths are -1 where there is no key or value."""

    data: Buffer
    offsets: Positions
    timestamps: Positions
    key_at: Positions
    key_lengths: Positions
    value_at: Positions
    value_lengths: Positions
    header_at: Positions
    header_counts: Positions

    def __len__(self) -> int:
        return len(self.offsets)

    def slice(self, start: int, stop: int) -> Self:
        """Some of them, in the same buffer."""
        part = slice(start, stop)
        columns = (getattr(self, name)[part] for name in self.__slots__[1:])
        return type(self)(self.data, *columns)

    def within(self, begin: int, end: int | None) -> Self:
        """Those with offsets from `begin` to before `end`."""
        first = int(np.searchsorted(self.offsets, begin))
        last = len(self) if end is None else int(np.searchsorted(self.offsets, end))
        return self if last - first == len(self) else self.slice(first, last)

    @property
    def keys(self) -> pl.Series:
        """Binary; NULL where there is none."""
        return views(self.data, self.key_at, self.key_lengths)

    @property
    def values(self) -> Values:
        return Values(self)

    def headers(self) -> list[list[tuple[str, bytes | None]]]:
        """Of each record, in order. Raises `CorruptRecordException` where they are not as the format says."""
        data = self.data
        return [
            _headers(data, at, count) if count else []
            for at, count in zip(self.header_at.tolist(), self.header_counts.tolist(), strict=True)
        ]


class Values(Sequence["bytes | None"]):
    """The values of some records: bytes each, or None; a column; or the text they make together."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> bytes | None: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes | None]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes | None] | None:
        if isinstance(index, slice):
            return self.series()[index].to_list()
        at, length = int(self._records.value_at[index]), int(self._records.value_lengths[index])
        return None if length < 0 else self._records.data[at : at + length].tobytes()

    def __iter__(self) -> Iterator[bytes | None]:
        return iter(self.series().to_list())

    @property
    def total(self) -> int:
        """Bytes of all of them."""
        return int(np.maximum(self._records.value_lengths, 0).sum())

    def series(self) -> pl.Series:
        """Binary; NULL where there is none."""
        return views(self._records.data, self._records.value_at, self._records.value_lengths)

    def lines(self) -> Buffer | None:
        """The values as lines of one text behind an empty one, in order: blanks may stand behind each of them, and for
        one that is missing there is an empty object. None where a value has a line break inside."""
        records = self._records
        if not len(records):
            return np.zeros(0, np.uint8)
        # A missing value has two bytes of its own: its length (-1), and the number of headers behind it.
        missing = records.value_lengths < 0
        begins, ends = records.value_at - missing, records.value_at + np.where(missing, 1, records.value_lengths)
        blanks = begins[1:] - ends[:-1] - 1
        if int(blanks.max(initial=0)) > _GAP:
            return self._joined()
        base = int(begins[0]) - 1  # inside the first record's own frame
        text = records.data[base : int(ends[-1])].copy()
        breaks = begins - (base + 1)
        text[breaks] = _BREAK
        _blank(text, breaks[1:], blanks)
        if missing.any():
            text[breaks[missing] + 1] = _OPEN
            text[breaks[missing] + 2] = _CLOSE
        return text if int(np.count_nonzero(text == _BREAK)) == len(records) else None

    def _joined(self) -> Buffer | None:
        lines = [b"{}" if value is None else value for value in self]
        text = np.frombuffer(b"\n".join([b"", *lines]), np.uint8)
        return text if int(np.count_nonzero(text == _BREAK)) == len(lines) else None


def _blank(text: Buffer, before: Positions, counts: Positions) -> None:
    """So many bytes before each of the positions become blanks: some at once, where there are as many in each place."""
    if not len(counts):
        return
    least, most = int(counts.min()), int(counts.max())
    width = next(width for width in (8, 4, 2, 1) if width <= max(least, 1))
    words, blanks = _words(text, f"<u{width}"), int.from_bytes(b" " * width, "little")
    for far in range(width, most + 1, width):
        words[before - far if far <= least else before[counts >= far] - far] = blanks
    if least:
        words[before - counts] = blanks  # what is left over; it may be blank already


def parsed(
    bodies: Sequence[bytes], counts: Sequence[int], offsets: Sequence[int], timestamps: Sequence[tuple[int, int | None]]
) -> Records:
    """The records of batches: of each, its bytes behind the batch's header (uncompressed), the number of records, the
    base offset, and the base timestamp with the one that is to stand for all (None: each has its own).

    Raises `CorruptRecordException` where the bytes are not as the format says."""
    if min(counts, default=0) < 0:
        raise CorruptRecordException("a batch has less than no records")
    if not bodies:
        return Records(np.zeros(0, np.uint8), *[np.zeros(0, np.int64)] * 8)
    data = np.frombuffer(b"".join([*bodies, bytes(_PADDING)]), np.uint8)
    bounds = np.cumsum([0, *map(len, bodies)])
    begins = _guessed(data, bounds)
    if begins is None or len(begins) != sum(counts):
        begins = np.concatenate([np.zeros(0, np.int64), *_followed(bodies, counts)])
    of = np.repeat(np.arange(len(bodies)), counts)
    base = np.asarray([first if common is None else common for first, common in timestamps], np.int64)
    own = np.asarray([common is None for _, common in timestamps], np.bool_)
    try:
        if (begins[np.cumsum(counts) - np.asarray(counts)] != bounds[:-1]).any():
            raise CorruptRecordException("a batch has another number of records than it says")
        return _parsed(data, begins, np.asarray(offsets, np.int64)[of], base[of], own[of])
    except IndexError as error:
        raise CorruptRecordException("a record ends outside of its batch") from error


def _guessed(data: Buffer, bounds: Positions) -> Positions | None:
    """Where records begin, if they have no headers: then each ends with a zero, their number. What follows a zero is
    tried, and all is right only if each record ends where the next one begins. None: it has to be found otherwise."""
    end = int(bounds[-1])
    tried = np.concatenate((bounds[:1], np.flatnonzero(data[: end - 1] == 0) + 1)) if end else bounds[:0]
    lengths, at = varints(data, tried)
    behind = at + lengths
    fits = (lengths >= _SHORTEST) & (data[at] == 0) & (behind <= end)  # no attributes
    fits[fits] = data[behind[fits] - 1] == 0
    begins: Positions = tried[fits]
    behind = behind[fits]
    if not len(begins) or begins[0] != 0 or behind[-1] != end or (begins[1:] != behind[:-1]).any():
        return None
    return begins


def _followed(bodies: Sequence[bytes], counts: Sequence[int]) -> Iterator[Positions]:
    """Where records begin, in the bodies one behind the other, from each to the next."""
    base = 0
    for body, count in zip(bodies, counts, strict=True):
        if not 0 <= count * (_SHORTEST + 1) <= len(body):
            raise CorruptRecordException(f"{count} records cannot have {len(body)} bytes")
        found = [0] * count
        view, at = memoryview(body), 0
        try:
            for number in range(count):
                found[number] = at
                length, at = _varint(view, at)
                at += length
                if length < _SHORTEST:
                    raise CorruptRecordException(f"a record has {length} bytes")
        except IndexError as error:
            raise CorruptRecordException("a record ends outside of its batch") from error
        if at != len(body):
            raise CorruptRecordException(f"{count} records end at byte {at} of {len(body)}")
        yield np.asarray(found, np.int64) + base
        base += len(body)


def _parsed(data: Buffer, begins: Positions, bases: Positions, times: Positions, own: npt.NDArray[np.bool_]) -> Records:
    lengths, at = varints(data, begins)
    ends = at + lengths
    deltas, at = varints(data, at + 1)  # the record's attributes are unused
    later, at = varints(data, at)
    key_lengths, key_at = varints(data, at)
    value_lengths, value_at = varints(data, key_at + np.maximum(key_lengths, 0))
    header_counts, header_at = varints(data, value_at + np.maximum(value_lengths, 0))
    offsets = bases + later
    if (
        (header_at > ends).any()
        or ((header_at != ends) & (header_counts == 0)).any()
        or min(header_counts.min(initial=0), key_lengths.min(initial=0) + 1, value_lengths.min(initial=0) + 1) < 0
        or (np.diff(offsets) <= 0).any()
    ):
        raise CorruptRecordException("the parts of a record do not fit its length, or offsets do not rise")
    timestamps = np.where(own, times + deltas, times)
    return Records(data, offsets, timestamps, key_at, key_lengths, value_at, value_lengths, header_at, header_counts)


def varints(data: Buffer, at: Positions) -> tuple[Positions, Positions]:
    """The zigzag numbers that begin there, and the positions behind them; `data` goes on for a byte more than that.
    Raises IndexError beyond the end, `CorruptRecordException` for more than 64 bits."""
    pair: Positions = _words(data, "<u2")[at].astype(np.int64)  # most numbers have one byte or two
    longer = pair >> 7 & 1
    behind: Positions = at + 1 + longer
    value: Positions = (pair & 127) | (pair >> 1 & 0x3F80) * longer
    if (longest := np.flatnonzero(longer & pair >> 15)).size:
        value[longest], behind[longest] = _long(data, at[longest])
    return (value >> 1 & 0x7FFFFFFFFFFFFFFF) ^ -(value & 1), behind


def _words(data: Buffer, kind: str) -> npt.NDArray[Any]:
    """The numbers of that type that begin at each of the bytes."""
    count = len(data) - np.dtype(kind).itemsize + 1
    return np.ndarray((max(count, 0),), kind, data, 0, (1,))


def _long(data: Buffer, at: Positions) -> tuple[Positions, Positions]:
    value = np.zeros(len(at), np.int64)
    behind = at.copy()
    more = np.arange(len(at))
    for shift in range(0, 64, 7):
        found = data[behind[more]]
        value[more] |= (found & 127).astype(np.int64) << shift
        behind[more] += 1
        more = more[found > 127]
        if not len(more):
            return value, behind
    raise CorruptRecordException("a number has more than 64 bits")


def _headers(data: Buffer, at: int, count: int) -> list[tuple[str, bytes | None]]:
    found: list[tuple[str, bytes | None]] = []
    view = data.data
    try:
        for _ in range(count):
            size, at = _varint(view, at)
            name = str(view[at : at + size], "utf-8")
            length, at = _varint(view, at + size)
            found.append((name, None if length < 0 else bytes(view[at : at + length])))
            at += max(length, 0)
    except (IndexError, UnicodeDecodeError) as error:
        raise CorruptRecordException("the headers of a record are not as the format says") from error
    return found


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value >> 1 ^ -(value & 1), at
        shift += 7


def views(data: Buffer, at: Positions, lengths: Positions) -> pl.Series:
    """A Binary column of parts of the buffer, not copied where they are long; NULL where a length is -1."""
    if not len(at):
        return pl.Series([], dtype=pl.Binary)
    known = np.maximum(lengths, 0)
    made = np.zeros((len(at), 16), np.uint8)
    made[:, :4] = known.astype("<i4").view(np.uint8).reshape(-1, 4)
    short = known <= _INLINE
    padded = np.concatenate((data, np.zeros(_INLINE, np.uint8)))
    for place in range(_INLINE):
        holds = short & (known > place) if place >= 4 else known > place
        made[holds, 4 + place] = padded[at[holds] + place]
    made[~short, 8:12] = 0  # the number of the buffer
    made[~short, 12:16] = at[~short].astype("<i4").view(np.uint8).reshape(-1, 4)
    valid = None if int(lengths.min()) >= 0 else pa.array(lengths >= 0).buffers()[1]
    buffers = [valid, pa.py_buffer(made), pa.py_buffer(data)]
    return cast(pl.Series, pl.from_arrow(cast(Any, pa.Array.from_buffers(pa.binary_view(), len(at), buffers))))

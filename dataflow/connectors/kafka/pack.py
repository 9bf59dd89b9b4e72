"""Messages to record batches, whole columns at once: the way back of `records` and `batches`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from aiokafka import codec
from aiokafka.producer.message_accumulator import BatchBuilder

from dataflow.connectors.kafka.batches import CHECKED, HEADER, TRANSACTIONAL

Positions = npt.NDArray[np.int64]

BINARY = pa.large_binary()
_SIZE = HEADER.size
_NO_LEADER_EPOCH = -1
_BEHIND_LENGTH = 12  # the batch's length is that of what follows it
_CHECKSUM_AT = 17
_ENCODERS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "gzip": (1, codec.gzip_encode),
    "snappy": (2, codec.snappy_encode),
    "lz4": (3, codec.lz4_encode),
    "zstd": (4, codec.zstd_encode),
}


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages in columns of bytes, those of a partition one behind the other: `runs` are the partitions, and how many
    messages each has. `keys` and `headers` are None where there are none; `headers` are their names, each with its
    values (NULL: left out). Where `ended`, a zero follows each value, which is not part of it."""

    runs: Sequence[tuple[int, int]]
    values: pa.LargeBinaryArray
    keys: pa.LargeBinaryArray | None = None
    headers: Sequence[tuple[str, pa.LargeBinaryArray]] = ()
    ended: bool = False

    @classmethod
    def of(cls, partition: int, values: Sequence[bytes]) -> Messages:
        """The same from single values without keys, of one partition."""
        return cls([(partition, len(values))], pa.array(values, BINARY))


class Packed(BatchBuilder):  # type: ignore[misc]
    """A whole batch, as aiokafka's producer takes it. Compressed here, where that makes it smaller."""

    def __init__(
        self, body: bytes, count: int, timestamp: int, compression: str | None, transactional: bool = True
    ) -> None:
        kind, encode = _ENCODERS[compression] if compression else (0, bytes)
        self._body = encode(body)
        if len(self._body) >= len(body):
            kind, self._body = 0, body
        self._attributes = kind | (TRANSACTIONAL if transactional else 0)
        self._size = _SIZE + len(self._body)
        self._count = count
        self._timestamp = timestamp
        self._producer = (-1, -1, -1)
        self._made: bytearray | None = None

    def append(self, **_: Any) -> None:
        """It is full."""
        return

    def close(self) -> None:
        """It is closed from the beginning."""

    def closed(self) -> bool:
        return True

    def record_count(self) -> int:
        return self._count

    def size(self) -> int:
        return self._size

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytearray:
        """The bytes to send; made once, and the same at every retry."""
        if self._made is None:
            made = bytearray(self._size)
            length, times = self._size - _BEHIND_LENGTH, (self._timestamp, self._timestamp)
            head = (0, length, _NO_LEADER_EPOCH, 2, 0, self._attributes, self._count - 1, *times, *self._producer)
            HEADER.pack_into(made, 0, *head, self._count)
            made[_SIZE:] = self._body
            checksum = crc32c.crc32c(memoryview(made)[CHECKED:])
            made[_CHECKSUM_AT:CHECKED] = checksum.to_bytes(4, "big")
            self._made = made
            self._body = b""
        return self._made


def packed(
    messages: Messages, most: int, timestamp: int, compression: str | None, transactional: bool = True
) -> Iterator[tuple[int, Packed]]:
    """The batches of each partition, of `most` bytes at most before compression; a larger message stands alone. All
    carry the timestamp."""
    if not len(messages.values):
        return
    parts, starts = _records(messages, most - _SIZE)
    # The columns have no NULL in any row at once, and `replace` makes of each NULL what it is: no bytes.
    joined = pc.binary_join_element_wise(*parts, pa.scalar(b"", BINARY), null_handling="replace", null_replacement="")
    _, bounds, data = joined.buffers()
    ends = np.frombuffer(bounds, np.int64)[[*starts[1:], len(joined)]].tolist()
    begin, stops = 0, [*starts[1:].tolist(), len(joined)]
    places = _partitions(messages.runs, starts)
    for place, start, stop, end in zip(places, starts.tolist(), stops, ends, strict=True):
        yield place, Packed(data[begin:end].to_pybytes(), stop - start, timestamp, compression, transactional)
        begin = end


def single(
    value: bytes | None, key: bytes | None, timestamp: int, compression: str | None, transactional: bool = True
) -> Packed:
    """A batch of one message: what `packed` makes of it, without columns."""
    parts = bytearray(3)  # no attributes, timestamp and offset those of the batch
    for content in (key, value):
        parts += varint(-1 if content is None else len(content)) + (content or b"")
    parts += varint(0)
    return Packed(varint(len(parts)) + parts, 1, timestamp, compression, transactional)


def _records(messages: Messages, most: int) -> tuple[list[pa.Array], Positions]:
    """What each record is joined from; and where batches begin."""
    count = len(messages.values)
    value_lengths = _lengths(messages.values, messages.ended)
    key_lengths = np.full(count, -1) if messages.keys is None else _lengths(messages.keys)
    tails, tail_lengths = _headers(messages)
    content = np.maximum(value_lengths, 0) + np.maximum(key_lengths, 0) + tail_lengths
    # Beside it there are a byte of attributes, one of the timestamp, and four numbers of five bytes at most.
    starts = _cuts(content + 22, most, messages.runs)
    place = np.arange(count) - np.repeat(starts, np.diff(starts, append=count))
    numbers = [place, key_lengths, value_lengths]
    lengths = 2 + content + sum(_sizes(number) for number in numbers)
    zeros = np.zeros(count, np.int64)
    before = [lengths, zeros, zeros, place, key_lengths]
    if messages.keys is None:
        return [varints(*before, value_lengths), messages.values, *tails], starts
    return [varints(*before), messages.keys, varints(value_lengths), messages.values, *tails], starts


def _headers(messages: Messages) -> tuple[list[pa.Array], Positions]:
    """What follows each value, and how many bytes that is."""
    count = len(messages.values)
    if not messages.headers:
        none = [] if messages.ended else [varints(np.zeros(count, np.int64))]
        return none, np.ones(count, np.int64)
    carried = sum(column.is_valid().to_numpy(zero_copy_only=False).astype(np.int64) for _, column in messages.headers)
    found, lengths = [varints(carried)], _sizes(carried)
    for name, column in messages.headers:
        there = column.is_valid()
        sizes, text = _lengths(column), name.encode()
        label = varint(len(text)) + text
        labels = pc.if_else(there, pa.scalar(label, BINARY), pa.scalar(None, BINARY))
        found += [labels, pc.if_else(there, varints(np.maximum(sizes, 0)), pa.scalar(None, BINARY)), column]
        lengths = lengths + np.where(sizes < 0, 0, len(label) + _sizes(sizes) + sizes)
    return found, lengths


def _cuts(sizes: Positions, most: int, runs: Sequence[tuple[int, int]]) -> Positions:
    """Where batches begin: as many records of one partition in each as fit, one at least."""
    total = np.cumsum(sizes)
    starts, start, end = [], 0, 0
    for _, count in runs:
        end += count
        while start < end:
            starts.append(start)
            limit = most + (int(total[start - 1]) if start else 0)
            start = min(end, max(start + 1, int(np.searchsorted(total, limit, side="right"))))
    return np.asarray(starts, np.int64)


def _partitions(runs: Sequence[tuple[int, int]], starts: Positions) -> list[int]:
    """Which partition each of the batches that begin there is for."""
    places, counts = zip(*((place, count) for place, count in runs if count), strict=True)
    found = np.searchsorted(np.cumsum(counts), starts, side="right")
    return [places[run] for run in found.tolist()]


def _lengths(column: pa.LargeBinaryArray, ended: bool = False) -> Positions:
    """Of each value; -1 of a NULL."""
    found = pc.binary_length(column)
    lengths = found.fill_null(-1) if found.null_count else found
    return cast(Positions, lengths.to_numpy(zero_copy_only=False).astype(np.int64)) - int(ended)


def varint(number: int) -> bytes:
    """A number in zigzag, seven bits a byte."""
    coded, made = (number << 1) ^ (number >> 63), bytearray()
    while coded > 127:
        made.append(coded & 127 | 128)
        coded >>= 7
    made.append(coded)
    return bytes(made)


def varints(*numbers: Positions) -> pa.LargeBinaryArray:
    """Numbers in zigzag, seven bits a byte: of each row one behind the other."""
    count = len(numbers[0])
    sizes = [_sizes(number) for number in numbers]
    bounds = np.zeros(count + 1, np.int64)
    np.cumsum(sum(sizes), out=bounds[1:])
    made = np.zeros(int(bounds[-1]), np.uint8)
    at = bounds[:-1]
    for number, size in zip(numbers, sizes, strict=True):
        _write(made, at, _zigzag(number), size)
        at = at + size
    return pa.LargeBinaryArray.from_buffers(BINARY, count, [None, pa.py_buffer(bounds), pa.py_buffer(made)])


def _write(made: npt.NDArray[np.uint8], at: Positions, number: Positions, size: Positions) -> None:
    for place in range(int(size.max())):
        byte = (number >> 7 * place & 127) | ((size > place + 1) << 7)
        if place == 0:
            made[at] = byte
        else:
            more = size > place
            made[at[more] + place] = byte[more]


def _zigzag(number: Positions) -> Positions:
    return (number << 1) ^ (number >> 63)


def _sizes(number: Positions) -> Positions:
    """How many bytes each takes; they are below 2**34."""
    coded = _zigzag(number)
    sizes = np.ones(len(number), np.int64)
    for bits in (7, 14, 21, 28):
        more = coded >= 1 << bits
        if not more.any():
            break
        sizes += more
    return sizes

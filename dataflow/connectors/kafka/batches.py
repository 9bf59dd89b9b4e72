"""What a fetch brings: record batches one behind the other, of which only what was committed counts."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import crc32c
from aiokafka import codec
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatch

from dataflow.connectors.kafka.records import Records, parsed

HEADER = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, CRC, attributes, last offset delta, base and largest timestamp, the
producer's id and epoch, base sequence, count of records."""

CODEC, APPEND_TIME, TRANSACTIONAL, CONTROL = 7, 8, 16, 32  # in the attributes
CHECKED = 21  # the checksum is of all that follows it

_LENGTH = struct.Struct(">qi")  # that much every format has in common: base offset, length of what follows
_MAGIC = 16
_OLD_SHORTEST = 26  # a message of the formats before 2
_DECODERS: dict[int, tuple[str, Callable[[bytes], bytes]]] = {
    1: ("gzip", codec.gzip_decode),
    2: ("snappy", codec.snappy_decode),
    3: ("lz4", codec.lz4_decode),
    4: ("zstd", codec.zstd_decode),
}


@dataclass(slots=True)
class _Found:
    """What `parsed` wants of each batch."""

    bodies: list[bytes] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    timestamps: list[tuple[int, int | None]] = field(default_factory=list)

    def add(self, body: bytes, count: int, offset: int, timestamp: int, common: int | None) -> None:
        if count or body:
            self.bodies.append(body)
            self.counts.append(count)
            self.offsets.append(offset)
            self.timestamps.append((timestamp, common))


def committed(data: bytes, offset: int, aborted: Sequence[tuple[int, int]]) -> tuple[Records, int] | None:
    """The records from `offset` on that no transaction has taken back, and the offset after all that was looked at.

    `aborted`: the transactions that were, as producer and first offset, in the broker's answer. The last batch may be
    cut off, and does not count; None where it is the only one. Raises `CorruptRecordException`,
    `UnsupportedCodecError`."""
    found, after = _Found(), None
    taken_back = _TakenBack(aborted)
    for batch, magic in _split(data):
        if magic < 2:
            after = _old(found, batch, magic)
            continue
        head = HEADER.unpack_from(batch)
        base, _, _, _, checksum, attributes, last, first_time, last_time, producer, _, _, count = head
        if crc32c.crc32c(batch[CHECKED:]) != checksum:
            raise CorruptRecordException(f"the checksum of the batch at offset {base} is wrong")
        after = base + last + 1
        if taken_back.covers(producer, base, attributes, batch) or attributes & CONTROL:
            continue
        body = _plain(bytes(batch[HEADER.size :]), attributes & CODEC)
        found.add(body, count, base, first_time, last_time if attributes & APPEND_TIME else None)
    if after is None:
        return None
    records = parsed(found.bodies, found.counts, found.offsets, found.timestamps)
    return records.within(offset, None), max(after, offset)


class _TakenBack:
    """Follows which producers are inside of a transaction that was aborted."""

    def __init__(self, aborted: Sequence[tuple[int, int]]) -> None:
        self._coming = sorted(aborted, key=lambda one: one[1], reverse=True)
        self._inside: set[int] = set()

    def covers(self, producer: int, base: int, attributes: int, batch: memoryview) -> bool:
        """Whether this batch is to be left out. Batches come in the order of their offsets."""
        while self._coming and self._coming[-1][1] <= base:
            self._inside.add(self._coming.pop()[0])
        if attributes & CONTROL and producer in self._inside and _is_abort(batch):
            self._inside.discard(producer)
        return bool(attributes & TRANSACTIONAL) and producer in self._inside


def _is_abort(batch: memoryview) -> bool:
    marker = next(iter(DefaultRecordBatch(batch)), None)
    return marker is not None and marker.key is not None and ControlRecord.parse(marker.key) == ABORT_MARKER


def _split(data: bytes) -> Iterator[tuple[memoryview, int]]:
    """Each whole batch, and the version of its format."""
    view, at = memoryview(data), 0
    while len(data) - at > _MAGIC:
        end = at + _LENGTH.size + _LENGTH.unpack_from(data, at)[1]
        if end > len(data):
            return
        magic = data[at + _MAGIC]
        if end - at < (HEADER.size if magic >= 2 else _OLD_SHORTEST):
            raise CorruptRecordException(f"a batch has {end - at} bytes")
        yield view[at:end], magic
        at = end


def _plain(body: bytes, kind: int) -> bytes:
    if not kind:
        return body
    if kind not in _DECODERS:
        raise UnsupportedCodecError(f"batches are compressed in an unknown way ({kind})")
    name, decode = _DECODERS[kind]
    if not getattr(codec, f"has_{name}")():
        raise UnsupportedCodecError(f"batches are compressed with {name}, which cannot be read here")
    try:
        return bytes(decode(body))
    except Exception as error:  # each library has its own
        raise CorruptRecordException(f"a batch cannot be uncompressed with {name}: {error}") from error


def _old(found: _Found, batch: memoryview, magic: int) -> int:
    """Messages of topics that were written before Kafka 0.11, rewritten in today's format."""
    old = LegacyRecordBatch(batch, magic)
    if not old.validate_crc():
        raise CorruptRecordException(f"the checksum of a message before offset {old.next_offset} is wrong")
    messages = list(old)
    if messages:
        first = messages[0]
        made = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 2**31 - 1)
        for message in messages:
            time = -1 if message.timestamp is None else message.timestamp
            made.append(message.offset - first.offset, time, message.key, message.value, [])
        body = bytes(made.build())[HEADER.size :]
        found.add(body, len(messages), first.offset, -1 if first.timestamp is None else first.timestamp, None)
    return int(old.next_offset)

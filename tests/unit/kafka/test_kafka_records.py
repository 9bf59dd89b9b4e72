"""Record batches in columns, both ways, against aiokafka's own implementation of the format."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import crc32c
import numpy as np
import pyarrow as pa
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow.connectors.kafka.batches import HEADER, committed
from dataflow.connectors.kafka.pack import BINARY, Messages, packed, single
from dataflow.connectors.kafka.records import Records, parsed

Header = tuple[str, "bytes | None"]
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}

content = st.none() | st.binary(max_size=30) | st.builds(lambda n: b"x\0" * n, st.sampled_from([1, 40, 4100, 9000]))
headers = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=200)), max_size=3)


@dataclass(frozen=True)
class Message:
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()
    gap: int = 0  # offsets that are left out before it
    later: int = 0  # milliseconds after the batch's first


messages = st.builds(
    Message,
    content,
    content,
    headers.map(tuple),
    st.sampled_from([0, 0, 0, 1, 200, 70_000]),
    st.integers(-500, 100_000),
)
plain = st.builds(Message, st.none(), st.binary(max_size=60), st.just(()), st.just(0), st.integers(0, 3))
sequences = st.lists(messages, min_size=1, max_size=12) | st.lists(plain, min_size=1, max_size=40)


def batch(
    some: Sequence[Message],
    base: int = 0,
    *,
    codec: int = 0,
    producer: int = -1,
    attributes: int = 0,
    time: int = 10**12,
) -> tuple[bytes, int]:
    """The bytes of a batch as a broker would send it, and the offset after it."""
    builder = DefaultRecordBatchBuilder(2, codec, bool(attributes & 16), producer, 0, 0, 2**30)
    delta = -1
    for message in some:
        delta += 1 + message.gap
        builder.append(delta, time + message.later, message.key, message.value, list(message.headers))
    made = bytearray(builder.build())
    kind = struct.unpack_from(">h", made, 21)[0]
    struct.pack_into(">q", made, 0, base)
    struct.pack_into(">h", made, 21, kind | attributes)
    return sealed(made), base + delta + 1


def sealed(made: bytearray) -> bytes:
    struct.pack_into(">I", made, 17, crc32c.crc32c(bytes(made[21:])))
    return bytes(made)


def by_aiokafka(data: bytes, offset: int, aborted: Sequence[tuple[int, int]]) -> tuple[list[Any], int]:
    part = TopicPartition("t", 0)
    reading = PartitionRecords(part, MemoryRecords(data), list(aborted), offset, None, None, True, READ_COMMITTED)
    found = [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in reading]
    return found, reading.next_fetch_offset


def rows(records: Records) -> list[Any]:
    return list(
        zip(
            records.offsets.tolist(),
            records.timestamps.tolist(),
            records.keys.to_list(),
            list(records.values),
            records.headers(),
            strict=True,
        )
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sequences, st.sampled_from(sorted(CODECS.values())), st.booleans()), max_size=4), st.data())
def test_read_as_aiokafka_does(parts: Sequence[tuple[list[Message], int, bool]], data: Any) -> None:
    sent, offset, first = b"", 1000, 1001
    for some, codec, append_time in parts:
        made, offset = batch(some, offset, codec=codec, attributes=8 if append_time else 0)
        first = first if sent else offset
        sent += made
    start = data.draw(st.integers(1000, first - 1))  # a broker sends nothing before the batch that was asked for
    found = committed(sent, start, [])
    expected, after = by_aiokafka(sent, start, [])
    if found is None:
        assert not parts
        return
    records, following = found
    assert rows(records) == expected
    assert following == after
    assert [records.values[n] for n in range(len(records))] == list(records.values)
    if len(records) > 1:
        some = records.slice(1, len(records))
        assert rows(some) == expected[1:]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["data", "commit", "abort"]), st.booleans()), max_size=12))
def test_aborted_as_aiokafka_leaves_them_out(steps: Sequence[tuple[int, str, bool]]) -> None:
    """Producers take turns with data and markers; what a marker aborts was begun by the producer's first data."""
    sent, offset, begun = b"", 0, dict[int, int]()
    aborted = []
    for producer, what, transactional in steps:
        if what == "data":
            made, after = batch(
                [Message(b"k", b"v%d" % offset)] * 2, offset, producer=producer, attributes=16 if transactional else 0
            )
            if transactional:
                begun.setdefault(producer, offset)
        else:
            marker = Message(struct.pack(">hh", 0, 1 if what == "commit" else 0), b"\0\0\0\0\0\0")
            made, after = batch([marker], offset, producer=producer, attributes=48)
            if producer in begun:
                first = begun.pop(producer)
                if what == "abort":
                    aborted.append((producer, first))
        sent, offset = sent + made, after
    found = committed(sent, 0, aborted)
    expected = by_aiokafka(sent, 0, aborted)
    assert found is None if not steps else found is not None and (rows(found[0]), found[1]) == expected


@pytest.mark.parametrize(("magic", "codec"), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3)])
def test_messages_of_old(magic: int, codec: int) -> None:
    builder = LegacyRecordBatchBuilder(magic, codec, 2**20)
    for number in range(5):
        builder.append(number, timestamp=10**12 + number, key=None if number % 2 else b"k", value=b"v" * number)
    made = builder.build()
    if codec:
        struct.pack_into(">q", made, 0, 4)  # as a broker does: the last one's offset
    found = committed(bytes(made) + batch([Message(None, b"new")], 5)[0], 2, [])
    assert found is not None
    times = [10**12 + number if magic else -1 for number in range(5)]
    expected = [(n, times[n], None if n % 2 else b"k", b"v" * n, []) for n in range(2, 5)]
    assert rows(found[0]) == [*expected, (5, 10**12, None, b"new", [])]
    assert found[1] == 6
    made[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        committed(bytes(made), 0, [])


def test_what_was_cut_off_does_not_count() -> None:
    made, after = batch([Message(None, b"a")], 7)
    for cut in range(len(made)):
        assert committed(made[:cut], 7, []) is None
        found = committed(made + made[:cut], 7, [])
        assert found is not None
        assert (len(found[0]), found[1]) == (1, after)
    assert committed(b"", 7, []) is None


@settings(max_examples=100, deadline=None)
@given(sequences, st.data())
def test_broken_batches_are_refused(some: list[Message], data: Any) -> None:
    """Any byte may be wrong: the checksum says so. Where even that was made to fit, nothing but the error comes of it,
    or something that was readable after all."""
    made = bytearray(batch(some)[0])
    at = data.draw(st.integers(17, len(made) - 1))
    made[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptRecordException):
        committed(bytes(made), 0, [])
    if at >= HEADER.size:
        try:
            found = committed(sealed(made), 0, [])
            assert found is not None
            list(found[0].values), found[0].keys, found[0].headers()
        except CorruptRecordException:
            pass


def test_more_or_fewer_records_than_a_batch_says() -> None:
    for count in (-1, 0, 1, 3, 2**31 - 1):
        made = bytearray(batch([Message(None, b"a"), Message(None, b"b")])[0])
        struct.pack_into(">i", made, 57, count)
        with pytest.raises(CorruptRecordException):
            committed(sealed(made), 0, [])


def test_an_unknown_compression() -> None:
    made = bytearray(batch([Message(None, b"a")], attributes=7)[0])
    with pytest.raises(UnsupportedCodecError):
        committed(sealed(made), 0, [])
    made = bytearray(batch([Message(None, b"a")], attributes=4)[0])
    with pytest.raises(CorruptRecordException):
        committed(sealed(made), 0, [])


@settings(max_examples=60, deadline=None)
@given(sequences)
def test_lines(some: list[Message]) -> None:
    found = committed(batch(some)[0], 0, [])
    assert found is not None
    values = found[0].values
    text = values.lines()
    expected = [b"{}" if message.value is None else message.value for message in some]
    if any(b"\n" in value for value in expected):
        assert text is None
    else:
        assert text is not None
        lines = text.tobytes().removeprefix(b"\n").split(b"\n")
        assert [line[: len(value)] for line, value in zip(lines, expected, strict=True)] == expected
        assert not any(line[len(value) :].strip(b" ") for line, value in zip(lines, expected, strict=True))
    assert values.total == sum(len(message.value or b"") for message in some)


def test_no_records() -> None:
    none = parsed([], [], [], [])
    assert (len(none), rows(none), none.values.total) == (0, [], 0)
    text = none.values.lines()
    assert text is not None and not len(text)
    assert len(none.within(0, 5)) == 0


def opened(batches: Sequence[Any]) -> list[Any]:
    found = []
    for one in batches:
        one._set_producer_state(5, 6, 7)
        sent = one._build()
        assert one._build() is sent
        assert len(sent) == one.size()
        read = DefaultRecordBatch(bytes(sent))
        assert read.validate_crc()
        assert (read.producer_id, read.is_transactional, read.is_control_batch) == (5, True, False)
        assert HEADER.unpack_from(sent)[9:] == (5, 6, 7, one.record_count())
        own = list(read)
        assert [r.offset for r in own] == list(range(one.record_count()))
        found += [(r.key, r.value, list(r.headers), r.timestamp) for r in own]
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(content, content, st.none() | st.binary(max_size=3), st.none() | st.binary(max_size=300)), max_size=30
    ),
    st.integers(100, 40_000),
    st.sampled_from([None, "gzip", "snappy", "lz4", "zstd"]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 30),
)
def test_written_as_aiokafka_reads(
    some: list[tuple[bytes | None, ...]], most: int, codec: str | None, keyed: bool, headed: bool, cut: int
) -> None:
    columns = [pa.array([row[place] for row in some], BINARY) for place in range(4)]
    cut = min(cut, len(some))
    runs = [(3, cut), (7, len(some) - cut)]
    made = Messages(
        runs, columns[1], columns[0] if keyed else None, [("", columns[2]), ("ü", columns[3])] if headed else []
    )
    pairs = list(packed(made, most, 1234, codec))
    batches = [batch for _, batch in pairs]
    sent: dict[int, int] = {}
    for partition, one in pairs:
        sent[partition] = sent.get(partition, 0) + one.record_count()
    assert list(sent.items()) == [(partition, count) for partition, count in runs if count]
    expected = [
        (
            key if keyed else None,
            value,
            [pair for pair in (("", one), ("ü", two)) if pair[1] is not None] if headed else [],
            1234,
        )
        for key, value, one, two in some
    ]
    assert opened(batches) == expected
    for one in batches:
        assert one.record_count() == 1 or one.size() <= most
        assert one.closed()
        assert one.append() is None


def test_a_zero_behind_each_value_is_not_part_of_it() -> None:
    made = Messages([(0, 1)], pa.array([b"a\0", b"bc\0"], BINARY)[1:], ended=True)
    assert opened([one for _, one in packed(made, 1000, 1, None)]) == [(None, b"bc", [], 1)]
    assert [one.record_count() for _, one in packed(Messages.of(0, [b"x" * 50] * 4), 250, 1, None)] == [2, 2]


@settings(max_examples=100, deadline=None)
@given(st.none() | st.binary(max_size=300), st.none() | st.binary(max_size=300), st.sampled_from([None, "gzip"]))
def test_a_single_message_is_a_batch_like_any_other(value: bytes | None, key: bytes | None, codec: str | None) -> None:
    columns = Messages([(0, 1)], pa.array([value], BINARY), pa.array([key], BINARY))
    [(_, expected)] = packed(columns, 2**20, 1234, codec)
    alone = single(value, key, 1234, codec)
    assert opened([alone]) == [(key, value, [], 1234)]
    expected._set_producer_state(5, 6, 7)
    assert alone._build() == expected._build()


def test_what_compression_does_not_make_smaller_stays_plain() -> None:
    noise = np.random.default_rng(1).bytes(100)
    [(_, one)] = packed(Messages.of(0, [noise]), 1000, 1, "zstd")
    assert DefaultRecordBatch(bytes(one._build())).compression_type == 0
    [(_, one)] = packed(Messages.of(0, [b"a" * 1000]), 2000, 1, "zstd")
    assert DefaultRecordBatch(bytes(one._build())).compression_type == 4

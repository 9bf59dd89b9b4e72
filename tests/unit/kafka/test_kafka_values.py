"""Positions, pins, receipts and errors: what is stored, and what a foreign text is."""

from __future__ import annotations

import asyncio

import polars as pl
import pytest
from aiokafka import errors as kafka
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from dataflow.connectors.kafka import receipts
from dataflow.connectors.kafka.batches import HEADER
from dataflow.connectors.kafka.errors import translate, translated
from dataflow.connectors.kafka.metadata import DEFAULT_NAMES, Metadata, MetadataField
from dataflow.connectors.kafka.pin import Pin, PinnedTopic
from dataflow.connectors.kafka.position import split_name, split_of
from dataflow.connectors.kafka.records import Records, parsed
from dataflow.connectors.numbered import offset_of, position
from dataflow.domain.flow import Counters, Lane, Position, Receipt
from dataflow.errors import Corrupt, DataFlowError, Fenced, NotFound, Rejected, Retryable, TimedOut


@given(st.integers(0, 2**63 - 1))
def test_positions(offset: int) -> None:
    assert offset_of(position(offset)) == offset


def test_a_position_is_stored_like_this() -> None:
    assert position(7) == '{"v":1,"offset":7}'


@pytest.mark.parametrize("text", ["", "7", '{"v":2,"offset":7}', '{"v":1,"offset":-1}', '{"v":1,"offset":true}', "{}"])
def test_foreign_positions(text: str) -> None:
    with pytest.raises(Corrupt):
        offset_of(Position(text))


def test_splits() -> None:
    assert split_of(split_name("a-1", 12)) == ("a-1", 12)
    for split in ("a", "a-x", "-1", "a b-1"):
        with pytest.raises(Corrupt):
            split_of(split)


def test_pins() -> None:
    columns = pl.Schema({"n": pl.Int64, "o": pl.Struct({"ü": pl.List(pl.String)}), "at": pl.Datetime("us", "UTC")})
    for ends in (None, (5, 9)):
        pin = Pin({"a": PinnedTopic("id", (1, 2), ends), "b": PinnedTopic("", (), None)}, columns, "more")
        assert Pin.parse(pin.text()) == pin
    assert PinnedTopic("", (1, 2), (5, 9)).range(1) == (2, 9)
    assert PinnedTopic("", (1, 2), None).range(1) == (2, None)
    with pytest.raises(Corrupt):
        PinnedTopic("", (1, 2), None).range(2)
    with pytest.raises(Corrupt):
        pin.of("c")
    for text in (
        "",
        "{}",
        '{"v":3}',
        '{"v":1,"start":[],"end":null,"columns":{"a":"intt"}}',
        '{"v":2,"topics":{"a":1}}',
    ):
        with pytest.raises(Corrupt):
            Pin.parse(text)


def test_pins_of_the_first_version() -> None:
    pin = Pin.parse('{"v":1,"start":[1,2],"end":[5,9],"columns":{"n":"int64"}}', "orders")
    assert pin == Pin({"orders": PinnedTopic("", (1, 2), (5, 9))}, pl.Schema({"n": pl.Int64}))


def test_receipts() -> None:
    receipt = Receipt(
        pipeline="p",
        generation=2,
        lane="sink-0",
        epoch=3,
        positions={"t-0": position(5)},
        counters=Counters(read=5, written=4, failed=1, dead_lettered=1),
        state="s",
    )
    assert receipts.decode(receipts.encode(receipt)) == receipt
    # Written by the first release: it must be readable for ever.
    old = (
        b'{"v":1,"pipeline":"p","generation":1,"lane":"l","epoch":1,"positions":{},"counters":{"read":1},"state":null}'
    )
    assert receipts.decode(old).counters == Counters(read=1)
    for text in (b"", b"{}", b'{"v":2}', b"[1]", old.replace(b"epoch", b"epohc"), old.replace(b"{}", b"1")):
        with pytest.raises(Corrupt):
            receipts.decode(text)


def test_keys_of_receipts() -> None:
    lane = Lane(pipeline="a-1", generation=3, sink="out", number=2, splits=())
    assert receipts.parse_key(receipts.key_of(lane)) == ("a-1", 3, "out-2")
    for key in (b"a", b"a/b/c", b"a/1", b"a/1/b/c"):
        with pytest.raises(Corrupt):
            receipts.parse_key(key)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (kafka.ProducerFenced(), Fenced, "FENCED"),
        (kafka.InvalidProducerEpoch(), Fenced, "FENCED"),
        (kafka.KafkaConnectionError("no"), Retryable, "CONNECTION_FAILED"),
        (kafka.NodeNotReadyError(), Retryable, "CONNECTION_FAILED"),
        (ConnectionResetError(), Retryable, "CONNECTION_FAILED"),
        (TimeoutError(), TimedOut, "TIMEOUT"),
        (kafka.KafkaTimeoutError(), TimedOut, "TIMEOUT"),
        (kafka.UnknownTopicOrPartitionError(), NotFound, "NOT_FOUND"),
        (kafka.TopicAuthorizationFailedError("t"), Rejected, "ACCESS_DENIED"),
        (kafka.SaslAuthenticationFailed(), Rejected, "AUTHENTICATION_FAILED"),
        (kafka.MessageSizeTooLargeError(), Rejected, "RECORD_TOO_LARGE"),
        (kafka.InvalidTransactionTimeout(), Rejected, "INVALID_TRANSACTION_TIMEOUT"),
        (kafka.UnsupportedCodecError(), Rejected, "UNSUPPORTED_COMPRESSION"),
        (kafka.CorruptRecordException(), Corrupt, "CORRUPT"),
        (kafka.NotEnoughReplicasError(), Retryable, "SERVICE_UNAVAILABLE"),
        (kafka.OutOfOrderSequenceNumber(), Retryable, "TEMPORARY_FAILURE"),
        (kafka.IllegalOperation("no"), Retryable, "TEMPORARY_FAILURE"),
    ],
)
async def test_errors(error: Exception, kind: type[DataFlowError], code: str) -> None:
    assert (type(translate(error, "t")), translate(error, "t").code) == (kind, code)
    with pytest.raises(kind):
        async with translated("t"):
            raise error
    wrapped = kafka.KafkaError("Unexpected error during batch delivery")
    wrapped.__cause__ = error
    assert type(translate(wrapped, "t")) is kind


async def test_too_late() -> None:
    with pytest.raises(TimedOut):
        async with translated("t", 0.001):
            await asyncio.Event().wait()


def records(*messages: tuple[bytes | None, list[tuple[str, bytes | None]]]) -> Records:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 2**20)
    for number, (key, headers) in enumerate(messages):
        builder.append(number, -1, key, b"", headers)
    return parsed([bytes(builder.build())[HEADER.size :]], [len(messages)], [9], [(-1, None)])


def test_metadata_columns() -> None:
    messages = records((b"\xff", []), (None, [("a", b"\xfe"), ("b", b"x")]), (b"k", [("a", None)]))
    made, refused = Metadata(DEFAULT_NAMES, text=True).columns("t", 3, messages)
    found = {column.name: column.to_list() for column in made}
    assert found["_key"] == [None, None, "k"]
    assert found["_timestamp"] == [None] * 3
    assert found["_headers"][2] == [{"name": "a", "value": None}]
    assert [(bad.index, bad.code) for bad in refused] == [(0, "BAD_KEY"), (1, "BAD_HEADER")]
    raw = Metadata({MetadataField.KEY: "k", MetadataField.HEADERS: "h"}, text=False)
    [keys, headers], none = raw.columns("t", 3, messages)
    assert keys.to_list() == [b"\xff", None, b"k"]
    assert headers.to_list()[1] == [{"name": "a", "value": b"\xfe"}, {"name": "b", "value": b"x"}]
    assert not none
    for metadata in (Metadata(DEFAULT_NAMES, text=True), raw):
        columns, _ = metadata.columns("t", 3, parsed([], [], [], []))
        assert pl.DataFrame(columns).schema == metadata.schema

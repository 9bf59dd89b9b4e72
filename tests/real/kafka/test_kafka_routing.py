"""Where messages go and what they carry: topics and partitions of rows, headers passed on, modes, older lanes."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from dataflow.connectors.kafka.transactions import transactional_ids
from dataflow.domain.flow import Delivery, Lane, Receipt
from dataflow.errors import BadRecord, Fenced, InvalidSpec, NotFound

pytestmark = pytest.mark.kafka
SCHEMA = pl.Schema({"n": pl.Int64, "region": pl.String, "at": pl.Int32})


def lane(number: int = 0, generation: int = 1) -> Lane:
    return Lane(pipeline="routed", generation=generation, sink="sink", number=number, splits=(f"s-{number}",))


def receipt(of: Lane, epoch: int = 1) -> Receipt:
    return Receipt(pipeline=of.pipeline, generation=of.generation, lane=of.name, epoch=epoch, positions={})


def rows(*found: tuple[int, str | None, int | None]) -> pl.DataFrame:
    return pl.DataFrame(list(found), schema=SCHEMA, orient="row")


async def write(sink: Any, *parts: pl.DataFrame, of: Lane | None = None) -> None:
    of, schema = of or lane(), parts[0].schema
    await sink.prepare(schema, [of])
    async with sink.open(of, schema) as writer:
        for part in parts:
            await writer.write(part)
        await writer.commit(receipt(of))


async def values(broker: Any, topic: str) -> list[Any]:
    return [json.loads(message.value) for message in await broker.get(topic)]


async def test_each_row_to_its_topic(broker: Any, unique: str) -> None:
    place = {"dead_letter_topic": f"{unique}.dead", "receipts_topic": f"{unique}.receipts"}
    by_region = {"expression": f"CASE WHEN region IS NOT NULL THEN CONCAT('{unique}-', region) END"}
    sink = broker.sink(by_region, partitions=2, exclude=["region", "at"], **place)
    await write(sink, rows((1, "eu", 0), (2, "us", 0), (3, "eu", 0)), rows((4, "us", 0)))
    assert sorted(row["n"] for row in await values(broker, f"{unique}-eu")) == [1, 3]
    assert sorted(row["n"] for row in await values(broker, f"{unique}-us")) == [2, 4]
    assert (await values(broker, f"{unique}-eu"))[0].keys() == {"n"}
    async with sink.open(lane(), SCHEMA) as writer:
        assert (await writer.last_receipt()).epoch == 1
        for bad in (None, "no topic"):
            with pytest.raises(BadRecord) as refused:
                await writer.write(rows((5, bad, 0)))
            assert refused.value.code == "BAD_TOPIC"
    strict = broker.sink(by_region, **place)
    async with strict.open(lane(), SCHEMA) as writer:
        with pytest.raises(NotFound):
            await writer.write(rows((6, "nowhere", 0)))
    for expression, message in (("n", "not text"), ("nothing", "nothing")):
        with pytest.raises(InvalidSpec, match=message):
            await broker.sink({"expression": expression}, **place).prepare(SCHEMA, [lane()])


async def test_each_row_to_its_partition(broker: Any) -> None:
    topic = await broker.topic(3)
    sink = broker.sink(topic, partition="at", key="region", receipts_topic=f"{topic}.receipts")
    await write(sink, rows((1, "a", 2), (2, "a", 0), (3, "a", None), (4, "a", 2), (5, "a", None)))
    found = {}
    for message in await broker.get(topic):
        found[json.loads(message.value)["n"]] = message.partition
    assert (found[1], found[2], found[4]) == (2, 0, 2)
    assert found[3] == found[5]
    async with sink.open(lane(), SCHEMA) as writer:
        for wrong in (3, -1):
            with pytest.raises(BadRecord) as refused:
                await writer.write(rows((6, "a", wrong)))
            assert refused.value.code == "BAD_PARTITION"


async def test_headers_go_on(broker: Any) -> None:
    """As they were read, traces among them; the column that carries them is not part of the value."""
    source, target = await broker.topic(), await broker.topic()
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await broker.put(source, [b'{"n":1}'], headers={"traceparent": trace, "kind": b"old"})
    await broker.put(source, [b'{"n":2}'])
    await broker.put(source, [b'{"n":3}'], headers={"other": b"x"})
    reader = broker.source(source, metadata=["headers"], metadata_format="bytes")
    found = await reader.discover()
    read = pl.concat([chunk.rows async for chunk in reader.read(found.splits[0], None, pin=found.pin)])
    headers = {"kind": "'new'", "by": "'dataflow'"}
    sink = broker.sink(target, headers_from="_headers", headers=headers, receipts_topic=f"{target}.receipts")
    await write(sink, read)
    first, second, third = await broker.get(target)
    assert json.loads(first.value) == {"n": 1}
    assert dict(first.headers) == {"traceparent": trace, "kind": b"new", "by": b"dataflow"}
    assert dict(second.headers) == {"kind": b"new", "by": b"dataflow"}
    assert dict(third.headers) == {"other": b"x", "kind": b"new", "by": b"dataflow"}
    for column, message in (("nowhere", "no column"), ("n", "holds no headers")):
        with pytest.raises(InvalidSpec, match=message):
            await broker.sink(target, headers_from=column).prepare(read.schema, [lane()])


@pytest.mark.parametrize("preset", ["local", "production"])
async def test_idempotent_is_seen_at_once_and_promises_less(broker: Any, preset: str) -> None:
    topic = await broker.topic()
    sink = broker.sink(topic, mode="idempotent", preset=preset, receipts_topic=f"{topic}.receipts")
    assert sink.delivery is Delivery.AT_LEAST_ONCE
    assert broker.sink(topic).delivery is Delivery.EXACTLY_ONCE
    await sink.prepare(SCHEMA, [lane()])
    async with sink.open(lane(), SCHEMA) as writer:
        await writer.write(rows(*((n, "a", 0) for n in range(5000))))
        await writer._rows.flush(topic)
        assert len(await values(broker, topic)) == 5000  # to a reader of committed messages, before the commit
        await writer.commit(receipt(lane()))
        await writer.write(rows((5000, "a", 0)))
        async with sink.open(lane(), SCHEMA) as newer:
            assert (await newer.last_receipt()).epoch == 1
            with pytest.raises(Fenced):
                await writer.commit(receipt(lane(), 2))
            await newer.write(rows((5001, "a", 0)))
            await newer.commit(receipt(lane(), 2))
    assert [row["n"] for row in await values(broker, topic)][:5000] == list(range(5000))


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_can_be_read_by_others(broker: Any, compression: str) -> None:
    topic = await broker.topic()
    await write(
        broker.sink(topic, compression=compression, receipts_topic=f"{topic}.receipts"),
        rows(*((n, "a" * 50, 0) for n in range(500))),
    )
    assert [row["n"] for row in await values(broker, topic)] == list(range(500))


async def test_lanes_of_an_older_plan_that_never_committed(broker: Any) -> None:
    """Four lanes then, two now: what the other two had open is aborted at once, and their attempts are over."""
    topic = await broker.topic()
    sink = broker.sink(topic, receipts_topic=f"{topic}.receipts")
    older = [lane(number) for number in range(4)]
    await sink.prepare(SCHEMA, older)
    async with sink.open(older[2], SCHEMA) as third, sink.open(older[3], SCHEMA) as fourth:
        await third.write(rows((1, "a", 0)))
        await third._producer.flush(topic)
        ids = await transactional_ids(sink._cluster, f"{topic}.receipts/routed/")
        assert ids == {f"{topic}.receipts/routed/1/sink-{number}" for number in (2, 3)}
        await sink.prepare(SCHEMA, [lane(number, generation=2) for number in range(2)])
        consumer = AIOKafkaConsumer(bootstrap_servers=broker.address, isolation_level="read_committed")
        await consumer.start()
        stable = (await consumer.end_offsets([TopicPartition(topic, 0)]))[TopicPartition(topic, 0)]
        await consumer.stop()
        assert stable == 2  # the message and the marker that takes it back: nothing is open
        with pytest.raises(Fenced):
            await third.commit(receipt(older[2]))
        with pytest.raises(Fenced):
            await fourth.write(rows((2, "a", 0)))
            await fourth.commit(receipt(older[3]))
    assert await values(broker, topic) == []


async def test_a_lane_that_a_new_plan_of_the_generation_does_not_have(broker: Any) -> None:
    topic = await broker.topic()
    sink = broker.sink(topic, receipts_topic=f"{topic}.receipts")
    await sink.prepare(SCHEMA, [lane(0), lane(1)])
    async with sink.open(lane(1), SCHEMA) as gone, sink.open(lane(0), SCHEMA) as stays:
        await stays.write(rows((1, "a", 0)))
        await gone.write(rows((2, "a", 0)))
        await sink.prepare(SCHEMA, [lane(0)])
        await stays.commit(receipt(lane(0)))
        with pytest.raises(Fenced):
            await gone.commit(receipt(lane(1)))
    assert [row["n"] for row in await values(broker, topic)] == [1]

"""What the kit does not ask: fencing between attempts and generations, keys, headers, dead letters, refusals."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import polars as pl
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner

from dataflow.domain.flow import Counters, Lane, Position, Receipt
from dataflow.errors import BadRecord, Conflict, Corrupt, Fenced, InvalidSpec, NotFound, Rejected, Retryable
from dataflow.seams import REJECTS

pytestmark = pytest.mark.kafka
SCHEMA = pl.Schema({"n": pl.Int64, "name": pl.String})


def lane(number: int = 0, generation: int = 1, pipeline: str = "orders") -> Lane:
    return Lane(pipeline=pipeline, generation=generation, sink="sink", number=number, splits=(f"split-{number}",))


def receipt(of: Lane, epoch: int, **more: Any) -> Receipt:
    positions = {of.splits[0]: Position(str(epoch))}
    counters = Counters(read=epoch, written=epoch)
    return Receipt(
        pipeline=of.pipeline,
        generation=of.generation,
        lane=of.name,
        epoch=epoch,
        positions=positions,
        counters=counters,
    )


def rows(*numbers: int) -> pl.DataFrame:
    return pl.DataFrame({"n": numbers, "name": [f"é{n}" for n in numbers]}, schema=SCHEMA)


@pytest.fixture
async def place(broker: Any) -> dict[str, Any]:
    topic = await broker.topic()
    return {"topic": topic, "receipts_topic": f"{topic}.receipts"}


async def test_receipts_that_another_journal_knows_of_are_refused(broker: Any, place: dict[str, Any]) -> None:
    sink = broker.sink(**place, begins=True)
    await sink.prepare(SCHEMA, [lane()])
    async with sink.open(lane(), SCHEMA) as writer:
        await writer.write(rows(1))
        await writer.commit(receipt(lane(), 1))
        with pytest.raises(Conflict, match="another journal"):
            await sink.prepare(SCHEMA, [lane()])
        await writer.write(rows(2))
        await writer.commit(receipt(lane(), 2))  # it is none the worse for it
    await sink.prepare(SCHEMA, [lane(generation=2)])
    await sink.prepare(SCHEMA, [lane(pipeline="others")])


async def test_the_older_of_two_writers_is_refused(broker: Any, place: dict[str, Any]) -> None:
    sink = broker.sink(**place)
    await sink.prepare(SCHEMA, [lane()])
    async with sink.open(lane(), SCHEMA) as older:
        await older.write(rows(1))
        await older.commit(receipt(lane(), 1))
        await older.write(rows(2))
        async with sink.open(lane(), SCHEMA) as newer:
            assert await newer.last_receipt() == receipt(lane(), 1)
            with pytest.raises(Fenced):
                await older.commit(receipt(lane(), 2))
            with pytest.raises(Fenced):
                await older.write(rows(3))
            await newer.write(rows(4))
            await newer.commit(receipt(lane(), 2))
    assert [json.loads(message.value)["n"] for message in await broker.get(place["topic"])] == [1, 4]


async def test_an_epoch_follows_its_predecessor(broker: Any, place: dict[str, Any]) -> None:
    sink = broker.sink(**place)
    await sink.prepare(SCHEMA, [lane()])
    async with sink.open(lane(), SCHEMA) as writer:
        await writer.write(rows(1))
        with pytest.raises(Fenced):
            await writer.commit(receipt(lane(), 2))
    assert await broker.get(place["topic"]) == []


async def test_the_receipt_is_found_behind_many_of_other_lanes(broker: Any, place: dict[str, Any]) -> None:
    sink = broker.sink(**place)
    await sink.prepare(SCHEMA, [lane()])
    async with sink.open(lane(), SCHEMA) as writer:
        await writer.commit(receipt(lane(), 1))
        number = writer._receipts.partition(lane())
    await broker.put(place["receipts_topic"], [b"{}"] * 2500, partition=number, keys=[b"other/1/sink-0"] * 2500)
    async with sink.open(lane(), SCHEMA) as writer:
        assert await writer.last_receipt() == receipt(lane(), 1)


async def test_another_lanes_open_transaction_is_waited_for(broker: Any, place: dict[str, Any]) -> None:
    sink = broker.sink(**place)
    await sink.prepare(SCHEMA, [lane()])
    other = AIOKafkaProducer(bootstrap_servers=broker.address, transactional_id=f"{place['topic']}-other")
    await other.start()
    async with sink.open(lane(), SCHEMA) as writer:
        assert await writer.last_receipt() is None
        number = writer._receipts.partition(lane())
        await other.begin_transaction()
        await other.send_and_wait(place["receipts_topic"], b"{}", key=b"other/1/sink-0", partition=number)
        await writer.commit(receipt(lane(), 1))
    async with sink.open(lane(), SCHEMA) as writer:
        reading = asyncio.ensure_future(writer.last_receipt())
        done, _ = await asyncio.wait({reading}, timeout=1)
        assert not done
        await other.commit_transaction()
        assert await reading == receipt(lane(), 1)
    await other.stop()


async def test_what_is_no_receipt_is_corrupt(broker: Any, place: dict[str, Any]) -> None:
    sink = broker.sink(**place)
    await sink.prepare(SCHEMA, [lane()])
    async with sink.open(lane(), SCHEMA) as writer:
        number = writer._receipts.partition(lane())
        await broker.put(place["receipts_topic"], [b"{}"], partition=number, keys=[b"orders/1/sink-0"])
        with pytest.raises(Corrupt):
            await writer.last_receipt()


async def test_a_new_generation_fences_the_older_and_begins_anew(broker: Any, place: dict[str, Any]) -> None:
    sink = broker.sink(**place)
    await sink.prepare(SCHEMA, [lane(0), lane(1)])
    async with sink.open(lane(0), SCHEMA) as old, sink.open(lane(1), SCHEMA) as silent:
        await old.write(rows(1))
        await old.commit(receipt(lane(0), 1))
        await old.write(rows(2))
        await silent.write(rows(3))
        again = [lane(0, 2), lane(1, 2)]
        await sink.prepare(SCHEMA, again)
        for late in (old, silent):
            with pytest.raises(Fenced):
                await late.commit(receipt(lane(0 if late is old else 1), 2 if late is old else 1))
    async with sink.open(again[0], SCHEMA) as writer:
        assert await writer.last_receipt() is None
        await writer.write(rows(1))
        await writer.commit(receipt(again[0], 1))
    assert [json.loads(message.value)["n"] for message in await broker.get(place["topic"])] == [1, 1]
    with pytest.raises(Fenced, match="generation 1 of orders is over"):
        await sink.prepare(SCHEMA, [lane()])


async def test_keys_headers_and_partitions_are_those_of_the_java_client(broker: Any, place: dict[str, Any]) -> None:
    place["topic"] += "-keyed"
    options = {"key": "n", "headers": {"who": "UPPER(name)", "kind": "'order'"}, "partitions": 4}
    sink = broker.sink(**place, **options)
    await sink.prepare(SCHEMA, [lane()])
    async with sink.open(lane(), SCHEMA) as writer:
        await writer.write(rows(*range(100)))
        await writer.commit(receipt(lane(), 1))
    messages = await broker.get(place["topic"])
    assert sorted(int(message.key) for message in messages) == list(range(100))
    choose = DefaultPartitioner()
    for message in messages:
        assert message.partition == choose(message.key, [0, 1, 2, 3], [0, 1, 2, 3])
        assert message.headers == (("who", f"É{int(message.key)}".encode()), ("kind", b"order"))
        assert json.loads(message.value) == {"n": int(message.key), "name": f"é{int(message.key)}"}


async def test_many_batches_keep_their_order(broker: Any, place: dict[str, Any]) -> None:
    sink = broker.sink(**place, max_batch=5000, format="string", value="n", compression="gzip")
    await sink.prepare(SCHEMA, [lane()])
    async with sink.open(lane(), SCHEMA) as writer:
        for start in range(0, 9000, 3000):
            await writer.write(rows(*range(start, start + 3000)))
        await writer.commit(receipt(lane(), 1))
    assert [int(message.value) for message in await broker.get(place["topic"])] == list(range(9000))


async def test_dead_letters_come_with_the_commit(broker: Any, place: dict[str, Any]) -> None:
    sink = broker.sink(**place)
    await sink.prepare(SCHEMA, [lane()])
    letters = pl.DataFrame([("source", "BAD_JSON", "no", "in[0]@7", "{")], schema=REJECTS, orient="row")
    async with sink.open(lane(), SCHEMA) as writer:
        await writer.reject(letters)
    assert await broker.get(f"{place['topic']}.dead") == []
    async with sink.open(lane(), SCHEMA) as writer:
        await writer.reject(letters)
        await writer.commit(receipt(lane(), 1))
    [letter] = [json.loads(message.value) for message in await broker.get(f"{place['topic']}.dead")]
    assert letter["where"] == "in[0]@7"
    assert (letter["pipeline"], letter["lane"], letter["epoch"]) == ("orders", "sink-0", 1)


async def test_refusals_of_prepare(broker: Any, place: dict[str, Any]) -> None:
    with pytest.raises(NotFound, match="there is no topic 'nowhere'"):
        await broker.sink("nowhere", receipts_topic=place["receipts_topic"]).prepare(SCHEMA, [lane()])
    with pytest.raises(Rejected) as refused:
        await broker.sink(**place, transaction_timeout=3600).prepare(SCHEMA, [lane()])
    assert refused.value.code == "INVALID_TRANSACTION_TIMEOUT"
    with pytest.raises(InvalidSpec) as wrong:
        await broker.sink(**place, key="nam").prepare(SCHEMA, [lane()])
    assert (wrong.value.problems[0].path, "name" in wrong.value.problems[0].hint) == ("key", True)
    small = f"{place['topic']}.small"
    await broker.create(small, 3)
    with pytest.raises(Rejected) as few:
        await broker.sink(place["topic"], receipts_topic=small).prepare(SCHEMA, [lane()])
    assert few.value.code == "BAD_RECEIPTS_TOPIC"


async def test_the_receipts_topic_is_compacted(broker: Any, place: dict[str, Any]) -> None:
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    sink = broker.sink(**place)
    await sink.prepare(SCHEMA, [lane()])
    async with sink._cluster.admin() as admin:
        asked = ConfigResource(ConfigResourceType.TOPIC, place["receipts_topic"], {"cleanup.policy": None})
        [response] = await admin.describe_configs([asked])
    assert response.resources[0][4][0][:2] == ("cleanup.policy", "compact")


async def test_a_key_that_cannot_be_computed(broker: Any, place: dict[str, Any]) -> None:
    sink = broker.sink(**place, key="CAST(name AS INT)")
    await sink.prepare(SCHEMA, [lane()])
    async with sink.open(lane(), SCHEMA) as writer:
        with pytest.raises(BadRecord):
            await writer.write(rows(1))


async def test_a_message_larger_than_the_topic_takes(broker: Any) -> None:
    topic = await broker.topic(max_message_bytes="2000")
    sink = broker.sink(topic, receipts_topic=f"{topic}.receipts", max_batch=1000)
    await sink.prepare(SCHEMA, [lane()])
    async with sink.open(lane(), SCHEMA) as writer:
        with pytest.raises(Rejected) as refused:
            await writer.write(pl.DataFrame({"n": [1], "name": ["x" * 5000]}, schema=SCHEMA))
            await writer.commit(receipt(lane(), 1))
    assert refused.value.code == "RECORD_TOO_LARGE"
    assert await broker.get(topic) == []


async def test_no_broker() -> None:
    from dataflow.connectors.kafka.sink import KafkaSink
    from dataflow.connectors.kafka.sink_config import KafkaSinkConfig
    from dataflow.seams import Context

    sink = KafkaSink(KafkaSinkConfig(brokers="127.0.0.1:1", topic="t", timeout=5), Context(pipeline="p"))
    with pytest.raises(Retryable) as refused:
        await sink.prepare(SCHEMA, [lane()])
    assert refused.value.code == "CONNECTION_FAILED"
    with pytest.raises(Retryable):
        async with sink.open(lane(), SCHEMA):
            pass

"""Several topics, topics by pattern, what is added to them while they are read, and what goes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import Status
from dataflow.embedded.temporal import Address
from dataflow.errors import NotFound, Rejected
from dataflow.platform import platform
from dataflow.settings import Settings

pytestmark = pytest.mark.kafka


def numbers(*found: int) -> list[bytes]:
    return [json.dumps({"n": n}).encode() for n in found]


async def drain(source: Any, pin: str, splits: Any) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for split in splits:
        found[split] = [n async for chunk in source.read(split, None, pin=pin) for n in chunk.rows["n"]]
    return found


async def test_several_topics_and_a_pattern(broker: Any) -> None:
    stem = f"t-{uuid4().hex[:10]}"
    for name, count in (("a", 2), ("b", 1), ("other.a", 1)):
        await broker.create(f"{stem}-{name}", count)
    await broker.put(f"{stem}-a", numbers(1), partition=0)
    await broker.put(f"{stem}-a", numbers(2), partition=1)
    await broker.put(f"{stem}-b", numbers(3))
    splits = [f"{stem}-a-0", f"{stem}-a-1", f"{stem}-b-0"]
    for topic in ([f"{stem}-a", f"{stem}-b"], {"pattern": f"{stem}-[ab]"}):
        source = broker.source(topic, metadata=["topic"])
        found = await source.discover()
        assert list(found.splits) == splits
        assert await drain(source, found.pin, splits) == dict(zip(splits, ([1], [2], [3]), strict=True))
    source = broker.source([f"{stem}-b", f"{stem}-a"], start={f"{stem}-a": {1: 1}})
    found = await source.discover()
    assert await drain(source, found.pin, found.splits) == {splits[2]: [3], splits[0]: [1], splits[1]: []}
    assert f"{stem}-other.a-0" in (await broker.source({"pattern": f"{stem}.*"}).discover()).splits
    with pytest.raises(NotFound, match="matches"):
        await broker.source({"pattern": f"{stem}-nowhere"}).discover()
    with pytest.raises(NotFound, match="start names"):
        await broker.source({"pattern": f"{stem}-[ab]"}, start={"nowhere": {0: 0}}).discover()
    with pytest.raises(NotFound):
        await broker.source([f"{stem}-a", f"{stem}-nowhere"]).discover()


async def test_what_is_added_begins_at_its_first_message(broker: Any) -> None:
    stem = f"t-{uuid4().hex[:10]}"
    await broker.create(f"{stem}-a", 1)
    await broker.put(f"{stem}-a", numbers(1, 2))
    source = broker.source({"pattern": f"{stem}-.*"}, until=None, start="latest")
    first = await source.discover()
    assert await source.grown(first.pin) is None
    await broker.add_partitions(f"{stem}-a", 3)
    await broker.create(f"{stem}-b", 1)
    await broker.put(f"{stem}-b", numbers(5))
    more = await source.grown(first.pin)
    assert list(more.splits) == [f"{stem}-a-0", f"{stem}-a-1", f"{stem}-a-2", f"{stem}-b-0"]
    assert more.schema == first.schema
    starts = {name: topic["start"] for name, topic in json.loads(more.pin)["topics"].items()}
    assert starts == {f"{stem}-a": [2, 0, 0], f"{stem}-b": [0]}
    assert await source.grown(more.pin) is None
    bounded = broker.source({"pattern": f"{stem}-.*"})
    assert await bounded.grown((await bounded.discover()).pin) is None


async def test_a_topic_that_is_made_again_is_another_one(broker: Any) -> None:
    topic = await broker.topic(2)
    await broker.put(topic, numbers(*range(5)))
    source = broker.source(topic, until=None)
    found = await source.discover()
    await broker.delete(topic)
    with pytest.raises(NotFound, match="not there any more"):
        await broker.source(topic, until=None).grown(found.pin)
    with pytest.raises(NotFound):
        await anext(broker.source(topic, until=None).read(found.splits[0], None, pin=found.pin))
    await broker.create(topic, 2)
    await broker.put(topic, numbers(*range(100, 110)))  # as long as the old one was, and longer
    for attempt in (
        broker.source(topic, until=None).grown(found.pin),
        anext(broker.source(topic, until=None).read(found.splits[0], None, pin=found.pin)),
    ):
        with pytest.raises(Rejected, match="made again") as refused:
            await attempt
        assert refused.value.code == "TOPIC_RECREATED"
    await broker.delete(topic)
    await broker.create(topic, 1)
    with pytest.raises(NotFound, match=r"\[1\] was planned"):
        await broker.source(topic, until=None).grown(found.pin)


@pytest.mark.temporal
async def test_partitions_and_topics_join_a_running_pipeline(
    broker: Any, temporal: Address, settings: Settings
) -> None:
    """Also: what is left to read is told, two lanes read different partitions, and an outside group disturbs nobody."""
    stem = f"t-{uuid4().hex[:10]}"
    first, second = f"{stem}-a", f"{stem}-b"
    await broker.create(first, 2)
    ids = iter(range(10_000))
    sent: list[int] = []

    async def put(topic: str, partition: int, count: int) -> None:
        fresh = [next(ids) for _ in range(count)]
        await broker.put(topic, numbers(*fresh), partition=partition)
        sent.extend(fresh)

    await put(first, 0, 300)
    await put(first, 1, 200)
    spec = PipelineSpec.model_validate(
        {
            "name": stem,
            "source": {"type": "kafka", "brokers": broker.address, "topic": {"pattern": f"{stem}-[ab]"}},
            "sink": {
                "type": "kafka",
                "brokers": broker.address,
                "topic": f"{stem}.out",
                "partitions": 1,
                "receipts_topic": f"{stem}.receipts",
            },
            "checkpoint": {"interval": "100ms"},
            "parallelism": 3,
        }
    )
    update = {
        "temporal_address": temporal.target,
        "task_queue": f"q-{uuid4().hex[:12]}",
        "segment_min": 4.0,
        "segment_max": 4.0,
    }
    async with platform(settings.model_copy(update=update), actor="tester") as running:
        client = running.client

        async def until(done: Any) -> Any:
            async with asyncio.timeout(60):
                while not done(found := await client.progress(stem)):
                    assert found.state.status is Status.RUNNING, found.state.error
                    await asyncio.sleep(0.1)
            return found

        await client.create(spec)
        await client.start(stem)
        await until(lambda progress: progress.state.checkpoint.offset >= 300)
        outside = AIOKafkaConsumer(
            first, bootstrap_servers=broker.address, group_id=f"{stem}-group", auto_offset_reset="earliest"
        )
        await outside.start()
        await outside.getone()
        await broker.add_partitions(first, 4)
        await broker.create(second, 1)
        for topic, partition in ((first, 0), (first, 2), (first, 3), (second, 0)):
            await put(topic, partition, 100)
        await outside.stop()
        splits = {f"{first}-{n}" for n in range(4)} | {f"{second}-0"}
        quiet = await until(lambda progress: progress.lag.keys() == splits and not sum(progress.lag.values()))
        plan = quiet.state.plan
        assert [lane.splits[0] for lane in plan.lanes[:2]] == [f"{first}-0", f"{first}-1"]  # they kept their places
        each = Counter(split for lane in plan.lanes for split in lane.splits)
        assert each == dict.fromkeys(splits, 1)
        assert len(plan.lanes) == 3
        ended = await client.stop(stem)
    lanes = ended.checkpoint.lanes.values()
    ends = {split: json.loads(at)["offset"] for lane in lanes for split, at in lane.positions.items()}
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.address)
    await consumer.start()
    truth = await consumer.end_offsets([TopicPartition(split[:-2], int(split[-1])) for split in splits])
    await consumer.stop()
    assert ends == {f"{part.topic}-{part.partition}": end for part, end in truth.items()}
    found = [json.loads(message.value)["n"] for message in await broker.get(f"{stem}.out")]
    assert sorted(found) == sorted(sent)

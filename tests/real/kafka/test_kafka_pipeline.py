"""Kafka to Kafka through the whole platform: every message once, in the order of its key."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import Status
from dataflow.embedded.temporal import Address
from dataflow.platform import platform
from dataflow.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.temporal]

SIZES = (12_000, 5_000, 2_990, 10)
TOTAL = sum(SIZES)


async def test_twenty_thousand_messages(broker: Any, temporal: Address, settings: Settings) -> None:
    topic = await broker.topic(len(SIZES))
    first = 0
    for partition, size in enumerate(SIZES):
        ids = range(first, first + size)
        values = [json.dumps({"id": n, "customer": n % 97, "amount": n % 10 + 0.5}).encode() for n in ids]
        await broker.put(topic, values, partition=partition, keys=[b"%d" % (n % 97) for n in ids])
        first += size
    await broker.put(topic, [b"{broken"], partition=3)
    spec = PipelineSpec.model_validate(
        {
            "name": f"k-{uuid4().hex[:8]}",
            "source": {
                "type": "kafka",
                "brokers": broker.address,
                "topic": topic,
                "until": "end",
                "metadata": ["partition"],
            },
            "transforms": [
                {"type": "filter", "where": "amount > 1"},
                {"type": "map", "set": {"total": "amount * 2"}},
            ],
            "sink": {
                "type": "kafka",
                "brokers": broker.address,
                "topic": f"{topic}-out",
                "partitions": 3,
                "key": "customer",
                "receipts_topic": f"{topic}-receipts",
            },
            "checkpoint": {"max_rows": 1500},
            "parallelism": 3,
            "delivery": "exactly_once",
        }
    )
    update = {"temporal_address": temporal.target, "task_queue": f"q-{uuid4().hex[:12]}"}
    async with platform(settings.model_copy(update=update), actor="tester") as running:
        await running.client.create(spec)
        await running.client.start(spec.pipeline_id)
        while (state := await running.client.state(spec.pipeline_id)).status is Status.RUNNING:
            await asyncio.sleep(0.1)
    assert state.status is Status.COMPLETED
    wanted = {n for n in range(TOTAL) if n % 10 + 0.5 > 1}
    messages = await broker.get(f"{topic}-out")
    found = [json.loads(message.value) for message in messages]
    assert len(found) == len(wanted)
    assert {row["id"] for row in found} == wanted
    assert all(row["total"] == row["amount"] * 2 for row in found)
    order: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in found:
        order[row["customer"], row["_partition"]].append(row["id"])
    assert all(ids == sorted(ids) for ids in order.values())
    [letter] = [json.loads(message.value) for message in await broker.get(f"{topic}-out.dead")]
    assert letter["where"] == f"{topic}[3]@10"


async def test_a_group_is_told_what_is_committed_and_nothing_else(
    broker: Any, temporal: Address, settings: Settings
) -> None:
    topic = await broker.topic(2)
    for partition, size in enumerate((500, 20)):
        values = [json.dumps({"id": n, "text": "x"}).encode() for n in range(size)]
        await broker.put(topic, values, partition=partition)

    def spec(name: str, until: str | None = "end", **sink: Any) -> PipelineSpec:
        place = {"type": "kafka", "brokers": broker.address}
        source = {**place, "topic": topic, "until": until, "group": f"{topic}-{name}"}
        into = {**place, "topic": f"{topic}-{name}", "partitions": 1, "receipts_topic": f"{topic}-receipts", **sink}
        return PipelineSpec.model_validate({"name": f"{topic}-{name}", "source": source, "sink": into})

    async def committed(name: str) -> list[int | None]:
        consumer = AIOKafkaConsumer(bootstrap_servers=broker.address, group_id=f"{topic}-{name}")
        await consumer.start()
        try:
            return [await consumer.committed(TopicPartition(topic, number)) for number in (0, 1)]
        finally:
            await consumer.stop()

    update = {"temporal_address": temporal.target, "task_queue": f"q-{uuid4().hex[:12]}"}
    async with platform(settings.model_copy(update=update), actor="tester") as running:
        for name, sink, ends in (("good", {}, Status.COMPLETED), ("bad", {"key": "CAST(text AS INT)"}, Status.FAILED)):
            definition = spec(name, **sink)
            await running.client.create(definition)
            await running.client.start(definition.pipeline_id)
            while (state := await running.client.state(definition.pipeline_id)).status is Status.RUNNING:
                await asyncio.sleep(0.1)
            assert state.status is ends, state.error
        endless = spec("endless", until=None)
        await running.client.create(endless)
        await running.client.start(endless.pipeline_id)
        while len(await broker.get(f"{topic}-endless")) < 520:
            await asyncio.sleep(0.1)
        await running.client.stop(endless.pipeline_id)
        assert await committed("endless") == [500, 20]  # as soon as the stop is answered
    assert await committed("good") == [500, 20]
    assert await committed("bad") == [None, None]
    assert await broker.get(f"{topic}-bad") == []

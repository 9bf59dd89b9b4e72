"""A process that is killed between write and commit, and a pipeline that never ends."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from dataflow.domain.flow import Lane, Receipt
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import Status
from dataflow.embedded.temporal import Address
from dataflow.platform import platform
from dataflow.settings import Settings

pytestmark = pytest.mark.kafka

SCHEMA = pl.Schema({"n": pl.Int64})
LANE = Lane(pipeline="killed", generation=1, sink="sink", number=0, splits=("s",))

WRITER = """
import asyncio, sys
import polars as pl
from dataflow.connectors.kafka.sink import KafkaSink
from dataflow.connectors.kafka.sink_config import KafkaSinkConfig
from dataflow.domain.flow import Lane, Receipt
from dataflow.seams import Context

async def main(brokers, topic):
    config = KafkaSinkConfig(brokers=brokers, topic=topic, receipts_topic=topic + ".receipts")
    sink = KafkaSink(config, Context(pipeline="killed"))
    lane = Lane(pipeline="killed", generation=1, sink="sink", number=0, splits=("s",))
    async with sink.open(lane, pl.Schema({"n": pl.Int64})) as writer:
        await writer.write(pl.DataFrame({"n": [1]}))
        await writer.commit(Receipt(pipeline="killed", generation=1, lane=lane.name, epoch=1, positions={}))
        await writer.write(pl.DataFrame({"n": [2]}))
        await writer._producer.flush(topic)
        print("written", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_killed_between_write_and_commit(broker: Any) -> None:
    topic = await broker.topic()
    sink = broker.sink(topic, receipts_topic=f"{topic}.receipts")
    await sink.prepare(SCHEMA, [LANE])
    command = [sys.executable, "-c", WRITER, broker.address, topic]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"written\n"
    child.send_signal(signal.SIGKILL)
    await child.wait()
    async with sink.open(LANE, SCHEMA) as writer:
        last = await writer.last_receipt()
        assert last is not None
        assert last.epoch == 1
        assert [json.loads(message.value)["n"] for message in await broker.get(topic)] == [1]
        await writer.write(pl.DataFrame({"n": [3]}))
        await writer.commit(Receipt(pipeline="killed", generation=1, lane=LANE.name, epoch=2, positions={}))
    assert [json.loads(message.value)["n"] for message in await broker.get(topic)] == [1, 3]


@pytest.mark.temporal
async def test_an_endless_pipeline_goes_on_after_a_pause(broker: Any, temporal: Address, settings: Settings) -> None:
    topic = await broker.topic(3)
    sink = {"type": "kafka", "brokers": broker.address, "topic": f"{topic}-out", "partitions": 2, "key": "n"}
    spec = PipelineSpec.model_validate(
        {
            "name": f"e-{uuid4().hex[:8]}",
            "source": {"type": "kafka", "brokers": broker.address, "topic": topic, "columns": {"n": "BIGINT"}},
            "sink": {**sink, "receipts_topic": f"{topic}-receipts"},
            "checkpoint": {"interval": "100ms"},
        }
    )

    async def put(start: int) -> None:
        for partition in range(3):
            numbers = range(start + partition * 100, start + partition * 100 + 100)
            await broker.put(topic, [b'{"n":%d}' % n for n in numbers], partition=partition)

    async def arrived(count: int) -> list[int]:
        while True:
            found = [json.loads(message.value)["n"] for message in await broker.get(f"{topic}-out")]
            if len(found) >= count:
                return sorted(found)

    update = {"temporal_address": temporal.target, "task_queue": f"q-{uuid4().hex[:12]}"}
    async with platform(settings.model_copy(update=update), actor="tester") as running:
        client, name = running.client, spec.pipeline_id
        await client.create(spec)
        await put(0)
        await client.start(name)
        while f"{topic}-out" not in await broker.source(topic)._cluster.partitions(f"{topic}-out"):
            await asyncio.sleep(0.05)
        assert await arrived(300) == list(range(300))
        await client.pause(name)
        await put(300)
        await client.resume(name)
        assert await arrived(600) == list(range(600))
        await client.stop(name)
        while (state := await client.state(name)).status is Status.RUNNING:
            await asyncio.sleep(0.05)
        assert state.status is Status.STOPPED
    assert await arrived(600) == list(range(600))

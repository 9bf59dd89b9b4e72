"""Kafka to Kafka, taken back to offsets, to a time of messages and to a checkpoint: the range again, nothing else."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import PipelineState, Status
from dataflow.embedded.temporal import Address
from dataflow.errors import Rejected
from dataflow.platform import Platform, platform
from dataflow.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.temporal]

EACH = 100
BEGUN = 1_760_000_000_000  # milliseconds; message n of a partition is n seconds later


async def completed(running: Platform, name: str) -> PipelineState:
    while (state := await running.client.state(name)).status is Status.RUNNING:
        await asyncio.sleep(0.05)
    assert state.status is Status.COMPLETED, state.error
    return state


async def test_offsets_times_and_checkpoints(broker: Any, temporal: Address, settings: Settings) -> None:
    topic = await broker.topic(2)
    for partition in range(2):
        values = [json.dumps({"id": 1000 * partition + n}).encode() for n in range(EACH)]
        stamps = [BEGUN + 1000 * n for n in range(EACH)]
        await broker.put(topic, values, partition=partition, timestamps=stamps)
    name = f"k-{uuid4().hex[:8]}"
    spec = PipelineSpec.model_validate(
        {
            "name": name,
            "source": {"type": "kafka", "brokers": broker.address, "topic": topic, "until": "end"},
            "sink": {
                "type": "kafka",
                "brokers": broker.address,
                "topic": f"{topic}-out",
                "partitions": 2,
                "receipts_topic": f"{topic}-receipts",
            },
            "parallelism": 2,
            "delivery": "exactly_once",
        }
    )
    expected = Counter({1000 * partition + n: 1 for partition in range(2) for n in range(EACH)})

    async def check(state: PipelineState, read: int) -> None:
        assert sum(lane.counters.read for lane in state.checkpoint.lanes.values()) == read
        found = Counter(json.loads(message.value)["id"] for message in await broker.get(f"{topic}-out"))
        assert found == expected

    update = {"temporal_address": temporal.target, "task_queue": f"q-{uuid4().hex[:12]}"}
    async with platform(settings.model_copy(update=update), actor="tester") as running:
        client = running.client
        await client.create(spec)
        await client.start(name)
        state = await completed(running, name)
        await check(state, 2 * EACH)

        await client.rewind(name, {f"{topic}-0": 90, f"{topic}-1": EACH})
        await client.start(name)
        expected.update(range(90, EACH))
        state = await completed(running, name)
        await check(state, 10)

        moment = datetime.fromtimestamp((BEGUN + 95_000) / 1000, UTC)
        await client.rewind(name, {"*": moment.isoformat()})
        await client.start(name)
        expected.update([1000 * partition + n for partition in range(2) for n in range(95, EACH)])
        state = await completed(running, name)
        await check(state, 10)

        planned = [r.sequence async for r in running.journal.read(name) if r.type == "PipelinePlanned"][-1]
        await client.rewind(name, planned)  # nothing of that generation had been read: all of its range again
        await client.start(name)
        expected.update([1000 * partition + n for partition in range(2) for n in range(95, EACH)])
        state = await completed(running, name)
        await check(state, 10)
        assert state.generation == 4
        for place, code in ((EACH + 1, "OUT_OF_RANGE"), ("then", "BAD_PLACE")):
            with pytest.raises(Rejected) as refused:
                await client.rewind(name, {"*": place})
            assert refused.value.code == code
        with pytest.raises(Rejected) as refused:
            await client.rewind(name, {f"{topic}-0": 1})
        assert refused.value.code == "MISSING_SPLIT"

"""Kafka to files, held, stopped, changed and started again while messages come in: every message once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import Status
from dataflow.embedded.temporal import Address
from dataflow.errors import IllegalCommand
from dataflow.platform import platform
from dataflow.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.temporal]

ROUNDS, EACH = 8, 150


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("out/*.jsonl")) for line in path.read_text().splitlines()]


async def test_every_message_once(broker: Any, temporal: Address, settings: Settings, tmp_path: Path) -> None:
    topic = await broker.topic(3)
    sent = 0
    name = f"k-{uuid4().hex[:8]}"

    def spec(version: int) -> PipelineSpec:
        return PipelineSpec.model_validate(
            {
                "name": name,
                "base": str(tmp_path),
                "source": {
                    "type": "kafka",
                    "brokers": broker.address,
                    "topic": topic,
                    "columns": {"id": "bigint"},
                    "metadata": ["partition"],
                },
                "transforms": [{"type": "map", "set": {"version": str(version)}}],
                "sinks": [{"type": "file", "path": "out", "format": "jsonl"}],
                "checkpoint": {"interval": "50ms"},
                "parallelism": 2,
            }
        )

    async def put() -> None:
        nonlocal sent
        for partition in range(3):
            values = [json.dumps({"id": n}).encode() for n in range(sent, sent + EACH)]
            await broker.put(topic, values, partition=partition)
            sent += EACH

    async def landed(count: int) -> None:
        while len(rows_of(tmp_path)) < count:
            await asyncio.sleep(0.02)

    update = {"temporal_address": temporal.target, "task_queue": f"q-{uuid4().hex[:12]}"}
    async with platform(settings.model_copy(update=update), actor="tester") as running:
        client = running.client
        await client.create(spec(1))
        await client.start(name)
        for number in range(ROUNDS):
            producing = asyncio.create_task(put())
            if number % 2:
                with pytest.raises(IllegalCommand):
                    await client.update(name, spec(9))
                await client.pause(name)
                held = len(rows_of(tmp_path))
                await producing
                assert len(rows_of(tmp_path)) == held
                await client.resume(name)
            else:
                await client.stop(name)
                held = len(rows_of(tmp_path))
                assert (await client.update(name, spec(1 + number))).generation == 1
                await producing
                assert len(rows_of(tmp_path)) == held
                await client.start(name)
            if number % 3 == 0:
                await landed(sent)
        await landed(sent)
        state = await client.stop(name)
    assert state.status is Status.STOPPED
    found = rows_of(tmp_path)
    assert sorted(row["id"] for row in found) == list(range(sent))
    assert sum(lane.counters.read for lane in state.checkpoint.lanes.values()) == sent
    for partition in range(3):  # in order, and under rising versions of the definition
        mine = [(row["id"], row["version"]) for row in found if row["_partition"] == partition]
        assert mine == sorted(mine) and [v for _, v in mine] == sorted(v for _, v in mine)

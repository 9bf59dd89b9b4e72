"""The coordinator on a real Temporal server, with pipelines that come, wait, run and go."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from dataflow.domain.coordinator.evolution import fold
from dataflow.domain.coordinator.overview import Overview
from dataflow.domain.coordinator.state import CoordinatorState
from dataflow.domain.state import Status
from dataflow.errors import Conflict
from workflows.names import coordinator_id


class Watch:
    """Asks a world's coordinator."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.id = coordinator_id(world.platform.settings.task_queue)
        self.handle = world.platform.client.temporal.get_workflow_handle(self.id)

    async def overview(self) -> Overview:
        return await self.handle.query("overview", datetime.now(UTC), result_type=Overview)

    async def until(self, condition: Any) -> Overview:
        while True:
            try:
                found = await self.overview()
            except Exception as early:
                print(early)
            else:
                if condition(found):
                    return found
            await asyncio.sleep(0.05)

    async def events(self) -> list[str]:
        return [record.type async for record in self.world.platform.journal.read(self.id)]

    async def folded(self) -> CoordinatorState:
        records = [record async for record in self.world.platform.journal.read(self.id)]
        return fold(CoordinatorState.empty(self.id), records)


async def test_a_pipeline_registers_itself_reports_and_is_taken_out(world: Any) -> None:
    client, watch = world.platform.client, Watch(world)
    await client.create(world.spec(owner="ann"))
    found = await watch.until(lambda now: now.total == 1 and now.worker_count == 1)
    assert (found.health, found.by_status) == ("healthy", {"configured": 1})
    await client.start(world.name)
    await world.reach(Status.COMPLETED)
    found = await watch.until(lambda now: now.by_status == {"completed": 1})
    assert (found.records, found.held) == (1000, 0)
    await client.delete(world.name)
    await watch.until(lambda now: now.total == 0)
    events = await watch.events()
    assert [kind for kind in events if "Pipeline" in kind or "Admission" in kind] == [
        "PipelineRegistered",
        "AdmissionGranted",
        "PipelineStatusUpdated",
        "PipelineStatusUpdated",
        "PipelineUnregistered",
    ]


async def test_the_third_start_waits_for_one_of_two_slots(new_world: Any, faults: Any) -> None:
    world = await new_world(max_pipelines_per_worker=2)
    client, watch = world.platform.client, Watch(world)
    faults.slow = 0.05
    names = [f"{world.name}-{n}" for n in range(3)]
    for name in names:
        await client.create(world.spec("faulty", id=name))
    first, second, third = [await client.start(name) for name in names]
    assert [one.status for one in (first, second, third)] == [Status.RUNNING, Status.RUNNING, Status.CONFIGURED]
    assert third.queue_reason == "2 of 2 slots are taken"
    assert third.queued_at is not None
    found = await watch.until(lambda now: now.held == 2 and now.waiting == 1)
    assert [one.pipeline_id for one in found.next_waiting] == [names[2]]
    await client.stop(names[0])
    while (await client.state(names[2])).status is Status.CONFIGURED:
        await asyncio.sleep(0.05)
    types = [record.type async for record in world.platform.journal.read(names[2])]
    assert types[:3] == ["PipelineCreated", "StartQueued", "PipelineStarted"]
    started = [r async for r in world.platform.journal.read(names[2]) if r.type == "PipelineStarted"]
    assert started[0].actor == "tester"


async def test_a_start_that_waits_can_be_withdrawn(new_world: Any, faults: Any) -> None:
    world = await new_world(max_pipelines_per_worker=1)
    client, watch = world.platform.client, Watch(world)
    faults.slow = 0.05
    names = [f"{world.name}-{n}" for n in range(2)]
    for name in names:
        await client.create(world.spec("faulty", id=name))
        await client.start(name)
    await watch.until(lambda now: now.waiting == 1)
    state = await client.stop(names[1], "never mind")
    assert (state.status, state.queued_at) == (Status.CONFIGURED, None)
    await watch.until(lambda now: now.waiting == 0)


async def test_beyond_the_limits_a_start_is_refused_where_that_is_configured(new_world: Any, faults: Any) -> None:
    world = await new_world(max_pipelines_per_worker=1, admission="refuse")
    client = world.platform.client
    faults.slow = 0.05
    names = [f"{world.name}-{n}" for n in range(2)]
    for name in names:
        await client.create(world.spec("faulty", id=name))
    await client.start(names[0])
    with pytest.raises(Conflict, match="1 of 1 slots") as refused:
        await client.start(names[1])
    assert refused.value.code == "LIMIT_REACHED"
    assert (await client.state(names[1])).version == 1

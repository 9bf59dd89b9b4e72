"""The coordinator on a real Temporal server, with pipelines that come, wait, run and go."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowUpdateFailedError
from temporalio.common import WorkflowIDConflictPolicy

import activities.link
from activities.link import CoordinatorLink
from bench.coordinator import storm
from dataflow.api import create_app
from dataflow.domain import commands as do
from dataflow.domain.coordinator import packing
from dataflow.domain.coordinator.commands import PipelineReport
from dataflow.domain.coordinator.evolution import fold
from dataflow.domain.coordinator.overview import Overview
from dataflow.domain.coordinator.state import CoordinatorState
from dataflow.domain.events import seal
from dataflow.domain.pipeline import decide
from dataflow.domain.pipeline import fold as fold_pipeline
from dataflow.domain.state import PipelineState, Status
from dataflow.errors import Conflict, NotFound
from dataflow.journal.audit import audit_verify
from dataflow.platform import platform
from workflows.names import COORDINATOR, CoordinatorCarried, coordinator_id, coordinator_queue, workflow_id


class Watch:
    """Asks a world's coordinator."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.settings = world.platform.settings
        self.system = world.platform.client.system
        self.temporal = world.platform.client.temporal
        self.id = coordinator_id(self.settings.task_queue)
        self.handle = self.temporal.get_workflow_handle(self.id)

    async def until(self, condition: Any) -> Overview:
        while not condition(found := await self.system.overview()):
            await asyncio.sleep(0.05)
        return found

    async def events(self) -> list[str]:
        return [record.type async for record in self.world.platform.journal.read(self.id)]

    async def folded(self) -> CoordinatorState:
        records = [record async for record in self.world.platform.journal.read(self.id)]
        return fold(CoordinatorState.empty(self.id), records)

    async def begin(self, **carried: Any) -> None:
        """Before anybody else does."""
        queue = self.settings.task_queue
        await self.temporal.start_workflow(
            COORDINATOR,
            args=[CoordinatorCarried(coordinator_id=self.id, task_queue=queue, **carried), b""],
            id=self.id,
            task_queue=coordinator_queue(queue),
            id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
        )

    def link(self) -> CoordinatorLink:
        return CoordinatorLink(self.temporal, self.settings.task_queue, None)


def report(pipeline: str, version: int = 1, status: Status = Status.CONFIGURED, **more: Any) -> PipelineReport:
    return PipelineReport(pipeline_id=pipeline, name=pipeline, status=status, version=version, **more)


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


async def test_it_survives_the_loss_of_its_workflow_with_all_it_knew(world: Any) -> None:
    watch, link = Watch(world), Watch(world).link()
    for n in range(60):
        await link.report(report(f"p{n}"))
    await asyncio.gather(*(link.report(report(f"p{n}", 5, Status.RUNNING, records=n)) for n in range(60)))
    before = await watch.until(lambda now: now.records == sum(range(60)))
    assert before.events >= 120
    snapshot = await world.platform.journal.latest_snapshot(watch.id)
    assert snapshot.sequence >= 100 and snapshot.sequence % 50 == 0
    await watch.handle.terminate()
    await link.report(report("p0", 6, Status.RUNNING, records=7))
    after = await watch.until(lambda now: now.records == sum(range(60)) + 7)
    assert (after.total, after.held, after.reserved_cpu_percent) == (60, 60, before.reserved_cpu_percent)
    state = await watch.folded()
    assert (state.version, state.held) == (after.events, 60)
    assert await audit_verify(world.platform.journal, watch.id) is None


async def test_there_is_one_for_all_workers(new_world: Any) -> None:
    world = await new_world(worker_report=1)
    watch = Watch(world)
    async with platform(watch.settings):
        both = await watch.until(lambda now: now.worker_count == 2)
        assert (both.segment_slots, both.slots) == (200, 200)
        assert len({worker.host for worker in both.workers.values()}) == 1
        cluster = await watch.system.cluster()
        assert [one.live for one in cluster.workers] == [True, True]
        data = next(queue for queue in cluster.queues if queue.role == "data")
        assert (data.kind, data.backlog, len(data.pollers) >= 1) == ("activity", 0, True)
        assert {(queue.role, queue.kind) for queue in cluster.queues} == {
            ("control", "workflow"),
            ("control", "activity"),
            ("data", "activity"),
            ("coordinator", "workflow"),
            ("coordinator", "activity"),
            ("projector", "workflow"),
            ("projector", "activity"),
        }
    await watch.until(lambda now: now.worker_count == 1)
    found = [run async for run in watch.temporal.list_workflows(f"WorkflowId = '{watch.id}'")]
    assert len([run for run in found if run.status is WorkflowExecutionStatus.RUNNING]) == 1


async def test_a_coordinator_that_is_down_holds_up_nobody(new_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activities.link, "coordinator_queue", lambda queue: f"{queue}-nobody")
    monkeypatch.setattr(activities.link, "ANSWER", 0.3)
    world = await new_world()
    client = world.platform.client
    await client.create(world.spec())
    assert (await client.start(world.name)).status is Status.RUNNING
    await world.reach(Status.COMPLETED)
    assert world.numbers == list(range(1000))
    assert await Watch(world).events() == []


async def test_a_start_that_waits_survives_the_loss_of_its_own_workflow(new_world: Any, faults: Any) -> None:
    world = await new_world(max_pipelines_per_worker=1)
    client, watch = world.platform.client, Watch(world)
    faults.slow = 0.05
    names = [f"{world.name}-{n}" for n in range(2)]
    for name in names:
        await client.create(world.spec("faulty", id=name))
        await client.start(name)
    await watch.until(lambda now: now.waiting == 1)
    await client.temporal.get_workflow_handle(workflow_id(names[1])).terminate()
    await client.stop(names[0])
    gone = await watch.until(lambda now: now.held == 0)
    assert gone.waiting == 0
    assert (await watch.events())[-1] == "AdmissionWithdrawn"
    records = [record async for record in world.platform.journal.read(names[1])]
    await client.restore(fold_pipeline(PipelineState.empty(names[1]), records))
    while (await client.state(names[1])).status is Status.CONFIGURED:
        await asyncio.sleep(0.05)
    await watch.until(lambda now: now.held == 1)


async def test_what_the_registry_missed_is_found_in_the_journal(world: Any) -> None:
    watch = Watch(world)
    await watch.until(lambda now: now.worker_count == 1)
    spec = {"name": "missed", "source": {"type": "memory", "name": "x"}, "sinks": [{"type": "memory", "name": "x"}]}
    records = seal(
        decide(PipelineState.empty("missed"), do.CreatePipeline(spec=spec)),
        stream="missed",
        after_sequence=0,
        previous_hash="0" * 64,
        time=datetime.now(UTC),
    )
    await world.platform.journal.append("missed", 0, records)
    await watch.system.survey()
    await watch.until(lambda now: now.total == 1)
    assert (await watch.system.pipeline("missed")).status is Status.CONFIGURED


async def test_registering_twice_and_unregistering_the_unknown_are_errors(world: Any) -> None:
    watch = Watch(world)
    await watch.until(lambda now: now.worker_count == 1)
    await watch.handle.execute_update("register", args=[report("a"), do.Origin()])
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await watch.handle.execute_update("register", args=[report("a"), do.Origin()])
    assert "registered already" in str(refused.value.cause)
    await watch.system.unregister("a")
    with pytest.raises(NotFound, match="not registered"):
        await watch.system.unregister("a")
    with pytest.raises(NotFound):
        await watch.system.pipeline("a")


async def test_the_api_tells_of_system_registry_and_cluster(world: Any) -> None:
    watch, link = Watch(world), Watch(world).link()
    statuses = [Status.RUNNING, Status.FAILED, Status.CONFIGURED]
    for n, status in enumerate(statuses):
        await link.report(report(f"p{n}", 4, status, group="etl"))
    await watch.until(lambda now: now.total == 3 and now.worker_count == 1)
    app = create_app(world.platform.client)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test/api/v1") as http:
        status = (await http.get("/system/status")).json()
        assert (status["status"], status["total"], status["held"], status["by_group"]) == ("degraded", 3, 1, {"etl": 1})
        assert status["by_status"] == {"configured": 1, "running": 1, "failed": 1}
        first = (await http.get("/system/pipelines", params={"limit": 2})).json()
        assert ([one["pipeline_id"] for one in first["pipelines"]], first["next"]) == (["p0", "p1"], "p1")
        rest = (await http.get("/system/pipelines", params={"limit": 2, "after": "p1"})).json()
        assert ([one["pipeline_id"] for one in rest["pipelines"]], rest["next"]) == (["p2"], None)
        failed = (await http.get("/system/pipelines", params={"status": "failed"})).json()
        assert [one["pipeline_id"] for one in failed["pipelines"]] == ["p1"]
        assert (await http.get("/system/pipelines/p0")).json()["holds_slot"] is True
        unknown = await http.get("/system/pipelines/nobody")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "NOT_FOUND")
        cluster = (await http.get("/cluster")).json()
        assert (cluster["status"], len(cluster["workers"]), len(cluster["queues"])) == ("degraded", 1, 7)
        assert json.dumps(cluster)


async def test_a_running_pipeline_is_heard_of_though_nothing_changes(new_world: Any, faults: Any) -> None:
    world = await new_world(pipeline_report=1, segment_min=0.2, segment_max=0.2)
    client, watch = world.platform.client, Watch(world)
    faults.slow = 0.1
    await client.create(world.spec("faulty", checkpoint={"max_rows": 10, "interval": "50ms"}))
    await client.start(world.name)
    await watch.until(lambda now: now.held == 1)
    first = await watch.system.pipeline(world.name)
    while True:
        later = await watch.system.pipeline(world.name)
        if later.last_heartbeat > first.last_heartbeat and later.records > first.records:
            break
        await asyncio.sleep(0.05)
    assert (later.status, later.stale) == (Status.RUNNING, False)
    assert (await watch.events()).count("PipelineStatusUpdated") == 1, "that it runs"


async def test_a_pipeline_in_a_long_segment_is_heard_of_too(new_world: Any, faults: Any) -> None:
    """Nothing is recorded of it: its worker tells that it runs, and what CPU it takes."""
    world = await new_world(pipeline_report=1, worker_report=1, segment_min=600, segment_max=600)
    client, watch = world.platform.client, Watch(world)
    faults.slow = 0.3
    await client.create(world.spec("faulty"))
    await client.start(world.name)
    await watch.until(lambda now: now.held == 1)
    heard = {(await watch.system.pipeline(world.name)).last_heartbeat}
    events = len(await world.events())
    while len(heard) < 4:
        found = await watch.system.pipeline(world.name)
        heard.add(found.last_heartbeat)
        await asyncio.sleep(0.1)
    assert (found.status, found.stale) == (Status.RUNNING, False)
    assert len(await world.events()) <= events + 1, "its plan at most"
    seen = await watch.until(lambda now: now.busiest)
    assert seen.busiest[0].pipeline_id == world.name and seen.busiest[0].cpu_percent > 0


async def test_a_limit_that_is_changed_holds_from_then_on(new_world: Any, faults: Any) -> None:
    """On a server, with pipelines that run: what waited starts, what runs goes on, and what comes later waits."""
    world = await new_world(max_pipelines_per_worker=1, worker_report=3600)  # it tells its limits once
    client, watch = world.platform.client, Watch(world)
    faults.slow = 0.3
    names = [f"{world.name}-{n}" for n in range(4)]
    for name in names:
        await client.create(world.spec("faulty", id=name))
    for name in names[:3]:
        await client.start(name)
    await watch.until(lambda now: (now.slots, now.held, now.waiting) == (1, 1, 2))
    async with platform(watch.settings.model_copy(update={"max_pipelines_per_worker": 2})):
        found = await watch.until(lambda now: (now.slots, now.held, now.waiting) == (4, 3, 0))
        assert found.limits.pipelines_per_worker == 2
        for name in names[:3]:
            while (await client.state(name)).status is not Status.RUNNING:
                await asyncio.sleep(0.05)
    await watch.until(lambda now: (now.worker_count, now.slots, now.held) == (1, 2, 3))
    state = await client.start(names[3])  # asked for by a worker with the limit of before
    assert (state.status, state.queue_reason) == (Status.CONFIGURED, "3 of 1 slots are taken")
    assert (await watch.events()).count("LimitsChanged") == 3
    assert [(await client.state(name)).status for name in names[:3]] == [Status.RUNNING] * 3


async def test_what_workers_measure_counts_where_that_is_asked_for(new_world: Any) -> None:
    """Nothing is reserved, but the machine does something."""
    limits = {"max_cpu_percent": 0.001, "pipeline_cpu_percent": 0}
    world = await new_world(admission_measured=True, worker_report=1, **limits)
    client, watch = world.platform.client, Watch(world)
    await watch.until(lambda now: now.cpu_percent > 0.001)
    await client.create(world.spec())
    state = await client.start(world.name)
    assert (state.status, state.queue_reason.partition(":")[0]) == (Status.CONFIGURED, "CPU")
    other = await new_world(**limits)
    await other.platform.client.create(other.spec())
    assert (await other.platform.client.start(other.name)).status is Status.RUNNING


async def test_a_state_too_large_to_carry_is_taken_from_the_journal(
    new_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await new_world()
    watch, link = Watch(world), Watch(world).link()
    await watch.begin(history_events=40, batch=5)
    monkeypatch.setattr(packing, "MOST", 300)
    for n in range(40):
        await link.report(report(f"p{n}"))
    await watch.until(lambda now: now.total == 40)
    assert len((await watch.folded()).pipelines) == 40
    history = await watch.handle.fetch_history()
    begun = history.events[0].workflow_execution_started_event_attributes
    carried, packed = await watch.temporal.data_converter.decode(
        list(begun.input.payloads), [CoordinatorCarried, bytes]
    )
    assert (carried.runs > 1, carried.recall is not None, len(packed) < 600) == (True, True, True)


async def test_a_storm_loses_nothing_and_histories_stay_small(new_world: Any) -> None:
    world = await new_world()
    await Watch(world).begin(history_events=60, batch=50)
    found = await storm(world.platform, pipelines=600, rate=200, seconds=2)
    assert len(found["runs"]) > 2
    assert max(length for length, _ in found["runs"]) < 250

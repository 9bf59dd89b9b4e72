"""The pipeline workflow on a real Temporal server: commands, segments, failures, events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from dataflow.domain.commands import Origin
from dataflow.domain.pipeline import fold
from dataflow.domain.record import verify
from dataflow.domain.state import PipelineState, Status
from dataflow.errors import Conflict, IllegalCommand, InvalidSpec, NotFound, Rejected, Retryable
from workflows.names import workflow_id

pytestmark = pytest.mark.temporal


async def test_a_bounded_pipeline_completes_and_the_journal_tells_it_all(world: Any) -> None:
    client = world.platform.client
    created = await client.create(world.spec())
    assert (created.status, created.version) == (Status.CONFIGURED, 1)
    await client.start(world.name)
    state = await world.reach(Status.COMPLETED)
    assert world.numbers == list(range(1000))
    assert state.metrics.records_processed == 1000
    assert state.checkpoint.offset == 1000
    assert state.completed_at is not None
    records = [record async for record in world.platform.journal.read(world.name)]
    assert [record.sequence for record in records] == list(range(1, len(records) + 1))
    assert verify(records) is None
    assert fold(PipelineState.empty(world.name), records) == state
    assert records[0].actor == "tester"
    assert records[0].correlation_id
    assert [record.type for record in records][:3] == ["PipelineCreated", "PipelineStarted", "PipelinePlanned"]
    assert records[-1].type == "PipelineCompleted"
    shown = [summary for summary in await client.list() if summary.id == world.name]
    assert [(s.status, s.source, s.sink) for s in shown] == [("completed", "memory", "memory")]


async def test_pause_and_resume_lose_and_double_nothing(world: Any, faults: Any) -> None:
    faults.slow = 0.05
    client = world.platform.client
    await client.create(world.spec("faulty"))
    await client.start(world.name)
    await world.until(lambda _: len(world.numbers) > 50)
    paused = await client.pause(world.name, "lunch")
    at = len(world.numbers)
    assert (paused.status, paused.pause_reason) == (Status.PAUSED, "lunch")
    assert paused.checkpoint.offset == at
    assert paused.metrics.records_processed == at
    assert 50 < at < 1000
    with pytest.raises(IllegalCommand):
        await client.pause(world.name, "again")
    await asyncio.sleep(0.5)
    assert len(world.numbers) == at
    faults.slow = 0.0
    await client.resume(world.name)
    state = await world.reach(Status.COMPLETED)
    assert world.numbers == list(range(1000))
    assert state.metrics.records_processed == 1000


async def test_stop_holds_the_final_totals_and_restart_goes_on(world: Any, faults: Any) -> None:
    faults.slow = 0.05
    client = world.platform.client
    await client.create(world.spec("faulty"))
    await client.start(world.name)
    await world.until(lambda _: len(world.numbers) > 50)
    stopped = await client.stop(world.name, "enough")
    at = len(world.numbers)
    assert stopped.status is Status.STOPPED
    last = await world.platform.journal.last(world.name)
    assert last.type == "PipelineStopped"
    assert last.payload["final_metrics"]["records_processed"] == at
    faults.slow = 0.0
    await client.start(world.name)
    state = await world.reach(Status.COMPLETED)
    assert world.numbers == list(range(1000))
    assert state.metrics.records_processed == 1000 - at
    assert state.lifetime.records_processed == 1000


async def test_a_paused_pipeline_can_be_stopped(world: Any, faults: Any) -> None:
    faults.slow = 0.05
    client = world.platform.client
    await client.create(world.spec("faulty"))
    await client.start(world.name)
    await client.pause(world.name, "")
    assert (await client.stop(world.name, "")).status is Status.STOPPED
    assert (await world.state()).status is Status.STOPPED


async def test_transient_errors_are_retried_after_durable_pauses(world: Any, faults: Any) -> None:
    faults.commits = [Retryable("gone", code="NETWORK_ERROR"), Retryable("still", code="NETWORK_ERROR")]
    client = world.platform.client
    await client.create(world.spec("faulty", retry={"initial": "100ms"}))
    await client.start(world.name)
    state = await world.reach(Status.COMPLETED)
    assert world.numbers == list(range(1000))
    retries = [r async for r in world.platform.journal.read(world.name) if r.type == "RetryScheduled"]
    assert [r.payload["retry_count"] for r in retries] == [1, 2]
    assert [r.payload["error"]["code"] for r in retries] == ["NETWORK_ERROR"] * 2
    assert state.retry_count == 0


async def test_five_retries_then_failed_then_reset_goes_on(world: Any, faults: Any) -> None:
    faults.commits = [Retryable("down", code="CONNECTION_FAILED")] * 6
    client = world.platform.client
    await client.create(world.spec("faulty", retry={"initial": "20ms"}))
    await client.start(world.name)
    state = await world.reach(Status.FAILED)
    events = await world.events()
    assert events.count("RetryScheduled") == 5
    assert events[-1] == "PipelineFailed"
    assert state.error.code == "CONNECTION_FAILED"
    with pytest.raises(IllegalCommand, match="CONNECTION_FAILED"):
        await client.start(world.name)
    assert (await client.reset(world.name)).status is Status.CONFIGURED
    await client.start(world.name)
    await world.reach(Status.COMPLETED)
    assert world.numbers == list(range(1000))


async def test_a_permanent_error_fails_at_once(world: Any, faults: Any) -> None:
    faults.commits = [Rejected("no such table", code="SCHEMA")]
    client = world.platform.client
    await client.create(world.spec("faulty"))
    await client.start(world.name)
    state = await world.reach(Status.FAILED)
    assert (state.error.code, state.error.error_type) == ("SCHEMA", "sink")
    assert "RetryScheduled" not in await world.events()


async def test_a_hanging_batch_times_out_and_is_retried(world: Any, faults: Any) -> None:
    faults.commits = [60.0]
    client = world.platform.client
    await client.create(world.spec("faulty", timeouts={"batch": "300ms"}, retry={"initial": "20ms"}))
    await client.start(world.name)
    await world.reach(Status.COMPLETED)
    events = await world.events()
    at = events.index("BatchTimedOut")
    assert events[at + 1] == "RetryScheduled"
    assert world.numbers == list(range(1000))


async def test_completing_fails_and_is_retried(world: Any, faults: Any) -> None:
    faults.completes = [Retryable("busy", code="TIMEOUT")]
    client = world.platform.client
    await client.create(world.spec("faulty", retry={"initial": "20ms"}))
    await client.start(world.name)
    await world.reach(Status.COMPLETED)
    assert world.numbers == list(range(1000))


async def test_again_is_a_new_generation(world: Any) -> None:
    client = world.platform.client
    await client.create(world.spec())
    await client.start(world.name)
    await world.reach(Status.COMPLETED)
    with pytest.raises(IllegalCommand):
        await client.start(world.name)
    state = await client.reset(world.name, from_start=True)
    assert (state.status, state.generation) == (Status.CONFIGURED, 2)
    await client.start(world.name)
    state = await world.reach(Status.COMPLETED)
    assert world.numbers == list(range(1000))
    assert state.lifetime.records_processed == 2000


async def test_parallel_lanes_and_two_sinks(new_world: Any) -> None:
    world = await new_world()
    spec = world.spec(
        source={"type": "generator", "kind": "user", "rows": 5000, "seed": 7},
        sinks=[{"type": "memory", "name": f"{world.name}-a"}, {"type": "memory", "name": f"{world.name}-b"}],
        parallelism=3,
        checkpoint={"max_rows": 500},
    )
    await world.platform.client.create(spec)
    await world.platform.client.start(world.name)
    state = await world.reach(Status.COMPLETED)
    assert len(state.checkpoint.lanes) == 6
    assert state.metrics.records_processed == 10_000


async def test_update_delete_and_what_is_refused(world: Any) -> None:
    client = world.platform.client
    with pytest.raises(NotFound):
        await client.state(world.name)
    with pytest.raises(NotFound):
        await client.update("no-such-thing", {"name": "x"})
    await client.create(world.spec())
    with pytest.raises(InvalidSpec, match="name"):
        await client.update(world.name, {"name": "x y"}, partial=True)
    with pytest.raises(Conflict):
        await client.create(world.spec())
    assert (await client.update(world.name, {"description": "new"}, partial=True)).description == "new"
    await client.delete(world.name)
    assert (await world.events())[-1] == "PipelineDeleted"
    with pytest.raises(Conflict, match="given out"):
        await client.create(world.spec())


async def test_a_refused_command_leaves_no_history(world: Any) -> None:
    client = world.platform.client
    await client.create(world.spec())
    handle = client.temporal.get_workflow_handle(workflow_id(world.name))
    before = [event.event_id async for event in handle.fetch_history_events()]
    for name, arguments in [("pause", [""]), ("resume", []), ("stop", [""]), ("reset", [False])]:
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update(name, args=[*arguments, Origin()])
    after = [event.event_type async for event in handle.fetch_history_events()]
    accepted = [kind for kind in after[len(before) :] if "UPDATE" in str(kind)]
    assert not accepted
    assert (await world.state()).version == 1


async def test_history_stays_bounded_by_continuing_as_new(new_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = await new_world(rows=4000, segment_min=0.05, segment_max=0.05)
    monkeypatch.setattr(
        world.platform.client,
        "_tuning",
        world.platform.client._tuning.__class__(segment_first=0.05, segment_longest=0.05, history_events=60),
    )
    client = world.platform.client
    await client.create(
        world.spec(
            checkpoint={"max_rows": 1, "interval": "10ms"},
            source={"type": "memory", "name": world.name, "chunk_rows": 1},
        )
    )
    await client.start(world.name)
    state = await world.reach(Status.COMPLETED)
    assert world.numbers == list(range(4000))
    assert state.checkpoint.lanes[next(iter(state.checkpoint.lanes))].epoch == 4000
    description = await client.temporal.get_workflow_handle(workflow_id(world.name)).describe()
    assert description.history_length < 400
    records = [record async for record in world.platform.journal.read(world.name)]
    assert fold(PipelineState.empty(world.name), records) == state


async def test_a_forgotten_workflow_is_restored_from_the_journal(world: Any, faults: Any) -> None:
    faults.slow = 0.05
    client = world.platform.client
    await client.create(world.spec("faulty"))
    await client.start(world.name)
    await world.until(lambda _: len(world.numbers) > 50)
    stopped = await client.stop(world.name, "")
    await client.temporal.get_workflow_handle(workflow_id(world.name)).terminate()
    records = [record async for record in world.platform.journal.read(world.name)]
    await client.restore(fold(PipelineState.empty(world.name), records))
    assert await world.state() == stopped
    faults.slow = 0.0
    await client.start(world.name)
    await world.reach(Status.COMPLETED)
    assert world.numbers == list(range(1000))


async def test_an_idle_pipeline_is_woken_by_a_command(new_world: Any) -> None:
    world = await new_world(worker_cache=0)  # nothing stays in memory between two tasks
    client = world.platform.client
    await client.create(world.spec())
    assert (await world.state()).status is Status.CONFIGURED
    await client.start(world.name)
    await world.reach(Status.COMPLETED)
    assert world.numbers == list(range(1000))


async def test_commands_can_be_sent_by_hand(world: Any, faults: Any) -> None:
    faults.slow = 0.05
    client = world.platform.client
    await client.create(world.spec("faulty"))
    handle = client.temporal.get_workflow_handle(workflow_id(world.name))
    await handle.execute_update("start")
    await handle.execute_update("pause", "by hand")
    assert (await handle.query("state"))["pause_reason"] == "by hand"
    assert (await handle.query("checkpoint"))["offset"] == (await handle.query("metrics"))["records_processed"]
    last = await world.platform.journal.last(world.name)
    assert last.actor == "temporal"
    beats = [entry.actor async for entry in world.platform.journal.read(world.name)]
    assert beats[0] == "tester"


async def test_a_command_by_hand_without_its_origin_is_refused_in_plain_words(world: Any) -> None:
    """Temporal gives no argument its type where one is left out."""
    client = world.platform.client
    await client.create(world.spec())
    handle = client.temporal.get_workflow_handle(workflow_id(world.name))
    length = (await handle.describe()).history_length
    for update, argument in {
        "update_config": {"spec": {}},
        "rewind": {"event": 1},
        "ingest": {"batch_id": "b"},
        "update_checkpoint": {"offset": 1},
        "report_failure": {"code": "X", "message": "x"},
    }.items():
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update(update, argument)
        cause = refused.value.cause
        assert isinstance(cause, ApplicationError) and cause.type == "REJECTED", update
        assert "came without its type" in cause.message and "origin" in cause.details[0]["hint"]
    assert (await handle.describe()).history_length == length
    assert (await client.state(world.name)).version == 1

"""Pushing records through the inbox into a running pipeline, on a real Temporal server."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dataflow.connectors import memory
from dataflow.domain.commands import IngestBatch, Origin
from dataflow.domain.pipeline import fold
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import PipelineState, Status
from dataflow.errors import Conflict, IllegalCommand, NotFound, Rejected
from dataflow.inbox import Batch, Inbox
from dataflow.sdk import Client
from workflows.names import Tuning, workflow_id

pytestmark = pytest.mark.temporal


def spec(world: Any, columns: bool = True, **more: Any) -> PipelineSpec:
    source: dict[str, Any] = {"type": "push"}
    if columns:
        source["columns"] = {"n": "bigint", "text": "text"}
    return PipelineSpec.model_validate(
        {
            "name": world.name,
            "source": source,
            "sinks": [{"type": "memory", "name": world.name}],
            "checkpoint": {"interval": "50ms"},
            **more,
        }
    )


def records(first: int, count: int) -> list[dict[str, Any]]:
    return [{"n": n, "text": f"record {n}"} for n in range(first, first + count)]


async def landed(world: Any, count: int) -> None:
    while len(world.numbers) < count:
        await asyncio.sleep(0.02)


def inbox_of(world: Any) -> Inbox:
    return Inbox(world.platform.settings.inbox_url)


async def test_a_hundred_records_are_pushed_and_land(world: Any) -> None:
    client = world.platform.client
    await client.create(spec(world))
    await client.start(world.name)
    taken = await client.ingest(world.name, records(0, 100), batch_id="b1", source_offset=7)
    assert (str(taken), taken.first_offset, taken.repeated) == ("100/0", 0, False)
    await landed(world, 100)
    again = await client.ingest(world.name, records(0, 100), batch_id="b1", source_offset=7)
    assert again == taken and again.repeated
    more = await client.ingest(world.name, records(100, 50), batch_id="b2")
    assert more.first_offset == 100
    await landed(world, 150)
    state = await client.stop(world.name)
    assert world.numbers == list(range(150))
    assert state.metrics.records_processed == 150
    assert state.checkpoint.offset == 150
    pushed = [r async for r in world.platform.journal.read(world.name) if r.type == "BatchIngested"]
    own = [r.payload for r in pushed if not r.payload["lane"]]
    assert [(p["batch_id"], p["record_count"], p["source_offset"]) for p in own] == [("b1", 100, 7), ("b2", 50, 0)]


async def test_it_waits_for_its_first_batch_which_tells_the_columns(world: Any) -> None:
    client = world.platform.client
    await client.create(spec(world, columns=False))
    started = await client.start(world.name)
    assert started.status is Status.RUNNING
    while "dataflow.plan" not in await _failed_activities(world):
        await asyncio.sleep(0.05)
    state = await world.state()
    assert (state.status, state.plan, state.retry_count, state.error) == (Status.RUNNING, None, 0, None)
    await client.ingest(world.name, records(0, 10), batch_id="b1")
    await landed(world, 10)
    assert (await world.state()).plan.schema == {"n": "int64", "text": "string"}
    await client.stop(world.name)


async def test_a_pipeline_that_waits_can_be_paused_and_stopped(world: Any) -> None:
    client = world.platform.client
    await client.create(spec(world, columns=False))
    await client.start(world.name)
    await client.pause(world.name)
    await client.resume(world.name)
    await client.stop(world.name)
    await client.start(world.name)
    await client.ingest(world.name, records(0, 3), batch_id="b1")
    await landed(world, 3)
    await client.stop(world.name)


async def _failed_activities(world: Any) -> set[str]:
    handle = world.platform.client.temporal.get_workflow_handle(workflow_id(world.name))
    history = await handle.fetch_history()
    scheduled = {
        e.event_id: e.activity_task_scheduled_event_attributes.activity_type.name
        for e in history.events
        if e.HasField("activity_task_scheduled_event_attributes")
    }
    return {
        scheduled[e.activity_task_failed_event_attributes.scheduled_event_id]
        for e in history.events
        if e.HasField("activity_task_failed_event_attributes")
    }


def staged(world: Any) -> int:
    path = world.platform.settings.home / "inbox.db"
    with sqlite3.connect(path) as db:
        return int(db.execute("select count(*) from inbox_staged").fetchone()[0])


async def test_every_other_state_refuses_in_its_own_words_and_nothing_lands_later(world: Any, faults: Any) -> None:
    client = world.platform.client
    said = {}

    async def refused(state: str) -> None:
        with pytest.raises(IllegalCommand) as error:
            await client.ingest(world.name, records(1000, 10), batch_id=f"refused-{state}")
        said[state] = str(error.value)
        assert staged(world) == 0

    with pytest.raises(NotFound):
        await client.ingest(world.name, records(1000, 10), batch_id="refused")
    await client.create(PipelineSpec.model_validate({**spec(world).stored(), "sinks": [_faulty(world)]}))
    await refused("configured")
    await client.start(world.name)
    await client.pause(world.name, "lunch")
    await refused("paused")
    await client.stop(world.name)
    await refused("stopped")
    faults.commits.append(Rejected("disk on fire"))
    await client.start(world.name)
    await client.ingest(world.name, records(0, 10), batch_id="b1")
    await world.reach(Status.FAILED)
    await refused("failed")
    assert "disk on fire" in said["failed"] and "reset it first" in said["failed"]
    assert "resume it first" in said["paused"] and "start it first" in said["stopped"]
    assert len(set(said.values())) == 4
    await client.reset(world.name)
    await client.start(world.name)
    await landed(world, 10)
    for state in said:
        assert not await inbox_of(world).find(world.name, [f"refused-{state}"])
    taken = await client.ingest(world.name, records(10, 10), batch_id="refused-paused")
    assert taken.first_offset == 10
    await landed(world, 20)
    await client.stop(world.name)
    assert world.numbers == list(range(20))
    assert await inbox_of(world).extent(world.name) == (0, 20)
    await client.delete(world.name)
    assert await inbox_of(world).extent(world.name) == (20, 20), "nobody will read them any more"
    with pytest.raises(NotFound):
        await client.ingest(world.name, records(0, 10), batch_id="late")
    assert staged(world) == 0


def _faulty(world: Any) -> dict[str, Any]:
    return {"type": "faulty", "store": world.name}


async def test_a_source_of_another_type_takes_no_batches(world: Any) -> None:
    client = world.platform.client
    await client.create(
        PipelineSpec.model_validate(
            {**spec(world).stored(), "source": {"type": "generator", "kind": "order", "rate": 10}}
        )
    )
    await client.start(world.name)
    with pytest.raises(IllegalCommand, match="reads from 'generator' and cannot take batches") as refused:
        await client.ingest(world.name, records(0, 1), batch_id="b1")
    assert refused.value.code == "NOT_A_PUSH_SOURCE"
    assert staged(world) == 0
    await client.stop(world.name)


async def test_the_id_again_after_everything_has_the_same_answer_and_lands_once(world: Any) -> None:
    client = world.platform.client
    await client.create(spec(world))
    await client.start(world.name)
    first = await client.ingest(world.name, records(0, 10), batch_id="b1")
    await client.ingest(world.name, records(10, 10), batch_id="b2")
    await landed(world, 20)

    async def again() -> None:
        repeat = await client.ingest(world.name, records(0, 10), batch_id="b1")
        assert (repeat, repeat.repeated) == (first, True)

    await client.pause(world.name)
    await again()
    await client.resume(world.name)
    await again()
    await client.stop(world.name)
    await again()
    await client.start(world.name)
    await again()
    with pytest.raises(Conflict, match="pushed before with other records"):
        await client.ingest(world.name, records(0, 11), batch_id="b1")
    await client.ingest(world.name, records(20, 5), batch_id="b3")
    await landed(world, 25)
    await client.stop(world.name)
    assert world.numbers == list(range(25))

    # A new generation reads all of it again, and still knows the ids.
    await client.reset(world.name, from_start=True)
    await client.start(world.name)
    await again()
    await landed(world, 25)
    await client.ingest(world.name, records(25, 1), batch_id="b4")
    await landed(world, 26)
    await client.stop(world.name)
    assert world.numbers == list(range(26))


async def test_one_id_from_many_requests_at_once_lands_once(world: Any) -> None:
    client = world.platform.client
    await client.create(spec(world))
    await client.start(world.name)
    answers = await asyncio.gather(
        *(client.ingest(world.name, records(10 * n, 10), batch_id=f"b{n}") for n in range(6) for _ in range(4))
    )
    for n in range(6):
        mine = [answer for answer in answers if answer.batch_id == f"b{n}"]
        assert mine == [mine[0]] * 4
        assert sum(not answer.repeated for answer in mine) == 1
    await landed(world, 60)
    state = await client.stop(world.name)
    assert sorted(world.numbers) == list(range(60))
    assert sorted(state.recent_batches) == [f"b{n}" for n in range(6)]
    assert staged(world) == 0


async def test_a_request_from_long_ago_finds_that_its_batch_was_taken(world: Any) -> None:
    """Two requests staged one batch; the second reaches the pipeline when that has forgotten the id."""
    client = world.platform.client
    await client.create(spec(world))
    await client.start(world.name)
    [late] = await inbox_of(world).stage(world.name, [Batch.of("b1", records(0, 10))])
    await client.ingest(world.name, records(0, 10), batch_id="b1")
    await landed(world, 10)
    await client.stop(world.name)
    await client.reset(world.name, from_start=True)
    await client.start(world.name)
    order = IngestBatch(batch_id="b1", record_count=10, source_offset=0, token=str(late))
    handle = client.temporal.get_workflow_handle(workflow_id(world.name))
    assert await handle.execute_update("ingest_all", args=[[order], Origin()]) == ["repeat"]
    await handle.execute_update("ingest", args=[order, Origin()])  # as for a batch that comes alone
    assert (await world.state()).recent_batches == ()
    await client.ingest(world.name, records(10, 1), batch_id="b2")
    await landed(world, 11)
    await client.stop(world.name)
    assert world.numbers == list(range(11))
    own = [r async for r in world.platform.journal.read(world.name) if r.type == "BatchIngested"]
    assert [r.payload["batch_id"] for r in own if not r.payload["lane"]] == ["b1", "b2"]


async def test_one_id_with_different_records_at_once_is_a_conflict_for_all_but_one(world: Any) -> None:
    client = world.platform.client
    await client.create(spec(world))
    await client.start(world.name)
    found = await asyncio.gather(
        *(client.ingest(world.name, records(100 * n, 5), batch_id="b") for n in range(5)), return_exceptions=True
    )
    assert [isinstance(one, Conflict) for one in found].count(True) == 4
    [taken] = [n for n, one in enumerate(found) if not isinstance(one, Exception)]
    await landed(world, 5)
    await client.stop(world.name)
    assert world.numbers == list(range(100 * taken, 100 * taken + 5))


@pytest.mark.parametrize("moment", ["before the journal", "after the journal"])
async def test_a_crash_around_the_journal_records_once_and_lands_once(
    world: Any, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The batch is admitted and the process that did it gets no further: Temporal has it done again."""
    client, journal = world.platform.client, world.platform.journal
    await client.create(spec(world))
    await client.start(world.name)
    await client.ingest(world.name, records(0, 1), batch_id="warm")
    append, broken = journal.append, []

    async def crash(stream: str, expected: int, events: Any) -> None:
        if events[0].type == "BatchIngested" and not events[0].payload["lane"] and len(broken) < 2:
            broken.append(events[0].payload["batch_id"])
            if moment == "after the journal":
                await append(stream, expected, events)
            raise OSError("the worker is gone")
        await append(stream, expected, events)

    monkeypatch.setattr(journal, "append", crash)
    taken = await client.ingest(world.name, records(1, 9), batch_id="b1")
    assert (broken, taken.first_offset, taken.repeated) == (["b1", "b1"], 1, False)
    await landed(world, 10)
    await client.stop(world.name)
    assert world.numbers == list(range(10))
    own = [r async for r in journal.read(world.name) if r.type == "BatchIngested" and not r.payload["lane"]]
    assert [r.payload["batch_id"] for r in own] == ["warm", "b1"]


@pytest.mark.parametrize("moment", ["staged", "sent"])
async def test_a_caller_that_goes_away_and_comes_back(world: Any, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    client = world.platform.client
    await client.create(spec(world))
    await client.start(world.name)
    if moment == "staged":  # gone between the inbox and the command
        [token] = await inbox_of(world).stage(world.name, [Batch.of("b1", records(0, 10))])
        assert isinstance(token, str)
    else:  # gone between the command and its answer
        gone = asyncio.create_task(client.ingest(world.name, records(0, 10), batch_id="b1"))
        while not await inbox_of(world).find(world.name, ["b1"]):
            await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    taken = await client.ingest(world.name, records(0, 10), batch_id="b1")
    assert (str(taken), taken.first_offset, taken.repeated) == ("10/0", 0, moment == "sent")
    await client.ingest(world.name, records(10, 1), batch_id="b2")
    await landed(world, 11)
    await client.stop(world.name)
    assert world.numbers == list(range(11))


async def test_history_stays_short_and_the_state_flat_under_a_stream_of_batches(world: Any) -> None:
    short = Client(
        world.platform.client.temporal,
        task_queue=world.platform.settings.task_queue,
        tuning=Tuning(segment_first=30, segment_longest=30, history_events=150),
        inbox=inbox_of(world),
    )
    await short.create(spec(world))
    await short.start(world.name)
    handle = short.temporal.get_workflow_handle(workflow_id(world.name))
    first = (await handle.describe()).run_id
    gate = asyncio.Semaphore(8)

    async def push(n: int) -> None:
        async with gate:
            await short.ingest(world.name, records(2 * n, 2), batch_id=f"b{n}")

    await asyncio.gather(*(push(n) for n in range(80)))
    await landed(world, 160)
    assert sorted(world.numbers) == list(range(160))
    description = await handle.describe()
    assert description.run_id != first, "it continued as new"
    assert description.history_length < 900
    state = await short.stop(world.name)
    assert state.metrics.records_processed == 160
    own = [r async for r in world.platform.journal.read(world.name) if r.type == "BatchIngested"]
    assert len([r for r in own if not r.payload["lane"]]) == 80
    everything = [r async for r in world.platform.journal.read(world.name)]
    assert fold(PipelineState.empty(world.name), everything) == state


async def test_records_are_forgotten_when_every_sink_has_them(new_world: Callable[..., Awaitable[Any]]) -> None:
    world = await new_world(segment_min=0.5, segment_max=0.5)
    client = world.platform.client
    names = (f"{world.name}-1", f"{world.name}-2")
    await client.create(
        PipelineSpec.model_validate(
            {
                **spec(world).stored(),
                "source": {"type": "push", "keep": 0, "columns": {"n": "bigint", "text": "text"}},
                "sinks": [{"type": "memory", "name": name} for name in names],
            }
        )
    )
    await client.start(world.name)
    await client.ingest(world.name, records(0, 10), batch_id="b1")
    inbox = inbox_of(world)
    while await inbox.extent(world.name) != (10, 10):
        await asyncio.sleep(0.05)
    for name in names:
        assert memory.store(name).rows["n"].to_list() == list(range(10))
    repeat = await client.ingest(world.name, records(0, 10), batch_id="b1")
    assert repeat.repeated
    await client.ingest(world.name, records(10, 10), batch_id="b2")
    for name in names:
        while memory.store(name).rows.height < 20:
            await asyncio.sleep(0.02)
        assert memory.store(name).rows["n"].to_list() == list(range(20))
    await client.stop(world.name)


async def test_small_batches_go_together(world: Any) -> None:
    """Many callers at once need few commands, and each still has its own answer, event and place."""
    client, most = world.platform.client, 400
    await client.create(spec(world))
    await client.start(world.name)
    answers = await asyncio.gather(
        *(client.ingest(world.name, records(2 * n, 2), batch_id=f"b{n}") for n in range(most)),
        client.ingest(world.name, records(0, 3), batch_id="b0"),  # another one of that id
        return_exceptions=True,
    )
    assert isinstance(answers.pop(), Conflict)
    taken = sorted(answer.first_offset for answer in answers)
    assert taken == list(range(0, 2 * most, 2))
    await landed(world, 2 * most)
    await client.stop(world.name)
    assert sorted(world.numbers) == list(range(2 * most))
    own = [r async for r in world.platform.journal.read(world.name) if r.type == "BatchIngested"]
    pushed = [r.payload["batch_id"] for r in own if not r.payload["lane"]]
    assert sorted(pushed) == sorted(f"b{n}" for n in range(most))
    handle = client.temporal.get_workflow_handle(workflow_id(world.name))
    history = await handle.fetch_history()
    updates = [e for e in history.events if e.HasField("workflow_execution_update_accepted_event_attributes")]
    assert len(updates) < most / 10

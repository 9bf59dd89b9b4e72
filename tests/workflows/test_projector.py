"""The projector as a workflow: one instance, on whichever worker is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from dataflow.embedded.temporal import Address
from dataflow.platform import Platform, Work, platform, start_projector
from dataflow.projections.configured import ReadModels
from dataflow.projections.projector import Projector
from dataflow.projections.queries import Queries
from dataflow.projections.store import Store
from dataflow.settings import Settings
from workflows.names import PROJECTOR, ProjectorTuning, projector_id, projector_queue


@pytest.fixture
def projecting(temporal: Address, settings: Settings, tmp_path: Path) -> Callable[..., object]:
    """Platforms with a projector; each test has one of its own (by the task queue) on the shared server."""
    chosen = settings.model_copy(
        update={
            "temporal_address": temporal.target,
            "task_queue": f"q-{uuid4().hex[:12]}",
            "heartbeat_timeout": 2.0,
            "journal_url": f"sqlite:///{tmp_path}/journal.db",
            "readmodel_url": f"sqlite:///{tmp_path}/readmodels.db",
        }
    )

    @asynccontextmanager
    async def up(work: Work = Work.ALL) -> AsyncIterator[Platform]:
        async with platform(chosen, work=work, project=True, actor="tester") as found:
            yield found

    return up


async def until_counted(up: Platform, pipeline: str, version: int) -> dict[str, object]:
    def ask(connection: sa.Connection) -> list[dict[str, object]]:
        text = sa.text("SELECT * FROM pipeline_status WHERE pipeline_id = :p AND version >= :v")
        return [dict(row) for row in connection.execute(text, {"p": pipeline, "v": version}).mappings()]

    async with asyncio.timeout(60), Store(up.settings.readmodel_url) as store:
        while not (found := await store.read(ask)):
            await asyncio.sleep(0.05)
    return found[0]


def definition(name: str, rows: int = 10) -> object:
    from dataflow.domain.spec import PipelineSpec

    return PipelineSpec.model_validate(
        {"name": name, "source": {"type": "generator", "rows": rows}, "sinks": [{"type": "memory", "name": name}]}
    )


async def test_rows_follow_each_command(projecting: Callable[..., AsyncExitStack]) -> None:
    async with projecting() as up:
        name = f"p-{uuid4().hex[:8]}"
        state = await up.client.create(definition(name))
        assert (await until_counted(up, name, state.version))["status"] == "configured"
        state = await up.client.start(name)
        while (state := await up.client.state(name)).status != "completed":
            await asyncio.sleep(0.05)
        row = await until_counted(up, name, state.version)
        assert (row["status"], row["total_records"]) == ("completed", 10)
        await start_projector(up.client.temporal, up.settings)  # again: the one that is there goes on


async def test_the_hour_tells_the_time_of_the_cpu(projecting: Callable[..., AsyncExitStack]) -> None:
    async with projecting() as up:
        name = f"p-{uuid4().hex[:8]}"
        await up.client.create(definition(name, rows=500_000))
        await up.client.start(name)
        while (state := await up.client.state(name)).status != "completed":
            await asyncio.sleep(0.05)
        await until_counted(up, name, state.version)
        queries = Queries(Store(up.settings.readmodel_url))
        async with asyncio.timeout(60):
            while not (hours := (await queries.metrics(pipeline=name)).rows):
                await asyncio.sleep(0.05)
        assert 0 < sum(row["cpu_ms"] for row in hours) < 60_000


async def test_it_continues_as_new(projecting: Callable[..., AsyncExitStack]) -> None:
    async with projecting() as up:
        temporal, queue = up.client.temporal, projector_queue(up.settings.task_queue)
        tuning = ProjectorTuning(stint=0.1, stints=2)
        own = f"short-{uuid4().hex[:8]}"
        handle = await temporal.start_workflow(PROJECTOR, tuning, id=own, task_queue=queue)
        first = (await handle.describe()).run_id
        # The other one holds the worker's only place: it gives way here.
        await temporal.get_workflow_handle(projector_id(up.settings.task_queue)).cancel()
        any_run = temporal.get_workflow_handle(own)
        while (await any_run.describe()).run_id == first:
            await asyncio.sleep(0.05)
        history = await temporal.get_workflow_handle(own, run_id=first).fetch_history()
        assert history.events[-1].HasField("workflow_execution_continued_as_new_event_attributes")
        assert len(history.events) < 30
        await any_run.terminate()


async def test_it_goes_on_elsewhere(projecting: Callable[..., AsyncExitStack], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[ReadModels] = []
    build = ReadModels.projector

    def counted(self: ReadModels, journal: object) -> Projector:
        started.append(self)
        return build(self, journal)  # type: ignore[arg-type]

    monkeypatch.setattr(ReadModels, "projector", counted)
    name = f"p-{uuid4().hex[:8]}"
    async with projecting() as one:
        while not started:
            await asyncio.sleep(0.02)
        async with projecting(Work.CONTROL) as two:
            state = await two.client.create(definition(name))
            await until_counted(two, name, state.version)
            assert len(started) == 1, "two instances at once"
        state = await one.client.start(name)
    async with projecting() as three:
        while (state := await three.client.state(name)).status != "completed":
            await asyncio.sleep(0.05)
        assert (await until_counted(three, name, state.version))["total_records"] == 10

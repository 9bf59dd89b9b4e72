"""`kill -9` of whichever worker runs the projector's activity, again and again, on real servers: the workflow goes on
on another one, there is one instance all the time, and every event counts exactly once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from servers.places import Site
from temporalio.client import WorkflowExecutionStatus

from dataflow.embedded.temporal import Address
from dataflow.journal import open_journal
from dataflow.projections.models import MODELS
from dataflow.projections.recompute import Swap, recompute
from dataflow.projections.search import SearchProjection
from dataflow.projections.search_check import check_search
from dataflow.projections.store import Store, TableProjection
from dataflow.sdk.client import connect
from workflows.names import projector_id

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "projections"))

from lives import Lives

KILLS = int(os.environ.get("DATAFLOW_CHAOS_PROJECTOR_WORKER_KILLS", "12"))

Start = Callable[[], Awaitable[asyncio.subprocess.Process]]


@asynccontextmanager
async def starting(folder: Path, environ: dict[str, str]) -> AsyncIterator[Start]:
    """Starts workers that keep the read models up; none is left behind."""
    started: list[asyncio.subprocess.Process] = []

    async def start() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dataflow.cli", "projector", "run", "--json"),
            cwd=folder,
            env=environ,
            stdout=asyncio.subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        assert b'"up"' in await process.stdout.readline()
        return process

    try:
        yield start
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def running_in(handle: Any, workers: dict[int, asyncio.subprocess.Process]) -> int:
    """The process that runs the activity now."""
    while True:
        described = (await handle.describe()).raw_description
        assert len(described.pending_activities) <= 1, "two instances at once"
        for pending in described.pending_activities:
            process = int(pending.last_worker_identity.partition("@")[0] or 0)
            if pending.last_started_time.seconds and pending.HasField("last_heartbeat_time") and process in workers:
                return process
        await asyncio.sleep(0.05)


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(120 + 15 * KILLS)
async def test_workers_killed_under_the_projector_count_exactly(
    temporal: Address, postgres_url: str, elasticsearch: Site, unique: str, tmp_path: Path
) -> None:
    queue, search = f"q-{uuid4().hex[:12]}", f"http://127.0.0.1:{elasticsearch.port}"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("DATAFLOW_")} | {
        "DATAFLOW_HOME": str(tmp_path / "home"),
        "DATAFLOW_TEMPORAL_ADDRESS": temporal.target,
        "DATAFLOW_TASK_QUEUE": queue,
        "DATAFLOW_HEARTBEAT_TIMEOUT": "1",
        "DATAFLOW_JOURNAL_URL": postgres_url,
        "DATAFLOW_READMODEL_URL": postgres_url,
        "DATAFLOW_SEARCH_URL": search,
        "DATAFLOW_SEARCH_PREFIX": unique,
    }
    moments = random.Random(20261126)
    handle = (await connect(temporal.target, temporal.namespace)).get_workflow_handle(projector_id(queue))
    async with open_journal(postgres_url) as journal, starting(tmp_path, environ) as start:
        lives, stop = Lives(journal, pipelines=8), asyncio.Event()
        await lives.live(200)

        async def live() -> None:
            while not stop.is_set():
                await lives.live(7)
                await asyncio.sleep(0.05)

        living = asyncio.create_task(live())
        workers: dict[int, asyncio.subprocess.Process] = {}
        killed: list[int] = []
        for _ in range(KILLS):
            while len(workers) < 2:
                process = await start()
                workers[process.pid] = process
            victim = await running_in(handle, workers)
            await asyncio.sleep(moments.uniform(0.0, 1.0))
            workers.pop(victim).send_signal(signal.SIGKILL)
            killed.append(victim)
        assert len(set(killed)) == KILLS
        await running_in(handle, workers)
        stop.set()
        await living
        end = await journal.end()
        projection = SearchProjection(search, unique)
        async with Store(postgres_url) as store, projection, asyncio.timeout(120):
            for name in MODELS:
                while await TableProjection(store, MODELS[name]).position() < end:
                    await asyncio.sleep(0.1)
            while await projection.position() < end:
                await asyncio.sleep(0.1)
            for model in MODELS.values():
                found = await recompute(journal, store, model, Swap.NEVER)
                assert (found.different, found.position) == (0, end), found.differences[:3]
            searched = await check_search(journal, projection)
            assert (searched.different, searched.position) == (0, end), searched.differences[:3]
        assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
        await handle.terminate()

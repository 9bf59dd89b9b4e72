"""A broker that is gone, or says nothing: what is told of it, and that nothing is lost when it is back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from servers.fleet import Fleet

from dataflow.cli.render import progress_lines
from dataflow.domain.events import RetryScheduled, unseal
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import Status
from dataflow.embedded.temporal import Address
from dataflow.errors import Retryable
from dataflow.platform import Platform, platform
from dataflow.probe import probe
from dataflow.sdk.progress import Progress
from dataflow.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.temporal]


@dataclass
class Run:
    """A pipeline from a topic to another one, that never ends."""

    name: str
    broker: Any
    platform: Platform
    sent: int = 0

    async def put(self, count: int) -> None:
        ids = range(self.sent, self.sent + count)
        self.sent += count
        await self.broker.put(self.name, [json.dumps({"n": n}).encode() for n in ids])

    async def until(self, done: Callable[[Progress], Any], running: bool = True) -> Progress:
        async with asyncio.timeout(90):
            while not done(found := await self.platform.client.progress(self.name)):
                assert not running or found.state.status is Status.RUNNING, found.state.error
                await asyncio.sleep(0.1)
        return found

    async def all_through(self) -> None:
        await self.until(lambda progress: progress.state.checkpoint.offset >= self.sent)
        found = [json.loads(message.value)["n"] for message in await self.broker.get(f"{self.name}.out")]
        assert found == list(range(self.sent))


@asynccontextmanager
async def moving(broker: Any, temporal: Address, settings: Settings, **more: Any) -> AsyncIterator[Run]:
    name = await broker.topic()
    place = {"type": "kafka", "brokers": broker.address}
    spec = PipelineSpec.model_validate(
        {
            "name": name,
            "source": {**place, "topic": name, "columns": {"n": "BIGINT"}},
            "sink": {**place, "topic": f"{name}.out", "partitions": 1, "receipts_topic": f"{name}.receipts"},
            "checkpoint": {"interval": "50ms"},
            **more,
        }
    )
    update = {
        "temporal_address": temporal.target,
        "task_queue": f"q-{uuid4().hex[:12]}",
        "segment_min": 3.0,
        "segment_max": 3.0,
    }
    async with platform(settings.model_copy(update=update), actor="tester") as running:
        run = Run(name, broker, running)
        await running.client.create(spec)
        await running.client.start(name)
        await run.put(100)
        await run.all_through()
        yield run


async def test_a_broker_that_stalls(
    broker: Any, kafka: Any, fleet: Fleet, temporal: Address, settings: Settings
) -> None:
    retry = {"max_attempts": 100, "initial": "200ms", "maximum": "1s"}
    async with moving(broker, temporal, settings, retry=retry, timeouts={"operation": "6s"}) as run:
        await run.put(100)
        definition = (await run.platform.client.state(run.name)).definition
        assert [health.healthy for health in await probe(definition, home=settings.home)] == [True, True]
        fleet.freeze("kafka")
        try:
            for health in await probe(definition, home=settings.home, within=2):
                assert (health.healthy, health.code) == (False, "TIMEOUT")
            blocked = await run.until(lambda progress: progress.blocked)
            [(lane, doing)] = blocked.blocked.items()
            assert (lane, doing.part) in {("sink-0", "sink"), ("sink-0", "source")}
            assert any(
                line.startswith(f"  blocked:    lane {lane} by the {doing.part}: ") for line in progress_lines(blocked)
            )
            failed = await run.until(lambda progress: progress.state.retry_count)
            assert failed.state.error.code in ("TIMEOUT", "CONNECTION_FAILED")
            assert failed.state.error.error_type in ("source", "sink")
        finally:
            fleet.thaw("kafka")
        await run.all_through()


async def test_a_broker_that_stops(
    broker: Any, kafka: Any, fleet: Fleet, temporal: Address, settings: Settings
) -> None:
    retry = {"max_attempts": 100, "initial": "200ms", "maximum": "1s"}
    async with moving(broker, temporal, settings, retry=retry) as run:
        definition = (await run.platform.client.state(run.name)).definition
        await fleet.down(["kafka"], print)
        down = await probe(definition, home=settings.home)
        assert [(health.path, health.healthy) for health in down] == [("source", False), ("sinks[0]", False)]
        stopped = await run.until(lambda progress: progress.state.error and progress.state.retry_count >= 2)
        assert stopped.state.error.code in ("CONNECTION_FAILED", "TIMEOUT")
        assert f"127.0.0.1:{kafka.port}" in stopped.state.error.message
        assert stopped.state.error.error_type in ("source", "sink")
        stage = f"  error:      {stopped.state.error.error_type}: {stopped.state.error.code}: "
        assert any(line.startswith(stage) for line in progress_lines(stopped))
        await fleet.up(["kafka"], print)
        await run.put(100)
        await run.all_through()
        healthy = await run.until(lambda progress: not progress.state.retry_count)
        assert not healthy.state.retries
        retries = [
            event
            async for record in run.platform.journal.read(run.name)
            if isinstance(event := unseal(record), RetryScheduled)
        ]
        assert all(140 <= event.backoff_ms <= 1200 for event in retries)


async def test_retention_that_overtakes_a_pipeline(broker: Any, temporal: Address, settings: Settings) -> None:
    """It stops with what there is to choose from, and has skipped nothing."""
    async with moving(broker, temporal, settings) as run:
        client = run.platform.client
        await client.pause(run.name, "for long")
        await run.put(100)
        await broker.delete_before(run.name, 0, 150)
        await client.resume(run.name)
        ended = await run.until(lambda progress: progress.state.status is Status.FAILED, running=False)
        error = ended.state.error
        assert (error.code, error.error_type) == ("LOST_OFFSETS", "source")
        assert "@100 is lost: the topic now begins at 150, 50 offsets later" in error.message
        assert "reset" in error.message
        assert len(await broker.get(f"{run.name}.out")) == 100


async def test_a_host_that_swallows_everything(broker: Any) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):
            while await reader.read(1000):
                pass
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with server:
        broker.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for attempt in (
            broker.source("t", timeout=1).discover(),
            broker.sink("t", timeout=1).prepare(pl.Schema({"n": pl.Int64}), []),
        ):
            with pytest.raises(Retryable) as refused:
                await attempt
            assert refused.value.code in ("TIMEOUT", "CONNECTION_FAILED")

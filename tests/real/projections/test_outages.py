"""Stores go down and come back: pipelines go on, reads say degraded, everything is made up for."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from readers import published
from redis.asyncio import Redis
from servers.fleet import Fleet, NotUp

from dataflow.domain.spec import PipelineSpec
from dataflow.embedded.temporal import Address
from dataflow.platform import Platform, platform
from dataflow.projections.configured import ReadModels
from dataflow.projections.models import MODELS
from dataflow.projections.recompute import Swap, recompute
from dataflow.projections.standing import Standing, standings
from dataflow.settings import Settings

STORES = ["postgres", "redis", "kafka", "elasticsearch"]


@pytest.fixture
async def own() -> AsyncIterator[Fleet]:
    """Servers that only this test stops."""
    root = Path(tempfile.gettempdir()) / f"dataflow-outage-{uuid4().hex[:8]}"
    with Fleet(root, until_unused=True) as fleet:
        try:
            await fleet.up(STORES, logging.info, free=True)
        except NotUp as error:
            pytest.skip(str(error))
        yield fleet
    if await asyncio.to_thread(fleet.wait_until_unused):
        shutil.rmtree(root, ignore_errors=True)


async def run(up: Platform, rows: int) -> str:
    """A pipeline, from its creation to its end."""
    name = f"p-{uuid4().hex[:8]}"
    spec = {"name": name, "source": {"type": "generator", "rows": rows}, "sinks": [{"type": "memory", "name": name}]}
    await up.client.create(PipelineSpec.model_validate(spec))
    await up.client.start(name)
    while (await up.client.state(name)).status != "completed":
        await asyncio.sleep(0.1)
    return name


async def until_current(models: ReadModels, up: Platform) -> list[Standing]:
    while True:
        found = await standings(up.journal, models.projections(), _now())
        if not any(one.behind or one.degraded for one in found):
            return found
        await asyncio.sleep(0.2)


def _now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.kafka
@pytest.mark.elasticsearch
@pytest.mark.postgres
@pytest.mark.redis
async def test_every_store_down_and_back(own: Fleet, temporal: Address, settings: Settings, unique: str) -> None:
    port = {name: own.site(name).port for name in STORES}
    chosen = settings.model_copy(
        update={
            "temporal_address": temporal.target,
            "task_queue": f"q-{unique}",
            "journal_url": f"sqlite:///{settings.home / 'journal.db'}",
            "readmodel_url": f"postgresql://postgres@127.0.0.1:{port['postgres']}/postgres",
            "search_url": f"http://127.0.0.1:{port['elasticsearch']}",
            "redis_url": f"redis://127.0.0.1:{port['redis']}/0",
            "publish_brokers": f"127.0.0.1:{port['kafka']}",
        }
    )
    models = ReadModels(chosen)
    async with platform(chosen, project=True, actor="tester") as up, asyncio.timeout(500):
        first = await run(up, 10)
        await until_current(models, up)

        await own.down(["elasticsearch"], logging.info)
        second = await run(up, 20)
        found = await models.search(second)
        while not found.parts["pipelines"].hits:  # the read models are there, a moment behind
            await asyncio.sleep(0.1)
            found = await models.search(second)
        assert "CONNECTION_FAILED" in found.degraded

        await own.down(["postgres", "redis", "kafka"], logging.info)
        third = await run(up, 30)  # nothing is left but Temporal and the journal
        degraded = await standings(up.journal, models.projections(), _now())
        assert all(one.degraded for one in degraded), degraded

        await own.up(STORES, logging.info)
        await until_current(models, up)
        async with models.store:
            for model in MODELS.values():
                assert (await recompute(up.journal, models.store, model, Swap.NEVER)).different == 0
        found = await models.search(third)
        while not found.parts["pipelines"].hits:
            await asyncio.sleep(0.1)
            found = await models.search(third)
        assert not found.degraded and found.parts["pipelines"].hits[0]["status"] == "completed"
        async with Redis.from_url(chosen.redis_url or "", decode_responses=True) as redis:
            for name, rows in ((first, 10), (second, 20), (third, 30)):
                assert await redis.hget(f"dataflow:counters:{name}", "records_processed") == str(rows)
        end = await up.journal.end()
        events = await published(chosen.publish_brokers or "", chosen.publish_topic, end)
        assert sorted(one["position"] for one in events) == list(range(1, end + 1))

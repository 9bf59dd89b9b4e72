"""Redis beside the read models: never stale, right when it is flushed or lost, counters exact, notices told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from lives import Lives
from redis.asyncio import Redis
from servers.places import Site

from dataflow.journal import MemoryJournal
from dataflow.projections import cache_scripts as scripts
from dataflow.projections.cache import CachedReads, CacheProjection
from dataflow.projections.models import MODELS
from dataflow.projections.projector import Projector
from dataflow.projections.store import Store, TableProjection


@pytest.fixture
def url(redis: Site) -> str:
    return f"redis://127.0.0.1:{redis.port}/0"


@pytest.fixture
async def client(url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(url, decode_responses=True) as opened:
        yield opened


@pytest.fixture
async def reads(url: str, store: Store, unique: str) -> AsyncIterator[CachedReads]:
    async with CachedReads(url, store, f"{unique}:") as opened:
        yield opened


def both(store: Store, url: str, prefix: str) -> list[Any]:
    """The status model, and the cache over it."""
    return [TableProjection(store, MODELS["status"]), CacheProjection(url, store, f"{prefix}:")]


async def in_order(journal: MemoryJournal, projections: list[Any]) -> None:
    """The models first, then the cache: as if nothing ran at the same time."""
    for projection in projections:
        await Projector(journal, [projection]).catch_up()


async def test_a_row_is_read_once_and_again_after_each_change(
    journal: MemoryJournal, store: Store, url: str, reads: CachedReads, unique: str
) -> None:
    lives, projections = Lives(journal, pipelines=1), both(store, url, unique)
    for events in (3, 3, 3):
        await lives.live(events)
        await in_order(journal, projections)
        for expected_hits in (0, 1, 2):
            reads.hits = 0 if not expected_hits else reads.hits
            row = await reads.pipeline("p-0")
            assert row is not None and row["version"] == lives.states["p-0"].version
            assert reads.hits == expected_hits
    assert await reads.pipeline("nobody") is None


async def test_a_slow_reader_cannot_put_back_what_was_true_before(
    journal: MemoryJournal, store: Store, url: str, reads: CachedReads, unique: str
) -> None:
    lives, projections = Lives(journal, pipelines=1), both(store, url, unique)
    await lives.live(3)
    await in_order(journal, projections)
    read = store.read
    stale = await reads.pipeline("p-0")

    async def slow(*args: Any, **kwargs: Any) -> Any:
        found = await read(*args, **kwargs)
        store.read = read  # type: ignore[method-assign]
        await lives.live(2)
        await in_order(journal, projections)  # the row changes between reading it and putting it into Redis
        return found

    await reads._redis.hdel(f"{unique}:status:p-0", "row")  # type: ignore[misc]
    store.read = slow  # type: ignore[method-assign]
    old = await reads.pipeline("p-0")
    assert old == stale
    fresh = await reads.pipeline("p-0")
    assert fresh is not None and fresh["version"] == lives.states["p-0"].version


async def test_flushed_it_begins_anew_and_is_right(
    journal: MemoryJournal, store: Store, url: str, reads: CachedReads, client: Redis, unique: str
) -> None:
    lives, projections = Lives(journal, pipelines=3), both(store, url, unique)
    await lives.live(200)
    await in_order(journal, projections)
    epoch = await client.get(f"{unique}:epoch")
    assert await reads.pipeline("p-1")
    keys = [key async for key in client.scan_iter(f"{unique}:*")]
    await client.delete(*keys)  # FLUSHALL, of our keys: others use this server too
    # A reader from before brings what it has read: refused, its epoch is over.
    assert await client.eval(scripts.FILL, 0, f"{unique}:", epoch, "p-1", "1", "{}", "60") == 0
    assert (await reads.pipeline("p-1"))["version"] == lives.states["p-1"].version  # type: ignore[index]
    await lives.live(100)
    await in_order(journal, projections)
    assert await client.get(f"{unique}:epoch") != epoch
    for name, state in lives.states.items():
        assert (await reads.pipeline(name))["version"] == state.version  # type: ignore[index]
        counters = await client.hgetall(f"{unique}:counters:{name}")
        assert int(counters["records_processed"]) == state.lifetime.records_processed
        assert int(counters["batches"]) == state.lifetime.batches_processed


async def test_counters_are_exact_beside_two_projectors(
    journal: MemoryJournal, store: Store, url: str, reads: CachedReads, unique: str
) -> None:
    lives, stop = Lives(journal, pipelines=4), asyncio.Event()
    projectors = [Projector(journal, both(store, url, unique)) for _ in range(2)]
    running = [asyncio.create_task(one.run(stop)) for one in projectors]
    for _ in range(30):
        await lives.live(20)
        await asyncio.sleep(0.01)
    while min(one["position"] for p in projectors for one in p.told().values()) < await journal.end():
        await asyncio.sleep(0.02)
    stop.set()
    await asyncio.gather(*running)
    for name, state in lives.states.items():
        assert await reads.counters(name) == {
            "records_processed": state.lifetime.records_processed,
            "records_failed": state.lifetime.records_failed,
            "batches": state.lifetime.batches_processed,
        }


async def test_a_counter_that_was_thrown_out_is_not_made_up(
    journal: MemoryJournal, store: Store, url: str, reads: CachedReads, client: Redis, unique: str
) -> None:
    lives, projections = Lives(journal, pipelines=1), both(store, url, unique)
    await lives.live(100)
    await in_order(journal, projections)
    await client.delete(f"{unique}:counters:p-0")  # as Redis does itself where memory is short
    await lives.live(100)
    await in_order(journal, projections)
    assert not await client.exists(f"{unique}:counters:p-0")
    state = lives.states["p-0"]
    assert (await reads.counters("p-0"))["records_processed"] == state.lifetime.records_processed  # type: ignore[index]


async def test_subscribers_are_told(
    journal: MemoryJournal, store: Store, url: str, reads: CachedReads, unique: str
) -> None:
    lives, projections = Lives(journal, pipelines=2), both(store, url, unique)
    await lives.live(5)
    await in_order(journal, projections)
    listening = reads.notices("p-0")
    first = asyncio.ensure_future(anext(listening))
    async with asyncio.timeout(30):
        while not first.done():
            await lives.live(1)
            await in_order(journal, projections)
            await asyncio.sleep(0.01)
    told = first.result()
    assert told["pipeline"] == "p-0"
    assert journal.store.entries[told["position"] - 1].record.type == told["type"]
    await listening.aclose()  # type: ignore[attr-defined]


async def test_without_redis_the_database_answers(journal: MemoryJournal, store: Store) -> None:
    lives = Lives(journal, pipelines=1)
    await lives.live(10)
    await Projector(journal, [TableProjection(store, MODELS["status"])]).catch_up()
    async with CachedReads("redis://127.0.0.1:9/0", store) as reads:
        assert (await reads.pipeline("p-0"))["version"] == lives.states["p-0"].version  # type: ignore[index]
        assert (await reads.counters("p-0"))["batches"] == lives.states["p-0"].lifetime.batches_processed  # type: ignore[index]

"""The search projection on a real Elasticsearch."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest
from lives import START, Lives, foreign
from servers.places import Site

from dataflow.domain.commands import CreatePipeline
from dataflow.domain.events import seal
from dataflow.domain.pipeline import decide
from dataflow.domain.state import PipelineState
from dataflow.errors import Retryable
from dataflow.journal import MemoryJournal
from dataflow.projections import search as searching
from dataflow.projections.projector import Projector
from dataflow.projections.search import SearchProjection, until_served
from dataflow.projections.search_check import check_search, rebuild_search
from dataflow.projections.search_documents import KINDS
from dataflow.projections.searching import Found, by_words, in_read_models
from dataflow.projections.status import row_after
from dataflow.projections.store import Store


@pytest.fixture
def url(elasticsearch: Site) -> str:
    return f"http://127.0.0.1:{elasticsearch.port}"


@pytest.fixture
def projection(url: str, unique: str) -> SearchProjection:
    return SearchProjection(url, unique)


async def everything(projection: SearchProjection, kind: str) -> dict[str, Any]:
    await projection.client.indices.refresh(index=f"{projection.prefix}-{kind}")
    found = await projection.client.search(index=f"{projection.prefix}-{kind}", size=10_000)
    return {hit["_id"]: hit["_source"] for hit in found["hits"]["hits"]}


async def create(journal: MemoryJournal, name: str, description: str) -> None:
    spec = {"name": name, "description": description, "source": {"type": "generator"}, "sinks": [{"type": "console"}]}
    state = PipelineState.empty(name)
    events = decide(state, CreatePipeline(spec=spec))
    await journal.append(
        name, 0, seal(events, stream=name, after_sequence=0, previous_hash=state.last_hash, time=START, actor="ann")
    )


async def test_a_new_pipeline_is_found_by_word_in_two_seconds(
    journal: MemoryJournal, url: str, projection: SearchProjection
) -> None:
    stop = asyncio.Event()
    projector = Projector(journal, [projection])
    running = asyncio.create_task(projector.run(stop))
    await Lives(journal).live(50)
    while projector.told()["search"]["position"] < 50:
        await asyncio.sleep(0.02)
    await create(journal, "eu_orders-2026", "parcels of the northern region")
    begun = time.monotonic()
    found = Found()
    while not found.parts.get("pipelines") or not found.parts["pipelines"].hits:
        found = await by_words(url, projection.prefix, "northern orders", KINDS, 10)
        await asyncio.sleep(0.02)
    taken = time.monotonic() - begun
    assert found.parts["pipelines"].hits[0]["pipeline"] == "eu_orders-2026"
    assert taken < 10, "two seconds on a machine of its own: bench/projections.py measures that"
    stop.set()
    await running


async def test_documents_are_what_the_journal_says(
    journal: MemoryJournal, url: str, projection: SearchProjection
) -> None:
    await journal.append("weather", 0, list(foreign("weather", 2)))
    lives = Lives(journal, pipelines=8)
    await lives.live(900)
    await Projector(journal, [projection]).catch_up()
    async with projection:
        assert await projection.position() == await journal.end()
        pipelines = await everything(projection, "pipelines")
        assert {p: d["row"]["version"] for p, d in pipelines.items()} == {
            name: state.version for name, state in lives.states.items() if state.version
        }
        for name, document in pipelines.items():
            row = None
            async for record in journal.read(name):
                row = row_after(row, record)
            assert document["row"] == row
        assert len(await everything(projection, "events")) == await journal.end()
        errors = await everything(projection, "errors")
    found = await by_words(url, projection.prefix, "DENIED away", KINDS, 5)
    assert found.parts["errors"].total == sum(one["code"] == "DENIED" for one in errors.values()) > 0
    assert found.parts["errors"].hits[0]["message"] == "the sink is away"
    assert (await by_words(url, projection.prefix, "sky", KINDS, 5)).parts["events"].total == 2
    assert (await by_words(url, projection.prefix, "lun* ann", ["events"], 5)).parts["events"].total > 0


async def test_a_replay_cannot_go_backwards(journal: MemoryJournal, projection: SearchProjection) -> None:
    await Lives(journal).live(400)
    await Projector(journal, [projection]).catch_up()
    async with projection:
        before = [await everything(projection, kind) for kind in KINDS]
        # As if a projector had died before it noted anything: all is written a second time, in other portions.
        await projection.client.delete(index=f"{projection.prefix}-state", id="position-1")
        dice = random.Random(2)
        while (position := await projection.position()) < 400:
            await projection.apply(await journal.tail(position, dice.randint(1, 60)))
        assert [await everything(projection, kind) for kind in KINDS] == before


async def test_a_new_build_is_searched_once_it_has_caught_up(
    journal: MemoryJournal, url: str, projection: SearchProjection, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives = Lives(journal)
    await lives.live(300)
    await Projector(journal, [projection]).catch_up()
    async with projection:
        before = [await everything(projection, kind) for kind in KINDS]
        await projection.begin_build()
        assert await projection.position() == 0
        await projection.apply(await journal.tail(0, 100))
        assert (await projection.builds()).serving == 1
        assert [await everything(projection, kind) for kind in KINDS] == before, "half of it is searched already"
        while (position := await projection.position()) < 300:
            await projection.apply(await journal.tail(position, 100))
        await until_served(projection)
        assert (await projection.builds()).serving == 2
        assert [await everything(projection, kind) for kind in KINDS] == before
        assert not await projection.client.indices.exists(index=projection.index("events", 1))
    monkeypatch.setattr(searching, "MAPPING", 2)  # a later version of DataFlow
    await Projector(journal, [projection]).catch_up()
    async with projection:
        builds = await projection.builds()
        assert (builds.serving, builds.mapping) == (3, 2)
        assert [await everything(projection, kind) for kind in KINDS] == before


async def test_indices_that_are_gone_are_made_again(journal: MemoryJournal, projection: SearchProjection) -> None:
    await Lives(journal).live(200)
    await Projector(journal, [projection]).catch_up()
    async with projection:
        before = [await everything(projection, kind) for kind in KINDS]
        await projection.client.indices.delete(index=f"{projection.prefix}-events-1")
    await Projector(journal, [projection]).catch_up()
    async with projection:
        assert [await everything(projection, kind) for kind in KINDS] == before
        names = await projection.client.indices.get(index=f"{projection.prefix}-*")
        await projection.client.indices.delete(index=",".join(names))
        with pytest.raises(Retryable):
            await projection.position()
    await Projector(journal, [projection]).catch_up()
    async with projection:
        assert [await everything(projection, kind) for kind in KINDS] == before


async def test_read_models_find_the_same_where_there_is_no_elasticsearch(
    journal: MemoryJournal, store: Store, url: str, projection: SearchProjection
) -> None:
    from dataflow.projections.models import MODELS
    from dataflow.projections.store import TableProjection

    await Lives(journal).live(300)
    await create(journal, "eu-orders", "parcels of the northern region")
    await Projector(journal, [projection, *(TableProjection(store, one) for one in MODELS.values())]).catch_up()
    async with projection:
        for kind in KINDS:
            await projection.client.indices.refresh(index=f"{projection.prefix}-{kind}")
    for words in ("northern parcels", "DENIED", "lunch"):
        fast = await by_words(url, projection.prefix, words, KINDS, 1000)
        slow = await in_read_models(store, words, KINDS, 1000, "away")
        assert slow.degraded == "away" and slow.position == fast.position
        for kind in KINDS:
            assert {hit["pipeline"] for hit in slow.parts[kind].hits} == {
                hit["pipeline"] for hit in fast.parts[kind].hits
            }


async def test_a_check_finds_what_is_wrong_and_a_rebuild_puts_it_right(
    journal: MemoryJournal, projection: SearchProjection
) -> None:
    await journal.append("weather", 0, list(foreign("weather", 2)))
    lives = Lives(journal)
    await lives.live(700)
    await Projector(journal, [projection]).catch_up()
    async with projection:
        good = await check_search(journal, projection)
        assert good.different == 0 and good.rows > 702 and good.checksum == good.found_checksum
        name = next(iter(await everything(projection, "pipelines")))
        event = (await journal.tail(300, 1))[0].record.id
        error = next(iter(await everything(projection, "errors")))
        pipelines, events, errors = (projection.index(kind, 1) for kind in KINDS)
        await projection.client.update(index=pipelines, id=name, doc={"description": "not so"})
        await projection.client.delete(index=events, id=event)
        await projection.client.index(index=errors, id="stray", document={"message": "never happened"})
        await projection.client.update(index=errors, id=error, doc={"code": "ANOTHER"})
        bad = await check_search(journal, projection)
        assert {(one.table, one.key) for one in bad.differences} == {
            (pipelines, name),
            (events, event),
            (errors, "stray"),
            (errors, error),
        }
        assert bad.different == 4 and bad.checksum == good.checksum != bad.found_checksum
        [row] = [one for one in bad.differences if one.key == name]
        assert row.found["description"] == "not so" and row.found["version"] > row.wanted["version"]
    assert await rebuild_search(journal, projection) == await journal.end()
    async with projection:
        assert (await check_search(journal, projection)).different == 0


async def test_a_check_beside_live_traffic_takes_nothing_new_for_wrong(
    journal: MemoryJournal, projection: SearchProjection
) -> None:
    lives, stop = Lives(journal), asyncio.Event()
    await lives.live(600)
    projector = Projector(journal, [projection], batch=20)
    await projector.catch_up()
    running = asyncio.create_task(projector.run(stop))

    async def live() -> None:
        while not stop.is_set():
            await lives.live(10)
            await asyncio.sleep(0.01)

    living = asyncio.create_task(live())
    async with projection:
        before = await projection.position()
        for _ in range(3):
            assert (await check_search(journal, projection)).different == 0
        assert await projection.position() > before
    stop.set()
    await asyncio.gather(running, living)

"""`dataflow migrate` on a real Elasticsearch and a real Kafka: search indices, the topic of published events."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from elasticsearch import Elasticsearch
from servers.places import Site

from dataflow.migrate import State, Store, migrate_down, migrate_up, status
from dataflow.migrate.readside import readside_stores
from dataflow.settings import Settings


def ignore(_standing: object) -> None:
    return None


async def told(chosen: Sequence[Store]) -> tuple[str, str]:
    [standing] = await status(chosen)
    return str(standing.state), standing.found


@pytest.fixture
def search(settings: Settings, elasticsearch: Site, unique: str) -> Sequence[Store]:
    url = f"http://127.0.0.1:{elasticsearch.port}"
    return readside_stores(Settings.load(home=settings.home, search_url=url, search_prefix=unique))


@pytest.fixture
def topic(settings: Settings, kafka: Site, unique: str) -> Sequence[Store]:
    brokers = f"127.0.0.1:{kafka.port}"
    return readside_stores(Settings.load(home=settings.home, publish_brokers=brokers, publish_topic=unique))


async def test_search_indices_are_made_found_again_and_taken_away(
    search: Sequence[Store], elasticsearch: Site, unique: str
) -> None:
    assert await told(search) == (State.BEHIND, "")
    for _ in range(2):
        [done] = await migrate_up(search, ignore)
        assert (done.state, done.found) == (State.CURRENT, "made")
    with Elasticsearch(f"http://127.0.0.1:{elasticsearch.port}") as client:
        assert client.indices.exists_alias(name=f"{unique}-pipelines")
    for _ in range(2):
        await migrate_down(search, ignore)
        assert await told(search) == (State.BEHIND, "")


async def test_the_topic_of_published_events_is_made_once_and_stays(topic: Sequence[Store], unique: str) -> None:
    assert await told(topic) == (State.BEHIND, "")
    for _ in range(2):
        [done] = await migrate_up(topic, ignore)
        assert (done.state, done.found) == (State.CURRENT, f"{unique}, {unique}.position")
    await migrate_down(topic, ignore)
    assert await told(topic) == (State.CURRENT, f"{unique}, {unique}.position")


async def test_a_server_that_is_away_is_told(settings: Settings) -> None:
    away = Settings.load(home=settings.home, search_url="http://user:secret@127.0.0.1:1")
    [standing] = await migrate_up(readside_stores(away), ignore)
    assert standing.state is State.FAILED
    assert "127.0.0.1:1" in standing.where and "secret" not in f"{standing}"

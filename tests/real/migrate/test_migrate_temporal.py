"""`dataflow migrate` against a real Temporal: namespace and search attributes."""

from __future__ import annotations

from uuid import uuid4

import pytest

from dataflow.embedded.temporal import Address
from dataflow.migrate import State, migrate_down, migrate_up, status, stores
from dataflow.settings import Settings
from workflows.names import ATTRIBUTES


@pytest.fixture
def chosen(settings: Settings, temporal: Address) -> Settings:
    namespace = f"migrate-{uuid4().hex[:8]}"
    return Settings.load(home=settings.home, temporal_address=temporal.target, temporal_namespace=namespace)


def ignore(_standing: object) -> None:
    return None


async def test_a_cluster_is_given_what_it_lacks(chosen: Settings) -> None:
    all_of_them = stores(chosen)
    assert [one.state for one in await status(all_of_them)] == [State.BEHIND] * 5
    told: list[str] = []
    found = await migrate_up(all_of_them, lambda standing: told.append(standing.store))
    assert [one.state for one in found] == [State.CURRENT] * 5, found
    assert told == ["journal", "read models", "inbox", "temporal namespace", "temporal search attributes"]
    assert await status(all_of_them) == await status(all_of_them)
    again = await migrate_up(all_of_them, ignore)
    assert all(one.was == one.found and one.state is State.CURRENT for one in again)
    assert again[4].found == ", ".join(ATTRIBUTES)


async def test_down_takes_the_attributes_and_leaves_the_namespace(chosen: Settings) -> None:
    all_of_them = stores(chosen)
    await migrate_up(all_of_them, ignore)
    await migrate_down(all_of_them, ignore)
    found = {one.store: one for one in await status(all_of_them)}
    assert found["temporal namespace"].state is State.CURRENT
    assert found["temporal search attributes"].found == ""
    assert found["journal"].found == ""
    assert all(one.state is State.CURRENT for one in await migrate_up(all_of_them, ignore))


async def test_a_cluster_that_is_away_is_told_and_the_journal_is_done(settings: Settings) -> None:
    away = Settings.load(home=settings.home, temporal_address="127.0.0.1:1")
    found = await migrate_up(stores(away), ignore)
    assert [one.state for one in found] == [State.CURRENT] * 3 + [State.FAILED] * 2
    assert "127.0.0.1:1" in found[3].detail

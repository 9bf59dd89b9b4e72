"""The schema of the read models: forward and back on live data, and equal to what the code says of it."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from lives import Lives

from dataflow.errors import DataFlowError
from dataflow.journal import MemoryJournal
from dataflow.migrate import State, migrate_down, migrate_up, status
from dataflow.migrate.journal import SqlStore
from dataflow.projections.models import MODELS
from dataflow.projections.projector import Projector
from dataflow.projections.recompute import Swap, recompute
from dataflow.projections.sql_tables import COUNTS, metadata
from dataflow.projections.store import Store, TableProjection
from migrations import READ_MODELS
from tests.chains import check_head_is_written_down, check_makes_the_tables


def test_the_head_is_written_down() -> None:
    check_head_is_written_down(READ_MODELS)


def test_migrations_make_the_tables_that_statements_name(store_url: str) -> None:
    check_makes_the_tables(READ_MODELS, store_url, metadata, indexes=False)


async def test_up_down_up_while_a_projector_works(journal: MemoryJournal, store_url: str) -> None:
    """The schema goes away under the projector and comes back: it says so, and makes up for everything."""
    schema = SqlStore(store_url, "read models", READ_MODELS)
    [up] = await migrate_up([schema], lambda _: None)
    assert (up.was, up.state) == ("", State.CURRENT)
    lives = Lives(journal)
    await lives.live(500)
    store = Store(store_url)
    projector = Projector(journal, [TableProjection(store, model) for model in MODELS.values()], store)
    stop = asyncio.Event()
    running = asyncio.create_task(projector.run(stop))
    while min(one["position"] for one in projector.told().values()) < 500:
        await asyncio.sleep(0.01)
    downs = [(await migrate_down([schema], lambda _: None))[0] for _ in range(int(READ_MODELS.head))]
    assert (downs[0].was, downs[-1].found) == (READ_MODELS.head, "")
    await lives.live(100)
    while not all(one["degraded"] for one in projector.told().values()):
        await asyncio.sleep(0.01)
    await migrate_up([schema], lambda _: None)
    assert (await status([schema]))[0].state is State.CURRENT
    while any(one["degraded"] or one["position"] < 600 for one in projector.told().values()):
        await asyncio.sleep(0.01)
    stop.set()
    await running
    async with store:
        for model in MODELS.values():
            found = await recompute(journal, store, model, Swap.NEVER)
            assert (found.different, found.position) == (0, await journal.end())


async def test_journal_and_read_models_share_a_database(store_url: str) -> None:
    for chain in (SqlStore(store_url), SqlStore(store_url, "read models", READ_MODELS)):
        [up] = await migrate_up([chain], lambda _: None)
        assert up.state is State.CURRENT
    for _ in range(int(READ_MODELS.head)):
        await migrate_down([SqlStore(store_url, "read models", READ_MODELS)], lambda _: None)
    assert (await status([SqlStore(store_url)]))[0].state is State.CURRENT


async def test_rows_stay_while_the_time_of_the_cpu_comes_and_goes(journal: MemoryJournal, store_url: str) -> None:
    """Rows of the version before are read by this one and the other way round, by whoever had it open meanwhile."""
    await Lives(journal).live(300)
    async with Store(store_url) as store:
        metrics = TableProjection(store, MODELS["metrics"])
        while await metrics.position() < await journal.end():
            await metrics.apply(await journal.tail(await metrics.position(), 100))
    of_this = await asyncio.to_thread(_hours, store_url)
    assert 0 not in [row.pop("cpu_ms") for row in of_this]

    await asyncio.to_thread(READ_MODELS.downgrade, store_url, "0001")
    assert await asyncio.to_thread(_hours, store_url) == of_this
    await asyncio.to_thread(READ_MODELS.upgrade, store_url)
    assert await asyncio.to_thread(_hours, store_url) == [{**row, "cpu_ms": 0} for row in of_this]

    written = {**{name: 1 for name in COUNTS if name != "cpu_ms"}, "pipeline_id": "old", "hour": "2026-01-31T23:00:00Z"}
    engine = sa.create_engine(store_url)
    with engine.begin() as connection:
        into = sa.table("pipeline_metrics_hourly_a", *(sa.column(name) for name in written))
        connection.execute(sa.insert(into), written)
    engine.dispose()
    [row] = [row for row in await asyncio.to_thread(_hours, store_url) if row["pipeline_id"] == "old"]
    assert (row["cpu_ms"], row["processing_ms"]) == (0, 1)


def _hours(url: str) -> list[dict[str, object]]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        text = "SELECT * FROM pipeline_metrics_hourly ORDER BY hour, pipeline_id"
        found = [dict(row) for row in connection.execute(sa.text(text)).mappings()]
    engine.dispose()
    return found


async def test_a_newer_schema_is_left_alone(store_url: str) -> None:
    async with Store(store_url) as store:
        await store.write(lambda c: c.execute(sa.text("UPDATE readmodels_version SET version_num = '9999'")).rowcount)
    with pytest.raises(DataFlowError, match="9999"):
        async with Store(store_url):
            pass

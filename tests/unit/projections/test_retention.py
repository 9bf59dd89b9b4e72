"""Old rows go, stay away after a rebuild, and everything else stays."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import sqlalchemy as sa
from lives import START, Lives

from dataflow.journal import MemoryJournal
from dataflow.projections.models import MODELS, model
from dataflow.projections.projector import Projector
from dataflow.projections.recompute import Swap, checksum, recompute
from dataflow.projections.retention import retain
from dataflow.projections.store import Store, TableProjection

KEEP = {"pipeline_metrics_minute": 600.0, "pipeline_metrics_hourly": 0.0, "audit_log": 1800.0}


async def first(store: Store, view: str, column: str) -> str:
    return str(await store.read(lambda c: c.execute(sa.text(f"SELECT MIN({column}) FROM {view}_a")).scalar()))


async def test_old_rows_are_dropped_and_stay_away(journal: MemoryJournal, store: Store) -> None:
    lives = Lives(journal)
    await lives.live(1500)
    projections = [TableProjection(store, one) for one in MODELS.values()]
    await Projector(journal, projections).catch_up()
    hours = await first(store, "pipeline_metrics_hourly", "hour")
    dropped = await retain(store, KEEP, lives.now)
    assert dropped["pipeline_metrics_minute"] > 0 and dropped["audit_log"] > 0
    assert "pipeline_metrics_hourly" not in dropped
    limit = (lives.now - timedelta(seconds=600)).strftime("%Y-%m-%dT%H:%M:00Z")
    assert await first(store, "pipeline_metrics_minute", "minute") >= limit
    assert await first(store, "pipeline_metrics_hourly", "hour") == hours
    assert await retain(store, KEEP, lives.now) == {"pipeline_metrics_minute": 0, "audit_log": 0}
    for one in MODELS.values():
        found = await recompute(journal, store, one, Swap.NEVER)
        assert found.different == 0, found.differences[:2]
    before = await checksum(store, model("metrics"))
    assert (await recompute(journal, store, model("metrics"), Swap.ALWAYS)).different == 0
    assert await checksum(store, model("metrics")) == before
    # A longer `keep` does not bring them back, nor does an earlier clock.
    assert (await retain(store, {"audit_log": 10.0**9}, START))["audit_log"] == 0
    assert await journal.end() == len(journal.store.entries), "the journal keeps everything"


async def test_the_projector_does_it_by_itself(journal: MemoryJournal, store: Store) -> None:
    await Lives(journal).live(300)
    projections = [TableProjection(store, one) for one in MODELS.values()]
    await Projector(journal, projections).catch_up()
    stop = asyncio.Event()
    running = asyncio.create_task(Projector(journal, projections, store, {"audit_log": 3600.0}).run(stop))

    def rows(connection: sa.Connection) -> int:
        return int(connection.execute(sa.text("SELECT COUNT(*) FROM audit_log")).scalar_one())

    while await store.read(rows):  # they are of January
        await asyncio.sleep(0.01)
    stop.set()
    await running

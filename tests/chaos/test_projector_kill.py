"""`kill -9` of a projector, again and again, while pipelines write on: every event counts exactly once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dataflow.journal import open_journal
from dataflow.projections.models import MODELS
from dataflow.projections.recompute import Swap, recompute
from dataflow.projections.store import Store, TableProjection

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "projections"))

from lives import Lives

KILLS = int(os.environ.get("DATAFLOW_CHAOS_PROJECTOR_KILLS", "50"))

PROJECTOR = """
import asyncio, os, random, signal, sys, time
from alembic import command
from dataflow.journal import open_journal
from dataflow.projections.models import MODELS
from dataflow.projections.projector import Projector
from dataflow.projections.store import Store, TableProjection

async def project(journal_url, store_url):
    async with open_journal(journal_url) as journal:
        store = Store(store_url)
        projections = [TableProjection(store, model) for model in MODELS.values()]
        await Projector(journal, projections, store, batch=7).run(asyncio.Event())

moments = random.Random(20261125)
for kill in range(int(sys.argv[3])):
    if child := os.fork():  # what takes long to import is there already
        time.sleep(moments.uniform(0.02, 0.25))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print(kill + 1, flush=True)
    else:
        asyncio.run(project(sys.argv[1], sys.argv[2]))
"""


@pytest.mark.chaos
async def test_a_projector_killed_fifty_times_counts_exactly(tmp_path: Path) -> None:
    journal_url, store_url = f"sqlite:///{tmp_path}/journal.db", f"sqlite:///{tmp_path}/readmodels.db"
    async with open_journal(journal_url) as journal:
        lives = Lives(journal, pipelines=8)
        await lives.live(300)
        killer = subprocess.Popen(
            [sys.executable, "-c", PROJECTOR, journal_url, store_url, str(KILLS)], stdout=subprocess.PIPE, text=True
        )
        assert killer.stdout is not None
        while await asyncio.to_thread(killer.stdout.readline):
            await lives.live(60)
        assert killer.wait() == 0
        killer.stdout.close()
        async with Store(store_url) as store:
            reached = await TableProjection(store, MODELS["status"]).position()
            assert reached > 0, "every one was killed before it did anything"
            for model in MODELS.values():
                found = await recompute(journal, store, model, Swap.NEVER)
                assert (found.different, found.position > 0) == (0, True), found.differences[:3]

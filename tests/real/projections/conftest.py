"""Read models on real servers, fed by pipelines that live at random (`lives`, of the unit tests)."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dataflow.journal import MemoryJournal
from dataflow.projections.store import Store

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "unit" / "projections")]


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(f"sqlite:///{tmp_path / 'readmodels.db'}") as opened:
        yield opened

"""Snapshots of the coordinator's state: every fifty events however many pipelines there are, and what they are for."""

from __future__ import annotations

from typing import Any

from activities.coordinator import CoordinatorActivities
from dataflow.domain.coordinator.batch import Order, carry_out
from dataflow.domain.coordinator.commands import NoteReport
from dataflow.domain.coordinator.orders import RecallOrder
from dataflow.domain.coordinator.packing import joined
from dataflow.domain.coordinator.state import CoordinatorState
from dataflow.domain.orders import AppendOrder
from dataflow.domain.state import Status
from dataflow.journal import MemoryJournal
from dataflow.journal.history import coordinators, folded

from .conftest import START, report

STREAM = "coordinator/q"


class Registry:
    """A coordinator's state and journal, without a workflow."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.state = CoordinatorState.empty(STREAM)
        self.keeping = self.activities()

    def activities(self) -> CoordinatorActivities:
        nobody: Any = None
        return CoordinatorActivities(nobody, self.journal, nobody)

    async def report(self, *reports: Any) -> None:
        outcome = carry_out(self.state, [Order(NoteReport(report=one)) for one in reports], START)
        await self.keeping.keep(AppendOrder(records=outcome.records))
        self.state = outcome.state

    async def snapshots(self) -> list[int]:
        kept = self.journal.store.snapshots.get(STREAM, {})
        return sorted(kept)


async def test_120_events_and_a_restart() -> None:
    registry = Registry()
    for n in range(120):
        await registry.report(report(f"p{n}", Status.CONFIGURED, 1, records=n))
    assert await registry.snapshots() == [50, 100]
    recalled = await registry.activities()._recalled(RecallOrder(stream=STREAM))
    assert joined([recalled.text]) == registry.state
    assert sum(entry.records for entry in registry.state.pipelines.values()) == 119 * 60


async def test_a_large_registry_has_them_as_often_but_for_storms() -> None:
    registry = Registry()
    await registry.report(*(report(f"p{n}", Status.CONFIGURED, 1) for n in range(2000)))
    assert (await registry.snapshots())[-1] == 2000
    for n in range(10):  # at once: the first one is too near
        await registry.report(*(report(f"p{m}", Status.CONFIGURED, 2 + n, records=n) for m in range(50)))
    passed_over = [n for n in range(2050, 2501, 50) if n not in await registry.snapshots()]
    assert passed_over, "a storm"
    for n in range(10):
        registry.keeping._snapshot_from = 0.0  # some seconds later
        await registry.report(*(report(f"p{m}", Status.CONFIGURED, 20 + n) for m in range(50)))
        assert (await registry.snapshots())[-1] == 2550 + 50 * n
    assert await folded(registry.journal, STREAM, 3000, coordinators()) == registry.state
    newest = await registry.journal.latest_snapshot(STREAM)
    assert newest is not None and len(newest.state["packed"]) < 60_000, "forty bytes for each pipeline at most"

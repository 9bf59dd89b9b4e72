"""Pipelines run without Temporal's server: the real activities, the real journal, the aggregate's own decisions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.move import MoveActivities
from activities.plan import PlanActivities
from dataflow.domain import commands as do
from dataflow.domain.events import seal
from dataflow.domain.flow import Lane
from dataflow.domain.orders import CompleteOrder, LedgerEntry, PlanOrder, SegmentOrder
from dataflow.domain.pipeline import decide, fold
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import PipelineState
from dataflow.journal import Journal, open_journal
from dataflow.proof import Proof, prove


@dataclass
class Run:
    """One pipeline. `segment` runs a segment of so many epochs on every lane, and records it or loses its report."""

    folder: Path
    spec: PipelineSpec
    journal: Journal
    state: PipelineState = field(init=False)
    ended: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.state = PipelineState.empty(self.spec.pipeline_id)

    async def apply(self, command: do.Command) -> None:
        records = seal(
            decide(self.state, command),
            stream=self.state.pipeline_id,
            after_sequence=self.state.version,
            previous_hash=self.state.last_hash,
            time=datetime(2026, 11, 25, tzinfo=UTC),
        )
        await self.journal.append(self.state.pipeline_id, self.state.version, records)
        self.state = fold(self.state, records)

    async def begin(self) -> None:
        await self.apply(do.CreatePipeline(spec=self.spec.stored()))
        await self.apply(do.StartPipeline())
        await self.plan()

    async def plan(self) -> None:
        state = self.state
        order = PlanOrder(
            pipeline=state.pipeline_id, generation=state.generation, number=state.plan_number + 1, spec=state.spec
        )
        plan = await ActivityEnvironment().run(PlanActivities(self.folder / "home").plan, order)
        await self.apply(do.AdoptPlan(plan=plan))

    def lanes(self) -> list[Lane]:
        assert self.state.plan is not None
        return [
            Lane(
                pipeline=self.state.pipeline_id,
                generation=self.state.generation,
                sink=lane.sink,
                number=lane.number,
                splits=tuple(lane.splits),
            )
            for lane in self.state.plan.lanes
        ]

    async def segment(self, epochs: int, *, lost: bool = False) -> None:
        assert self.state.plan is not None
        for lane in self.lanes():
            order = SegmentOrder(lane=lane, spec=self.state.spec, plan=self.state.plan, seconds=60, max_epochs=epochs)
            report = await ActivityEnvironment().run(MoveActivities(self.folder / "home").move, order)
            assert report.error is None, report.error
            known = self.state.checkpoint.lanes.get(lane.name)
            before, receipt = known.epoch if known else 0, report.receipt
            if report.ended:
                self.ended.add(lane.name)
            if lost or receipt.epoch <= before:
                continue
            ledger = list(report.ledger)
            if report.first_epoch > before + 1:  # as the workflow does
                ledger.insert(0, LedgerEntry(before + 1, report.first_epoch - 1, -1, -1))
            await self.apply(
                do.RecordSegment(
                    batch_id=f"{lane.name}/{before + 1}-{receipt.epoch}",
                    lane=lane.name,
                    first_epoch=before + 1,
                    last_epoch=receipt.epoch,
                    positions=receipt.positions,
                    counters=receipt.counters,
                    epochs=tuple(asdict(entry) for entry in ledger),
                    milliseconds=1,
                    generation=lane.generation,
                )
            )

    async def complete(self) -> None:
        while len(self.ended) < len(self.lanes()):
            await self.segment(1000)
        state = self.state
        assert state.plan is not None
        order = CompleteOrder(pipeline=state.pipeline_id, generation=state.generation, spec=state.spec, plan=state.plan)
        outputs = await ActivityEnvironment().run(PlanActivities(self.folder / "home").complete, order)
        await self.apply(do.CompletePipeline(outputs=outputs))

    async def whole(self) -> None:
        """All of it: a segment whose report is lost in the middle."""
        await self.begin()
        await self.segment(3)
        await self.segment(2, lost=True)
        await self.segment(2)
        await self.complete()

    async def proof(self) -> Proof:
        return await prove(self.journal, self.state.pipeline_id, self.folder / "home")


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    (tmp_path / "home").mkdir()
    async with open_journal(f"sqlite:///{tmp_path}/home/journal.db") as opened:
        yield opened


@pytest.fixture
def run(tmp_path: Path, journal: Journal) -> Callable[..., Run]:
    """`run(sink)`: three files of orders, some of them broken, into that sink, small epochs, two lanes at most."""
    (tmp_path / "in").mkdir()
    for name, rows in (("north", 400), ("south", 150), ("east", 90)):
        lines = [f'{name}-{n},{"oops" if n % 37 == 5 else n / 4},"note, {n}"' for n in range(rows)]
        (tmp_path / f"in/{name}.csv").write_text("\n".join(["id,amount,note", *lines, ""]))

    def make(sink: dict[str, Any], **more: Any) -> Run:
        columns = {"id": "VARCHAR", "amount": "DOUBLE", "note": "VARCHAR"}
        definition = {
            "name": "orders",
            "base": str(tmp_path),
            "source": {"type": "file", "path": "in", "format": "csv", "columns": columns, "batch_size": 20},
            "transforms": [{"type": "filter", "where": "amount <> 7"}],
            "sink": sink,
            "checkpoint": {"interval": "1h", "max_rows": 20},
            "parallelism": 2,
        }
        return Run(tmp_path, PipelineSpec.model_validate({**definition, **more}), journal)

    return make

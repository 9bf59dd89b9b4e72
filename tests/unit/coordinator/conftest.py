"""A coordinator without Temporal: commands in, events out, every one sealed, folded and checked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dataflow.domain.commands import Origin
from dataflow.domain.coordinator import commands as c
from dataflow.domain.coordinator.batch import Order, Outcome, carry_out
from dataflow.domain.coordinator.evolution import fold
from dataflow.domain.coordinator.state import CoordinatorState, Limits
from dataflow.domain.record import EventRecord
from dataflow.domain.state import Status
from dataflow.errors import DataFlowError

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Desk:
    """Gives orders, one batch a second."""

    def __init__(self, **limits: Any) -> None:
        self.state = CoordinatorState.empty("coordinator/test")
        self.records: list[EventRecord] = []
        self.now = START
        self.granted: list[str] = []
        if limits:
            self.do(c.ChangeLimits(limits=Limits(**limits)))

    def batch(self, *commands: c.Command, actor: str = "tester") -> Outcome:
        self.now += timedelta(seconds=1)
        outcome = carry_out(self.state, [Order(one, Origin(actor=actor)) for one in commands], self.now)
        assert fold(self.state, outcome.records) == outcome.state
        self.state = outcome.state
        self.records += outcome.records
        self.granted += [pipeline for pipeline, _ in outcome.granted]
        check_sums(self.state)
        return outcome

    def do(self, command: c.Command, actor: str = "tester") -> list[str]:
        """The types of what happened, grants of others included."""
        known = len(self.records)
        (answer,) = self.batch(command, actor=actor).answers
        if isinstance(answer, DataFlowError):
            raise answer
        return [record.type for record in self.records[known:]]

    def report(self, pipeline: str, status: Status, version: int, **more: Any) -> list[str]:
        return self.do(c.NoteReport(report=report(pipeline, status, version, **more)))

    def ask(self, pipeline: str, version: int = 1, **more: Any) -> str:
        """Ask for a start; what was decided."""
        done = self.do(c.RequestAdmission(report=report(pipeline, Status.CONFIGURED, version, **more)))
        return next((kind.removeprefix("Admission").lower() for kind in done if kind.startswith("Admission")), "")

    def run(self, pipeline: str, **more: Any) -> str:
        """Ask for a start, and begin it where it is granted."""
        decided = self.ask(pipeline, **more)
        if decided == "granted":
            self.report(pipeline, Status.RUNNING, 2, **more)
        return decided

    def worker(self, name: str, **more: Any) -> list[str]:
        figures = {"host": name, "cpu_percent": 10.0, "memory_mb": 500, "slots": 100, "used": 0, "task_queue": "q"}
        return self.do(c.ReportResourceUsage(worker=name, **{**figures, **more}))


def report(pipeline: str, status: Status, version: int, **more: Any) -> c.PipelineReport:
    return c.PipelineReport(pipeline_id=pipeline, name=pipeline, status=status, version=version, **more)


def check_sums(state: CoordinatorState) -> None:
    """What is summed up on the way is what a sum from nothing gives."""
    shares = [entry.share for entry in state.pipelines.values() if entry.share]
    assert state.held == len(shares)
    assert state.reserved_cpu == sum(share.cpu for share in shares)
    assert state.reserved_memory_mb == sum(share.memory_mb for share in shares)
    groups: dict[str, int] = {}
    for entry in state.pipelines.values():
        if entry.share:
            groups[entry.group] = groups.get(entry.group, 0) + 1
    assert state.held_by_group == groups
    assert set(state.waiting) <= set(state.pipelines)
    assert set(state.granted) <= {name for name, entry in state.pipelines.items() if entry.share}
    assert not set(state.waiting) & set(state.granted)
    assert not set(state.removed) & set(state.pipelines)


@pytest.fixture
def desk() -> Desk:
    return Desk()

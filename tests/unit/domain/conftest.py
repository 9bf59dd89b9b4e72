"""A pipeline in memory: commands are decided, sealed and folded as the workflow does it, with a clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dataflow.domain import commands as c
from dataflow.domain.events import Event, EventRecord, seal
from dataflow.domain.flow import Counters
from dataflow.domain.pipeline import decide, evolve
from dataflow.domain.state import ErrorType, PipelineError, PipelineState, Plan, PlannedLane, Status

SPEC: dict[str, Any] = {
    "name": "orders",
    "description": "all orders",
    "source": {"type": "file", "path": "orders.csv", "format": "csv"},
    "transforms": [{"type": "filter", "where": "amount > 50"}],
    "sink": {"type": "file", "path": "out", "format": "parquet"},
}
PUSHED: dict[str, Any] = {**SPEC, "source": {"type": "push"}}
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Pipeline:
    """`do` carries a command out, one second after the one before it."""

    spec = SPEC

    def __init__(self, pipeline_id: str = "orders") -> None:
        self.state = PipelineState.empty(pipeline_id)
        self.records: list[EventRecord] = []
        self.now = NOON

    def do(self, command: c.Command, *, after: float = 1.0) -> tuple[Event, ...]:
        events = decide(self.state, command)
        self.now += timedelta(seconds=after)
        sealed = seal(
            events,
            stream=self.state.pipeline_id,
            after_sequence=self.state.version,
            previous_hash=self.state.last_hash,
            time=self.now,
        )
        for record in sealed:
            self.state = evolve(self.state, record)
            self.records.append(record)
        return events

    def plan(self, *lanes: PlannedLane) -> c.AdoptPlan:
        some = lanes or (PlannedLane(sink="sink", number=0, splits=("orders.csv",)),)
        return c.AdoptPlan(plan=Plan(number=self.state.plan_number + 1, generation=self.state.generation, lanes=some))

    def segment(self, first: int, last: int, read: int, lane: str = "sink-0", **more: Any) -> c.RecordSegment:
        """A segment after which the lane has read this many records in all: a tenth failed, a fifth filtered out."""
        failed, filtered = read // 10, read // 5
        counters = Counters(
            read=read, written=read - failed - filtered, filtered=filtered, failed=failed, dead_lettered=failed
        )
        given: dict[str, Any] = {
            "batch_id": f"{lane}/{self.state.generation}/{first}-{last}",
            "positions": {"orders.csv": str(read)},
            "counters": counters,
            "milliseconds": 500,
        }
        return c.RecordSegment(lane=lane, first_epoch=first, last_epoch=last, **{**given, **more})


def failure(code: str = "SINK_ERROR", message: str = "disk full", **more: Any) -> c.ReportFailure:
    return c.ReportFailure(error=PipelineError(error_type=ErrorType.SINK, code=code, message=message), **more)


ROADS: dict[Status, tuple[Callable[[Pipeline], c.Command], ...]] = {
    Status.EMPTY: (),
    Status.CONFIGURED: (lambda p: c.CreatePipeline(spec=SPEC),),
    Status.RUNNING: (lambda p: c.CreatePipeline(spec=SPEC), lambda p: c.StartPipeline()),
}
ROADS[Status.PAUSED] = (*ROADS[Status.RUNNING], lambda p: c.PausePipeline(reason="lunch"))
ROADS[Status.STOPPED] = (*ROADS[Status.RUNNING], lambda p: c.StopPipeline(reason="night"))
ROADS[Status.COMPLETED] = (*ROADS[Status.RUNNING], lambda p: c.CompletePipeline(outputs={"sink": {"files": 1}}))
ROADS[Status.FAILED] = (*ROADS[Status.RUNNING], lambda p: failure())
ROADS[Status.DELETED] = (*ROADS[Status.CONFIGURED], lambda p: c.DeletePipeline())


@pytest.fixture
def at() -> Callable[..., Pipeline]:
    """A pipeline in that state, reached the ordinary way."""

    def reach(status: Status, spec: dict[str, Any] = SPEC) -> Pipeline:
        pipeline = Pipeline()
        for step in ROADS[status]:
            command = step(pipeline)
            pipeline.do(c.CreatePipeline(spec=spec) if isinstance(command, c.CreatePipeline) else command)
        assert pipeline.state.status is status
        return pipeline

    return reach


@pytest.fixture
def pushed(at: Callable[..., Pipeline]) -> Pipeline:
    """A running pipeline that reads what is pushed to it."""
    return at(Status.RUNNING, PUSHED)


@pytest.fixture
def running(at: Callable[[Status], Pipeline]) -> Pipeline:
    pipeline = at(Status.RUNNING)
    pipeline.do(pipeline.plan())
    return pipeline


@pytest.fixture
def fail() -> Callable[..., c.ReportFailure]:
    return failure

"""The table of transitions, and that a history against it is not believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from dataflow.domain import events as e
from dataflow.domain.pipeline import decide, evolve
from dataflow.domain.record import hashed
from dataflow.domain.state import ErrorType, Metrics, PipelineError, Plan, Status
from dataflow.domain.transitions import TABLE, describe, targets
from dataflow.errors import Corrupt

VALID = {
    "empty": "configured",
    "configured": "configured running deleted",
    "running": "running paused stopped completed failed",
    "paused": "paused running stopped",
    "stopped": "stopped running configured deleted",
    "completed": "configured deleted",
    "failed": "failed configured deleted",
    "deleted": "",
}
HAPPENS = {
    "PipelineCreated": "empty>configured",
    "PipelineStarted": "configured>running stopped>running",
    "StartQueued": "configured>configured stopped>stopped",
    "StartWithdrawn": "configured>configured stopped>stopped",
    "PipelineStopped": "running>stopped paused>stopped",
    "PipelinePaused": "running>paused",
    "PipelineResumed": "paused>running",
    "PipelinePlanned": "running>running paused>paused",
    "BatchIngested": "running>running paused>paused stopped>stopped failed>failed",
    "BatchProcessed": "running>running paused>paused stopped>stopped failed>failed",
    "CheckpointUpdated": "running>running paused>paused stopped>stopped failed>failed",
    "MetricsReported": "running>running paused>paused",
    "RetryScheduled": "running>running",
    "BatchTimedOut": "running>running",
    "PipelineFailed": "running>failed",
    "PipelineCompleted": "running>completed",
    "PipelineReset": "configured>configured stopped>configured completed>configured failed>configured",
    "ConfigUpdated": "configured>configured stopped>stopped",
    "PipelineDeleted": "configured>deleted stopped>deleted completed>deleted failed>deleted",
}
ERROR = PipelineError(error_type=ErrorType.SINK, code="TIMEOUT", message="slow")
SPEC = {"name": "orders", "source": {"type": "file", "path": "a"}, "sinks": [{"type": "console"}]}
SAMPLES: tuple[e.Event, ...] = (
    e.PipelineCreated(name="orders", description="", spec=SPEC),
    e.PipelineStarted(generation=1),
    e.StartQueued(reason="no room"),
    e.StartWithdrawn(reason=""),
    e.PipelineStopped(reason="", final_metrics=Metrics()),
    e.PipelinePaused(reason=""),
    e.PipelineResumed(),
    e.PipelinePlanned(plan=Plan(number=1, generation=1, lanes=())),
    e.BatchIngested(batch_id="b", record_count=1, source_offset=1),
    e.BatchProcessed(batch_id="b", success_count=1, failure_count=0, processing_time_ms=0),
    e.CheckpointUpdated(checkpoint=e.CheckpointMove(offset=1, records_processed=1)),
    e.MetricsReported(metrics={"lag": 1.0}),
    e.RetryScheduled(error=ERROR, retry_count=1, backoff_ms=10),
    e.BatchTimedOut(batch_id="b", timeout_ms=1),
    e.PipelineFailed(error=ERROR, retry_count=0, final_metrics=Metrics()),
    e.PipelineCompleted(outputs={}, final_metrics=Metrics()),
    e.PipelineReset(from_start=False, generation=1),
    e.ConfigUpdated(spec=SPEC, generation=1),
    e.PipelineDeleted(),
)


@pytest.mark.parametrize(("before", "after"), [*product(Status, Status)])
def test_every_pair_of_states(before: Status, after: Status) -> None:
    valid = after in VALID[before].split()
    assert (after in targets(before)) == valid
    text = describe(before, after)
    assert text.startswith(f"{before} -> {after}")
    assert ("is not possible" in text) != valid


def follow(pipeline: Any, event: e.Event) -> e.EventRecord:
    state = pipeline.state
    (record,) = e.seal(
        [event], stream="orders", after_sequence=state.version, previous_hash=state.last_hash, time=pipeline.now
    )
    return record


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_that_cannot_happen_is_corrupt(at: Callable[[Status], Any], event: e.Event, status: Status) -> None:
    pipeline = at(status)
    record = follow(pipeline, event)
    after = dict(pair.split(">") for pair in HAPPENS[record.type].split()).get(status)
    if after is None:
        with pytest.raises(Corrupt, match=f"cannot happen to a pipeline that is {status}"):
            evolve(pipeline.state, record)
    else:
        assert evolve(pipeline.state, record).status == after


def test_the_samples_and_the_table_are_complete() -> None:
    assert {type(event).__name__ for event in SAMPLES} == set(e.EVENT_TYPES) == set(TABLE) == set(HAPPENS)


def test_a_gap_is_corrupt(running: Any) -> None:
    record = follow(running, e.PipelinePaused(reason=""))
    with pytest.raises(Corrupt, match="is expected next"):
        evolve(running.state, hashed(replace(record, sequence=record.sequence + 1)))
    with pytest.raises(Corrupt, match="is expected next"):
        evolve(running.state, running.records[-1])


def test_a_broken_link_is_corrupt(running: Any) -> None:
    record = follow(running, e.PipelinePaused(reason=""))
    with pytest.raises(Corrupt, match="not linked"):
        evolve(running.state, hashed(replace(record, previous_hash="f" * 64)))


@pytest.mark.parametrize(
    "event",
    [
        e.PipelineReset(from_start=True, generation=1),
        e.PipelineReset(from_start=False, generation=2),
        e.ConfigUpdated(spec=SPEC, generation=3),
        e.PipelineStarted(generation=2),
    ],
)
def test_a_wrong_generation_is_corrupt(at: Callable[[Status], Any], event: e.Event) -> None:
    pipeline = at(Status.STOPPED)
    with pytest.raises(Corrupt, match="generation"):
        evolve(pipeline.state, follow(pipeline, event))


def test_deciding_changes_nothing(running: Any) -> None:
    before = replace(running.state)
    assert decide(running.state, running.segment(1, 1, 10)) == decide(running.state, running.segment(1, 1, 10))
    assert running.state == before

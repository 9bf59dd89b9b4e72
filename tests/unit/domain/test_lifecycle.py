"""A pipeline's life: times, reasons, totals, and what survives what."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from dataflow.domain import commands as c
from dataflow.domain import events as e
from dataflow.domain.state import EPOCH, Checkpoint, Metrics, Plan, PlannedLane, Status
from dataflow.errors import Conflict, IllegalCommand, InvalidSpec

At = Callable[[Status], Any]


def test_creation_is_one_event_with_the_whole_definition(at: At) -> None:
    pipeline = at(Status.CONFIGURED)
    (record,) = pipeline.records
    assert record.type == "PipelineCreated"
    assert record.sequence == 1
    assert record.payload["spec"]["transforms"] == [{"type": "filter", "where": "amount > 50"}]
    assert pipeline.state.definition.source.options == {"path": "orders.csv", "format": "csv"}
    assert (pipeline.state.name, pipeline.state.description) == ("orders", "all orders")
    assert pipeline.state.version == pipeline.state.generation == 1


def test_a_first_start_begins_at_nothing(at: At) -> None:
    pipeline = at(Status.RUNNING)
    assert pipeline.state.checkpoint == Checkpoint(offset=0, timestamp=EPOCH, records_processed=0)
    assert pipeline.state.metrics == Metrics()
    assert pipeline.state.started_at == pipeline.now


def test_created_at_stays_and_updated_at_moves(at: At) -> None:
    pipeline = at(Status.CONFIGURED)
    created, seen = pipeline.state.created_at, [pipeline.state.updated_at]
    for command in (
        c.UpdateConfig(spec={"description": "x"}, partial=True),
        c.StartPipeline(),
        c.PausePipeline(reason=""),
        c.ResumePipeline(),
        c.StopPipeline(reason=""),
        c.StartPipeline(),
        c.CompletePipeline(),
        c.ResetPipeline(from_start=True),
        c.DeletePipeline(),
    ):
        pipeline.do(command)
        assert pipeline.state.created_at == created
        seen.append(pipeline.state.updated_at)
    assert seen == sorted(set(seen))


def test_pause_keeps_checkpoint_and_metrics(running: Any) -> None:
    running.do(running.segment(1, 3, 1000))
    before = running.state
    running.do(c.PausePipeline(reason="lunch"))
    assert running.state.pause_reason == "lunch"
    assert running.state.paused_at == running.now
    assert (running.state.checkpoint, running.state.metrics) == (before.checkpoint, before.metrics)
    running.do(c.ResumePipeline())
    assert (running.state.pause_reason, running.state.paused_at) == ("", None)
    assert (running.state.checkpoint, running.state.metrics) == (before.checkpoint, before.metrics)


@pytest.mark.parametrize("by_way_of_pause", [False, True])
def test_stop_tells_the_final_totals(running: Any, by_way_of_pause: bool) -> None:
    running.do(running.segment(1, 3, 1000))
    if by_way_of_pause:
        running.do(c.PausePipeline(reason="lunch"))
    metrics = running.state.metrics
    (event,) = running.do(c.StopPipeline(reason="night"))
    assert event == e.PipelineStopped(reason="night", final_metrics=metrics)
    assert metrics.records_processed == 900
    assert (running.state.status, running.state.stop_reason) == (Status.STOPPED, "night")
    assert running.state.paused_at is None


def test_restart_goes_on_at_the_checkpoint_with_fresh_run_metrics(running: Any) -> None:
    running.do(running.segment(1, 3, 1000))
    running.do(c.StopPipeline(reason=""))
    stopped = running.state
    (event,) = running.do(c.StartPipeline())
    assert event == e.PipelineStarted(generation=1, offset=1000)
    assert running.state.checkpoint == stopped.checkpoint
    assert running.state.plan == stopped.plan
    assert running.state.metrics == Metrics()
    assert running.state.lifetime == stopped.lifetime
    assert (running.state.stopped_at, running.state.stop_reason) == (None, "")
    running.do(running.segment(4, 5, 1500))
    assert running.state.metrics.records_processed == 450
    assert running.state.metrics.records_failed == 50
    assert running.state.lifetime.records_processed == 1350
    assert running.state.lifetime.batches_processed == 2
    assert running.state.checkpoint.offset == 1500


def test_a_permanent_error_fails_with_details_and_checkpoint(running: Any, fail: Callable[..., Any]) -> None:
    running.do(running.segment(1, 3, 1000))
    (event,) = running.do(fail())
    assert isinstance(event, e.PipelineFailed)
    assert event.final_metrics == running.state.metrics
    assert running.state.error.code == "SINK_ERROR"
    assert running.state.failed_at == running.now
    assert running.state.checkpoint.offset == 1000


def test_reset_after_failure_keeps_definition_and_checkpoint(running: Any, fail: Callable[..., Any]) -> None:
    running.do(running.segment(1, 3, 1000))
    running.do(fail())
    failed = running.state
    running.do(c.ResetPipeline())
    assert running.state.status is Status.CONFIGURED
    assert running.state.error is None
    assert running.state.failed_at is None
    assert (running.state.spec, running.state.checkpoint) == (failed.spec, failed.checkpoint)
    assert (running.state.generation, running.state.plan) == (1, failed.plan)
    running.do(c.StartPipeline())
    running.do(running.segment(4, 4, 1100))
    running.do(c.CompletePipeline())
    assert running.state.status is Status.COMPLETED
    assert running.state.lifetime.records_processed == 990


@pytest.mark.parametrize("end", [c.StopPipeline(reason=""), c.CompletePipeline()])
def test_reset_from_start_begins_a_new_generation(running: Any, end: c.Command) -> None:
    running.do(running.segment(1, 3, 1000))
    running.do(end)
    lifetime = running.state.lifetime
    running.do(c.ResetPipeline(from_start=True))
    state = running.state
    assert (state.status, state.generation, state.plan) == (Status.CONFIGURED, 2, None)
    assert state.checkpoint == Checkpoint()
    assert (state.recent_batches, state.recent_offsets, state.outputs) == ((), (), {})
    assert state.lifetime == lifetime
    running.do(c.StartPipeline())
    running.do(running.plan())
    assert running.do(running.segment(1, 3, 1000)), "the same epochs of a new generation are no repeat"
    assert running.state.lifetime.records_processed == lifetime.records_processed + 900


@pytest.mark.parametrize("status", [Status.CONFIGURED, Status.STOPPED])
def test_a_plain_reset_needs_something_to_go_back_from(at: At, status: Status) -> None:
    with pytest.raises(IllegalCommand):
        at(status).do(c.ResetPipeline())


def test_completion_keeps_the_outputs(running: Any) -> None:
    running.do(running.segment(1, 3, 1000))
    (event,) = running.do(c.CompletePipeline(outputs={"sink": {"files": 2}}))
    assert event.final_metrics == running.state.metrics
    assert running.state.outputs == {"sink": {"files": 2}}
    assert running.state.completed_at == running.now


def test_outside_figures_become_event_and_state(running: Any) -> None:
    running.do(c.ReportMetrics(metrics={"lag": 17.0}))
    assert running.records[-1].type == "MetricsReported"
    assert running.state.reported == {"lag": 17.0}
    running.do(c.UpdateCheckpoint(checkpoint=Checkpoint(offset=40, records_processed=30)))
    assert running.records[-1].type == "CheckpointUpdated"
    assert (running.state.checkpoint.offset, running.state.checkpoint.records_processed) == (40, 30)
    assert running.state.checkpoint.timestamp == running.now


class TestThroughput:
    def test_pauses_do_not_count(self, running: Any) -> None:
        started = running.state.started_at
        running.do(c.PausePipeline(reason=""), after=9)
        running.do(c.ResumePipeline(), after=1000)
        running.do(running.segment(1, 1, 1000), after=10)
        passed = (running.now - started - timedelta(seconds=1000)).total_seconds()
        assert running.state.metrics.active_seconds == passed
        assert running.state.metrics.throughput_per_second == pytest.approx(900 / passed)

    def test_a_batch_that_took_no_time(self, at: At) -> None:
        pipeline = at(Status.RUNNING)
        pipeline.do(pipeline.segment(1, 1, 1000, milliseconds=0), after=0)
        assert pipeline.state.metrics.throughput_per_second == 0.0
        assert pipeline.state.metrics.average_processing_time_ms == 0.0

    def test_it_is_of_the_whole_run_not_of_the_last_batch(self, at: At) -> None:
        pipeline = at(Status.RUNNING)
        pipeline.do(pipeline.segment(1, 1, 1000, milliseconds=100), after=1)
        pipeline.do(pipeline.segment(2, 2, 1010, milliseconds=300), after=1)
        assert pipeline.state.metrics.throughput_per_second == pytest.approx(909 / 2)
        assert pipeline.state.metrics.average_processing_time_ms == 200

    def test_lifetime_adds_the_runs(self, at: At) -> None:
        pipeline = at(Status.RUNNING)
        pipeline.do(pipeline.segment(1, 1, 1000), after=10)
        pipeline.do(c.StopPipeline(reason=""))
        pipeline.do(c.StartPipeline(), after=5000)
        pipeline.do(pipeline.segment(2, 2, 2000), after=30)
        assert pipeline.state.metrics.throughput_per_second == 30
        assert pipeline.state.lifetime.throughput_per_second == 1800 / 40

    def test_a_late_report_adds_no_time_after_the_end(self, at: At) -> None:
        pipeline = at(Status.RUNNING)
        pipeline.do(c.StopPipeline(reason=""), after=10)
        pipeline.do(pipeline.segment(1, 1, 1000), after=500)
        assert pipeline.state.metrics.active_seconds == 10


class TestPlan:
    def test_it_is_kept_and_numbered(self, running: Any) -> None:
        assert running.state.plan.lanes[0].name == "sink-0"
        assert running.state.plan_number == 1

    def test_the_same_again_changes_nothing(self, running: Any) -> None:
        assert running.do(c.AdoptPlan(plan=running.state.plan)) == ()

    def test_another_generation_or_an_old_number_is_a_conflict(self, running: Any) -> None:
        with pytest.raises(Conflict, match="generation 2"):
            running.do(c.AdoptPlan(plan=Plan(number=2, generation=2, lanes=())))
        with pytest.raises(Conflict, match="not new"):
            running.do(c.AdoptPlan(plan=Plan(number=1, generation=1, lanes=())))

    def test_all_that_is_wrong_is_said_at_once(self, running: Any) -> None:
        lanes = (
            PlannedLane(sink="sink", number=0, splits=("a", "b")),
            PlannedLane(sink="sink", number=0, splits=("b",)),
            PlannedLane(sink="other", number=0, splits=("b",)),
        )
        with pytest.raises(InvalidSpec) as refused:
            running.do(running.plan(*lanes))
        assert [p.path for p in refused.value.problems] == [
            "plan.lanes[1]",
            "plan.lanes[1].splits",
            "plan.lanes[2].sink",
        ]

    def test_a_split_that_began_stays_in_its_lane(self, running: Any) -> None:
        running.do(running.segment(1, 1, 10))
        with pytest.raises(InvalidSpec, match=r"orders\.csv began here and may not move"):
            running.do(running.plan(PlannedLane(sink="sink", number=0, splits=("more.csv",))))
        with pytest.raises(InvalidSpec, match="lane sink-0 has begun and is missing"):
            running.do(running.plan(PlannedLane(sink="sink", number=1, splits=("orders.csv",))))
        assert running.do(running.plan(PlannedLane(sink="sink", number=0, splits=("orders.csv", "more.csv"))))


def test_a_start_waits_once_until_it_is_made_or_withdrawn(at: Callable[[Status], Any]) -> None:
    pipeline = at(Status.CONFIGURED)
    assert pipeline.do(c.QueueStart(reason="no room"))
    assert not pipeline.do(c.QueueStart(reason="still none"))
    state = pipeline.state
    assert (state.status, state.queue_reason, state.queued_at is not None) == (Status.CONFIGURED, "no room", True)
    pipeline.do(c.WithdrawStart(reason="not today"))
    assert (pipeline.state.queued_at, pipeline.state.queue_reason) == (None, "")
    with pytest.raises(IllegalCommand, match="cannot be stopped"):
        pipeline.do(c.WithdrawStart())
    pipeline.do(c.QueueStart(reason="no room"))
    pipeline.do(c.StartPipeline())
    assert (pipeline.state.status, pipeline.state.queued_at) == (Status.RUNNING, None)

"""Batches: together or not at all, once and not twice, from whatever state they come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter

from dataflow.domain import commands as c
from dataflow.domain import events as e
from dataflow.domain.flow import Counters, Position
from dataflow.domain.pipeline import fold
from dataflow.domain.state import MEMORY, Checkpoint, LaneCheckpoint, PipelineState, Status
from dataflow.errors import Conflict, IllegalCommand

At = Callable[[Status], Any]


def test_a_segment_is_three_events_together(running: Any) -> None:
    command = running.segment(1, 3, 1000, epochs=({"epoch": 1, "read": 400}, {"epoch": 3, "read": 600}))
    ingested, processed, moved = running.do(command)
    assert ingested == e.BatchIngested(
        batch_id="sink-0/1/1-3", record_count=1000, source_offset=1000, lane="sink-0", first_epoch=1, last_epoch=3
    )
    assert isinstance(processed, e.BatchProcessed)
    assert (processed.success_count, processed.failure_count, processed.processing_time_ms) == (900, 100, 500)
    assert processed.counters == command.counters
    assert processed.epochs == command.epochs
    assert moved == e.CheckpointUpdated(
        checkpoint=e.CheckpointMove(
            offset=1000,
            records_processed=900,
            lanes={
                "sink-0": LaneCheckpoint(
                    epoch=3, positions=command.positions, counters=command.counters, batch_id="sink-0/1/1-3"
                )
            },
        )
    )
    metrics = running.state.metrics
    assert (metrics.records_processed, metrics.records_failed, metrics.records_filtered) == (900, 100, 200)
    assert (metrics.records_dead_lettered, metrics.batches_processed) == (100, 1)
    assert metrics.last_processed_at == running.state.checkpoint.timestamp == running.now


def test_the_time_of_the_cpu_is_told_where_it_is_known(running: Any) -> None:
    """Events of before have none, and must keep their hash when a workflow is replayed by the code of today."""
    running.do(running.segment(1, 3, 1000, cpu_ms=40))
    running.do(running.segment(4, 4, 1500))
    known, unknown = (record for record in running.records if record.type == "BatchProcessed")
    assert known.payload["cpu_ms"] == 40
    assert "cpu_ms" not in unknown.payload
    assert [e.unseal(record).cpu_ms for record in (known, unknown)] == [40, 0]


def test_the_next_segment_counts_the_difference(running: Any) -> None:
    running.do(running.segment(1, 3, 1000))
    ingested, processed, _ = running.do(running.segment(4, 4, 1500))
    assert ingested.record_count == 500
    assert (processed.success_count, processed.failure_count) == (450, 50)
    assert running.state.checkpoint.lanes["sink-0"].counters.read == 1500


def test_epochs_of_a_lost_attempt_are_covered_by_the_next_report(running: Any) -> None:
    running.do(running.segment(1, 3, 1000))
    ingested, _, _ = running.do(running.segment(7, 9, 3000))
    assert ingested.record_count == 2000
    running.do(running.segment(11, 10, 3100))  # found epoch 10 in the sink and committed nothing itself
    assert running.state.checkpoint.lanes["sink-0"].epoch == 10
    assert running.state.metrics.records_processed == 2790


@pytest.mark.parametrize("interlude", ["none", "pause", "stop", "restart", "fail"])
def test_a_repeated_segment_is_nothing(running: Any, interlude: str, fail: Callable[..., Any]) -> None:
    segment = running.segment(1, 3, 1000)
    running.do(segment)
    for command in {
        "none": [],
        "pause": [c.PausePipeline(reason="")],
        "stop": [c.StopPipeline(reason="")],
        "restart": [c.StopPipeline(reason=""), c.StartPipeline()],
        "fail": [fail()],
    }[interlude]:
        running.do(command)
    before = running.state
    assert running.do(segment) == ()
    assert running.do(running.segment(1, 2, 700)) == ()
    assert running.state == before


@pytest.mark.parametrize("end", [c.PausePipeline(reason=""), c.StopPipeline(reason=""), "fail"])
def test_what_was_committed_before_the_end_is_recorded_after_it(
    running: Any, end: Any, fail: Callable[..., Any]
) -> None:
    running.do(running.segment(1, 3, 1000))
    running.do(fail() if end == "fail" else end)
    status, error = running.state.status, running.state.error
    assert len(running.do(running.segment(4, 4, 1500))) == 3
    assert (running.state.status, running.state.error) == (status, error)
    assert running.state.checkpoint.offset == 1500
    assert running.state.lifetime.records_processed == 1350


def test_lanes_are_counted_apart_and_in_all(at: At) -> None:
    pipeline = at(Status.RUNNING)
    pipeline.do(pipeline.segment(1, 3, 1000, lane="sink-0"))
    pipeline.do(pipeline.segment(1, 9, 500, lane="sink-1"))
    pipeline.do(pipeline.segment(4, 5, 1200, lane="sink-0"))
    checkpoint = pipeline.state.checkpoint
    assert {name: lane.epoch for name, lane in checkpoint.lanes.items()} == {"sink-0": 5, "sink-1": 9}
    assert (checkpoint.offset, checkpoint.records_processed) == (1700, 1530)
    moved = pipeline.records[-1].payload["checkpoint"]["lanes"]
    assert list(moved) == ["sink-0"], "an event carries the lanes that moved and no others"


def test_a_report_that_cannot_be_is_a_conflict(running: Any) -> None:
    running.do(running.segment(1, 3, 1000))
    for segment, why in (
        (running.segment(4, 4, 1100, generation=2), "generation 2"),
        (running.segment(1, 4, 1100, lane="sink-9"), "lane sink-9"),
        (running.segment(4, 4, 900), "counts less"),
        (running.segment(4, 4, 1100, batch_id="sink-0/1/1-3"), "recorded already"),
    ):
        before = running.state
        with pytest.raises(Conflict, match=why):
            running.do(segment)
        assert running.state == before


def test_filtered_and_expanded_rows(at: At) -> None:
    pipeline = at(Status.RUNNING)
    counters = Counters(read=10, expanded=20, written=25, filtered=4, failed=1, dead_lettered=1)
    pipeline.do(pipeline.segment(1, 1, 10, counters=counters))
    assert pipeline.state.metrics.records_processed == 29
    assert pipeline.state.checkpoint.offset == 10


class TestIngest:
    def test_it_is_noted_and_the_lanes_count_it(self, pushed: Any) -> None:
        before = pushed.state
        events = pushed.do(c.IngestBatch(batch_id="b1", record_count=100, source_offset=100))
        assert [type(event).__name__ for event in events] == ["BatchIngested"]
        assert (events[0].record_count, events[0].source_offset, events[0].lane) == (100, 100, "")
        assert pushed.state.checkpoint == before.checkpoint
        assert pushed.state.metrics == before.metrics

    @pytest.mark.parametrize("interlude", ["none", "pause", "restart"])
    def test_the_same_id_again_is_nothing(self, pushed: Any, interlude: str) -> None:
        batch = c.IngestBatch(batch_id="b1", record_count=100, source_offset=100)
        pushed.do(batch)
        for command in {
            "none": [],
            "pause": [c.PausePipeline(reason=""), c.ResumePipeline()],
            "restart": [c.StopPipeline(reason=""), c.StartPipeline()],
        }[interlude]:
            pushed.do(command)
        before = pushed.state
        assert pushed.do(batch) == ()
        assert pushed.state == before

    def test_the_memory_is_bounded(self, pushed: Any) -> None:
        sizes = []
        for n in range(1, MEMORY + 51):
            pushed.do(c.IngestBatch(batch_id=f"b{n:06}", record_count=1, source_offset=n))
            if n >= MEMORY:
                sizes.append(len(TypeAdapter(PipelineState).dump_json(pushed.state)))
        assert len(pushed.state.recent_batches) == len(pushed.state.recent_offsets) == MEMORY
        assert max(sizes) - min(sizes) < 200
        assert pushed.do(c.IngestBatch(batch_id="b000051", record_count=1, source_offset=51)) == ()

    def test_a_new_generation_remembers_nothing(self, pushed: Any) -> None:
        for n in range(MEMORY + 1):
            pushed.do(c.IngestBatch(batch_id=f"b{n}", record_count=1, source_offset=n))
        for command in (c.StopPipeline(), c.ResetPipeline(from_start=True), c.StartPipeline()):
            pushed.do(command)
        assert pushed.state.recent_batches == ()

    def test_a_pipeline_that_reads_elsewhere_takes_none(self, at: At) -> None:
        with pytest.raises(IllegalCommand, match="reads from 'file' and cannot take batches") as refused:
            at(Status.RUNNING).do(c.IngestBatch(batch_id="b1", record_count=1, source_offset=0))
        assert refused.value.code == "NOT_A_PUSH_SOURCE"

    def test_batches_of_earlier_versions_still_count(self, at: At) -> None:
        """They were recorded with three events: what was pushed was taken for processed."""
        pipeline = at(Status.RUNNING)
        old = (
            e.BatchIngested(batch_id="b1", record_count=100, source_offset=100),
            e.BatchProcessed(batch_id="b1", success_count=100, failure_count=0, processing_time_ms=0),
            e.CheckpointUpdated(checkpoint=e.CheckpointMove(offset=100, records_processed=100)),
        )
        state = fold(
            pipeline.state,
            e.seal(
                old,
                stream="orders",
                after_sequence=pipeline.state.version,
                previous_hash=pipeline.state.last_hash,
                time=pipeline.now,
            ),
        )
        assert (state.metrics.records_processed, state.checkpoint.offset) == (100, 100)
        assert state.recent_batches == ("b1",)


class TestUpdateCheckpoint:
    def test_it_does_not_go_back(self, running: Any) -> None:
        running.do(running.segment(1, 3, 1000))
        for offset, records in ((999, 900), (1000, 899)):
            with pytest.raises(Conflict, match="does not go back"):
                running.do(c.UpdateCheckpoint(checkpoint=Checkpoint(offset=offset, records_processed=records)))

    def test_it_does_not_move_lanes(self, running: Any) -> None:
        running.do(running.segment(1, 3, 1000))
        lane = LaneCheckpoint(epoch=99, positions={"orders.csv": Position("9")})
        with pytest.raises(Conflict, match="only by what its sink commits"):
            running.do(
                c.UpdateCheckpoint(checkpoint=Checkpoint(offset=2000, records_processed=2000, lanes={"sink-0": lane}))
            )
        running.do(
            c.UpdateCheckpoint(
                checkpoint=Checkpoint(offset=2000, records_processed=900, lanes=running.state.checkpoint.lanes)
            )
        )
        assert running.state.checkpoint.lanes["sink-0"].epoch == 3
        assert running.state.checkpoint.offset == 2000

    def test_the_same_is_nothing(self, running: Any) -> None:
        running.do(running.segment(1, 3, 1000))
        assert running.do(c.UpdateCheckpoint(checkpoint=running.state.checkpoint)) == ()

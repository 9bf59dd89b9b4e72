"""Batches and the checkpoint: what moved, and what is only being said a second time."""

from __future__ import annotations

from dataflow.domain.commands import IngestBatch, RecordSegment, UpdateCheckpoint
from dataflow.domain.events import BatchIngested, BatchProcessed, CheckpointMove, CheckpointUpdated, Event
from dataflow.domain.state import LaneCheckpoint, PipelineState
from dataflow.errors import Conflict, IllegalCommand

PUSH = "push"
"""The type of the source that reads what is pushed."""

_NEVER_FALLS = ("read", "written", "filtered", "failed", "dead_lettered", "bytes_read")


def ingest(state: PipelineState, command: IngestBatch) -> tuple[Event, ...]:
    """A pushed batch is in the inbox; what becomes of its records is for the lanes to tell. An id that is remembered:
    nothing. `IllegalCommand` where no source would ever read it."""
    if (source := state.definition.source.type) != PUSH:
        raise IllegalCommand(
            f"pipeline {state.pipeline_id} reads from {source!r} and cannot take batches",
            code="NOT_A_PUSH_SOURCE",
            hint=f"only a source of type {PUSH!r} can",
        )
    if command.batch_id in state.recent_batches:
        return ()
    return (
        BatchIngested(
            batch_id=command.batch_id, record_count=command.record_count, source_offset=command.source_offset
        ),
    )


def another_batch(pipeline: str, batch_id: str) -> Conflict:
    """The error for a batch id that was given to other records before."""
    return Conflict(
        f"batch {batch_id!r} of pipeline {pipeline} was pushed before with other records",
        hint="a new batch takes a new id; only the very same records may be sent again under an old one",
    )


def record_segment(state: PipelineState, command: RecordSegment) -> tuple[Event, ...]:
    """Batch and checkpoint move together. Epochs recorded before: nothing. `Conflict` for a report that cannot be of
    this generation, plan or lane."""
    what = f"segment {command.batch_id} of pipeline {state.pipeline_id}"
    if command.generation is not None and command.generation != state.generation:
        raise Conflict(f"{what} is of generation {command.generation}, now is {state.generation}")
    if state.plan is not None and command.lane not in {lane.name for lane in state.plan.lanes}:
        raise Conflict(f"{what} is of lane {command.lane}, which plan {state.plan.number} does not have")
    before = state.checkpoint.lanes.get(command.lane, LaneCheckpoint(epoch=0))
    if command.last_epoch <= before.epoch:
        return ()
    if command.batch_id == before.batch_id:
        raise Conflict(f"{what} is recorded already, and ends in epoch {command.last_epoch} this time")
    moved = command.counters - before.counters
    if falls := [name for name in _NEVER_FALLS if getattr(moved, name) < 0]:
        raise Conflict(
            f"{what} counts less than was counted before: {', '.join(falls)}",
            hint="the sink's receipts were removed or replaced; reset from the start",
        )
    success = moved.written + moved.filtered
    offset = state.checkpoint.offset + moved.read
    lane = LaneCheckpoint(
        epoch=command.last_epoch, positions=command.positions, counters=command.counters, batch_id=command.batch_id
    )
    return (
        BatchIngested(
            batch_id=command.batch_id,
            record_count=moved.read,
            source_offset=offset,
            lane=command.lane,
            first_epoch=command.first_epoch,
            last_epoch=command.last_epoch,
        ),
        BatchProcessed(
            batch_id=command.batch_id,
            success_count=success,
            failure_count=moved.failed,
            processing_time_ms=command.milliseconds,
            cpu_ms=command.cpu_ms,
            lane=command.lane,
            counters=moved,
            epochs=command.epochs,
        ),
        CheckpointUpdated(
            checkpoint=CheckpointMove(
                offset=offset,
                records_processed=state.checkpoint.records_processed + success,
                lanes={command.lane: lane},
            )
        ),
    )


def move_checkpoint(state: PipelineState, command: UpdateCheckpoint) -> tuple[Event, ...]:
    """The checkpoint from outside, if it goes forward; nothing if it stays; `Conflict` if it goes back or would move
    a lane: lanes follow what their sinks have committed, and nothing else."""
    old, new = state.checkpoint, command.checkpoint
    if moved := [name for name, lane in new.lanes.items() if old.lanes.get(name) != lane]:
        raise Conflict(
            f"lane {moved[0]} of pipeline {state.pipeline_id} moves only by what its sink commits",
            hint="leave the lanes out",
        )
    if new.offset < old.offset or new.records_processed < old.records_processed:
        raise Conflict(
            f"the checkpoint of pipeline {state.pipeline_id} is at offset {old.offset} after "
            f"{old.records_processed} records and does not go back",
            hint="stop the pipeline and reset it from the start",
        )
    if (new.offset, new.records_processed) == (old.offset, old.records_processed):
        return ()
    return (CheckpointUpdated(checkpoint=CheckpointMove(offset=new.offset, records_processed=new.records_processed)),)

"""What each event changes. A history that cannot have happened is refused, never repaired."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from dataflow.domain import events as e
from dataflow.domain.state import Checkpoint, Metrics, PipelineState, Status
from dataflow.domain.transitions import TABLE
from dataflow.errors import Corrupt


def evolve(state: PipelineState, record: e.EventRecord) -> PipelineState:
    """The state after this event. `Corrupt` if the record does not follow the state (sequence, hash link), cannot be
    read, or tells of what cannot happen in this state."""
    where = f"{record.stream}/{record.sequence}"
    if record.sequence != state.version + 1:
        raise Corrupt(f"event {state.version + 1} is expected next, this is {record.sequence}", where=where)
    if record.previous_hash != state.last_hash:
        raise Corrupt("the event is not linked to the one before it: the history was changed", where=where)
    event = e.unseal(record)
    after = TABLE[record.type].get(state.status)
    if after is None:
        raise Corrupt(f"{record.type} cannot happen to a pipeline that is {state.status}", where=where)
    changed = _changed(state, event, record.time, where)
    return replace(changed, status=after, version=record.sequence, updated_at=record.time, last_hash=record.hash)


def fold(state: PipelineState, records: Iterable[e.EventRecord]) -> PipelineState:
    """The state after all these events, in order."""
    for record in records:
        state = evolve(state, record)
    return state


def _changed(state: PipelineState, event: e.Event, time: datetime, where: str) -> PipelineState:
    match event:
        case e.PipelineCreated():
            return replace(
                state, name=event.name, description=event.description, spec=dict(event.spec), created_at=time
            )
        case e.PipelineStarted():
            _expect(event.generation, state.generation, where)
            return _started(state, time)
        case e.StartQueued():
            return replace(state, queued_at=time, queue_reason=event.reason)
        case e.StartWithdrawn():
            return replace(state, queued_at=None, queue_reason="")
        case e.PipelineStopped():
            return replace(_unpaused(state, time), stopped_at=time, stop_reason=event.reason)
        case e.PipelinePaused():
            return replace(state, paused_at=time, pause_reason=event.reason)
        case e.PipelineResumed():
            return replace(_unpaused(state, time), retry_count=0, retries={})
        case e.PipelinePlanned():
            _expect(event.plan.generation, state.generation, where)
            return replace(state, plan=event.plan, plan_number=event.plan.number)
        case e.BatchIngested():
            return state if event.lane else state.remembering(event.batch_id, event.source_offset)
        case e.BatchProcessed():
            return _processed(state, event, time)
        case e.CheckpointUpdated():
            return _moved(state, event.checkpoint, time)
        case e.MetricsReported():
            return replace(state, reported=event.metrics)
        case e.RetryScheduled():
            retries = {**state.retries, event.lane: event.retry_count}
            return replace(state, retries=retries, retry_count=max(retries.values()), error=event.error)
        case e.BatchTimedOut():
            return state
        case e.PipelineDeleted():
            return replace(state, queued_at=None, queue_reason="")
        case e.PipelineFailed():
            return replace(state, error=event.error, failed_at=time)
        case e.PipelineCompleted():
            return replace(state, outputs=event.outputs, completed_at=time, error=None, retry_count=0, retries={})
        case e.PipelineReset():
            _expect(event.generation, state.generation + event.from_start, where)
            cleared = replace(state, error=None, failed_at=None, completed_at=None, retry_count=0, retries={})
            renewed = _renewed(cleared, event.generation) if event.from_start else cleared
            return renewed if event.rewind is None else replace(renewed, rewind=event.rewind, former=state.plan)
        case e.ConfigUpdated():
            return _redefined(state, event, where)
    assert_never(event)


def _expect(found: int, expected: int, where: str) -> None:
    if found != expected:
        raise Corrupt(f"the event is of generation {found}, not {expected}", where=where)


def _started(state: PipelineState, time: datetime) -> PipelineState:
    return replace(
        state,
        started_at=time,
        queued_at=None,
        queue_reason="",
        paused_at=None,
        pause_reason="",
        paused_seconds=0.0,
        stopped_at=None,
        stop_reason="",
        completed_at=None,
        failed_at=None,
        error=None,
        retry_count=0,
        retries={},
        outputs={},
        metrics=Metrics(),
    )


def _unpaused(state: PipelineState, time: datetime) -> PipelineState:
    if state.paused_at is None:
        return state
    pause = max(0.0, (time - state.paused_at).total_seconds())
    return replace(state, paused_at=None, pause_reason="", paused_seconds=state.paused_seconds + pause)


def _active_seconds(state: PipelineState, time: datetime) -> float:
    """How long this run has been active at `time`: pauses left out, and what comes after its end."""
    if state.started_at is None:
        return 0.0
    ends = [end for end in (state.paused_at, state.stopped_at, state.failed_at) if end is not None]
    until = min([time, *ends])
    return max(0.0, (until - state.started_at).total_seconds() - state.paused_seconds)


def _processed(state: PipelineState, event: e.BatchProcessed, time: datetime) -> PipelineState:
    more = max(0.0, _active_seconds(state, time) - state.metrics.active_seconds)

    def plus(metrics: Metrics) -> Metrics:
        return metrics.plus_batch(
            processed=event.success_count,
            failed=event.failure_count,
            filtered=event.counters.filtered,
            dead_lettered=event.counters.dead_lettered,
            ms=event.processing_time_ms,
            active=more,
            at=time,
        )

    # success of one lane says nothing of another that keeps failing; failures of no lane in particular are over
    retries = {lane: count for lane, count in state.retries.items() if lane not in ("", event.lane)}
    running = state.status is Status.RUNNING
    return replace(
        state,
        metrics=plus(state.metrics),
        lifetime=plus(state.lifetime),
        retries=retries,
        retry_count=max(retries.values(), default=0),
        error=None if running and not retries else state.error,
    )


def _moved(state: PipelineState, move: e.CheckpointMove, time: datetime) -> PipelineState:
    checkpoint = Checkpoint(
        offset=move.offset,
        timestamp=time,
        records_processed=move.records_processed,
        lanes={**state.checkpoint.lanes, **move.lanes},
    )
    return replace(state, checkpoint=checkpoint)


def _renewed(state: PipelineState, generation: int) -> PipelineState:
    """A new generation: read from the first record, on purpose, so nothing counts as a repeat."""
    return replace(
        state,
        generation=generation,
        plan=None,
        rewind=None,
        former=None,
        checkpoint=Checkpoint(),
        outputs={},
        recent_batches=(),
        recent_offsets=(),
        forgotten_offset=-1,
    )


def _redefined(state: PipelineState, event: e.ConfigUpdated, where: str) -> PipelineState:
    spec = dict(event.spec)
    changed = replace(state, spec=spec, name=str(spec["name"]), description=str(spec.get("description", "")))
    if event.generation != state.generation:
        _expect(event.generation, state.generation + 1, where)
        return _renewed(changed, event.generation)
    return changed if event.plan_kept else replace(changed, plan=None)

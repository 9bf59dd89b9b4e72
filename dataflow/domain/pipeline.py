"""The aggregate: `decide` says what a command leads to, `evolve` what an event changes.

Both are pure: no clock, no randomness, no input or output. The workflow, time travel and the tests use these two,
and nothing else makes a state.
"""

from __future__ import annotations

from typing import assert_never

from dataflow.domain import commands as c
from dataflow.domain import events as e
from dataflow.domain.definition import update
from dataflow.domain.evolution import evolve, fold
from dataflow.domain.policy import backoff, is_transient
from dataflow.domain.progress import ingest, move_checkpoint, record_segment
from dataflow.domain.refusal import ACCEPTED, refusal
from dataflow.domain.state import ErrorType, PipelineError, PipelineState, Status
from dataflow.domain.validation import check, check_plan, check_rewind, definition
from dataflow.errors import Conflict

__all__ = ["decide", "evolve", "fold"]


def decide(state: PipelineState, command: c.Command) -> tuple[e.Event, ...]:
    """What happens if this command is carried out now: all of it, or none (an empty tuple: it is done already).

    Raises `IllegalCommand` where the command does not fit the state, `InvalidSpec` with every problem where its
    content is wrong, `Conflict` where it contradicts what is already recorded."""
    if state.status not in ACCEPTED[type(command)]:
        raise refusal(state, command)
    check(command)
    return _events(state, command)


def _events(state: PipelineState, command: c.Command) -> tuple[e.Event, ...]:
    match command:
        case c.CreatePipeline():
            spec = definition(command.spec, state.pipeline_id)
            return (e.PipelineCreated(name=spec.name, description=spec.description, spec=spec.stored()),)
        case c.StartPipeline():
            return (e.PipelineStarted(generation=state.generation, offset=state.checkpoint.offset),)
        case c.QueueStart():
            return () if state.queued_at else (e.StartQueued(reason=command.reason),)
        case c.WithdrawStart():
            if state.queued_at is None:
                raise refusal(state, c.StopPipeline(reason=command.reason))
            return (e.StartWithdrawn(reason=command.reason),)
        case c.StopPipeline():
            return (e.PipelineStopped(reason=command.reason, final_metrics=state.metrics),)
        case c.PausePipeline():
            return (e.PipelinePaused(reason=command.reason),)
        case c.ResumePipeline():
            return (e.PipelineResumed(),)
        case c.IngestBatch():
            return ingest(state, command)
        case c.RecordSegment():
            return record_segment(state, command)
        case c.UpdateCheckpoint():
            return move_checkpoint(state, command)
        case c.ReportMetrics():
            return (e.MetricsReported(metrics=command.metrics),)
        case c.ReportFailure():
            return (_retry_or_fail(state, command.error, command.lane, command.jitter),)
        case c.AdoptPlan():
            return _adopt(state, command)
        case c.CompletePipeline():
            return (e.PipelineCompleted(outputs=command.outputs, final_metrics=state.metrics),)
        case c.ResetPipeline():
            return _reset(state, command)
        case c.UpdateConfig():
            return update(state, command)
        case c.BatchTimeout():
            return _time_out(state, command)
        case c.DeletePipeline():
            return (e.PipelineDeleted(),)
    assert_never(command)


def _retry_or_fail(
    state: PipelineState, error: PipelineError, lane: str, jitter: float
) -> e.RetryScheduled | e.PipelineFailed:
    retry, count = state.definition.retry, state.retries.get(lane, 0)
    if is_transient(error, retry) and count < retry.max_attempts:
        seconds = backoff(count, retry.initial, retry.maximum, jitter)
        return e.RetryScheduled(error=error, retry_count=count + 1, backoff_ms=round(seconds * 1000), lane=lane)
    return e.PipelineFailed(error=error, retry_count=count, final_metrics=state.metrics)


def _time_out(state: PipelineState, command: c.BatchTimeout) -> tuple[e.Event, ...]:
    if command.batch_id in {*state.recent_batches, *(lane.batch_id for lane in state.checkpoint.lanes.values())}:
        return ()  # it finished just before: the timer came late
    error = PipelineError(
        error_type=ErrorType.SYSTEM,
        code="TIMEOUT",
        message=f"batch {command.batch_id} took longer than {command.timeout_ms} ms",
        retryable=True,
    )
    return (
        e.BatchTimedOut(batch_id=command.batch_id, timeout_ms=command.timeout_ms),
        _retry_or_fail(state, error, command.lane, command.jitter),
    )


def _adopt(state: PipelineState, command: c.AdoptPlan) -> tuple[e.Event, ...]:
    plan = command.plan
    if plan == state.plan:
        return ()
    if plan.generation != state.generation:
        raise Conflict(
            f"plan {plan.number} of pipeline {state.pipeline_id} is for generation {plan.generation}, "
            f"now is {state.generation}"
        )
    if plan.number <= state.plan_number:
        raise Conflict(
            f"plan {plan.number} of pipeline {state.pipeline_id} is not new, {state.plan_number} was adopted already"
        )
    check_plan(state, plan)
    return (e.PipelinePlanned(plan=plan),)


def _reset(state: PipelineState, command: c.ResetPipeline) -> tuple[e.Event, ...]:
    anew = command.from_start or command.rewind is not None
    if not anew and state.status in {Status.CONFIGURED, Status.STOPPED}:
        raise refusal(state, command)
    if command.rewind is not None:
        check_rewind(state, command.rewind)
    return (e.PipelineReset(from_start=anew, generation=state.generation + anew, rewind=command.rewind),)

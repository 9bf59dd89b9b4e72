"""Which command is taken in which state, and what is said where it is not."""

from __future__ import annotations

from collections.abc import Mapping

from dataflow.domain import commands as c
from dataflow.domain.state import PipelineState, Status
from dataflow.errors import Conflict, DataFlowError, IllegalCommand

_CONFIGURED, _RUNNING, _PAUSED = Status.CONFIGURED, Status.RUNNING, Status.PAUSED
_STOPPED, _COMPLETED, _FAILED = Status.STOPPED, Status.COMPLETED, Status.FAILED

ACCEPTED: Mapping[type, frozenset[Status]] = {
    c.CreatePipeline: frozenset({Status.EMPTY}),
    c.StartPipeline: frozenset({_CONFIGURED, _STOPPED}),
    c.QueueStart: frozenset({_CONFIGURED, _STOPPED}),
    c.WithdrawStart: frozenset({_CONFIGURED, _STOPPED}),
    c.StopPipeline: frozenset({_RUNNING, _PAUSED}),
    c.PausePipeline: frozenset({_RUNNING}),
    c.ResumePipeline: frozenset({_PAUSED}),
    c.IngestBatch: frozenset({_RUNNING}),
    c.RecordSegment: frozenset({_RUNNING, _PAUSED, _STOPPED, _FAILED}),
    c.UpdateCheckpoint: frozenset({_RUNNING}),
    c.ReportMetrics: frozenset({_RUNNING, _PAUSED}),
    c.ReportFailure: frozenset({_RUNNING}),
    c.AdoptPlan: frozenset({_RUNNING, _PAUSED}),
    c.CompletePipeline: frozenset({_RUNNING}),
    c.ResetPipeline: frozenset({_CONFIGURED, _STOPPED, _COMPLETED, _FAILED}),
    c.UpdateConfig: frozenset({_CONFIGURED, _STOPPED}),
    c.BatchTimeout: frozenset({_RUNNING}),
    c.DeletePipeline: frozenset({_CONFIGURED, _STOPPED, _COMPLETED, _FAILED}),
}
"""Command -> states in which it is taken. (A plain reset of a configured or stopped pipeline is refused further on.)"""

_CANNOT: Mapping[type, str] = {
    c.StartPipeline: "be started",
    c.QueueStart: "be started",
    c.WithdrawStart: "be stopped",
    c.StopPipeline: "be stopped",
    c.PausePipeline: "be paused",
    c.ResumePipeline: "be resumed",
    c.IngestBatch: "take batches",
    c.RecordSegment: "record a segment",
    c.UpdateCheckpoint: "move its checkpoint",
    c.ReportMetrics: "take a metrics report",
    c.ReportFailure: "fail",
    c.AdoptPlan: "take a plan",
    c.CompletePipeline: "complete",
    c.ResetPipeline: "be reset",
    c.UpdateConfig: "change its definition",
    c.BatchTimeout: "time out",
    c.DeletePipeline: "be deleted",
}

_ADVICE: Mapping[Status, str] = {
    _CONFIGURED: "start it first: dataflow start {id}",
    _RUNNING: "stop it first: dataflow stop {id}",
    _PAUSED: "resume it first: dataflow resume {id}",
    _STOPPED: "start it first: dataflow start {id}",
    _COMPLETED: "--again starts a new generation, from the first record",
    _FAILED: "reset it first: dataflow reset {id}",
}

_PARTICULAR_ADVICE: Mapping[tuple[Status, type], str] = {
    (_CONFIGURED, c.ResetPipeline): "there is nothing to go back from; start it: dataflow start {id}",
    (_RUNNING, c.StartPipeline): "there is nothing to do; see dataflow status {id}",
    (_RUNNING, c.ResumePipeline): "there is nothing to do; see dataflow status {id}",
    (_PAUSED, c.PausePipeline): "there is nothing to do; go on with dataflow resume {id}",
    (_PAUSED, c.UpdateConfig): "stop it first: dataflow stop {id}",
    (_PAUSED, c.ResetPipeline): "stop it first: dataflow stop {id}",
    (_PAUSED, c.DeletePipeline): "stop it first: dataflow stop {id}",
    (_STOPPED, c.StopPipeline): "there is nothing to do; go on with dataflow start {id}",
    (_STOPPED, c.ResetPipeline): "start goes on at the checkpoint; reset from the start to read all of it again",
    (_COMPLETED, c.StopPipeline): "there is nothing to do; see dataflow status {id}",
}


def refusal(state: PipelineState, command: c.Command) -> DataFlowError:
    """The error for a command that does not fit the state: what was asked, what the state is, what to do.

    `Conflict` for creating what exists, else `IllegalCommand`, with code NOT_FOUND where there is no pipeline (or no
    longer)."""
    name, status, kind = state.pipeline_id, state.status, type(command)
    if kind is c.CreatePipeline:
        if status is Status.DELETED:
            return Conflict(f"pipeline {name} was deleted and its id is not given out again", hint="take another id")
        return Conflict(f"pipeline {name} exists already and is {status}", hint="take another name, or change this one")
    if status is Status.EMPTY:
        return IllegalCommand(
            f"pipeline {name} does not exist and cannot {_CANNOT[kind]}", code="NOT_FOUND", hint="create it first"
        )
    if status is Status.DELETED:
        return IllegalCommand(
            f"pipeline {name} is deleted and cannot {_CANNOT[kind]}",
            code="NOT_FOUND",
            hint=f"its history stays: dataflow events {name}",
        )
    advice = _PARTICULAR_ADVICE.get((status, kind), _ADVICE[status]).format(id=name)
    if status is Status.FAILED and state.error is not None:
        error = f"{state.error.code}: {state.error.message}"
        return IllegalCommand(f"pipeline {name} is failed with {error}; it cannot {_CANNOT[kind]}", hint=advice)
    return IllegalCommand(f"pipeline {name} is {status} and cannot {_CANNOT[kind]}", hint=advice)

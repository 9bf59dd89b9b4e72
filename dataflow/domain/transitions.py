"""Which event may happen in which state, and what state follows. `pipeline.evolve` keeps to this table."""

from __future__ import annotations

from collections.abc import Mapping

from dataflow.domain.state import Status

_CONFIGURED, _RUNNING, _PAUSED = Status.CONFIGURED, Status.RUNNING, Status.PAUSED
_STOPPED, _COMPLETED, _FAILED, _DELETED = Status.STOPPED, Status.COMPLETED, Status.FAILED, Status.DELETED

# A segment that was under way when the run ended still reports what it committed.
_SEGMENT = {status: status for status in (_RUNNING, _PAUSED, _STOPPED, _FAILED)}

TABLE: Mapping[str, Mapping[Status, Status]] = {
    "PipelineCreated": {Status.EMPTY: _CONFIGURED},
    "PipelineStarted": {_CONFIGURED: _RUNNING, _STOPPED: _RUNNING},
    "StartQueued": {_CONFIGURED: _CONFIGURED, _STOPPED: _STOPPED},
    "StartWithdrawn": {_CONFIGURED: _CONFIGURED, _STOPPED: _STOPPED},
    "PipelinePlanned": {_RUNNING: _RUNNING, _PAUSED: _PAUSED},
    "PipelinePaused": {_RUNNING: _PAUSED},
    "PipelineResumed": {_PAUSED: _RUNNING},
    "PipelineStopped": {_RUNNING: _STOPPED, _PAUSED: _STOPPED},
    "PipelineCompleted": {_RUNNING: _COMPLETED},
    "PipelineFailed": {_RUNNING: _FAILED},
    "PipelineReset": dict.fromkeys((_CONFIGURED, _STOPPED, _COMPLETED, _FAILED), _CONFIGURED),
    "PipelineDeleted": dict.fromkeys((_CONFIGURED, _STOPPED, _COMPLETED, _FAILED), _DELETED),
    "ConfigUpdated": {_CONFIGURED: _CONFIGURED, _STOPPED: _STOPPED},
    "BatchIngested": _SEGMENT,
    "BatchProcessed": _SEGMENT,
    "CheckpointUpdated": _SEGMENT,
    "MetricsReported": {_RUNNING: _RUNNING, _PAUSED: _PAUSED},
    "RetryScheduled": {_RUNNING: _RUNNING},
    "BatchTimedOut": {_RUNNING: _RUNNING},
}
"""Event type -> state before -> state after. What is not here cannot happen."""

_TEXT: Mapping[tuple[Status, Status], str] = {
    (Status.EMPTY, _CONFIGURED): "the pipeline is created",
    (_CONFIGURED, _CONFIGURED): "the definition changes, a reset goes back to the first record, or a start waits",
    (_CONFIGURED, _RUNNING): "the pipeline is started",
    (_CONFIGURED, _DELETED): "the pipeline is deleted",
    (_RUNNING, _RUNNING): "batches are recorded, retries are scheduled",
    (_RUNNING, _PAUSED): "the run is paused",
    (_RUNNING, _STOPPED): "the run is stopped",
    (_RUNNING, _COMPLETED): "the bounded source has ended",
    (_RUNNING, _FAILED): "a permanent error, or too many retries",
    (_PAUSED, _PAUSED): "a segment that was under way reports",
    (_PAUSED, _RUNNING): "the run is resumed",
    (_PAUSED, _STOPPED): "the paused run is stopped",
    (_STOPPED, _STOPPED): "the definition changes, a segment that was under way reports, or a start waits",
    (_STOPPED, _RUNNING): "the pipeline is started again at its checkpoint",
    (_STOPPED, _CONFIGURED): "the pipeline is reset to the first record",
    (_STOPPED, _DELETED): "the pipeline is deleted",
    (_COMPLETED, _CONFIGURED): "the pipeline is reset",
    (_COMPLETED, _DELETED): "the pipeline is deleted",
    (_FAILED, _FAILED): "a segment that was under way reports",
    (_FAILED, _CONFIGURED): "the pipeline is reset",
    (_FAILED, _DELETED): "the pipeline is deleted",
}


def targets(status: Status) -> frozenset[Status]:
    """The states that may follow this one, itself included where an event leaves it as it is."""
    return frozenset(after[status] for after in TABLE.values() if status in after)


def describe(before: Status, after: Status) -> str:
    """What leads from one state to the other, for people; or that nothing does, and where one can go instead."""
    if text := _TEXT.get((before, after)):
        return f"{before} -> {after}: {text}"
    valid = ", ".join(sorted(targets(before))) or "none, it is final"
    return f"{before} -> {after} is not possible; from {before}: {valid}"

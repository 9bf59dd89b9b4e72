"""Typed calls of activities, and what their failures mean to a pipeline."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, TimeoutError

with workflow.unsafe.imports_passed_through():
    from activities.names import Activity
    from dataflow.domain.state import ErrorType, PipelineError
    from workflows.names import data_queue

In = TypeVar("In")
Out = TypeVar("Out")

LOST_WORKER = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=5))
"""Temporal's own retry only covers what the activity could not report itself: a lost worker, a fenced attempt.
Every error an activity reports is marked non-retryable there; retrying it is the pipeline's own decision."""


def start(
    activity: Activity[In, Out], order: In, *, within: float, heartbeat: float | None = None, queue: str = ""
) -> workflow.ActivityHandle[Out]:
    """Start an activity. `within` and `heartbeat` are seconds. A cancelled one is waited for: it drains and reports.

    One that has a heartbeat moves data: it goes to the data plane's own task queue, unless `queue` names another."""
    here = workflow.info().task_queue
    handle: workflow.ActivityHandle[Out] = workflow.start_activity(
        activity.name,
        order,
        task_queue=queue or (data_queue(here) if heartbeat else here),
        result_type=activity.gives,
        start_to_close_timeout=timedelta(seconds=within),
        heartbeat_timeout=timedelta(seconds=heartbeat) if heartbeat else None,
        retry_policy=LOST_WORKER,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
    return handle


def reported(failure: ActivityError) -> PipelineError | None:
    """The pipeline error behind a failed activity; None where it was cancelled before it did anything."""
    cause = failure.cause
    if isinstance(cause, CancelledError):
        return None
    if isinstance(cause, ApplicationError) and cause.details and isinstance(cause.details[0], dict):
        told = cause.details[0]
        return PipelineError(**{**told, "error_type": ErrorType(told["error_type"])})
    late = isinstance(cause, TimeoutError)
    code, message = "TIMEOUT" if late else "SYSTEM_ERROR", str(cause or failure)
    return PipelineError(error_type=ErrorType.SYSTEM, code=code, message=message, retryable=late)

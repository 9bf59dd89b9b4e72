"""Errors of Temporal's client, as the errors of `dataflow.errors` they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from temporalio.client import (
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from dataflow import errors
from dataflow.errors import Conflict, DataFlowError, InvalidSpec, NotFound, Problem, Rejected, Retryable


def refusal(cause: BaseException) -> DataFlowError:
    """The typed error behind a failed update."""
    if not isinstance(cause, ApplicationError):
        return Retryable(str(cause))
    told: dict[str, Any] = cause.details[0] if cause.details and isinstance(cause.details[0], dict) else {}
    if told.get("kind") == InvalidSpec.__name__:
        return InvalidSpec([Problem("definition", cause.message)])
    kind = getattr(errors, str(told.get("kind", "")), Rejected)
    found: DataFlowError = kind(
        cause.message, code=cause.type, hint=str(told.get("hint", "")), where=str(told.get("where", ""))
    )
    return found


@contextmanager
def translated(pipeline: str) -> Iterator[None]:
    """Errors of what is done inside, about this pipeline, leave as `dataflow.errors`."""
    try:
        yield
    except WorkflowUpdateFailedError as failed:
        raise refusal(failed.cause) from None
    except WorkflowAlreadyStartedError:
        raise Conflict(f"a pipeline {pipeline!r} has been before", hint="ids are not given out again") from None
    except WorkflowQueryRejectedError:  # its workflow is closed: deleted, or ended by an operator
        raise NotFound(f"there is no pipeline {pipeline!r}", hint="it was deleted, or Temporal lost it") from None
    except WorkflowQueryFailedError as failed:
        raise Retryable(f"pipeline {pipeline!r} does not answer: {failed}") from failed
    except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError) as late:
        raise Retryable(f"pipeline {pipeline!r} did not answer in time", hint="is a worker running?") from late
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NotFound(f"there is no pipeline {pipeline!r}", hint="dataflow list shows all") from None
        if error.status is RPCStatusCode.FAILED_PRECONDITION:  # "no poller seen for task queue recently"
            raise Retryable(
                f"no worker answers for pipeline {pipeline!r}",
                code="SERVICE_UNAVAILABLE",
                hint="start one: dataflow up",
            ) from None
        if error.status is RPCStatusCode.RESOURCE_EXHAUSTED:  # such as too many updates of one workflow at once
            raise Retryable(f"Temporal is busy: {error.message}", code="BUSY") from error
        if error.status in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED):
            raise Retryable(f"Temporal does not answer: {error.message}", code="SERVICE_UNAVAILABLE") from error
        raise

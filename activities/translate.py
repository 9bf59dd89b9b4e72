"""What an error means to Temporal. The one place that maps `dataflow.errors` to application errors and reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from dataflow.domain.state import ErrorType, PipelineError
from dataflow.errors import DataFlowError, Fenced

_ATTEMPTS = 20
"""Of one activity, before it fails for having been fenced: some may be fenced by earlier ones that were frozen and
wake, others end with their worker."""


def pipeline_error(error: Exception, part: ErrorType) -> PipelineError:
    """The report of an error that happened in `part` of a pipeline. Foreseen errors tell their own code and whether a
    later try may succeed; the message of an unforeseen one names its class, and it is not retried."""
    if isinstance(error, DataFlowError):
        message = f"{error.message} ({error.hint})" if error.hint else error.message
        return PipelineError(
            error_type=part, code=error.code, message=message, retryable=error.retryable, where=error.where
        )
    return PipelineError(error_type=part, code="INTERNAL", message=f"{type(error).__name__}: {error}", retryable=False)


def overtaken(fenced: Fenced) -> Fenced:
    """The error of the last attempt that was fenced."""
    told = "does another DATAFLOW_HOME (journal) run this pipeline? Let one run it, or take another name or place"
    return Fenced(fenced.message, where=fenced.where, hint=told)


def failure(error: PipelineError) -> ApplicationError:
    """For Temporal the activity has failed for good: retrying is the pipeline's own decision, made by its events."""
    return ApplicationError(error.message, asdict(error), type=error.code, non_retryable=True)


@asynccontextmanager
async def reporting(part: ErrorType, attempts: int = _ATTEMPTS) -> AsyncIterator[None]:
    """Errors of what is done inside leave as the workflow understands them. A fenced attempt gives way: Temporal runs
    it again, and the next attempt finds the receipt. So many `attempts` are fenced only where another journal runs the
    same pipeline into the same sink: then it fails."""
    try:
        yield
    except Fenced as fenced:
        if activity.info().attempt >= attempts:
            activity.logger.warning("given up: %s", fenced)
            raise failure(pipeline_error(overtaken(fenced), part)) from fenced
        raise ApplicationError(str(fenced), type=Fenced.code) from fenced
    except Exception as error:
        activity.logger.warning("activity failed: %s", error, exc_info=not isinstance(error, DataFlowError))
        raise failure(pipeline_error(error, part)) from error


@asynccontextmanager
async def heartbeating(details: Callable[[], dict[str, Any]]) -> AsyncIterator[None]:
    """Beat the heart every second while the event loop lives; cancellation arrives with the answer."""

    async def beat() -> None:
        while True:
            activity.heartbeat(details())
            await asyncio.sleep(1.0)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating

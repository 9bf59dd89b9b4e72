"""Refusals as Temporal carries them to the caller."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from dataflow.errors import DataFlowError


def failure(refused: DataFlowError) -> ApplicationError:
    """The failure of an update that is refused: `dataflow.sdk.failures` makes the same error of it again."""
    told = {"kind": type(refused).__name__, "hint": refused.hint, "where": refused.where}
    return ApplicationError(refused.message, told, type=refused.code, non_retryable=True)

"""Refusals as Temporal carries them to the caller."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from dataflow.errors import DataFlowError, Rejected


def failure(refused: DataFlowError) -> ApplicationError:
    """The failure of an update that is refused: `dataflow.sdk.failures` makes the same error of it again."""
    told = {"kind": type(refused).__name__, "hint": refused.hint, "where": refused.where}
    return ApplicationError(refused.message, told, type=refused.code, non_retryable=True)


def check_type(argument: object, kind: type) -> None:
    """Refuse an argument that Temporal could not give its type: it decodes by the types of all arguments or of none, so
    an update that is sent by hand without its origin brings plain dictionaries."""
    if not isinstance(argument, kind):
        raise failure(
            Rejected(
                f"the {kind.__name__} of this update came without its type, as {type(argument).__name__}",
                hint='give every argument, the origin too, such as {"actor": "ann"}',
            )
        )

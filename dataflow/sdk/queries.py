"""Queries of workflows, asked again where the worker that was given one does not answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.common import QueryRejectCondition
from temporalio.service import RPCError, RPCStatusCode

TRIES = (4.0, 8.0, 16.0)
"""Seconds that each try waits. The last is for workflows that a worker has to replay first."""

_LATE = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)  # the server's word for it, and our side's


async def query(
    handle: WorkflowHandle[Any, Any],
    name: str,
    args: Sequence[Any] = (),
    *,
    gives: Any,
    reject: QueryRejectCondition | None = None,
) -> Any:
    """What the workflow answers, of the type `gives`; raises what `WorkflowHandle.query` raises.

    Temporal hands a query to one waiting poll and, unlike a task, never to another. The polls of a worker that is
    frozen, or lost without a word, wait on for up to a minute: each takes one question along."""
    for seconds in TRIES[:-1]:
        try:
            return await _asked(handle, name, args, gives, reject, seconds)
        except RPCError as error:
            if error.status not in _LATE:
                raise
    return await _asked(handle, name, args, gives, reject, TRIES[-1])


async def _asked(
    handle: WorkflowHandle[Any, Any],
    name: str,
    args: Sequence[Any],
    gives: Any,
    reject: QueryRejectCondition | None,
    seconds: float,
) -> Any:
    return await handle.query(
        name, args=args, result_type=gives, reject_condition=reject, rpc_timeout=timedelta(seconds=seconds)
    )

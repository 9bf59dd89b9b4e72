"""Queries of workflows, asked again where the worker that was given one does not answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
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
    ask = partial(handle.query, name, args=args, result_type=gives, reject_condition=reject)
    for seconds in TRIES[:-1]:
        try:
            return await ask(rpc_timeout=timedelta(seconds=seconds))
        except RPCError as error:
            if error.status not in _LATE:
                raise
    return await ask(rpc_timeout=timedelta(seconds=TRIES[-1]))

"""A state that is asked for at the moment at which its workflow continues as new."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowQueryRejectedError

from dataflow.domain.state import PipelineState
from dataflow.errors import NotFound
from dataflow.sdk import Client


class Temporal:
    """A server whose answers are given, next first."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def get_workflow_handle(self, workflow_id: str) -> Temporal:
        return self

    async def query(self, name: str, **more: Any) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_run_that_was_followed_by_the_next_is_not_a_missing_pipeline() -> None:
    state = replace(PipelineState.empty("a"), version=3)
    between = WorkflowQueryRejectedError(WorkflowExecutionStatus.CONTINUED_AS_NEW)
    client = Client(Temporal(between, between, state), task_queue="q")  # type: ignore[arg-type]
    assert await client.state("a") == state


async def test_a_closed_workflow_is() -> None:
    ended = WorkflowQueryRejectedError(WorkflowExecutionStatus.TERMINATED)
    client = Client(Temporal(ended), task_queue="q")  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        await client.state("a")

"""The whole system: the coordinator's registry, its workers, the task queues they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client as TemporalClient
from temporalio.client import WorkflowQueryFailedError, WorkflowUpdateFailedError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from dataflow.domain.commands import Origin
from dataflow.domain.coordinator.hints import Member, Queue, hints, members
from dataflow.domain.coordinator.overview import Overview, PipelineInfo
from dataflow.domain.state import Status
from dataflow.errors import DataFlowError, NotFound, Retryable
from dataflow.sdk.failures import refusal
from dataflow.sdk.queries import query
from workflows.names import (
    COORDINATOR,
    CoordinatorCarried,
    coordinator_id,
    coordinator_queue,
    data_queue,
    projector_queue,
)

_ANSWER = 20.0
_PAGE = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Workers, task queues, load, health. `overview` is None where the coordinator does not answer; `hints` then begin
    with the reason."""

    at: datetime
    overview: Overview | None
    workers: tuple[Member, ...]
    queues: tuple[Queue, ...]
    hints: tuple[str, ...]


class System:
    """Questions about pipelines and workers of one task queue. `Retryable` where the coordinator does not answer."""

    def __init__(self, temporal: TemporalClient, task_queue: str, actor: str) -> None:
        self._temporal = temporal
        self._queue = task_queue
        self._actor = actor
        self.coordinator = coordinator_id(task_queue)

    async def overview(self) -> Overview:
        """Health, counts, slots, load, and what waits."""
        overview: Overview = await self._query("overview", [datetime.now(UTC)], Overview)
        return overview

    async def pipeline(self, pipeline: str) -> PipelineInfo:
        """One pipeline as the coordinator knows it; `NotFound` where it is not registered."""
        info: PipelineInfo | None = await self._query("info", [pipeline, datetime.now(UTC)], PipelineInfo | None)
        if info is None:
            raise NotFound(f"pipeline {pipeline!r} is not registered", hint="dataflow list shows all")
        return info

    async def pipelines(
        self, status: Status | None = None, *, after: str = "", limit: int = _PAGE
    ) -> list[PipelineInfo]:
        """A page of the registered pipelines, by id, behind the id `after`; 1000 at most."""
        found: list[PipelineInfo] = await self._query(
            "page", [datetime.now(UTC), status, after, limit], list[PipelineInfo]
        )
        return found

    async def counts(self) -> Mapping[str, int]:
        """How many pipelines are in each status."""
        return (await self.overview()).by_status

    async def unregister(self, pipeline: str) -> None:
        """Take out a pipeline whose workflow is gone for good; `NotFound` where it is not registered. One that lives
        comes back with its next change."""
        await self._update("unregister", pipeline, Origin(actor=self._actor))

    async def survey(self) -> None:
        """Look through the journal for pipelines that the registry has missed."""
        await self._update("survey")

    async def cluster(self) -> Cluster:
        """The workers, and what waits for them in Temporal."""
        told: tuple[str, ...] = ()
        overview: Overview | None = None
        queues, answer = await asyncio.gather(self.queues(), self.overview(), return_exceptions=True)
        if isinstance(queues, BaseException):
            raise queues
        if isinstance(answer, Overview):
            overview = answer
        elif isinstance(answer, DataFlowError):
            told = (f"the coordinator does not answer: {answer}",)
        else:
            raise answer
        at = datetime.now(UTC)
        workers = members(overview, at) if overview else ()
        told += hints(overview, workers, queues) if overview else ()
        return Cluster(at=at, overview=overview, workers=workers, queues=queues, hints=told)

    async def queues(self) -> tuple[Queue, ...]:
        """The task queues, from Temporal itself."""
        named = {
            "control": self._queue,
            "data": data_queue(self._queue),
            "coordinator": coordinator_queue(self._queue),
            "projector": projector_queue(self._queue),
        }
        kinds = {
            "workflow": TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
            "activity": TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        }
        wanted = [
            (role, name, kind) for role, name in named.items() for kind in kinds if (role, kind) != ("data", "workflow")
        ]
        async with _reached():
            return tuple(
                await asyncio.gather(*(self._described(role, name, kind, kinds[kind]) for role, name, kind in wanted))
            )

    async def _described(self, role: str, name: str, kind: str, code: TaskQueueType.ValueType) -> Queue:
        found = await self._temporal.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=self._temporal.namespace,
                task_queue=TaskQueue(name=name),
                task_queue_type=code,
                report_stats=True,
            ),
            timeout=timedelta(seconds=_ANSWER),
        )
        stats = found.stats
        return Queue(
            name=name,
            role=role,
            kind=kind,
            pollers=tuple(sorted({poller.identity for poller in found.pollers})),
            backlog=stats.approximate_backlog_count,
            backlog_seconds=stats.approximate_backlog_age.ToTimedelta().total_seconds(),
            added_per_second=stats.tasks_add_rate,
            taken_per_second=stats.tasks_dispatch_rate,
        )

    async def _query(self, name: str, args: list[Any], gives: Any) -> Any:
        async def ask() -> Any:
            handle = self._temporal.get_workflow_handle(self.coordinator)
            return await query(handle, name, args, gives=gives)

        return await self._answered(ask)

    async def _update(self, name: str, *args: Any) -> None:
        async def ask() -> None:
            await self._temporal.get_workflow_handle(self.coordinator).execute_update(name, args=args)

        await self._answered(ask)

    async def _answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer; a coordinator that is not there is started, one that is busy asked again."""
        async with _reached(), asyncio.timeout(_ANSWER):
            while True:
                try:
                    return await ask()
                except RPCError as error:
                    if error.status is not RPCStatusCode.NOT_FOUND:
                        raise
                    await self._start()
                except WorkflowQueryFailedError as failed:
                    if "journal" not in str(failed):
                        raise
                except WorkflowUpdateFailedError as failed:
                    refused = refusal(failed.cause)
                    if refused.code != "BUSY":
                        raise refused from None
                await asyncio.sleep(0.05)

    async def _start(self) -> None:
        await self._temporal.start_workflow(
            COORDINATOR,
            args=[CoordinatorCarried(coordinator_id=self.coordinator, task_queue=self._queue), b""],
            id=self.coordinator,
            task_queue=coordinator_queue(self._queue),
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )


@asynccontextmanager
async def _reached() -> AsyncIterator[None]:
    try:
        yield
    except RPCError as error:
        hint = "is a worker running? dataflow up starts one"
        raise Retryable(
            f"the coordinator does not answer: {error.message}", code="SERVICE_UNAVAILABLE", hint=hint
        ) from error
    except TimeoutError as late:
        raise Retryable("the coordinator did not answer in time", hint="is a worker running?") from late
    except WorkflowQueryFailedError as failed:
        raise Retryable(f"the coordinator does not answer: {failed}") from failed

"""The composition root of the data plane: the one module that sees workflows, activities and connectors together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker

from activities.coordinator import AdmissionActivities, CoordinatorActivities
from activities.journal import JournalActivities
from activities.link import CoordinatorLink
from activities.move import MoveActivities
from activities.plan import PlanActivities
from activities.presence import Segments, WorkerPresence, reporting_load
from activities.rewind import RewindActivities
from dataflow.domain.record import EventRecord
from dataflow.inbox import Inbox
from dataflow.journal import Journal
from dataflow.settings import Settings
from workflows.coordinator import CoordinatorWorkflow
from workflows.names import coordinator_queue, data_queue, projector_queue
from workflows.pipeline import PipelineWorkflow
from workflows.projector import ProjectorWorkflow

WORKFLOWS = [PipelineWorkflow, CoordinatorWorkflow, ProjectorWorkflow]
"""Every workflow a worker runs; old histories are replayed against them in the tests."""

GRACE = 20.0
"""Seconds that a leaving worker's segments have to come to an epoch boundary."""


@asynccontextmanager
async def working(
    client: Client,
    journal: Journal,
    inbox: Inbox,
    settings: Settings,
    *,
    data: bool = True,
    project: bool = False,
    recorded: Callable[[EventRecord], None] | None = None,
) -> AsyncIterator[None]:
    """Work as long as the context: on workflows and the journal, with `data` on segments, with `project` on the read
    models too. `recorded` is told of the last event of each append of this process.

    Leaving drains: segments end at their next epoch boundary and report, then the workflows are let go."""
    link = _link(client, settings)
    append = JournalActivities(journal, link, inbox, recorded)
    rewind = RewindActivities(journal, settings.home, settings.inbox_url)
    coordinator, admission = CoordinatorActivities(client, journal, link), AdmissionActivities(link)
    common = _common()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(link.close)
        registry = Worker(
            client,
            task_queue=coordinator_queue(settings.task_queue),
            workflows=[CoordinatorWorkflow],
            activities=[coordinator.keep, coordinator.recall, coordinator.notify, coordinator.survey],
            max_concurrent_workflow_task_polls=2,
            max_concurrent_activity_task_polls=2,
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
            **common,
        )
        await stack.enter_async_context(registry)
        control = Worker(
            client,
            task_queue=settings.task_queue,
            workflows=[PipelineWorkflow],
            activities=[append.append, append.take, append.ingest, admission.admit, rewind.locate],
            max_concurrent_activities=1000,  # each waits for somebody else: the journal, the coordinator
            max_cached_workflows=settings.worker_cache,
            # After kill -9 the next task of a workflow waits this long for the dead worker's cache.
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
            **common,
        )
        await stack.enter_async_context(control)
        if data:
            await stack.enter_async_context(_moving(client, settings, link))
        else:
            await stack.enter_async_context(
                reporting_load(link, None, settings.worker_report, settings.pipeline_report)
            )
        if project:  # loaded where it is wanted: nothing else here needs the read models
            from activities.project import ProjectActivities
            from dataflow.projections.configured import ReadModels

            projecting = ProjectActivities(journal, ReadModels(settings))
            projector = Worker(
                client,
                task_queue=projector_queue(settings.task_queue),
                workflows=[ProjectorWorkflow],
                activities=[projecting.project],
                max_concurrent_activities=1,
                **common,
            )
            await stack.enter_async_context(projector)
        yield


@asynccontextmanager
async def moving(client: Client, settings: Settings) -> AsyncIterator[None]:
    """Work on segments alone, as long as the context: for a process beside one that does the rest. Leaving drains."""
    link = _link(client, settings)
    try:
        async with _moving(client, settings, link):
            yield
    finally:
        await link.close()


@asynccontextmanager
async def _moving(client: Client, settings: Settings, link: CoordinatorLink) -> AsyncIterator[None]:
    plan, move, segments = (
        PlanActivities(settings.home, settings.inbox_url),
        MoveActivities(settings.home, settings.inbox_url),
        Segments(),
    )
    mover = Worker(
        client,
        task_queue=data_queue(settings.task_queue),
        activities=[plan.plan, plan.complete, plan.settle, move.move],
        max_concurrent_activities=settings.worker_segments,
        interceptors=[segments],
        **_common(),
    )
    present = WorkerPresence(link, settings.task_queue, settings.worker_segments, segments, settings.limits)
    async with mover, reporting_load(link, present, settings.worker_report, settings.pipeline_report):
        yield


def _link(client: Client, settings: Settings) -> CoordinatorLink:
    return CoordinatorLink(client, settings.task_queue, None if settings.admission == "off" else settings.limits)


def _common() -> dict[str, Any]:
    return {
        # Left out, the SDK compiles and hashes every loaded module: five seconds before the first poll.
        "build_id": version("dataflow"),
        # Cancellation arrives with the answer to a heartbeat: let each one through.
        "max_heartbeat_throttle_interval": timedelta(seconds=1),
        "default_heartbeat_throttle_interval": timedelta(seconds=1),
        "graceful_shutdown_timeout": timedelta(seconds=GRACE),
    }

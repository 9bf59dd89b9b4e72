"""The composition root of the data plane: the one module that sees workflows, activities and connectors together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker

from activities.journal import JournalActivities
from activities.move import MoveActivities
from activities.plan import PlanActivities
from dataflow.allocator import keep_freed_buffers
from dataflow.journal import Journal
from dataflow.settings import Settings
from workflows.names import data_queue
from workflows.pipeline import PipelineWorkflow

WORKFLOWS = [PipelineWorkflow]
"""Every workflow a worker runs; old histories are replayed against them in the tests."""


@asynccontextmanager
async def working(client: Client, journal: Journal, settings: Settings, *, data: bool = True) -> AsyncIterator[None]:
    """Work as long as the context: on workflows and the journal and, with `data`, on segments too.

    Leaving drains: segments end at their next epoch boundary and report, then the workflows are let go."""
    plan, move, append = PlanActivities(settings.home), MoveActivities(settings.home), JournalActivities(journal)
    common: dict[str, Any] = {
        # Left out, the SDK compiles and hashes every loaded module: five seconds before the first poll.
        "build_id": version("dataflow"),
        # Cancellation arrives with the answer to a heartbeat: let each one through.
        "max_heartbeat_throttle_interval": timedelta(seconds=1),
        "default_heartbeat_throttle_interval": timedelta(seconds=1),
        "graceful_shutdown_timeout": timedelta(seconds=20),
    }
    async with AsyncExitStack() as stack:
        control = Worker(
            client,
            task_queue=settings.task_queue,
            workflows=WORKFLOWS,
            activities=[append.append],
            max_cached_workflows=settings.worker_cache,
            # After kill -9 the next task of a workflow waits this long for the dead worker's cache.
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
            **common,
        )
        await stack.enter_async_context(control)
        if data:
            keep_freed_buffers()
            segments = Worker(
                client,
                task_queue=data_queue(settings.task_queue),
                activities=[plan.plan, plan.complete, move.move],
                max_concurrent_activities=settings.worker_segments,
                **common,
            )
            await stack.enter_async_context(segments)
        yield

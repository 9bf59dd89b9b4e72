"""The composition root of the data plane: the one module that sees workflows, activities and connectors together."""

from __future__ import annotations

from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

from temporalio.client import Client
from temporalio.worker import Worker

from activities.journal import JournalActivities
from activities.move import MoveActivities
from activities.plan import PlanActivities
from dataflow.journal import Journal
from workflows.pipeline import PipelineWorkflow

WORKFLOWS = [PipelineWorkflow]
"""Every workflow a worker runs; old histories are replayed against them in the tests."""


def make_worker(
    client: Client, journal: Journal, *, task_queue: str, home: Path, activities: int = 100, cached: int = 1000
) -> Worker:
    """A worker for everything. Entering it starts polling; leaving drains: segments end at their next epoch boundary.

    `activities` bounds how many segments run at once in this process, `cached` how many idle pipelines it keeps in
    memory: the others are woken from their history by the next command."""
    plan, move, append = PlanActivities(home), MoveActivities(home), JournalActivities(journal)
    return Worker(
        client,
        task_queue=task_queue,
        workflows=WORKFLOWS,
        activities=[plan.plan, plan.complete, move.move, append.append],
        # Left out, the SDK compiles and hashes every loaded module: five seconds before the first poll.
        build_id=version("dataflow"),
        max_concurrent_activities=activities,
        max_cached_workflows=cached,
        # Cancellation arrives with the answer to a heartbeat: let each one through.
        max_heartbeat_throttle_interval=timedelta(seconds=1),
        default_heartbeat_throttle_interval=timedelta(seconds=1),
        # After kill -9 the next task of a workflow waits this long for the dead worker's cache.
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
        graceful_shutdown_timeout=timedelta(seconds=20),
    )

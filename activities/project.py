"""The Temporal face of the projector: beat the heart, stop when the worker does, report."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from temporalio import activity

from activities.names import PROJECT
from activities.translate import heartbeating
from dataflow.journal import Journal
from dataflow.projections.configured import ReadModels
from dataflow.projections.orders import ProjectOrder, ProjectReport


@dataclass(frozen=True, slots=True)
class ProjectActivities:
    """`models` says what to project, and where to; nothing of it is opened before there is work."""

    journal: Journal
    models: ReadModels

    @activity.defn(name=PROJECT.name)
    async def project(self, order: ProjectOrder) -> ProjectReport:
        """Follow the journal for a while. Stores that do not answer are told in the heartbeat, and waited for."""
        projector = self.models.projector(self.journal)
        stop = asyncio.Event()
        async with heartbeating(projector.told):  # Invariant 7: progress, never a checkpoint
            running = asyncio.create_task(projector.run(stop))
            ending = asyncio.create_task(activity.wait_for_worker_shutdown())
            try:
                await asyncio.wait({running, ending}, timeout=order.seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stop.set()
                ending.cancel()
                with suppress(asyncio.CancelledError):
                    await ending
                await running
        return ProjectReport(projections=projector.told())

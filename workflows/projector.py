"""The projector: one instance, on whichever worker is there, restarted anywhere.

It keeps the read models up with the journal by one long activity after another. Each heartbeat tells positions and
lags; they are never what is resumed from: every projection keeps its offset beside its rows.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.names import PROJECT
    from dataflow.projections.orders import ProjectOrder, ProjectReport
    from workflows.calls import LOST_WORKER
    from workflows.names import PROJECTOR, ProjectorTuning

GRACE = timedelta(minutes=2)


@workflow.defn(name=PROJECTOR)
class ProjectorWorkflow:
    """Lives as long as the platform; ended by cancelling or terminating it."""

    def __init__(self) -> None:
        self._last = ProjectReport()

    @workflow.run
    async def run(self, tuning: ProjectorTuning) -> None:
        for _ in range(tuning.stints):
            try:
                self._last = await self._stint(tuning)
            except ActivityError as failed:
                if is_cancelled_exception(failed):
                    raise
                # What it foresees it tries again itself: this is a bug, or a worker of another version.
                workflow.logger.warning("the projector failed: %s", failed.cause or failed)
                await workflow.sleep(tuning.again)
        workflow.continue_as_new(tuning)

    @workflow.query
    def last(self) -> ProjectReport:
        """The report of the last stint that came to its end."""
        return self._last

    async def _stint(self, tuning: ProjectorTuning) -> ProjectReport:
        report: ProjectReport = await workflow.execute_activity(
            PROJECT.name,
            ProjectOrder(seconds=tuning.stint),
            result_type=PROJECT.gives,
            start_to_close_timeout=timedelta(seconds=tuning.stint) + GRACE,
            heartbeat_timeout=timedelta(seconds=tuning.heartbeat_timeout),
            retry_policy=LOST_WORKER,
        )
        return report

"""How a process speaks to the coordinator: for all its pipelines together, and so that nothing is lost.

A report is durable once Temporal has taken the signal. Where it cannot be delivered it is kept and tried again with the
next one, and the pipeline goes on: what a process takes with it when it dies comes again with the pipeline's next
change, or with a survey of the journal.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from activities.together import Together
from dataflow.domain.coordinator.commands import PipelineReport
from dataflow.domain.coordinator.orders import Admission, AdmissionRequest, Decision, Heard, Presence
from dataflow.domain.coordinator.state import Limits
from workflows.names import COORDINATOR, CoordinatorCarried, coordinator_id, coordinator_queue

PATIENCE = 5.0
"""Seconds that a pipeline waits for its report to be taken."""

ANSWER = 10.0
"""Seconds that a start waits for the coordinator's answer."""

COMPLAINTS = 10.0
"""Seconds between two lines of the log about reports that could not be delivered."""

NOT_REACHED = (RPCError, TimeoutError, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError)
"""What it looks like when the coordinator does not answer: the client reports a cancelled update as the last."""

_log = logging.getLogger(__name__)


class CoordinatorLink:
    """The coordinator of one task queue, as seen from one process. It is started where it is not there. `limits` are
    those of this process's settings, None where it does not ask before a start."""

    def __init__(self, client: Client, task_queue: str, limits: Limits | None) -> None:
        self.coordinator = coordinator_id(task_queue)
        self._client = client
        self._task_queue = task_queue
        self._limits = limits
        self._spoke = False
        self._reports: Together[PipelineReport, None] = Together(self._send_reports, 500)
        self._requests: Together[AdmissionRequest, Decision] = Together(self._send_requests, 200)
        self._missed: dict[str, PipelineReport] = {}
        self._beats: dict[str, tuple[int, int]] = {}
        self._unsaid, self._complained = 0, -COMPLAINTS

    async def report(self, report: PipelineReport) -> None:
        """Tell what a pipeline has become. One that has not changed is told of with the next `beat`."""
        if not report.changed:
            self._beats[report.pipeline_id] = (report.records, report.failed)
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self._reports(report)
        except (RPCError, TimeoutError) as error:
            self._complain(report.pipeline_id, str(error) or "no answer")
            known = self._missed.get(report.pipeline_id)
            if known is None or known.version <= report.version:
                self._missed[report.pipeline_id] = report

    def _complain(self, pipeline: str, why: str) -> None:
        """One line for many: in a storm thousands have to wait at the same moment."""
        self._unsaid += 1
        if time.monotonic() - self._complained >= COMPLAINTS:
            others = f" and of {self._unsaid - 1} others" if self._unsaid > 1 else ""
            _log.warning("the coordinator is not told of %s%s yet: %s", pipeline, others, why)
            self._unsaid, self._complained = 0, time.monotonic()

    async def admit(self, request: AdmissionRequest) -> Decision:
        """May this pipeline start? `UNANSWERED` where nobody says so in time."""
        if self._limits is None:
            return Decision(admission=Admission.GRANTED, reason="nobody is asked")
        try:
            async with asyncio.timeout(ANSWER):
                return await self._requests(request)
        except NOT_REACHED as error:
            _log.warning("%s starts without the coordinator: %s", request.report.pipeline_id, error or "no answer")
            return Decision(admission=Admission.UNANSWERED, reason=str(error) or "the coordinator does not answer")

    async def present(self, presence: Presence) -> None:
        """Tell of this worker."""
        await self._signal("present", presence)

    async def leave(self, worker: str = "") -> None:
        """This process ends, and with it the worker, if it is one. Returns when all it has said is recorded."""
        if not self._spoke:
            return
        handle = self._client.get_workflow_handle(self.coordinator)
        while True:
            try:
                await handle.execute_update("leave", worker)
                return
            except WorkflowUpdateFailedError as failed:
                if not is_busy(failed):
                    raise
                await asyncio.sleep(0.05)

    async def beat(self, running: Sequence[str] = ()) -> None:
        """Tell of the pipelines that have recorded something since the last beat, of those that are `running` here,
        whatever they count by now, and what was missed before."""
        beats: Heard = {**dict.fromkeys(running), **self._beats}
        self._beats = {}
        names = list(beats)
        for start in range(0, len(names), 2000):
            part: Heard = {name: beats[name] for name in names[start : start + 2000]}
            await self._signal("heard", part)
        if self._missed:
            await self._send_reports([])

    async def close(self) -> None:
        await self._reports.close()
        await self._requests.close()

    async def _send_reports(self, reports: Sequence[PipelineReport]) -> list[None]:
        newest = {report.pipeline_id: report for report in self._missed.values()}
        missed = dict(newest)
        for report in reports:
            known = newest.get(report.pipeline_id)
            if known is None or known.version <= report.version:
                newest[report.pipeline_id] = report
        await self._signal("report", list(newest.values()))
        for pipeline, report in missed.items():
            if self._missed.get(pipeline) is report:
                del self._missed[pipeline]
        return [None] * len(reports)

    async def _send_requests(self, requests: Sequence[AdmissionRequest]) -> list[Decision]:
        self._spoke = True
        async with asyncio.timeout(ANSWER):
            while True:
                begin = WithStartWorkflowOperation[Any, Any](
                    COORDINATOR,
                    args=self._start_args(),
                    id=self.coordinator,
                    task_queue=coordinator_queue(self._task_queue),
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                )
                try:
                    decisions: list[Decision] = await self._client.execute_update_with_start_workflow(
                        "admit",
                        args=[list(requests), self._limits],
                        start_workflow_operation=begin,
                        result_type=list[Decision],
                    )
                    return decisions
                except WorkflowUpdateFailedError as failed:
                    if not is_busy(failed):
                        raise
                    await asyncio.sleep(0.05)  # it continues as new
                finally:
                    # The operation keeps its error in a future of its own; looked at, or asyncio calls it forgotten.
                    told = asyncio.ensure_future(begin.workflow_handle())
                    told.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _signal(self, name: str, argument: Any) -> None:
        self._spoke = True
        await self._client.start_workflow(
            COORDINATOR,
            args=self._start_args(),
            id=self.coordinator,
            task_queue=coordinator_queue(self._task_queue),
            start_signal=name,
            start_signal_args=[argument],
            rpc_timeout=timedelta(seconds=PATIENCE),
        )

    def _start_args(self) -> list[Any]:
        return [CoordinatorCarried(coordinator_id=self.coordinator, task_queue=self._task_queue), b""]


def is_busy(failed: WorkflowUpdateFailedError) -> bool:
    """Whether the coordinator only asks to be asked again, for it continues as new."""
    return isinstance(failed.cause, ApplicationError) and failed.cause.type == "BUSY"

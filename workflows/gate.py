"""Between a start that is asked for and a start that is made: the coordinator's answer.

Without an answer the start is made: a coordinator that is down holds up nobody, and learns of it by the report.
"""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities.names import ADMIT
    from dataflow.domain import commands as do
    from dataflow.domain.commands import Origin
    from dataflow.domain.coordinator.orders import Admission, AdmissionRequest, Decision
    from dataflow.domain.coordinator.report import report_of
    from dataflow.domain.state import PipelineState
    from dataflow.errors import Conflict, DataFlowError
    from workflows.calls import start
    from workflows.failures import failure

from workflows.aggregate import Aggregate

_PATCH = "admission"
"""Runs from before there was a coordinator start at once until they continue as new."""


class Gate:
    """The gate of one pipeline."""

    def __init__(self, aggregate: Aggregate) -> None:
        self._aggregate = aggregate
        self._asking = 0

    async def start(self, origin: Origin) -> PipelineState:
        """Start it, or let it wait; the state after that. `Conflict` (LIMIT_REACHED) where starts beyond the limits are
        refused."""
        if not workflow.patched(_PATCH):
            return await self._aggregate.command(do.StartPipeline(), origin)
        self._asking += 1
        try:
            decision = await self._ask(origin)
            if decision.admission is Admission.REFUSED:
                name = self._aggregate.state.pipeline_id
                hint = "try again later; dataflow system shows what runs"
                raise failure(Conflict(f"no room to start {name}: {decision.reason}", code="LIMIT_REACHED", hint=hint))
            if decision.admission is Admission.QUEUED:
                return await self._aggregate.command(do.QueueStart(reason=decision.reason), origin)
            return await self._aggregate.command(do.StartPipeline(), origin)
        finally:
            self._asking -= 1

    async def admitted(self, origin: Origin) -> None:
        """There is a slot: start now, if the start still waits. The answer may overtake the record that it waits."""
        await workflow.wait_condition(lambda: not self._asking)
        if self._aggregate.state.queued_at is None:
            return
        try:
            await self._aggregate.apply(do.StartPipeline(), origin)
        except (DataFlowError, FailureError) as refused:  # a signal that fails would end the workflow
            workflow.logger.warning("a start that waited was not made: %s", refused)

    async def again(self) -> None:
        """Ask once more for the start that waits."""
        self._asking += 1
        try:
            decision = await self._ask(Origin(actor="pipeline"))
        finally:
            self._asking -= 1
        if decision.admission in (Admission.GRANTED, Admission.UNANSWERED):
            await self.admitted(Origin(actor="pipeline"))

    async def _ask(self, origin: Origin) -> Decision:
        request = AdmissionRequest(report=report_of(None, self._aggregate.state), origin=origin)
        try:
            return await start(ADMIT, request, within=20)
        except ActivityError as failed:
            return Decision(admission=Admission.UNANSWERED, reason=str(failed.cause or failed))

"""One pipeline: the event-sourced aggregate as a durable workflow.

The workflow is the only writer of its journal stream (Invariant 4). A command is an Update: `decide` refuses it in the
validator, before history is written; its events are in the journal before it answers, and before the state moves.
The data plane is ordered in segments, one activity for each lane at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from dataflow.domain import commands as do
    from dataflow.domain.commands import Origin
    from dataflow.domain.orders import Admission, Target
    from dataflow.domain.state import Checkpoint, Metrics, PipelineError, PipelineState, Status
    from dataflow.errors import DataFlowError, Retryable
    from workflows.failures import check_type, failure
    from workflows.names import CONTINUING, PIPELINE, Carried

# Not passed through: loaded inside of the sandbox they bring in whatever Pydantic has to find there by name.
from workflows.aggregate import Aggregate
from workflows.data_plane import DataPlane, jitter
from workflows.gate import Gate

_SOMEBODY = Origin(actor="temporal")  # an update sent by hand, without saying who


@workflow.defn(name=PIPELINE)
class PipelineWorkflow:
    """Lives from creation to deletion, through all states; continues as new before its history grows long."""

    @workflow.init
    def __init__(self, carried: Carried) -> None:
        self._carried = carried
        self._aggregate = Aggregate(carried.state, carried.tuning)
        self._plane = DataPlane(self._aggregate, carried)
        self._gate = Gate(self._aggregate)

    @workflow.run
    async def run(self, carried: Carried) -> None:
        aggregate, plane = self._aggregate, self._plane
        if aggregate.state.queued_at and carried.runs == 1:
            await self._gate.again()  # taken from the journal: the coordinator may have answered a run that is gone
        while not aggregate.stands(Status.DELETED):
            await workflow.wait_condition(lambda: plane.runnable() or plane.heavy() or aggregate.stands(Status.DELETED))
            if plane.runnable() and not plane.heavy():
                await plane.drive()
            if plane.heavy() and not aggregate.stands(Status.DELETED):
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(self._carry())
        await workflow.wait_condition(workflow.all_handlers_finished)

    def _carry(self) -> Carried:
        return replace(self._carried, state=self._aggregate.state, runs=self._carried.runs + 1, **self._plane.pace)

    # Queries

    @workflow.query
    def state(self) -> PipelineState:
        """Everything: the same value that folding the journal gives."""
        return self._aggregate.state

    @workflow.query
    def metrics(self) -> Metrics:
        """Totals of the current or last run."""
        return self._aggregate.state.metrics

    @workflow.query
    def checkpoint(self) -> Checkpoint:
        """Positions and counters of every lane as of the last recorded segment."""
        return self._aggregate.state.checkpoint

    # Commands. Every validator runs `decide`: a command that does not fit leaves no history.

    @workflow.update
    async def create(self, spec: Mapping[str, Any], origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._aggregate.command(do.CreatePipeline(spec=spec), origin)

    @create.validator
    def _check_create(self, spec: Mapping[str, Any], origin: Origin = _SOMEBODY) -> None:
        self._aggregate.check(do.CreatePipeline(spec=spec))

    @workflow.update
    async def start(self, origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._gate.start(origin)

    @start.validator
    def _check_start(self, origin: Origin = _SOMEBODY) -> None:
        self._aggregate.check(do.StartPipeline())

    @workflow.signal
    async def admitted(self, origin: Origin) -> None:
        """From the coordinator: there is a slot now for the start that waits."""
        await self._gate.admitted(origin)

    @workflow.update
    async def stop(self, reason: str = "", origin: Origin = _SOMEBODY) -> PipelineState:
        if self._aggregate.state.queued_at:
            return await self._aggregate.command(do.WithdrawStart(reason=reason), origin)
        async with self._plane.at_rest():
            return await self._aggregate.command(do.StopPipeline(reason=reason), origin)

    @stop.validator
    def _check_stop(self, reason: str = "", origin: Origin = _SOMEBODY) -> None:
        waits = self._aggregate.state.queued_at
        self._aggregate.check(do.WithdrawStart(reason=reason) if waits else do.StopPipeline(reason=reason))

    @workflow.update
    async def pause(self, reason: str = "", origin: Origin = _SOMEBODY) -> PipelineState:
        async with self._plane.at_rest():
            return await self._aggregate.command(do.PausePipeline(reason=reason), origin)

    @pause.validator
    def _check_pause(self, reason: str = "", origin: Origin = _SOMEBODY) -> None:
        self._aggregate.check(do.PausePipeline(reason=reason))

    @workflow.update
    async def resume(self, origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._aggregate.command(do.ResumePipeline(), origin)

    @resume.validator
    def _check_resume(self, origin: Origin = _SOMEBODY) -> None:
        self._aggregate.check(do.ResumePipeline())

    @workflow.update
    async def reset(self, from_start: bool = False, origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._aggregate.command(do.ResetPipeline(from_start=from_start), origin)

    @reset.validator
    def _check_reset(self, from_start: bool = False, origin: Origin = _SOMEBODY) -> None:
        self._aggregate.check(do.ResetPipeline(from_start=from_start))

    @workflow.update
    async def rewind(self, target: Target, origin: Origin = _SOMEBODY) -> PipelineState:
        try:
            found = await self._plane.locate(target)
        except DataFlowError as refused:
            raise failure(refused) from refused
        return await self._aggregate.command(do.ResetPipeline(rewind=found), origin)

    @rewind.validator
    def _check_rewind(self, target: Target, origin: Origin = _SOMEBODY) -> None:
        check_type(target, Target)
        self._aggregate.check(do.ResetPipeline(from_start=True))  # in the same states

    @workflow.update
    async def update_config(self, command: do.UpdateConfig, origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._aggregate.command(command, origin)

    @update_config.validator
    def _check_update_config(self, command: do.UpdateConfig, origin: Origin = _SOMEBODY) -> None:
        check_type(command, do.UpdateConfig)
        self._aggregate.check(command)

    @workflow.update
    async def ingest(self, command: do.IngestBatch, origin: Origin = _SOMEBODY) -> None:
        await self._aggregate.ingest(command, origin)
        self._plane.yield_to_history()

    @ingest.validator
    def _check_ingest(self, command: do.IngestBatch, origin: Origin = _SOMEBODY) -> None:
        check_type(command, do.IngestBatch)
        if self._plane.heavy():  # continuing as new waits for every handler: no more of those that come in streams
            raise failure(Retryable("the pipeline's workflow is about to continue as new", code=CONTINUING))
        self._aggregate.check(command)

    @workflow.update
    async def ingest_all(self, commands: list[do.IngestBatch], origin: Origin = _SOMEBODY) -> list[Admission]:
        found = await self._aggregate.ingest_all(commands, origin)
        self._plane.yield_to_history()
        return found

    @ingest_all.validator
    def _check_ingest_all(self, commands: list[do.IngestBatch], origin: Origin = _SOMEBODY) -> None:
        for command in commands:
            self._check_ingest(command, origin)

    @workflow.update
    async def update_checkpoint(self, checkpoint: Checkpoint, origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._aggregate.command(do.UpdateCheckpoint(checkpoint=checkpoint), origin)

    @update_checkpoint.validator
    def _check_update_checkpoint(self, checkpoint: Checkpoint, origin: Origin = _SOMEBODY) -> None:
        check_type(checkpoint, Checkpoint)
        self._aggregate.check(do.UpdateCheckpoint(checkpoint=checkpoint))

    @workflow.update
    async def report_metrics(self, metrics: Mapping[str, float], origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._aggregate.command(do.ReportMetrics(metrics=metrics), origin)

    @report_metrics.validator
    def _check_report_metrics(self, metrics: Mapping[str, float], origin: Origin = _SOMEBODY) -> None:
        self._aggregate.check(do.ReportMetrics(metrics=metrics))

    @workflow.update
    async def report_failure(self, error: PipelineError, origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._aggregate.command(do.ReportFailure(error=error, jitter=jitter()), origin)

    @report_failure.validator
    def _check_report_failure(self, error: PipelineError, origin: Origin = _SOMEBODY) -> None:
        check_type(error, PipelineError)
        self._aggregate.check(do.ReportFailure(error=error, jitter=0.0))

    @workflow.update
    async def delete(self, origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._aggregate.command(do.DeletePipeline(), origin)

    @delete.validator
    def _check_delete(self, origin: Origin = _SOMEBODY) -> None:
        self._aggregate.check(do.DeletePipeline())

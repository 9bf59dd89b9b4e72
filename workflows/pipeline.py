"""One pipeline: the event-sourced aggregate as a durable workflow.

The workflow is the only writer of its journal stream (Invariant 4). A command is an Update: `decide` refuses it in the
validator, before history is written; its events are in the journal before it answers, and before the state moves.
The data plane is ordered in segments, one activity for each lane at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from pydantic import TypeAdapter

    from activities.names import APPEND, COMPLETE, MOVE, PLAN
    from dataflow.domain import commands as do
    from dataflow.domain.commands import Origin
    from dataflow.domain.events import Event, EventRecord, RetryScheduled, seal
    from dataflow.domain.flow import Lane
    from dataflow.domain.orders import (
        AppendOrder,
        CompleteOrder,
        LedgerEntry,
        PlanOrder,
        SegmentOrder,
        SegmentReport,
    )
    from dataflow.domain.pipeline import decide, evolve
    from dataflow.domain.state import Checkpoint, ErrorType, Metrics, PipelineError, PipelineState, Plan, Status
    from dataflow.errors import DataFlowError
    from workflows.calls import reported, start
    from workflows.names import PIPELINE, Carried

_OWN = Origin(actor="pipeline")
_SOMEBODY = Origin(actor="temporal")  # an update sent by hand, without saying who
_STATE: TypeAdapter[PipelineState] = TypeAdapter(PipelineState)


@workflow.defn(name=PIPELINE)
class PipelineWorkflow:
    """Lives from creation to deletion, through all states; continues as new before its history grows long."""

    @workflow.init
    def __init__(self, carried: Carried) -> None:
        self._carried = carried
        self._state = carried.state
        self._lock = asyncio.Lock()
        self._halting = 0
        self._driving = False
        self._ordered: dict[str, workflow.ActivityHandle[Any]] = {}
        self._ended = set(carried.ended)
        self._seconds = carried.segment_seconds or carried.tuning.segment_first

    @workflow.run
    async def run(self, carried: Carried) -> None:
        while self._state.status is not Status.DELETED:
            await workflow.wait_condition(lambda: self._runnable() or self._heavy() or self._is(Status.DELETED))
            if self._runnable() and not self._heavy():
                await self._drive()
            if self._heavy() and not self._is(Status.DELETED):
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(self._carry())
        await workflow.wait_condition(workflow.all_handlers_finished)

    # Queries

    @workflow.query
    def state(self) -> PipelineState:
        """Everything: the same value that folding the journal gives."""
        return self._state

    @workflow.query
    def metrics(self) -> Metrics:
        """Totals of the current or last run."""
        return self._state.metrics

    @workflow.query
    def checkpoint(self) -> Checkpoint:
        """Positions and counters of every lane as of the last recorded segment."""
        return self._state.checkpoint

    # Commands. Every validator runs `decide`: a command that does not fit leaves no history.

    @workflow.update
    async def create(self, spec: Mapping[str, Any], origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._command(do.CreatePipeline(spec=spec), origin)

    @create.validator
    def _check_create(self, spec: Mapping[str, Any], origin: Origin = _SOMEBODY) -> None:
        self._check(do.CreatePipeline(spec=spec))

    @workflow.update
    async def start(self, origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._command(do.StartPipeline(), origin)

    @start.validator
    def _check_start(self, origin: Origin = _SOMEBODY) -> None:
        self._check(do.StartPipeline())

    @workflow.update
    async def stop(self, reason: str = "", origin: Origin = _SOMEBODY) -> PipelineState:
        async with self._at_rest():
            return await self._command(do.StopPipeline(reason=reason), origin)

    @stop.validator
    def _check_stop(self, reason: str = "", origin: Origin = _SOMEBODY) -> None:
        self._check(do.StopPipeline(reason=reason))

    @workflow.update
    async def pause(self, reason: str = "", origin: Origin = _SOMEBODY) -> PipelineState:
        async with self._at_rest():
            return await self._command(do.PausePipeline(reason=reason), origin)

    @pause.validator
    def _check_pause(self, reason: str = "", origin: Origin = _SOMEBODY) -> None:
        self._check(do.PausePipeline(reason=reason))

    @workflow.update
    async def resume(self, origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._command(do.ResumePipeline(), origin)

    @resume.validator
    def _check_resume(self, origin: Origin = _SOMEBODY) -> None:
        self._check(do.ResumePipeline())

    @workflow.update
    async def reset(self, from_start: bool = False, origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._command(do.ResetPipeline(from_start=from_start), origin)

    @reset.validator
    def _check_reset(self, from_start: bool = False, origin: Origin = _SOMEBODY) -> None:
        self._check(do.ResetPipeline(from_start=from_start))

    @workflow.update
    async def update_config(self, command: do.UpdateConfig, origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._command(command, origin)

    @update_config.validator
    def _check_update_config(self, command: do.UpdateConfig, origin: Origin = _SOMEBODY) -> None:
        self._check(command)

    @workflow.update
    async def ingest(self, command: do.IngestBatch, origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._command(command, origin)

    @ingest.validator
    def _check_ingest(self, command: do.IngestBatch, origin: Origin = _SOMEBODY) -> None:
        self._check(command)

    @workflow.update
    async def update_checkpoint(self, checkpoint: Checkpoint, origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._command(do.UpdateCheckpoint(checkpoint=checkpoint), origin)

    @update_checkpoint.validator
    def _check_update_checkpoint(self, checkpoint: Checkpoint, origin: Origin = _SOMEBODY) -> None:
        self._check(do.UpdateCheckpoint(checkpoint=checkpoint))

    @workflow.update
    async def report_metrics(self, metrics: Mapping[str, float], origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._command(do.ReportMetrics(metrics=metrics), origin)

    @report_metrics.validator
    def _check_report_metrics(self, metrics: Mapping[str, float], origin: Origin = _SOMEBODY) -> None:
        self._check(do.ReportMetrics(metrics=metrics))

    @workflow.update
    async def report_failure(self, error: PipelineError, origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._command(do.ReportFailure(error=error, jitter=self._jitter()), origin)

    @report_failure.validator
    def _check_report_failure(self, error: PipelineError, origin: Origin = _SOMEBODY) -> None:
        self._check(do.ReportFailure(error=error, jitter=0.0))

    @workflow.update
    async def delete(self, origin: Origin = _SOMEBODY) -> PipelineState:
        return await self._command(do.DeletePipeline(), origin)

    @delete.validator
    def _check_delete(self, origin: Origin = _SOMEBODY) -> None:
        self._check(do.DeletePipeline())

    # The aggregate

    def _check(self, command: do.Command) -> None:
        try:
            decide(self._state, command)
        except DataFlowError as refused:
            raise _failure(refused) from refused

    async def _command(self, command: do.Command, origin: Origin) -> PipelineState:
        try:
            await self._apply(command, origin)
            return self._state
        except DataFlowError as refused:  # the state has moved since the validator looked
            raise _failure(refused) from refused

    async def _apply(self, command: do.Command, origin: Origin = _OWN) -> tuple[Event, ...]:
        """Decide, append to the journal, then move the state: one command at a time."""
        async with self._lock:
            events = decide(self._state, command)
            if not events:
                return events
            before, state = self._state, self._state
            records = seal(
                events,
                stream=state.pipeline_id,
                after_sequence=state.version,
                previous_hash=state.last_hash,
                time=workflow.now(),
                actor=origin.actor,
                correlation_id=origin.correlation_id or workflow.info().run_id,
                causation_id=origin.causation_id,
            )
            for record in records:
                state = evolve(state, record)
            await self._append(records, before, state)  # Invariant 3: the journal first
            self._state = state
            if before.status is not state.status or before.name != state.name or before.error != state.error:
                self._show()
            return events

    async def _append(self, records: tuple[EventRecord, ...], before: PipelineState, after: PipelineState) -> None:
        every = self._carried.tuning.snapshot_every
        due = before.version // every != after.version // every
        order = AppendOrder(records=records, snapshot=_STATE.dump_python(after, mode="json") if due else None)
        try:
            # A regular activity: its input is in history before it runs, so a repetition appends the very same records.
            await start(APPEND, order, within=30)
        except ActivityError as failed:
            raise failed.cause or failed from failed

    def _show(self) -> None:
        state = self._state
        spec = state.spec
        sinks = ",".join(str(sink.get("type", "")) for sink in spec.get("sinks", ()))
        workflow.upsert_search_attributes(
            [
                SearchAttributeKey.for_keyword("DataflowName").value_set(state.name),
                SearchAttributeKey.for_keyword("DataflowStatus").value_set(state.status.value),
                SearchAttributeKey.for_keyword("DataflowSource").value_set(str(spec.get("source", {}).get("type", ""))),
                SearchAttributeKey.for_keyword("DataflowSink").value_set(sinks),
                SearchAttributeKey.for_keyword("DataflowOwner").value_set(str(spec.get("owner", ""))),
                SearchAttributeKey.for_int("DataflowFailed").value_set(state.lifetime.records_failed),
            ]
        )

    # The data plane

    def _is(self, status: Status) -> bool:
        return self._state.status is status

    def _runnable(self) -> bool:
        return self._is(Status.RUNNING) and not self._halting

    def _heavy(self) -> bool:
        info = workflow.info()
        return (
            info.is_continue_as_new_suggested()
            or info.get_current_history_length() > self._carried.tuning.history_events
        )

    def _carry(self) -> Carried:
        return replace(
            self._carried,
            state=self._state,
            segment_seconds=self._seconds,
            ended=tuple(sorted(self._ended)),
            runs=self._carried.runs + 1,
        )

    def _jitter(self) -> float:
        return workflow.random().uniform(-0.2, 0.2)

    @asynccontextmanager
    async def _at_rest(self) -> AsyncIterator[None]:
        """Segments drain to an epoch boundary and report; nothing new begins inside."""
        self._halting += 1
        try:
            self._cut()
            try:
                await workflow.wait_condition(lambda: not self._driving, timeout=timedelta(seconds=60))
            except TimeoutError:
                workflow.logger.warning("a segment does not drain; its report is recorded when it comes")
            yield
        finally:
            self._halting -= 1

    def _cut(self) -> None:
        for handle in self._ordered.values():
            handle.cancel()

    async def _drive(self) -> None:
        """Run the pipeline until it leaves `running`, a halt is asked for, or history is long."""
        self._driving = True
        try:
            plan = await self._planned()
            if plan is None:
                return
            lanes = [lane for lane in self._lanes(plan) if lane.name not in self._ended]
            await asyncio.gather(*(self._lane(lane, plan) for lane in lanes))
            if self._runnable() and all(lane.name in self._ended for lane in self._lanes(plan)):
                await self._complete(plan)
        finally:
            self._driving = False

    async def _planned(self) -> Plan | None:
        state = self._state
        if state.plan is not None and state.plan.generation == state.generation:
            return state.plan
        order = PlanOrder(
            pipeline=state.pipeline_id,
            generation=state.generation,
            number=state.plan_number + 1,
            spec=state.spec,
        )
        handle = start(PLAN, order, within=600, heartbeat=self._carried.tuning.heartbeat_timeout)
        self._ordered["plan"] = handle
        try:
            plan = await handle
        except ActivityError as failed:
            await self._failed(reported(failed))
            return None
        finally:
            del self._ordered["plan"]
        try:
            await self._apply(do.AdoptPlan(plan=plan))
        except DataFlowError as refused:  # such as begun splits that would change lanes
            await self._failed(_own_error(refused))
            return None
        self._ended.clear()
        return plan

    def _lanes(self, plan: Plan) -> list[Lane]:
        return [
            Lane(
                pipeline=self._state.pipeline_id,
                generation=plan.generation,
                sink=lane.sink,
                number=lane.number,
                splits=tuple(lane.splits),
            )
            for lane in plan.lanes
        ]

    async def _lane(self, lane: Lane, plan: Plan) -> None:
        while self._runnable() and not self._heavy() and lane.name not in self._ended:
            spec = self._state.definition
            seconds = max(self._seconds, 2 * spec.checkpoint.interval)
            order = SegmentOrder(lane=lane, spec=self._state.spec, plan=plan, seconds=seconds)
            within = seconds + 2 * spec.timeouts.batch + 60
            handle = start(MOVE, order, within=within, heartbeat=self._carried.tuning.heartbeat_timeout)
            self._ordered[lane.name] = handle
            try:
                report = await handle
            except ActivityError as failed:
                await self._failed(reported(failed), lane.name)
                continue
            finally:
                del self._ordered[lane.name]
            try:
                await self._record(lane, report)
            except DataFlowError as refused:  # counters that fall, a lane nobody planned: never go on over that
                await self._failed(_own_error(refused), lane.name)
                continue
            if report.ended:
                self._ended.add(lane.name)
            if report.error:
                await self._failed(report.error, lane.name)
            elif not report.ended and report.milliseconds >= 900 * seconds:
                self._seconds = min(2 * self._seconds, self._carried.tuning.segment_longest)

    async def _record(self, lane: Lane, report: SegmentReport) -> None:
        known = self._state.checkpoint.lanes.get(lane.name)
        before = known.epoch if known else 0
        receipt = report.receipt
        if receipt.epoch <= before:
            return
        ledger = list(report.ledger)
        if report.first_epoch > before + 1:  # committed by an attempt whose report was lost
            ledger.insert(0, LedgerEntry(before + 1, report.first_epoch - 1, -1, -1))
        await self._apply(
            do.RecordSegment(
                batch_id=f"{lane.pipeline}/{lane.generation}/{lane.name}/{before + 1}-{receipt.epoch}",
                lane=lane.name,
                first_epoch=before + 1,
                last_epoch=receipt.epoch,
                positions=receipt.positions,
                counters=receipt.counters,
                epochs=tuple(asdict(entry) for entry in ledger),
                milliseconds=report.milliseconds,
                generation=lane.generation,
            )
        )

    async def _complete(self, plan: Plan) -> None:
        state = self._state
        order = CompleteOrder(pipeline=state.pipeline_id, generation=plan.generation, spec=state.spec, plan=plan)
        try:
            outputs = await start(COMPLETE, order, within=3600, heartbeat=self._carried.tuning.heartbeat_timeout)
        except ActivityError as failed:
            await self._failed(reported(failed))
            return
        if self._runnable():
            await self._apply(do.CompletePipeline(outputs=outputs))

    async def _failed(self, error: PipelineError | None, lane: str = "") -> None:
        """Let the aggregate decide: retry after a durable pause, or fail and cut the other lanes."""
        if error is None or not self._is(Status.RUNNING):
            return
        if error.code == "BATCH_TIMEOUT":
            state, limit = self._state, self._state.definition.timeouts.batch
            known = state.checkpoint.lanes.get(lane)
            epoch = (known.epoch if known else 0) + 1
            events = await self._apply(
                do.BatchTimeout(
                    batch_id=f"{state.pipeline_id}/{state.generation}/{lane}/{epoch}",
                    timeout_ms=round(limit * 1000),
                    lane=lane,
                    jitter=self._jitter(),
                )
            )
        else:
            events = await self._apply(do.ReportFailure(error=error, lane=lane, jitter=self._jitter()))
        if self._is(Status.RUNNING):
            pause = timedelta(milliseconds=sum(e.backoff_ms for e in events if isinstance(e, RetryScheduled)))
            try:
                await workflow.wait_condition(lambda: not self._runnable(), timeout=pause)
            except TimeoutError:
                return  # the pause is over: try again
        else:
            self._cut()


def _own_error(refused: DataFlowError) -> PipelineError:
    return PipelineError(
        error_type=ErrorType.SYSTEM, code=refused.code, message=str(refused), retryable=False, where=refused.where
    )


def _failure(refused: DataFlowError) -> ApplicationError:
    told = {"kind": type(refused).__name__, "hint": refused.hint, "where": refused.where}
    return ApplicationError(refused.message, told, type=refused.code, non_retryable=True)

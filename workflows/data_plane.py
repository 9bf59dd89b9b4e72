"""The data plane of one pipeline: segments ordered lane by lane, their reports recorded, their failures decided on.

Everything it learns goes through the aggregate; what it keeps of its own is only pace.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.names import COMPLETE, LOCATE, MOVE, PLAN, SETTLE
    from dataflow.domain import commands as do
    from dataflow.domain.events import RetryScheduled
    from dataflow.domain.flow import Lane, Position
    from dataflow.domain.orders import (
        CompleteOrder,
        LedgerEntry,
        LocateOrder,
        PlanOrder,
        SegmentOrder,
        SegmentReport,
        SettleOrder,
        Target,
    )
    from dataflow.domain.state import ErrorType, PipelineError, Plan, Rewind, Status
    from dataflow.errors import Conflict, DataFlowError, NothingYet, Rejected, Retryable
    from workflows.calls import reported, start
    from workflows.names import Carried

from workflows.aggregate import Aggregate

_SETTLED_AT_REST = "settled-at-rest"
"""Runs from before that told upstream with their next segment only."""


class DataPlane:
    """Drives the lanes of one pipeline while it is running and nobody asks for a halt."""

    def __init__(self, aggregate: Aggregate, carried: Carried) -> None:
        self._aggregate = aggregate
        self._tuning = carried.tuning
        self._halting = 0
        self._driving = False
        self._yielding = False
        self._ordered: dict[str, workflow.ActivityHandle[Any]] = {}
        self._ended = set(carried.ended)
        self._grown = False  # the source has more splits than the plan; forgotten by a new run, which finds out again
        self._seconds = carried.segment_seconds or carried.tuning.segment_first

    @property
    def pace(self) -> dict[str, Any]:
        """What the next run of the workflow has to know of this: fields of `Carried`."""
        return {"segment_seconds": self._seconds, "ended": tuple(sorted(self._ended))}

    def runnable(self) -> bool:
        return self._aggregate.stands(Status.RUNNING) and not self._halting

    def heavy(self) -> bool:
        info = workflow.info()
        return info.is_continue_as_new_suggested() or info.get_current_history_length() > self._tuning.history_events

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
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

    def yield_to_history(self) -> None:
        """After each pushed batch: where they have made history long, do not wait for the segments' own end."""
        if self.heavy() and self._ordered and not self._yielding:
            self._yielding = True
            self._cut()

    def _cut(self) -> None:
        for handle in self._ordered.values():
            handle.cancel()

    async def drive(self) -> None:
        """Run the pipeline until it leaves `running`, a halt is asked for, or history is long."""
        self._driving = True
        try:
            plan = await self._planned()
            if plan is None:
                return
            lanes = [lane for lane in self._lanes(plan) if lane.name not in self._ended]
            await asyncio.gather(*(self._lane(lane, plan) for lane in lanes))
            if self.runnable() and not self._grown and all(lane.name in self._ended for lane in self._lanes(plan)):
                await self._complete(plan)
            elif not self.runnable():
                await self._settle(plan)
        finally:
            self._driving = False

    async def _planned(self) -> Plan | None:
        state = self._aggregate.state
        known = state.plan if state.plan is not None and state.plan.generation == state.generation else None
        if known is not None and not self._grown:
            return known
        order = PlanOrder(
            pipeline=state.pipeline_id,
            generation=state.generation,
            number=state.plan_number + 1,
            spec=state.spec,
            plan=known,
            former=state.former if known is None else None,
            rewind=state.rewind if known is None else None,
        )
        handle = start(PLAN, order, within=600, heartbeat=self._tuning.heartbeat_timeout)
        self._ordered["plan"] = handle
        try:
            plan = await handle
        except ActivityError as failed:
            error = reported(failed)
            if error is not None and error.code == NothingYet.code:
                await self._something(since=state.version)
            else:
                await self._failed(error)
            return None
        finally:
            del self._ordered["plan"]
        try:
            await self._aggregate.apply(do.AdoptPlan(plan=plan))
        except DataFlowError as refused:  # such as begun splits that would change lanes
            await self._failed(_own_error(refused))
            return None
        self._grown = False
        self._ended.clear()
        return plan

    async def _something(self, since: int) -> None:
        """Until something was pushed after that version of the state, or a while has passed in which it may have come
        some other way."""
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: not self.runnable() or self.heavy() or self._aggregate.state.version != since,
                timeout=timedelta(seconds=60),
            )

    def _lanes(self, plan: Plan) -> list[Lane]:
        return [
            Lane(
                pipeline=self._aggregate.state.pipeline_id,
                generation=plan.generation,
                sink=lane.sink,
                number=lane.number,
                splits=tuple(lane.splits),
            )
            for lane in plan.lanes
        ]

    async def _lane(self, lane: Lane, plan: Plan) -> None:
        while self.runnable() and not self.heavy() and not self._grown and lane.name not in self._ended:
            spec = self._aggregate.state.definition
            seconds = max(self._seconds, 2 * spec.checkpoint.interval)
            order = SegmentOrder(
                lane=lane,
                spec=self._aggregate.state.spec,
                plan=plan,
                seconds=seconds,
                settled=self._settled(lane.splits),
                starts=self._starts(lane),
            )
            within = seconds + 2 * spec.timeouts.batch + 60
            handle = start(MOVE, order, within=within, heartbeat=self._tuning.heartbeat_timeout)
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
            if report.grown:  # reports of older workers never say so: what they left in histories replays as it was
                self._grown = True
                self._cut()  # the other lanes drain; then the source is looked at again
            if report.error:
                await self._failed(report.error, lane.name)
            elif not report.ended and report.milliseconds >= 900 * seconds:
                self._seconds = min(2 * self._seconds, self._tuning.segment_longest)

    def _starts(self, lane: Lane) -> dict[str, Position]:
        rewind = self._aggregate.state.rewind
        return dict(rewind.lanes.get(lane.name, {})) if rewind else {}

    async def locate(self, target: Target) -> Rewind:
        """Where the lanes were at the target. Raises `Conflict` where nothing was read yet, and what the activity
        reports."""
        state = self._aggregate.state
        if state.plan is None:
            raise Conflict(f"pipeline {state.pipeline_id} has read nothing in generation {state.generation} yet")
        order = LocateOrder(pipeline=state.pipeline_id, spec=state.spec, plan=state.plan, target=target)
        try:
            return await start(LOCATE, order, within=60)  # no data moves: whoever answers for pipelines can do it
        except ActivityError as failed:
            error = reported(failed)
            if error is None:
                raise failed.cause or failed from failed
            kind = Retryable if error.retryable else Rejected
            raise kind(error.message, code=error.code, where=error.where) from failed

    def _settled(self, splits: Iterable[str]) -> dict[str, Position]:
        """How far the journal knows each split to be committed by every sink. Positions cannot be compared here: where
        the sinks have come to different ones, nothing is said."""
        state, found = self._aggregate.state, {}
        for split in sorted(splits):
            # Invariant 3: what is recorded, not what a sink has said.
            at = [lane.positions[split] for lane in state.checkpoint.lanes.values() if split in lane.positions]
            if len(at) == len(state.definition.sinks) and len(set(at)) == 1:
                found[split] = at[0]
        return found

    async def _record(self, lane: Lane, report: SegmentReport) -> None:
        known = self._aggregate.state.checkpoint.lanes.get(lane.name)
        before = known.epoch if known else 0
        receipt = report.receipt
        if receipt.epoch <= before:
            return
        ledger = list(report.ledger)
        if report.first_epoch > before + 1:  # committed by an attempt whose report was lost
            ledger.insert(0, LedgerEntry(before + 1, report.first_epoch - 1, -1, -1))
        await self._aggregate.apply(
            do.RecordSegment(
                batch_id=f"{lane.pipeline}/{lane.generation}/{lane.name}/{before + 1}-{receipt.epoch}",
                lane=lane.name,
                first_epoch=before + 1,
                last_epoch=receipt.epoch,
                positions=receipt.positions,
                counters=receipt.counters,
                epochs=tuple(asdict(entry) for entry in ledger),
                milliseconds=report.milliseconds,
                cpu_ms=report.cpu_ms,
                generation=lane.generation,
            )
        )

    async def _settle(self, plan: Plan) -> None:
        """At a halt nobody else would tell upstream what the last segments have recorded: while they move, the next
        ones do, and `complete` at the end."""
        settled = self._settled({split for lane in plan.lanes for split in lane.splits})
        if not settled or not workflow.patched(_SETTLED_AT_REST):
            return
        state = self._aggregate.state
        order = SettleOrder(pipeline=state.pipeline_id, generation=plan.generation, spec=state.spec, settled=settled)
        with suppress(ActivityError):
            await start(SETTLE, order, within=30, heartbeat=self._tuning.heartbeat_timeout)

    async def _complete(self, plan: Plan) -> None:
        state = self._aggregate.state
        order = CompleteOrder(
            pipeline=state.pipeline_id,
            generation=plan.generation,
            spec=state.spec,
            plan=plan,
            settled=self._settled({split for lane in plan.lanes for split in lane.splits}),
        )
        try:
            outputs = await start(COMPLETE, order, within=3600, heartbeat=self._tuning.heartbeat_timeout)
        except ActivityError as failed:
            await self._failed(reported(failed))
            return
        if self.runnable():
            await self._aggregate.apply(do.CompletePipeline(outputs=outputs))

    async def _failed(self, error: PipelineError | None, lane: str = "") -> None:
        """Let the aggregate decide: retry after a durable pause, or fail and cut the other lanes."""
        if error is None or not self._aggregate.stands(Status.RUNNING):
            return
        if error.code == "BATCH_TIMEOUT":
            state, limit = self._aggregate.state, self._aggregate.state.definition.timeouts.batch
            known = state.checkpoint.lanes.get(lane)
            epoch = (known.epoch if known else 0) + 1
            events = await self._aggregate.apply(
                do.BatchTimeout(
                    batch_id=f"{state.pipeline_id}/{state.generation}/{lane}/{epoch}",
                    timeout_ms=round(limit * 1000),
                    lane=lane,
                    jitter=jitter(),
                )
            )
        else:
            events = await self._aggregate.apply(do.ReportFailure(error=error, lane=lane, jitter=jitter()))
        if self._aggregate.stands(Status.RUNNING):
            pause = timedelta(milliseconds=sum(e.backoff_ms for e in events if isinstance(e, RetryScheduled)))
            try:
                await workflow.wait_condition(lambda: not self.runnable(), timeout=pause)
            except TimeoutError:
                return  # the pause is over: try again
        else:
            self._cut()


def jitter() -> float:
    """A factor for the pause before a retry, from the workflow's own random source."""
    return workflow.random().uniform(-0.2, 0.2)


def _own_error(refused: DataFlowError) -> PipelineError:
    return PipelineError(
        error_type=ErrorType.SYSTEM, code=refused.code, message=str(refused), retryable=False, where=refused.where
    )

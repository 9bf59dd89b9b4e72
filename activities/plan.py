"""Planning a generation, and completing it: what happens once, around all segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio import activity

from activities.move import settling
from activities.names import COMPLETE, PLAN, SETTLE
from activities.translate import heartbeating, reporting
from dataflow.assembly import build_chain, build_sink, build_source, context_of
from dataflow.domain.flow import Lane, Position
from dataflow.domain.orders import CompleteOrder, PlanOrder, SettleOrder
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import ErrorType, Plan, PlannedLane
from dataflow.errors import DataFlowError, Rejected
from dataflow.schemas import format_schema, parse_schema
from dataflow.seams import Context, Discovery, Growing


def cut(splits: list[str], sinks: tuple[str, ...], most: int) -> tuple[PlannedLane, ...]:
    """Deal the splits out to at most `most` lanes, for every sink its own."""
    count = max(1, min(most, len(splits)))
    return tuple(
        PlannedLane(sink=sink, number=number, splits=tuple(splits[number::count]))
        for sink in sinks
        for number in range(count)
    )


def widen(
    lanes: tuple[PlannedLane, ...], splits: list[str], sinks: tuple[str, ...], most: int
) -> tuple[PlannedLane, ...]:
    """The same lanes with the splits that none of them has: each goes to a new lane while there are fewer than `most`,
    else to the one with the fewest. What a lane has it keeps: its receipts know no other splits."""
    found: dict[tuple[str, int], list[str]] = {(lane.sink, lane.number): list(lane.splits) for lane in lanes}
    for sink in sinks:
        known = {split for (owner, _), some in found.items() if owner == sink for split in some}
        for split in splits:
            if split in known:
                continue
            numbers = [number for owner, number in found if owner == sink]
            if len(numbers) < most:
                found[sink, max(numbers, default=-1) + 1] = [split]
            else:
                found[sink, min(numbers, key=lambda number: (len(found[sink, number]), number))].append(split)
    return tuple(PlannedLane(sink=sink, number=number, splits=tuple(some)) for (sink, number), some in found.items())


def remembered(plan: Plan) -> Discovery:
    """What was found when that plan was made."""
    splits = list(dict.fromkeys(split for lane in plan.lanes for split in lane.splits))
    return Discovery(splits, parse_schema(plan.schema), plan.pin, plan.total_bytes, plan.total_rows)


def again(plan: Plan, sinks: tuple[str, ...], most: int) -> tuple[PlannedLane, ...]:
    """The lanes of that plan; a sink that has been added since has its splits dealt out anew."""
    splits = list(remembered(plan).splits)
    known = {sink: tuple(lane for lane in plan.lanes if lane.sink == sink) for sink in sinks}
    return tuple(lane for sink, lanes in known.items() for lane in lanes or cut(splits, (sink,), most))


def lanes_of(pipeline: str, plan: Plan, sink: str) -> list[Lane]:
    """The lanes of one sink, as sinks know them."""
    return [
        Lane(pipeline=pipeline, generation=plan.generation, sink=sink, number=lane.number, splits=tuple(lane.splits))
        for lane in plan.lanes
        if lane.sink == sink
    ]


@dataclass(frozen=True, slots=True)
class PlanActivities:
    """`home` is where the platform keeps its data, `inbox` the URL of what is pushed to it."""

    home: Path
    inbox: str = ""

    @activity.defn(name=PLAN.name)
    async def plan(self, order: PlanOrder) -> Plan:
        """Discover the source, check the transforms against its schema, cut lanes, make room in the sinks."""
        spec = PipelineSpec.model_validate(dict(order.spec))
        before = order.plan
        context = context_of(
            spec,
            generation=order.generation,
            home=self.home,
            inbox=self.inbox,
            rewind=order.rewind,
            begins=before is None and not spec.checkpoint.adopt,
        )
        async with heartbeating(dict):
            async with reporting(ErrorType.SOURCE), build_source(spec, context) as source:
                if before is None and order.former is not None:
                    found = remembered(order.former)
                    lanes = again(order.former, spec.sink_names(), spec.parallelism)
                elif before is None:
                    found = await source.discover()
                    lanes = cut(list(found.splits), spec.sink_names(), spec.parallelism)
                elif isinstance(source, Growing) and (more := await source.grown(before.pin)) is not None:
                    found = more
                    lanes = widen(before.lanes, list(found.splits), spec.sink_names(), spec.parallelism)
                else:
                    return before
            plan = Plan(
                number=order.number,
                generation=order.generation,
                lanes=lanes,
                schema=format_schema(found.schema),
                pin=found.pin,
                total_bytes=found.total_bytes,
                total_rows=found.total_rows,
            )
            for index, name in enumerate(spec.sink_names()):
                async with reporting(ErrorType.TRANSFORM):
                    schema = build_chain(spec, index, context).bind(found.schema)
                # Only a later generation fences a plan: in this journal it comes after this one's end.
                async with reporting(ErrorType.SINK, attempts=1), build_sink(spec, index, context) as sink:
                    its = lanes_of(order.pipeline, plan, name)
                    if sink.max_lanes is not None and len(its) > sink.max_lanes:  # not everybody validates first
                        told = f"the sink {name!r} takes {sink.max_lanes} lanes at most, not {len(its)}"
                        raise Rejected(told, code="PARALLELISM", hint="lower parallelism")
                    await sink.prepare(schema, its)
        return plan

    @activity.defn(name=COMPLETE.name)
    async def complete(self, order: CompleteOrder) -> dict[str, Any]:
        """Let every sink publish what only a whole run can show; its summary, by sink name."""
        spec = PipelineSpec.model_validate(dict(order.spec))
        context = context_of(spec, generation=order.generation, home=self.home, inbox=self.inbox)
        summaries: dict[str, Any] = {}
        async with heartbeating(dict), reporting(ErrorType.SINK):
            for index, name in enumerate(spec.sink_names()):
                async with build_sink(spec, index, context) as sink:
                    summaries[name] = dict(await sink.complete(lanes_of(order.pipeline, order.plan, name)))
            await self._tell(spec, context, order.settled)
        return summaries

    @activity.defn(name=SETTLE.name)
    async def settle(self, order: SettleOrder) -> None:
        """Tell upstream what is recorded, where no segment follows that would. Whatever happens, it ends."""
        spec = PipelineSpec.model_validate(dict(order.spec))
        context = context_of(spec, generation=order.generation, home=self.home, inbox=self.inbox)
        async with heartbeating(dict):
            await self._tell(spec, context, order.settled)

    async def _tell(self, spec: PipelineSpec, context: Context, settled: Mapping[str, Position]) -> None:
        try:
            async with build_source(spec, context) as source, settling(source, settled):
                pass
        except DataFlowError as error:  # a hint: nothing depends on it
            activity.logger.warning("upstream was not told how far it may forget: %s", error)

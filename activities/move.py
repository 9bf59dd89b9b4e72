"""The Temporal face of the kernel: open the connectors, beat the heart, drain when asked to, report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from temporalio import activity

from activities.names import MOVE
from activities.translate import heartbeating, pipeline_error, reporting
from dataflow.assembly import build_chain, build_sink, build_source, context_of
from dataflow.domain.flow import Position
from dataflow.domain.orders import SegmentOrder, SegmentReport
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import ErrorType
from dataflow.errors import DataFlowError, Fenced, Retryable
from dataflow.move import Limits, Mover
from dataflow.schemas import parse_schema
from dataflow.seams import Growing, Source


def limits_of(spec: PipelineSpec, sink: int, seconds: float, max_epochs: int) -> Limits:
    """What the definition says about epochs, for one segment."""
    return Limits(
        interval=spec.checkpoint.interval,
        max_rows=spec.checkpoint.max_rows,
        max_bytes=spec.checkpoint.max_bytes,
        segment=seconds,
        max_epochs=max_epochs,
        batch_timeout=spec.timeouts.batch,
        write_rows=spec.sinks[sink].batch_size,
    )


@dataclass(frozen=True, slots=True)
class MoveActivities:
    """`home` is where the platform keeps its data, `inbox` the URL of what is pushed to it."""

    home: Path
    inbox: str = ""

    @activity.defn(name=MOVE.name)
    async def move(self, order: SegmentOrder) -> SegmentReport:
        """Run one segment. An error after the lane was opened is part of the report, beside what was committed."""
        spec = PipelineSpec.model_validate(dict(order.spec))
        context = context_of(spec, generation=order.lane.generation, home=self.home, inbox=self.inbox)
        index = spec.sink_names().index(order.lane.sink)
        chain = build_chain(spec, index, context)
        async with reporting(ErrorType.TRANSFORM):
            schema = chain.bind(parse_schema(order.plan.schema))
        async with (
            reporting(ErrorType.SINK),
            build_source(spec, context) as source,
            build_sink(spec, index, context) as sink,
        ):
            limits = limits_of(spec, index, order.seconds, order.max_epochs)
            mover = Mover(order.lane, source, order.plan.pin, chain, limits, order.starts)
            async with heartbeating(lambda: beat(mover)), sink.open(order.lane, schema) as writer:
                running = asyncio.create_task(mover.run(writer))
                async with _stopped_at_shutdown(mover), settling(source, order.settled):
                    await _drained(running, mover)
                error = running.exception()
                if error is None:
                    return await _looked_around(source, order, running.result())
                if isinstance(error, Fenced) or not isinstance(error, Exception):
                    raise error
                activity.logger.warning("segment failed: %s", error)
                return replace(mover.report, error=pipeline_error(error, ErrorType(mover.progress.culprit)))


@asynccontextmanager
async def settling(source: Source, positions: Mapping[str, Position]) -> AsyncIterator[None]:
    """Beside what is done inside, tell upstream what it may forget. A hint: what goes wrong is only noted."""

    async def tell() -> None:
        for split, upto in positions.items():
            try:
                await source.settle(split, upto)
            except DataFlowError as error:
                activity.logger.warning("upstream was not told that %s is settled: %s", split, error)

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        await asyncio.wait({telling}, timeout=5.0)
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _looked_around(source: Source, order: SegmentOrder, report: SegmentReport) -> SegmentReport:
    """The report with whether the source has splits that the plan does not know. One lane asks for all of them."""
    if report.ended or not isinstance(source, Growing) or order.lane.name != order.plan.lanes[0].name:
        return report
    try:
        return replace(report, grown=await source.grown(order.plan.pin) is not None)
    except Retryable as error:  # the next segment asks again
        activity.logger.info("not known whether there is more to read: %s", error)
        return report
    except DataFlowError as error:
        return replace(report, error=pipeline_error(error, ErrorType.SOURCE))


def beat(mover: Mover) -> dict[str, Any]:
    """What a heartbeat tells: progress, never a checkpoint (Invariant 7)."""
    progress = mover.progress
    return {
        "lane": mover.lane.name,
        "epoch": progress.epoch,
        "counters": asdict(progress.counters),
        "positions": dict(list(progress.positions.items())[:16]),
        "stage": progress.stage,
        "part": progress.part,
        "seconds": round(time.monotonic() - progress.since, 1),
        "lag": dict(mover.lag()),
        "at": time.time(),
    }


async def _drained(running: asyncio.Task[SegmentReport], mover: Mover) -> None:
    """Wait for the segment. A cancelled activity drains to an epoch boundary and still reports; cancelled once more
    (the worker has waited long enough) it is cut off."""
    try:
        await asyncio.wait({running})
    except asyncio.CancelledError:
        mover.stop()
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError:
            running.cancel()
            await asyncio.wait({running})
            raise


@asynccontextmanager
async def _stopped_at_shutdown(mover: Mover) -> AsyncIterator[None]:
    """On a worker that shuts down the segment ends at the next epoch boundary."""

    async def watch() -> None:
        await activity.wait_for_worker_shutdown()
        mover.stop()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)

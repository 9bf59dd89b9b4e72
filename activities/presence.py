"""What a worker tells of itself: that it is there, what it uses, how many segments it runs."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from heapq import nlargest
from importlib.metadata import version
from typing import Any
from uuid import uuid4

import psutil  # type: ignore[import-untyped]
from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities.link import NOT_REACHED, CoordinatorLink
from activities.names import MOVE
from dataflow.domain.coordinator.commands import ReportResourceUsage
from dataflow.domain.coordinator.orders import Presence
from dataflow.domain.coordinator.state import Limits
from dataflow.domain.orders import SegmentOrder, SegmentReport

REPORTED = 1000
"""Pipelines whose CPU a report tells at most: those that take most."""

GOODBYE = 3.0
"""Seconds that a process waits at its end for the coordinator to note it."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class RunningSegment:
    """A segment that runs here: whose it is, and the seconds of CPU it took so far."""

    pipeline: str
    cpu: float = 0.0


class Segments(Interceptor):
    """Knows the segments that run now: how many, whose, and what CPU each one and each pipeline's took. Segments share
    a process: its CPU is shared out evenly among those that ran at the same time. Adds to a segment's report what it
    took."""

    def __init__(self) -> None:
        self._running: set[RunningSegment] = set()
        self._used: dict[str, float] = defaultdict(float)
        self._looked = self._told = time.process_time(), time.monotonic()

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def pipelines(self) -> tuple[str, ...]:
        """Those of which a segment runs."""
        return tuple({segment.pipeline for segment in self._running})

    @contextmanager
    def counted(self, order: object) -> Iterator[RunningSegment]:
        """A segment runs while entered; what it took is known afterwards."""
        segment = RunningSegment(order.lane.pipeline if isinstance(order, SegmentOrder) else "")
        self._share_out()
        self._running.add(segment)
        try:
            yield segment
        finally:
            self._share_out()
            self._running.discard(segment)

    def usage(self) -> dict[str, float]:
        """Pipeline -> the CPU it took since the last call, in percent of the machine."""
        self._share_out()
        seconds = (time.monotonic() - self._told[1]) * (os.cpu_count() or 1)
        most = nlargest(REPORTED, self._used.items(), key=lambda item: item[1])
        used = {pipeline: round(100 * cpu / seconds, 2) for pipeline, cpu in most if seconds > 0}
        self._used.clear()
        self._told = self._looked
        return used

    def _share_out(self) -> None:
        before, self._looked = self._looked, (time.process_time(), time.monotonic())
        cpu = self._looked[0] - before[0]
        for segment in self._running:
            segment.cpu += cpu / len(self._running)
            self._used[segment.pipeline] += cpu / len(self._running)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Counted(next, self)


class _Counted(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, segments: Segments) -> None:
        super().__init__(next)
        self._segments = segments

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        if activity.info().activity_type != MOVE.name:
            return await super().execute_activity(input)
        with self._segments.counted(input.args[0] if input.args else None) as segment:
            report = await super().execute_activity(input)
        return replace(report, cpu_ms=round(1000 * segment.cpu)) if isinstance(report, SegmentReport) else report


class WorkerPresence:
    """One worker of this process. CPU is that of the whole machine, memory this process's own."""

    def __init__(self, link: CoordinatorLink, task_queue: str, slots: int, segments: Segments, limits: Limits) -> None:
        host = socket.gethostname()
        self.name = f"{host}:{os.getpid()}:{uuid4().hex[:6]}"
        self._host = host
        self._link = link
        self._queue = task_queue
        self._slots = slots
        self.segments = segments
        self._limits = limits
        self._process = psutil.Process()
        psutil.cpu_percent()  # the use since this call is what the first report tells

    def usage(self) -> ReportResourceUsage:
        """What is used now."""
        return ReportResourceUsage(
            worker=self.name,
            host=self._host,
            cpu_percent=psutil.cpu_percent(),
            memory_mb=round(self._process.memory_info().rss / 10**6),
            slots=self._slots,
            used=self.segments.running,
            task_queue=self._queue,
            version=version("dataflow"),
        )

    async def tell(self) -> None:
        await self._link.present(Presence(usage=self.usage(), limits=self._limits, cpu=self.segments.usage()))


@asynccontextmanager
async def reporting_load(
    link: CoordinatorLink, worker: WorkerPresence | None, every: float, beats: float
) -> AsyncIterator[None]:
    """While entered, tell the coordinator every so many seconds that this worker is there, and every `beats` seconds
    which pipelines live: those it has recorded something of, and those of which a segment runs here. Says goodbye in
    the end."""
    running = worker.segments if worker is not None else Segments()

    async def tell() -> None:
        while worker is not None:
            with _later():
                await worker.tell()
            await asyncio.sleep(every)

    async def beat() -> None:
        while True:
            with _later():
                await link.beat(running.pipelines)
            await asyncio.sleep(beats)

    telling = {asyncio.create_task(tell()), asyncio.create_task(beat())}
    try:
        yield
    finally:
        for task in telling:
            task.cancel()
        await asyncio.wait(telling)
        with _later():
            async with asyncio.timeout(GOODBYE):
                await link.beat()
                await link.leave(worker.name if worker else "")


@contextmanager
def _later() -> Iterator[None]:
    """What cannot be told now is told next time; a worker never stops for it."""
    try:
        yield
    except NOT_REACHED as error:
        _log.warning("the coordinator is not told: %s", error or "no answer")

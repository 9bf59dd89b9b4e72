"""What a worker tells of itself: that it is there, what it uses, how many segments it runs."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
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

GOODBYE = 3.0
"""Seconds that a process waits at its end for the coordinator to note it."""

_log = logging.getLogger(__name__)


class Segments(Interceptor):
    """Counts the segments that run now."""

    def __init__(self) -> None:
        self.running = 0

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Counted(next, self)


class _Counted(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, segments: Segments) -> None:
        super().__init__(next)
        self._segments = segments

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        if activity.info().activity_type != MOVE.name:
            return await super().execute_activity(input)
        self._segments.running += 1
        try:
            return await super().execute_activity(input)
        finally:
            self._segments.running -= 1


class WorkerPresence:
    """One worker of this process. CPU is that of the whole machine, memory this process's own."""

    def __init__(self, link: CoordinatorLink, task_queue: str, slots: int, segments: Segments, limits: Limits) -> None:
        host = socket.gethostname()
        self.name = f"{host}:{os.getpid()}:{uuid4().hex[:6]}"
        self._host = host
        self._link = link
        self._queue = task_queue
        self._slots = slots
        self._segments = segments
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
            used=self._segments.running,
            task_queue=self._queue,
            version=version("dataflow"),
        )

    async def tell(self) -> None:
        await self._link.present(Presence(usage=self.usage(), limits=self._limits))


@asynccontextmanager
async def reporting_load(link: CoordinatorLink, worker: WorkerPresence | None, every: float) -> AsyncIterator[None]:
    """While entered, tell the coordinator every so many seconds that this worker is there, and which of its pipelines
    have recorded something. Says goodbye in the end."""

    async def tell() -> None:
        while True:
            with _later():
                if worker is not None:
                    await worker.tell()
                await link.beat()
            await asyncio.sleep(every)

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait({telling})
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

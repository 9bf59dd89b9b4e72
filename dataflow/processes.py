"""More processes for segments: lanes spread over processors beyond what one interpreter can use.

The process that was started does all the rest, and works on segments too; each of the others only polls for them. They
are started again when they die, drain when told to leave, and never stay behind: on Linux the kernel ends them with
their parent, elsewhere they look for it. Each has buffers and limits of its own (Invariant 6: memory is bounded by
configuration, once for each process).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dataflow.allocator import keep_freed_buffers, started
from dataflow.embedded.process import spawn
from dataflow.embedded.temporal import temporal_server
from dataflow.patience import Patience
from dataflow.sdk.client import connect
from dataflow.settings import Settings
from dataflow.worker import GRACE, moving

POLL = 0.2  # seconds between two looks at the children, or at the parent
PATIENCE = 1.0  # seconds before one that died is started again; twice as long each time that it dies soon after
LONGEST = 30.0
LASTING = 60.0  # seconds after which one that dies was not just unable to start

_log = logging.getLogger(__name__)


@asynccontextmanager
async def more_processes(count: int, settings: Settings) -> AsyncIterator[None]:
    """Have `count` more processes work on segments, as long as the context; to be entered in the main thread, by a
    process whose Temporal is up. Leaving drains them: no longer than a segment takes to an epoch boundary."""
    if count <= 0:
        yield
        return
    children = [_Child(settings, number) for number in range(2, count + 2)]
    watching = [asyncio.create_task(child.watch()) for child in children]
    try:
        yield
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        for child in children:
            child.tell(signal.SIGTERM)
        await asyncio.gather(*(child.gone(GRACE + 10) for child in children))


class _Child:
    """One process, and those that take its place."""

    def __init__(self, settings: Settings, number: int) -> None:
        self._log = settings.logs / f"worker-{number}.log"
        self._number = number
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, "DATAFLOW_PARENT": str(os.getpid())}
        return spawn([sys.executable, "-m", "dataflow.processes"], log=self._log, env=env)

    async def watch(self) -> None:
        """Start it again whenever it has ended."""
        loop, patience = asyncio.get_running_loop(), PATIENCE
        while True:
            begun = loop.time()
            while self._process.poll() is None:  # noqa: ASYNC110 - a child of subprocess sends no event
                await asyncio.sleep(POLL)
            patience = PATIENCE if loop.time() - begun > LASTING else min(2 * patience, LONGEST)
            _log.warning(
                "worker process %d ended with %s; again in %g s, see %s",
                self._number,
                self._process.returncode,
                patience,
                self._log,
            )
            await asyncio.sleep(patience)
            self._process = self._start()

    def tell(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    async def gone(self, within: float) -> None:
        """Wait for its end, and kill it where that takes longer."""
        try:
            async with asyncio.timeout(within):
                while self._process.poll() is None:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(POLL)
        except TimeoutError:
            _log.warning("worker process %d is killed: it has not ended within %g s", self._number, within)
            self._process.kill()
            await asyncio.to_thread(self._process.wait)


async def _work(settings: Settings, parent: int) -> None:
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, leave.set)
    async with temporal_server(settings) as address:
        patience = Patience(settings.start_patience, over=lambda: leave.is_set() or os.getppid() != parent)
        client = await patience.until("Temporal", lambda: connect(address.target, address.namespace))
        async with moving(client, settings):
            started(stays=True)
            while not leave.is_set() and os.getppid() == parent:
                try:
                    await asyncio.wait_for(leave.wait(), POLL)
                except TimeoutError:
                    continue


def main() -> None:
    """What a child does: its settings are those of its parent, from the same environment and folder."""
    keep_freed_buffers()
    settings = Settings.load()
    level = settings.log_level.upper()
    logging.basicConfig(level=level, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    asyncio.run(_work(settings, int(os.environ["DATAFLOW_PARENT"])))


if __name__ == "__main__":
    main()

"""`temporal_server`: the Temporal that this process works with, a configured one or the embedded dev server.

Protocol between users and the keeper (`dataflow.embedded.keeper`), all through locks that the kernel drops with their
holder: a user first takes `temporal.users` shared, and only then looks for a keeper; the keeper stops the server only
while it holds that lock alone. So no server is stopped under a user, and none is left without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dataflow.embedded import binary
from dataflow.embedded.lock import FileLock, is_held
from dataflow.embedded.probe import serving
from dataflow.embedded.record import Files, Record
from dataflow.errors import Corrupt, Retryable, TimedOut
from dataflow.settings import Settings

POLL = 0.02
START_LIMIT = 90.0
CHECK_EVERY = 0.5

Progress = Callable[[str], None]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where Temporal is. `target` is `host:port` of its frontend, `ui` its web page where that is known; `owned` says
    that it is this home's embedded server, which goes with its last user."""

    target: str
    namespace: str
    ui: str | None = None
    owned: bool = False


def _quiet(text: str) -> None:
    logger.info("%s", text)


@asynccontextmanager
async def temporal_server(settings: Settings, *, on_progress: Progress = _quiet) -> AsyncIterator[Address]:
    """The configured Temporal, or this home's dev server, running as long as the context (and longer, while others use
    it). If the server or its keeper dies meanwhile it is started again at the same address: clients just reconnect.

    Raises `Rejected` (TEMPORAL_NOT_FOUND) where no server program is to be had, `Retryable` (TEMPORAL_UNAVAILABLE)
    where it does not start."""
    if settings.temporal_address:
        yield Address(target=settings.temporal_address, namespace=settings.temporal_namespace)
        return
    user = _User(settings, on_progress)
    with FileLock(user.files.users) as using:
        async with asyncio.timeout(START_LIMIT) as limit:
            # Held where the last user has just gone: its server is being stopped. A lock of the kernel sends no event.
            while not using.acquire(shared=True):  # noqa: ASYNC110
                await asyncio.sleep(POLL)
            limit.reschedule(None)
        try:
            record = await user.ensure()
            watch = asyncio.create_task(user.watch(record), name="temporal-keeper-watch")
            try:
                yield Address(target=record.address, namespace=settings.temporal_namespace, ui=record.ui, owned=True)
            finally:
                watch.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watch
        finally:
            user.forget()


def running(home: Path) -> Record | None:
    """This home's server as its keeper describes it, or None where none is running. Does not make the caller a user."""
    return Record.read_live(Files(home=home).record)


class _User:
    """One user of a home's server: gets it started, and started again where its keeper died."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.files = Files(home=settings.home)
        self._settings = settings
        self._progress = progress
        self._binary: Path | None = None
        self._keepers: list[subprocess.Popen[bytes]] = []

    async def ensure(self) -> Record:
        """The record of a server that serves; starts a keeper where there is none."""
        if not is_held(self.files.keeper):
            # Before the clock runs: this may take minutes, once.
            self._binary = self._binary or await binary.find(self._settings.temporal_binary, self._progress)
        clock = asyncio.get_running_loop()
        deadline = clock.time() + START_LIMIT
        while clock.time() < deadline:
            record = Record.read_live(self.files.record)
            if record and record.state == "ready" and await asyncio.to_thread(serving, record.address):
                return record
            if not is_held(self.files.keeper):
                self._failed(Record.read(self.files.record))
                await self._begin_keeper()
            await asyncio.sleep(POLL)
        raise TimedOut(
            f"the Temporal dev server was not ready within {START_LIMIT:g} s",
            code="TEMPORAL_UNAVAILABLE",
            hint=f"see {self.files.log}",
        )

    def _failed(self, record: Record | None) -> None:
        """Raise what one of our own keepers has reported as its end."""
        ended = [keeper for keeper in self._keepers if keeper.poll() is not None]
        self._keepers = [keeper for keeper in self._keepers if keeper not in ended]
        if record and record.state == "failed" and record.keeper in {keeper.pid for keeper in ended}:
            raise Retryable(
                f"the Temporal dev server did not start: {record.error}",
                code="TEMPORAL_UNAVAILABLE",
                hint=f"see {self.files.log}",
            )
        if any(keeper.returncode > 0 for keeper in ended):  # below zero it was killed: another may do better
            raise Retryable(
                f"the keeper of the Temporal dev server ended with code {ended[-1].returncode}",
                code="TEMPORAL_UNAVAILABLE",
                hint=f"see {self.files.log}",
            )

    async def _begin_keeper(self) -> None:
        if self._keepers:
            return  # one of ours is on its way to the lock
        self._binary = self._binary or await binary.find(self._settings.temporal_binary, self._progress)
        self._keepers.append(self._spawn(self._binary))

    def _spawn(self, program: Path) -> subprocess.Popen[bytes]:
        self.files.log.parent.mkdir(parents=True, exist_ok=True)
        with self.files.log.open("ab") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "dataflow.embedded.keeper", "--home", str(self.files.home)),
                    *("--binary", str(program), "--namespace", self._settings.temporal_namespace),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it outlives this process while there are other users
            )

    async def watch(self, known: Record) -> None:
        """For ever: start a keeper where the last one died. A failure is reported and tried again."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            self._keepers = [keeper for keeper in self._keepers if keeper.poll() is None]
            if is_held(self.files.keeper):
                continue
            self._progress("Temporal dev server: its keeper has died, starting it again")
            try:
                record = await self.ensure()
                if record.address != known.address:
                    logger.error("%s was taken by another program; Temporal is at %s", known.address, record.address)
            except (Retryable, Corrupt) as error:
                logger.warning("the Temporal dev server cannot be started again yet: %s", error)

    def forget(self) -> None:
        """Let the keepers live on without us: they end by themselves, and init reaps them."""
        for keeper in self._keepers:
            if keeper.poll() is None:
                keeper.returncode = 0  # keeps Popen from warning that it still runs

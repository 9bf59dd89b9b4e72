"""The platform as a command uses it: settings read, logging out of the terminal's way, the right parts up."""

from __future__ import annotations

import asyncio
import getpass
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from dataflow.allocator import started

if TYPE_CHECKING:
    from dataflow.cli.interrupt import Interrupt
    from dataflow.domain.record import EventRecord
    from dataflow.platform import Platform
    from dataflow.settings import Settings


def settings() -> Settings:
    """The settings of this process; `InvalidSpec` where one is wrong."""
    from dataflow.settings import Settings

    return Settings.load()


def is_up(chosen: Settings) -> bool:
    """Whether a Temporal is there already: one that is configured, or this home's own, started by another command."""
    from dataflow.embedded.temporal import running

    return chosen.temporal_address is not None or running(chosen.home) is not None


def actor() -> str:
    """Who gives the commands: kept on every event they cause."""
    with suppress(OSError, KeyError):
        return f"cli:{getpass.getuser()}"
    return "cli"


def log_to_file(chosen: Settings) -> None:
    """Log lines go to `logs/dataflow.log` under the home: the terminal belongs to progress and results."""
    chosen.logs.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        filename=chosen.logs / "dataflow.log",
        level=chosen.log_level.upper(),
        format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s",
        force=True,
    )


@contextmanager
def quitting(interrupt: Interrupt) -> Iterator[None]:
    """Who is told to go while it waits for something has not failed for want of that."""
    from dataflow.errors import Retryable

    try:
        yield
    except Retryable:
        if not interrupt.came():
            raise


@asynccontextmanager
async def session(
    chosen: Settings,
    on_progress: Callable[[str], None],
    *,
    worker: bool | None = None,
    control: bool = False,
    project: bool = False,
    processes: int = 0,
    interrupt: Interrupt | None = None,
    recorded: Callable[[EventRecord], None] | None = None,
) -> AsyncIterator[Platform]:
    """The platform, up. `worker` says whether this process works too. By default it moves no data, and answers for the
    pipelines of the embedded server, whose own worker may be gone, or may be this command's alone; with `control` it
    does so everywhere. With `project` the read models are kept up, here or elsewhere: for processes that stay, which
    wait for what is not there yet as long as the settings say, or until the `interrupt` comes. A worker has so many
    `processes` (0: as the settings say), this one included. `recorded` is told of the last event of each append of this
    process."""
    log_to_file(chosen)
    async with AsyncExitStack() as stack:
        # The server comes up in its own process while the modules that will talk to it are imported here: each takes
        # about as long as the other.
        from dataflow.embedded.temporal import temporal_server  # before the thread holds the lock of its module

        loading = asyncio.create_task(asyncio.to_thread(import_module, "dataflow.platform"))
        stack.push_async_callback(_settled, loading)
        if chosen.temporal_address is None:
            await stack.enter_async_context(temporal_server(chosen, on_progress=on_progress))
        await loading
        from dataflow.patience import Patience
        from dataflow.platform import AT_ONCE, Work, platform

        if worker is None or control:
            work = Work.NONE if chosen.temporal_address and not control else Work.CONTROL
        else:
            work = Work.ALL if worker else Work.NONE
        patience = AT_ONCE
        if project:
            for advice in chosen.advice:
                on_progress(f"warning: {advice}")
            patience = Patience(chosen.start_patience, on_progress)
            if interrupt is not None:
                patience = replace(patience, pause=interrupt.pause, over=interrupt.came)
        up = await stack.enter_async_context(
            platform(
                chosen,
                on_progress=on_progress,
                work=work,
                project=project,
                actor=actor(),
                patience=patience,
                recorded=recorded,
            )
        )
        if work is Work.ALL and (more := (processes or chosen.worker_processes) - 1):
            from dataflow.processes import more_processes

            await stack.enter_async_context(more_processes(more, chosen))
        started(stays=project)
        yield up


async def _settled(loading: asyncio.Task[object]) -> None:
    """A thread cannot be cut off in the middle of an import: wait for it, whatever became of it."""
    await asyncio.wait({loading})

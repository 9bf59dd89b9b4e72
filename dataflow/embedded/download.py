"""The official program, by the Temporal SDK's own downloader.

The SDK offers no download alone, only "start a dev server, fetching it first": so a child process lets it start one on
a free port, in memory, and stop it. As a process it can be given up where its host does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from dataflow.embedded.run import ProgramFailed, watched

SILENCE = 20.0  # seconds without a new byte
LIMIT = 900.0

_SCRIPT = """
import asyncio, sys
from temporalio.testing import WorkflowEnvironment

async def main():
    server = await WorkflowEnvironment.start_local(
        dev_server_download_version=sys.argv[1], download_dest_dir=sys.argv[2])
    await server.shutdown()

try:
    asyncio.run(main())
except RuntimeError as error:
    sys.exit(str(error))
"""


async def fetch(version: str, folder: Path, progress: Callable[[str], None]) -> Path:
    """Download into `folder`; returns the program. Raises `ProgramFailed`, after `SILENCE` seconds without progress."""
    progress(f"Temporal dev server {version}: asking the SDK to download it")
    download = asyncio.ensure_future(
        watched([sys.executable, "-c", _SCRIPT, f"v{version}", str(folder)], progress_of_nothing, limit=LIMIT)
    )
    try:
        await _until_silent(download, folder, progress)
    finally:
        if not download.done():
            download.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await download
    for file in folder.rglob("*"):
        if file.is_file() and os.access(file, os.X_OK):
            return file
    raise ProgramFailed("the download left no program")


def progress_of_nothing(line: str) -> None:
    """The SDK prints nothing worth showing; what it says when it fails is in the error."""


async def _until_silent(download: asyncio.Future[None], folder: Path, progress: Callable[[str], None]) -> None:
    clock = asyncio.get_running_loop()
    size, moved, told = 0, clock.time(), clock.time()
    while not download.done():
        await asyncio.wait([download], timeout=0.5)
        now, had = clock.time(), size
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if size != had:
            moved = now
        elif now - moved > SILENCE:
            raise ProgramFailed(f"no answer within {SILENCE:g} s")
        if size and now - told > 5:
            told = now
            progress(f"Temporal dev server: {size / 1e6:.0f} MB downloaded")
    await download

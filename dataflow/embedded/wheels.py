"""Programs that come inside Python packages, unpacked into a folder of their own (never into an environment)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dataflow.embedded.run import ProgramFailed, watched

LIMIT = 1800.0

Progress = Callable[[str], None]


async def unpack(requirement: str, folder: Path, progress: Progress) -> None:
    """Install a pinned package, without what it depends on, into `folder`: by uv or by the first pip that works.

    Raises `ProgramFailed` that tells each way and why it failed."""
    await _install(requirement, [requirement], folder, progress)


async def unpack_pinned(requirements: Path, folder: Path, progress: Progress) -> None:
    """The same for a requirements file whose lines carry hashes; a file that differs is refused."""
    await _install(requirements.stem, ["--require-hashes", "-r", str(requirements)], folder, progress)


async def _install(name: str, what: Sequence[str], folder: Path, progress: Progress) -> None:
    words = ["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(folder), *what]
    ways = [["uv", "pip", *words], *([python, "-m", "pip", *words] for python in (sys.executable, "python3"))]
    failures = []
    for way in ways:
        try:
            await watched(way, lambda line: None, limit=LIMIT)
        except ProgramFailed as error:
            failures.append(str(error))
        else:
            progress(f"{name} unpacked")
            return
    raise ProgramFailed(f"{name} cannot be installed: " + "; ".join(failures))

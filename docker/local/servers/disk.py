"""A slow disk under a running server: every call that waits for the medium takes longer.

strace attaches to the server and delays the return of those calls (its option `inject`); detached, all is as before.
Linux, and the right to trace the server's processes (root, or the same user where the kernel allows it).
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from servers.server import Missing

CALLS = "fsync,fdatasync,msync,sync_file_range"
_ATTACHED = 10.0  # seconds within which strace has to hold every process
_POLL = 0.02


@dataclass(frozen=True, slots=True)
class Slowed:
    """The calls that were delayed are lines of `log`."""

    log: Path

    def calls(self) -> int:
        """How many calls came back late so far."""
        return self.log.read_text(errors="replace").count("(DELAYED)")


@contextlib.contextmanager
def slow_disk(pid: int, delay: float, log: Path) -> Iterator[Slowed]:
    """Inside, each flush to the medium by the process `pid`, its threads and its children, also those to come, takes
    `delay` seconds longer. Raises `Missing` where there is no strace, or it may not trace that process."""
    program = shutil.which("strace")
    if program is None:
        raise Missing("a slow disk needs strace (Debian and Ubuntu: apt-get install strace)")
    family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    log.unlink(missing_ok=True)
    inject = f"inject={CALLS}:delay_exit={round(delay * 1e6)}"
    command = [program, "-qq", "-f", "-o", str(log), "-e", f"trace={CALLS}", "-e", inject]
    tracer = subprocess.Popen(
        [*command, *(word for one in family for word in ("-p", str(one)))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + _ATTACHED
        while not all(_is_traced(one, tracer.pid) for one in family):
            if tracer.poll() is not None or time.monotonic() > deadline:
                tracer.kill()
                told = tracer.communicate()[1].strip()
                raise Missing(f"strace does not get hold of process {pid}: {told or 'it may not trace it'}")
            time.sleep(_POLL)
        yield Slowed(log)
    finally:
        tracer.terminate()  # detaches: strace lets its processes go on
        tracer.communicate()


def _is_traced(pid: int, tracer: int) -> bool:
    try:
        return f"TracerPid:\t{tracer}\n" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True  # it has ended meanwhile

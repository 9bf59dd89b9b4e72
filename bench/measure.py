"""Running a program and weighing it; saying on what machine; keeping what was found."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from dataflow.embedded.temporal import running

RESULTS = Path(__file__).parent / "results"
SAMPLE = 0.1  # seconds between two looks at the memory of a process tree


@dataclass(frozen=True, slots=True)
class Weighed:
    """One run of a program. Memory is the peak resident set in MiB: `main` of the program's own process, `tree` of it
    and all its descendants at one moment (shared pages count once for each). `foreign` is the share of the machine's
    processors that others used meanwhile."""

    stdout: str
    wall: float
    main_mib: float
    tree_mib: float
    cpu: float
    foreign: float


def weigh(command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> Weighed:
    """Run the program to its end. Raises RuntimeError with its output where it fails."""
    machine = psutil.cpu_times()
    begun = time.perf_counter()
    process = psutil.Popen(
        list(command), cwd=cwd, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    tree, done = [0], threading.Event()
    seen: dict[int, float] = {}

    def watch() -> None:
        while not done.wait(SAMPLE):
            total = 0
            try:
                family = [process, *process.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for member in family:
                try:
                    total += member.memory_info().rss
                    times = member.cpu_times()
                    seen[member.pid] = times.user + times.system
                except psutil.NoSuchProcess:
                    continue
            tree[0] = max(tree[0], total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    texts: dict[str, bytes] = {}
    readers = [
        threading.Thread(target=lambda name=name, pipe=pipe: texts.__setitem__(name, pipe.read()))
        for name, pipe in (("out", process.stdout), ("err", process.stderr))
    ]
    for reader in readers:
        reader.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)  # the kernel's own peak, which no sampling misses
    except BaseException:
        _end(process)
        raise
    finally:
        wall = time.perf_counter() - begun
        done.set()
        for thread in [watcher, *readers]:
            thread.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{texts['err'].decode()[-4000:]}")
    seen[process.pid] = usage.ru_utime + usage.ru_stime
    cpu = sum(seen.values())
    return Weighed(
        stdout=texts["out"].decode(),
        wall=wall,
        main_mib=usage.ru_maxrss / 1024,
        tree_mib=tree[0] / 2**20,
        cpu=cpu,
        foreign=max(0.0, (_busy(psutil.cpu_times()) - _busy(machine) - cpu) / wall / (psutil.cpu_count() or 1)),
    )


def _end(process: psutil.Popen) -> None:
    """Let it end in its own way, and then in ours."""
    family = [process, *process.children(recursive=True)]
    process.terminate()
    _, left = psutil.wait_procs(family, timeout=15)
    for member in left:
        member.kill()


def _busy(times: Any) -> float:
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def gone(home: Path, patience: float = 30.0) -> None:
    """Wait until the embedded server of that home has ended, which lingers a moment behind its last user."""
    end = time.monotonic() + patience
    while running(home) and time.monotonic() < end:
        time.sleep(0.1)


def settled(share: float = 0.15) -> None:
    """Wait until others use less than `share` of the machine, for BENCH_PATIENCE seconds (20) at most."""
    end = time.monotonic() + float(os.environ.get("BENCH_PATIENCE", "20"))
    while time.monotonic() < end and psutil.cpu_percent(1.0) / 100 > share:
        continue


def machine() -> dict[str, Any]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("dataflow", "polars", "pyarrow", "temporalio")},
    }


def keep(name: str, found: Mapping[str, Any]) -> Path:
    """Store as JSON under bench/results, with the machine and the commit; returns the file."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=RESULTS.parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    RESULTS.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    path = RESULTS / f"{name}-{now:%Y%m%dT%H%M%S}.json"
    content = {"name": name, "time": now.isoformat(timespec="seconds"), "commit": commit, "machine": machine(), **found}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = [
        [
            f"{cell:.3g}"
            if isinstance(cell, float) and abs(cell) < 10
            else f"{cell:,.0f}"
            if isinstance(cell, int | float)
            else str(cell)
            for cell in row
        ]
        for row in rows
    ]
    widths = [max(len(line[n]) for line in [list(head), *cells]) for n in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if n == 0 else cell.rjust(w) for n, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in [list(head), *cells]
    )

"""Peers: programs of others in Java, built by Maven on first use and cached; processes that end when told to."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from dataflow.embedded import binary

PEERS = Path(__file__).parent / "peers"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
SAMPLE = 0.1  # seconds between two looks at a process tree


def built(name: str) -> Path:
    """The folder with the jar of `peers/NAME` and all it needs. Raises RuntimeError with what Maven says."""
    source = PEERS / name
    files = sorted(path for path in source.rglob("*") if path.is_file())
    pin = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:12]
    target = binary.cache() / f"bench-{name}-{pin}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".bench-{name}-") as scratch:
        work = Path(scratch) / "work"
        shutil.copytree(source, work)
        command = ["mvn", "-q", "-B", "-ntp", "package", COPY, "-DincludeScope=runtime", "-DoutputDirectory=target/lib"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"Maven cannot build {name}: {(done.stdout + done.stderr)[-2000:]}")
        [jar] = (work / "target").glob("*.jar")
        jar.rename(work / "target" / "lib" / jar.name)
        (work / "target" / "lib").rename(target)
    return target


def java(folder: Path, program: str, *arguments: object, options: Sequence[str] = ()) -> list[str]:
    """The command that runs `bench.PROGRAM` of a built peer."""
    common = ["java", "-XX:+UseParallelGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
    return [*common, *options, "-cp", f"{folder}/*", f"bench.{program}", *map(str, arguments)]


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds and the peak resident memory (MiB) of a process and its descendants (shared pages count for each)."""

    cpu: float
    mib: float


class Running:
    """A program in a process group of its own, weighed while it runs; `end` stops it."""

    def __init__(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.begun = time.time()
        with log.open("wb") as out:
            self.process = psutil.Popen(
                list(command), cwd=cwd, env={**os.environ, **env}, stdout=out, stderr=out, start_new_session=True
            )
        self._done = threading.Event()
        self._cpu: dict[int, float] = {}
        self._peak = 0
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def _watch(self) -> None:
        while True:
            total = 0
            try:
                family = [self.process, *self.process.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for member in family:
                try:
                    total += member.memory_info().rss
                    times = member.cpu_times()
                    self._cpu[member.pid] = times.user + times.system
                except psutil.NoSuchProcess:
                    continue
            self._peak = max(self._peak, total)
            if self._done.wait(SAMPLE):
                return

    def end(self, patience: float = 15.0) -> Spent:
        """SIGTERM, and SIGKILL where that is not enough; waits for a program that is ending by itself."""
        self._done.set()
        self._watcher.join()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is not None:
                break
            os.killpg(self.process.pid, number)
            try:
                self.process.wait(patience)
            except psutil.TimeoutExpired:
                continue
        return Spent(sum(self._cpu.values()), self._peak / 2**20)

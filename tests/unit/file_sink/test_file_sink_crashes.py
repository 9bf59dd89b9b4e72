"""Crashes where they hurt: before every single file operation, by SIGKILL and SIGSTOP, and on a full disk."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl
import pytest
from file_sink_runs import SCHEMA, frame, lane_of, next_epoch, sink_at, visible

from dataflow.errors import Retryable

LANE = lane_of()


class Crash(BaseException):
    """The process is gone: from here on no file operation takes effect."""


class Saboteur:
    """Raises at the n-th file operation under a folder, and at every later one, through Python's audit events."""

    WATCHED = frozenset({"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"})

    def __init__(self) -> None:
        self.left: int | None = None
        self.under = ""
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.left is None or event not in self.WATCHED:
            return
        if isinstance(arguments[0], str) and self.under not in arguments[0]:
            return
        self.left -= 1
        if self.left < 0:
            raise Crash

    @contextmanager
    def crash_at(self, operation: int, under: Path) -> Iterator[None]:
        self.under, self.left = str(under), operation
        try:
            yield
        finally:
            self.left = None


@pytest.fixture(scope="module")
def saboteur() -> Saboteur:
    return Saboteur()


def found(base: Path, path: str) -> tuple[list[int], list[int]]:
    """Rows and dead letters that a reader sees."""
    rows = [json.loads(line)["n"] for name in visible(base) if ".dead" not in name for line in lines_of(base / name)]
    dead = [
        json.loads(json.loads(line)["record"])["n"]
        for name in visible(base)
        if ".dead" in name
        for line in lines_of(base / name)
    ]
    return rows, dead


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


async def to_the_end(base: Path, path: str, generation: int) -> None:
    """What an attempt does, whatever earlier ones left: epochs of 2 rows and 1 dead letter up to 6 rows, complete."""
    lane = lane_of(generation=generation)
    sink = sink_at(base, path, format="jsonl", generation=generation)
    await sink.prepare(SCHEMA, [lane])
    async with sink.open(lane, SCHEMA) as writer:
        last = await writer.last_receipt()
        while last is None or int(last.positions["s"]) < 6:
            last = await next_epoch(writer, lane, 2, dead=1)
            if path == "out":  # invariant 1, as far as a reader can see it
                assert found(base, path)[0] == list(range(2 * last.epoch))
    await sink.complete([lane])


@pytest.mark.parametrize("path", ["out", "out.jsonl"])
def test_a_crash_before_any_file_operation_changes_nothing(quick: Path, saboteur: Saboteur, path: str) -> None:
    """The second generation of a pipeline, cut off at operation 1, 2, 3 ... and then run again."""
    for operation in range(1000):
        base = quick / str(operation)
        base.mkdir()
        asyncio.run(to_the_end(base, path, 1))
        crashed = False
        with saboteur.crash_at(operation, base):
            try:
                asyncio.run(to_the_end(base, path, 2))
            except Crash:
                crashed = True
        rows, dead = found(base, path)
        assert dead in ([], [0], [0, 2], [0, 2, 4])
        assert rows == list(range(len(rows))) and len(rows) % 2 == 0
        asyncio.run(to_the_end(base, path, 2))
        assert found(base, path) == ([0, 1, 2, 3, 4, 5], [0, 2, 4]), f"after a crash at operation {operation}"
        if not crashed:
            break
    assert operation > 30


CHILDREN = {
    "commit": """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from file_sink_runs import SCHEMA, lane_of, next_epoch, sink_at
async def main():
    lane, sink = lane_of(), sink_at(Path(sys.argv[2]), sys.argv[3])
    await sink.prepare(SCHEMA, [lane])
    async with sink.open(lane, SCHEMA) as writer:
        while True:
            await next_epoch(writer, lane, 50, dead=1)
            print((await writer.last_receipt()).epoch, flush=True)
asyncio.run(main())
""",
    "write": """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from file_sink_runs import SCHEMA, frame, lane_of, next_epoch, sink_at
async def main():
    lane, sink = lane_of(), sink_at(Path(sys.argv[2]), sys.argv[3], format="jsonl")
    await sink.prepare(SCHEMA, [lane])
    async with sink.open(lane, SCHEMA) as writer:
        await next_epoch(writer, lane, 10)
        await writer.write(frame(range(100_000)))
        print("written", flush=True)
        await asyncio.sleep(3600)
asyncio.run(main())
""",
}


@contextmanager
def child(base: Path, path: str, what: str = "commit") -> Iterator[subprocess.Popen[str]]:
    """A process that commits epochs of 50 rows and one dead letter until it is ended, or writes and then waits."""
    command = [sys.executable, "-c", CHILDREN[what], str(Path(__file__).parent), str(base), path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def finished(base: Path, path: str) -> int:
    """Complete, check that rows and dead letters are whole; returns the number of epochs."""
    sink = sink_at(base, path)
    async with sink.open(LANE, SCHEMA) as writer:
        last = await writer.last_receipt()
    assert last is not None
    await sink.complete([LANE])
    assert pl.read_csv(base / path)["n"].to_list() == list(range(50 * last.epoch))
    assert found_dead(base) == list(range(0, 50 * last.epoch, 50))
    assert [name for name in visible(base) if ".dead" not in name] == [path]
    return last.epoch


def found_dead(base: Path) -> list[int]:
    return [
        json.loads(json.loads(line)["record"])["n"]
        for name in visible(base)
        if ".dead" in name
        for line in lines_of(base / name)
    ]


@pytest.mark.parametrize("path", ["out.csv", "out.csv.gz"])
async def test_sigkill_at_any_moment(tmp_path: Path, path: str) -> None:
    chance = random.Random(7)
    for _ in range(3):
        with child(tmp_path, path) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 9)):
                assert process.stdout.readline(), process.communicate()
            for _ in range(chance.randrange(3000)):  # some way into the next epoch, however fast the machine is
                os.getppid()
            process.kill()
    assert await finished(tmp_path, path) >= 3


@pytest.mark.parametrize("path", ["out", "out.jsonl"])
async def test_what_a_killed_process_had_staged_is_freed_at_once(tmp_path: Path, path: str) -> None:
    """Else a disk that holds one epoch and a half could never be written to again."""
    with child(tmp_path, path, "write") as process:
        assert process.stdout is not None and process.stdout.readline(), process.communicate()
        process.kill()
    sink = sink_at(tmp_path, path, format="jsonl")
    hidden = tmp_path / f".{path}.dataflow"
    assert any(file.stat().st_size > 10_000 for file in hidden.rglob("*") if file.is_file())
    async with sink.open(LANE, SCHEMA) as writer:
        assert not any(file.stat().st_size > 10_000 for file in hidden.rglob("*") if file.is_file())
        await next_epoch(writer, LANE, 10)
    await sink.complete([LANE])
    assert found(tmp_path, path)[0] == list(range(20))


@pytest.mark.parametrize("path", ["out", "out.jsonl"])
async def test_completion_shows_nothing_that_a_killed_process_had_not_committed(tmp_path: Path, path: str) -> None:
    with child(tmp_path, path, "write") as process:
        assert process.stdout is not None and process.stdout.readline(), process.communicate()
        process.kill()
    await sink_at(tmp_path, path, format="jsonl").complete([LANE])
    assert found(tmp_path, path)[0] == list(range(10))


async def test_a_process_that_was_stopped_wakes_up_fenced(tmp_path: Path) -> None:
    with child(tmp_path, "out.csv") as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() and process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        sink = sink_at(tmp_path, "out.csv")
        async with sink.open(LANE, SCHEMA) as writer:
            for _ in range(3):
                await next_epoch(writer, LANE, 50, dead=1)
        epochs = await finished(tmp_path, "out.csv")
        process.send_signal(signal.SIGCONT)
        process.stdout.read()
        assert "Fenced" in process.stderr.read()
        assert process.wait() == 1
    assert epochs >= 5
    assert pl.read_csv(tmp_path / "out.csv").height == 50 * epochs


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("path", ["out", "out.jsonl"])
async def test_a_full_disk_fails_cleanly_and_goes_on_when_there_is_room(small_disk: Path, path: str) -> None:
    sink = sink_at(small_disk, path, format="jsonl")
    await sink.prepare(SCHEMA, [LANE])
    async with sink.open(LANE, SCHEMA) as writer:
        await next_epoch(writer, LANE, 100)
    for _ in range(2):
        with pytest.raises(Retryable) as caught:
            async with sink.open(LANE, SCHEMA) as writer:
                await writer.write(frame(range(100)))
                await next_epoch(writer, LANE, 200_000)
        assert caught.value.code == "RESOURCE_EXHAUSTED"
        assert found(small_disk, path)[0] == (list(range(100)) if path == "out" else [])
    async with sink.open(LANE, SCHEMA) as writer:  # what the failed attempts had staged is free again
        await next_epoch(writer, LANE, 10_000)
    await sink.complete([LANE])
    assert found(small_disk, path)[0] == list(range(10_100))


@pytest.mark.parametrize("path", ["out", "out.jsonl"])
async def test_a_disk_filled_by_others_between_epochs(small_disk: Path, path: str) -> None:
    sink = sink_at(small_disk, path, format="jsonl")
    await sink.prepare(SCHEMA, [LANE])
    ballast = small_disk / ".ballast"
    async with sink.open(LANE, SCHEMA) as writer:
        await next_epoch(writer, LANE, 100)
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        with pytest.raises(Retryable):
            await next_epoch(writer, LANE, 2000)
    ballast.unlink()
    async with sink.open(LANE, SCHEMA) as writer:
        await next_epoch(writer, LANE, 100)
    await sink.complete([LANE])
    assert found(small_disk, path)[0] == list(range(200))

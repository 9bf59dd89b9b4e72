"""A worker of several processes: who moves data, and that none of them is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from temporalio.client import Client

from dataflow.embedded.temporal import Address
from workflows.names import workflow_id

pytestmark = pytest.mark.temporal

PATIENCE = 60.0


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Worker:
    def __init__(self, folder: Path, address: Address, processes: int) -> None:
        self.folder = folder
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith("DATAFLOW_")} | {
            "DATAFLOW_HOME": str(folder / "home"),
            "DATAFLOW_TEMPORAL_ADDRESS": address.target,
            "DATAFLOW_TASK_QUEUE": f"processes-{uuid4()}",
            "DATAFLOW_SEGMENT_MIN": "0.3s",
            "DATAFLOW_SEGMENT_MAX": "0.3s",
        }
        command = self.command("worker", "--json", "--processes", str(processes))
        self.process = subprocess.Popen(command, cwd=folder, env=self.environ, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert '"up"' in self.process.stdout.readline()

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "dataflow.cli", *arguments]

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def children(self) -> set[int]:
        try:
            return {child.pid for child in psutil.Process(self.process.pid).children() if child.status() != "zombie"}
        except psutil.NoSuchProcess:
            return set()


@pytest.fixture
def worker(temporal: Address, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path, temporal, processes=3)
    try:
        yield worker
    finally:
        worker.process.kill()
        worker.process.wait()


def gone(pids: set[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


async def test_lanes_run_in_several_processes(worker: Worker, temporal: Address) -> None:
    """Also in one that took the place of another, which was killed."""
    [victim, _] = sorted(worker.children())
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(worker.children()) == 2 and victim not in worker.children(), "no other takes its place")
    name = f"lanes-{uuid4()}"
    (worker.folder / "pipeline.yaml").write_text(
        f"""
        name: {name}
        source: {{type: generator, kind: order, seed: 1, rate: 1000}}
        sink: {{type: file, path: out, format: jsonl}}
        parallelism: 4
        """
    )
    worker.run("submit", "pipeline.yaml", "--json")
    worker.run("start", name, "--json")
    client = await Client.connect(temporal.target, namespace=temporal.namespace)
    handle = client.get_workflow_handle(workflow_id(name))
    movers: set[int] = set()
    deadline = time.monotonic() + PATIENCE
    while len(movers) < 3 and time.monotonic() < deadline:
        async for event in handle.fetch_history_events():
            if identity := event.activity_task_started_event_attributes.identity:
                movers.add(int(identity.partition("@")[0]))
        movers &= worker.children() | {worker.process.pid}
    assert movers == worker.children() | {worker.process.pid}
    worker.run("stop", name, "--json")
    worker.run("delete", name, "--json")


def test_they_drain_and_leave_with_their_parent(worker: Worker) -> None:
    children = worker.children()
    assert len(children) == 2
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(PATIENCE) == 0
    assert gone(children)


def test_they_end_when_it_is_killed(worker: Worker) -> None:
    children = worker.children()
    assert len(children) == 2
    worker.process.kill()
    until(lambda: gone(children), "a child was left behind")

"""Servers and workers of one campaign, and how to hurt them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "docker" / "local"))

from servers.fleet import Fleet  # noqa: E402

from dataflow.domain.state import PipelineState  # noqa: E402
from dataflow.errors import NotFound  # noqa: E402
from dataflow.journal import open_journal  # noqa: E402
from dataflow.journal.history import state_at  # noqa: E402

HEARTBEAT = 2.0


class Arena:
    """Kafka and Temporal under `folder`, gone when the context is left; workers in sessions of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.workers: list[subprocess.Popen[bytes]] = []
        self.started = 0
        self.restarted = 0
        self._fleet = Fleet(folder / "servers", until_unused=True)

    def __enter__(self) -> Self:
        self._fleet.__enter__()
        self.up("kafka", "temporal")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        self._fleet.__exit__(kind, error, trace)
        self._fleet.wait_until_unused()

    # Servers

    def up(self, *names: str) -> None:
        """Start them, on the ports they had; returns when they answer."""
        asyncio.run(self._fleet.up(names, lambda text: None, free=True))

    def kill_server(self, name: str) -> None:
        self._fleet.kill(name)

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self._fleet.site(name).port}"

    def told(self) -> str:
        """What the servers are doing: where to look first when something fails."""
        states = self._fleet.status(("kafka", "temporal"))
        return ", ".join(f"{one.name} on port {one.port} is {one.state} {one.reason}".strip() for one in states)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("DATAFLOW_")},
            "DATAFLOW_HOME": str(self.home),
            "DATAFLOW_TEMPORAL_ADDRESS": self.address("temporal"),
            "DATAFLOW_HEARTBEAT_TIMEOUT": str(HEARTBEAT),
            "DATAFLOW_SEGMENT_MIN": "2",
            "DATAFLOW_SEGMENT_MAX": "10",
        }

    # Workers

    def start_worker(self) -> subprocess.Popen[bytes]:
        self.started += 1
        with (self.folder / f"worker-{self.started}.log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "dataflow", "worker"],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.workers.append(worker)
        return worker

    def alive(self) -> list[subprocess.Popen[bytes]]:
        """Workers that run. One that ended by itself (it began while Temporal was away) is started again, as whatever
        watches over workers does; one that keeps ending is an error."""
        for worker in [worker for worker in self.workers if worker.poll() is not None]:
            self.workers.remove(worker)
            self.restarted += 1
            if self.restarted > 50:
                raise Stuck(f"workers keep ending, with code {worker.returncode}: see worker-*.log")
            self.start_worker()
        return list(self.workers)

    def signal(self, worker: subprocess.Popen[bytes], number: signal.Signals) -> None:
        os.killpg(worker.pid, number)

    def kill_worker(self, worker: subprocess.Popen[bytes]) -> None:
        self.signal(worker, signal.SIGKILL)
        worker.wait()
        self.workers.remove(worker)

    def dismiss_workers(self) -> None:
        """SIGTERM, as an operator stops them: they drain."""
        for worker in self.workers:
            self.signal(worker, signal.SIGTERM)
        for worker in self.workers:
            worker.wait(60)
        self.workers.clear()

    # The pipeline

    def cli(self, *words: str, limit: float = 180.0) -> subprocess.CompletedProcess[str]:
        """`dataflow WORDS`; what it says is in `cli.log`, too."""
        done = subprocess.run(
            [sys.executable, "-m", "dataflow", *words],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=limit,
        )
        with (self.folder / "cli.log").open("a") as log:
            log.write(f"$ dataflow {' '.join(words)}  [{done.returncode}]\n{done.stdout}{done.stderr}\n")
        return done

    def define(self, definition: dict[str, Any]) -> Path:
        path = self.folder / "pipeline.json"
        path.write_text(json.dumps(definition, indent=1))
        return path

    def state(self, pipeline: str) -> PipelineState | None:
        """As the journal knows it; None before its first event."""

        async def read() -> PipelineState | None:
            async with open_journal(f"sqlite:///{self.home / 'journal.db'}") as journal:
                with suppress(NotFound):
                    return await state_at(journal, pipeline)
            return None

        return asyncio.run(read())


class Stuck(Exception):
    """The pipeline does not go on, or ended otherwise than it should; says how."""

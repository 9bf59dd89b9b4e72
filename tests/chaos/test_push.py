"""Pushed over HTTP into `dataflow up`, which is killed now and then: every record lands once, whatever was repeated."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import httpx
import psutil
import pytest

pytestmark = [pytest.mark.temporal, pytest.mark.chaos]

SEED = int(os.environ.get("DATAFLOW_CHAOS_SEED", "20261125"))
BATCHES, RECORDS = 40, 40
WITHIN = 150.0  # seconds for all of it


@dataclass
class Service:
    """`dataflow up` for a home of its own, killed and started again at will."""

    folder: Path
    process: subprocess.Popen[str] | None = None
    address: str = ""
    logs: int = 0
    up: threading.Event = field(default_factory=threading.Event)

    @property
    def environment(self) -> dict[str, str]:
        own = {"DATAFLOW_HOME": str(self.folder / "home"), "DATAFLOW_HEARTBEAT_TIMEOUT": "2"}
        return {**os.environ, **own, "DATAFLOW_SEGMENT_MIN": "2"}

    def start(self) -> None:
        self.logs += 1
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dataflow", "up", "--port", "0", "--json"],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=(self.folder / f"up-{self.logs}.log").open("w"),
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.folder / f"up-{self.logs}.log").read_text()
        self.address = json.loads(line)["api"]
        self.up.set()

    def kill(self) -> None:
        assert self.process is not None
        self.up.clear()
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def dataflow(self, *words: str, stdin: str | None = None) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "dataflow", *words, "--json"],
            env=self.environment,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout))

    def clean(self) -> None:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(self.folder / "home") in " ".join(process.cmdline()):
                    process.kill()
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    try:
        yield made
    finally:
        made.clean()


def batch(number: int) -> dict[str, Any]:
    first = number * RECORDS
    rows = [{"id": n, "amount": n / 4, "tags": [f"t{n % 7}"]} for n in range(first, first + RECORDS)]
    return {"batch_id": f"batch-{number}", "records": rows, "source_offset": first}


def push(service: Service, number: int, deadline: float) -> dict[str, Any]:
    """Again and again until there is an answer, as a caller does that wants to be sure."""
    while time.monotonic() < deadline:
        service.up.wait(deadline - time.monotonic())
        try:
            url = f"{service.address}/api/v1/pipelines/pushed/records"
            answer = httpx.post(url, json=batch(number), timeout=20)
        except httpx.HTTPError:
            continue
        if answer.status_code == 200:
            return dict(answer.json())
        assert answer.status_code == 503, answer.text
    raise AssertionError(f"batch {number} got no answer in time")


def lines(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl"))


def test_every_record_lands_once_however_often_all_is_killed(service: Service) -> None:
    chance = random.Random(SEED)
    deadline = time.monotonic() + WITHIN
    (service.folder / "p.json").write_text(
        json.dumps(
            {
                "name": "pushed",
                "source": {"type": "push"},
                "sink": {"type": "file", "path": "out", "format": "jsonl"},
                "checkpoint": {"interval": "100ms"},
            }
        )
    )
    service.start()
    service.dataflow("submit", "p.json", "--start")
    answers: dict[int, list[dict[str, Any]]] = {number: [] for number in range(BATCHES)}
    order = [number for number in range(BATCHES) for _ in range(chance.choice((1, 1, 2, 3)))]
    chance.shuffle(order)
    left = iter(order)
    guard = threading.Lock()
    failures: list[BaseException] = []

    def caller() -> None:
        try:
            while True:
                with guard:
                    number = next(left, None)
                if number is None:
                    return
                answer = push(service, number, deadline)
                with guard:
                    answers[number].append(answer)
        except BaseException as error:
            failures.append(error)

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for thread in callers:
        thread.start()
    total = len(order)
    for part in (1, 2, 3):  # kill it when a quarter, a half, three quarters of the requests have their answer
        while sum(map(len, answers.values())) < total * part / 4 and any(t.is_alive() for t in callers):
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.3))
        service.kill()
        service.start()
    for thread in callers:
        thread.join()
    assert not failures, failures
    for number, same in answers.items():
        assert same and same == [same[0]] * len(same), "a repeat has the same answer"
        assert (same[0]["success_count"], same[0]["failure_count"]) == (RECORDS, 0), number
    places = sorted(same[0]["first_offset"] for same in answers.values())
    assert places == list(range(0, BATCHES * RECORDS, RECORDS))
    out = service.folder / "out"
    while lines(out) < BATCHES * RECORDS:
        assert time.monotonic() < deadline, f"{lines(out)} lines: {service.dataflow('status', 'pushed')}"
        time.sleep(0.05)
    piped = "".join(json.dumps(row) + "\n" for row in batch(0)["records"])
    repeated = service.dataflow("ingest", "pushed", "-", "--batch-id", "batch-0", stdin=piped)
    assert (repeated["success_count"], repeated["failure_count"]) == (RECORDS, 0)
    state = service.dataflow("stop", "pushed")
    assert state["status"] == "stopped"
    late = httpx.post(f"{service.address}/api/v1/pipelines/pushed/records", json=batch(BATCHES), timeout=20)
    assert (late.status_code, late.json()["code"]) == (409, "ILLEGAL_COMMAND")
    repeat = httpx.post(f"{service.address}/api/v1/pipelines/pushed/records", json=batch(1), timeout=20)
    assert (repeat.status_code, repeat.json()) == (200, answers[1][0])
    assert repeat.headers["Idempotent-Replayed"] == "true"
    service.kill()
    db = duckdb.connect()
    found = db.execute(
        f"select count(*), count(distinct id), min(id), max(id), sum(amount) from read_json('{out}/*.jsonl')"
    ).fetchone()
    count = BATCHES * RECORDS
    assert found == (count, count, 0, count - 1, sum(range(count)) / 4)

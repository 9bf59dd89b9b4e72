"""A worker that is started before Temporal: it waits and says so; and what `doctor` finds beside the journal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from dataflow.cli.app import app
from dataflow.embedded.process import free_ports
from dataflow.embedded.temporal import Address


@asynccontextmanager
async def started(folder: Path, port: int, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("DATAFLOW_")} | {
        "DATAFLOW_HOME": str(folder / "home"),
        "DATAFLOW_TEMPORAL_ADDRESS": f"127.0.0.1:{port}",
        "DATAFLOW_TASK_QUEUE": f"cli-{uuid4()}",
        **settings,
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dataflow.cli", "worker", "--json"), env=environ, stdout=pipe, stderr=pipe
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process, words: str) -> str:
    assert process.stderr is not None
    async with asyncio.timeout(90):
        while line := (await process.stderr.readline()).decode():
            if words in line:
                return line
    raise AssertionError(f"it ended with {await process.wait()} and never said {words!r}")


@pytest.mark.temporal
async def test_a_worker_waits_for_temporal(temporal: Address, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    host, _, behind = temporal.target.rpartition(":")

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(behind))

        async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                to.write(data)
                await to.drain()
            to.close()

        await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)

    async with started(tmp_path, port) as process:
        assert f"127.0.0.1:{port}" in await said(process, "waiting for Temporal, ")
        server = await asyncio.start_server(forward, "127.0.0.1", port)
        assert process.stdout is not None
        async with asyncio.timeout(90):
            assert json.loads(await process.stdout.readline())["status"] == "up"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        server.close()


async def test_a_worker_that_waits_leaves_when_it_is_told_to(tmp_path: Path) -> None:
    async with started(tmp_path, free_ports(1)[0]) as process:
        await said(process, "waiting for Temporal, ")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0


async def test_patience_may_be_none(tmp_path: Path) -> None:
    async with started(tmp_path, free_ports(1)[0], DATAFLOW_START_PATIENCE="0") as process:
        async with asyncio.timeout(90):
            assert await process.wait() == 1
        assert process.stdout is not None
        assert json.loads(await process.stdout.read())["error"]["code"] == "CONNECTION_FAILED"


def findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: str) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    for name, value in {"home": str(tmp_path / "home"), **settings}.items():
        monkeypatch.setenv(f"DATAFLOW_{name.upper()}", value)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    return {one["name"]: one for one in json.loads(result.stdout)["findings"]}


def test_doctor_looks_at_what_the_read_side_writes_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = f"127.0.0.1:{free_ports(1)[0]}"
    found = findings(
        tmp_path,
        monkeypatch,
        search_url=f"http://ann:secret@{away}",
        redis_url=f"redis://:secret@{away}/0",
        publish_brokers=away,
    )
    for name in ("search indices", "redis", "published events"):
        assert found[name]["verdict"] == "warning" and away in found[name]["detail"], found[name]
        assert "secret" not in found[name]["detail"]
    for name in ("read models", "inbox"):
        assert found[name]["verdict"] == "ok" and "dataflow migrate up" in found[name]["detail"]
    assert not (tmp_path / "home").exists(), "looking makes nothing"


def test_doctor_warns_of_an_inbox_that_other_machines_do_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = findings(tmp_path, monkeypatch, journal_url="cassandra://127.0.0.1:1/x")
    assert found["settings"]["verdict"] == "warning" and "inbox_url" in found["settings"]["detail"]
    assert found["journal"]["verdict"] == "bad"

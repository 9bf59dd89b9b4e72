"""Fixtures for all tests: settings in a folder of their own, and one Temporal dev server for the whole run."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from dataflow.embedded.temporal import Address, temporal_server
from dataflow.errors import DataFlowError
from dataflow.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with an empty home; neither the machine's variables nor a `dataflow.toml` reach the test."""
    for name in list(os.environ):
        if name.startswith("DATAFLOW_") and name != "DATAFLOW_SERVERS_HOME":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Settings.load(home=tmp_path / "home")


@pytest.fixture(scope="session")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """The address of a real Temporal dev server, started by the first test that asks and shared by all, also by the
    processes of pytest-xdist. In CI a server that does not start is an error, elsewhere its tests are skipped."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "temporal-home"
    started: Future[Address] = Future()
    leave = threading.Event()

    async def use() -> None:
        async with temporal_server(Settings.load(home=home)) as address:
            started.set_result(address)
            await asyncio.to_thread(leave.wait)

    def serve() -> None:
        try:
            asyncio.run(use())
        except BaseException as error:  # it is raised again in the test's thread
            if started.done():
                raise
            started.set_exception(error)

    # A thread with its own loop: the server's watch goes on while tests open and close theirs.
    thread = threading.Thread(target=serve, name="temporal-fixture")
    thread.start()
    try:
        try:
            address = started.result()
        except DataFlowError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"no Temporal dev server: {error}")
        yield address
    finally:
        leave.set()
        thread.join()

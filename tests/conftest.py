"""Fixtures for all tests: settings in a folder of their own, and real servers, each started by the first test that asks
for it and shared by the whole run, also by the processes of pytest-xdist.

A test that uses a server's fixture has the server's marker: `pytest -m kafka` starts Kafka alone. A server that cannot
be had is an error in CI, and elsewhere skips its tests with the reason.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest

from dataflow.embedded.run import ProgramFailed
from dataflow.embedded.temporal import Address, temporal_server
from dataflow.errors import DataFlowError
from dataflow.settings import Settings

sys.path.insert(0, str(Path(__file__).parent.parent / "docker" / "local"))

from servers.fleet import SERVERS, Fleet, NotUp
from servers.places import Site
from servers.server import Missing

from tests import tracing

tracing.install()  # before any thread begins
hypothesis.settings.register_profile("untimed", deadline=None)  # a loaded machine is no error
hypothesis.settings.load_profile("untimed")

ON_DEMAND = [name for name in SERVERS if name != "temporal"]  # Temporal has its embedded form


def pytest_configure(config: pytest.Config) -> None:
    for name in ON_DEMAND:
        config.addinivalue_line("markers", f"{name}: needs a real {name} server")


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in {"temporal", *ON_DEMAND} & set(getattr(item, "fixturenames", ())):
            item.add_marker(name)


def not_to_be_had(what: str, error: Exception) -> NoReturn:
    if os.environ.get("CI") == "true":
        raise error
    pytest.skip(f"no {what}: {error}")


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
    """The address of a real Temporal dev server."""
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
            not_to_be_had("Temporal dev server", error)
        yield address
    finally:
        leave.set()
        thread.join()


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """The servers of this run, on free ports. They go with the run, even where it is killed; the last process of a run
    that is not killed waits for that."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    # Not under pytest's own folder, which is closed to the user that PostgreSQL and Elasticsearch run as.
    root = Path(tempfile.gettempdir()) / f"dataflow-servers-{run}"
    fleet = Fleet(root, until_unused=True)
    with fleet:
        yield fleet
    if fleet.wait_until_unused():
        shutil.rmtree(root, ignore_errors=True)


def _on_demand(name: str) -> Callable[..., Any]:
    @pytest.fixture(scope="session", name=name)
    def server(fleet: Fleet) -> Site:
        # A thread, because this may be called where a loop is current.
        with ThreadPoolExecutor(1) as thread:
            try:
                tell = logging.getLogger(__name__).info
                thread.submit(asyncio.run, fleet.up([name], tell, free=True)).result()
            except (NotUp, Missing, ProgramFailed, DataFlowError) as error:
                not_to_be_had(name, error)
        return fleet.site(name)

    return server


kafka, cassandra, elasticsearch, postgres, redis = map(_on_demand, ON_DEMAND)


@pytest.fixture
def unique() -> str:
    """A name of the test's own, good for a topic, a table, an index: `t_` and twelve hexadecimal digits."""
    return f"t_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def postgres_url(postgres: Site, unique: str) -> Iterator[str]:
    """The address of an empty database of the test's own."""
    import psycopg

    with psycopg.connect(f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {unique}")  # type: ignore[arg-type]
    yield f"postgresql://postgres@127.0.0.1:{postgres.port}/{unique}"
    with psycopg.connect(f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres", autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {unique} WITH (FORCE)")  # type: ignore[arg-type]


@pytest.fixture
def cassandra_session(cassandra: Site, unique: str) -> Iterator[Any]:
    """A session of the Cassandra driver in a keyspace of the test's own (its name is `session.keyspace`)."""
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
    from cassandra.policies import WhiteListRoundRobinPolicy

    profile = ExecutionProfile(WhiteListRoundRobinPolicy(["127.0.0.1"]), request_timeout=60)
    cluster = Cluster(
        ["127.0.0.1"], cassandra.port, protocol_version=5, execution_profiles={EXEC_PROFILE_DEFAULT: profile}
    )
    session = cluster.connect()
    try:
        replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        session.execute(f"CREATE KEYSPACE {unique} WITH replication = {replication}")
        session.set_keyspace(unique)
        yield session
        session.execute(f"DROP KEYSPACE {unique}")
    finally:
        cluster.shutdown()

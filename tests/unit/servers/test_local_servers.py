"""The servers without Docker: started, found again, hurt, restarted with their data, and gone afterwards."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from cassandra.cluster import NoHostAvailable
from servers import cli, java, wire
from servers.fleet import MAIN, SERVERS, Fleet, NotUp
from servers.held import Held
from servers.places import Site
from servers.server import Missing

from dataflow.embedded.lock import is_held
from dataflow.embedded.process import free_ports, is_free


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet of the test's own, which goes with it."""
    fleet = Fleet(tmp_path / "servers", until_unused=True)
    with fleet:
        yield fleet
    assert fleet.wait_until_unused()
    assert not any(fleet.site(name).data.exists() for name in SERVERS)


async def test_redis_keeps_what_it_acknowledged(fleet: Fleet, redis: Site) -> None:
    assert wire.redis(redis.port, "SET", "sum", "42") == "OK"
    fleet.kill("redis")
    (status,) = fleet.status(["redis"])
    assert (status.state, status.pid, status.memory) == ("died", 0, 0)
    assert status.reason.startswith("it was killed (SIGKILL); see ")
    await fleet.restart("redis", print)
    assert fleet.site("redis").port == redis.port
    assert wire.redis(redis.port, "GET", "sum") == "42"


async def test_up_twice_is_up_once(fleet: Fleet, redis: Site) -> None:
    lines: list[str] = []
    before = fleet.status(["redis"])[0].pid
    sites = await fleet.up(["redis"], lines.append)
    assert (fleet.status(["redis"])[0].pid, sites["redis"], lines) == (before, redis, [])


async def test_a_frozen_server_answers_nothing_and_thaws(
    fleet: Fleet, redis: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.freeze("redis")
    monkeypatch.setattr(wire, "TIMEOUT", 0.1)
    with pytest.raises(TimeoutError):
        wire.redis(redis.port, "PING")
    fleet.thaw("redis")
    monkeypatch.setattr(wire, "TIMEOUT", 60)
    assert wire.redis(redis.port, "PING") == "PONG"


async def test_postgres_answers_and_survives_kill_9(fleet: Fleet, postgres: Site) -> None:
    version = wire.postgres(postgres.port)
    assert version == fleet.status(["postgres"])[0].version
    assert fleet.status(["postgres"])[0].memory > 10 * 2**20
    fleet.kill("postgres")
    await fleet.restart("postgres", print)
    assert wire.postgres(postgres.port) == version


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace here")
def test_a_disk_is_slow_as_long_as_it_is_asked_to_be(fleet: Fleet, postgres: Site, unique: str) -> None:
    url = f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres"
    with psycopg.connect(url, autocommit=True) as session:
        with fleet.slow_disk("postgres", 0.05) as slowed:
            session.execute(f"CREATE TABLE {unique} (n int)")  # a commit waits for the medium
            assert (late := slowed.calls()) > 0
        session.execute(f"DROP TABLE {unique}")
        assert slowed.calls() == late


def test_a_disk_of_a_server_that_does_not_run_is_not_slow(own: Fleet) -> None:
    with pytest.raises(NotUp, match="redis is not running"):
        own.slow_disk("redis", 0.1)


def test_addresses_of_what_runs(fleet: Fleet, redis: Site) -> None:
    url = f"redis://127.0.0.1:{redis.port}/0"
    assert fleet.variables()["DATAFLOW_REDIS_URL"] == url
    assert f"export DATAFLOW_REDIS_URL={url}\n" in (fleet.root / "addresses.env").read_text()


async def test_every_test_run_takes_its_servers_along(own: Fleet) -> None:
    await own.up(["redis", "temporal"], print, free=True)
    assert {status.name for status in own.status() if status.state == "ready"} == {"redis", "temporal"}
    # The fixture sees to it that both end and their data go.


async def test_a_server_that_is_stopped_keeps_its_data_while_the_run_goes_on(own: Fleet) -> None:
    await own.up(["redis"], print, free=True)
    kept = own.site("redis").data / "kept"
    kept.touch()
    await own.restart("redis", print)
    assert kept.exists()


async def test_a_taken_port_is_said_to_be_taken(own: Fleet, redis: Site) -> None:
    with pytest.raises(NotUp, match=rf"redis: port {redis.port} is taken"):
        await own.up(["redis"], print, ports={"redis": redis.port})


async def test_a_server_that_dies_says_why(own: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAFLOW_REDIS_FSYNC", "sometimes")
    with pytest.raises(NotUp, match=r"redis: it ended with code 1.*sometimes"):
        await own.up(["redis"], print, free=True)
    assert own.status(["redis"])[0].state == "failed"
    with pytest.raises(NotUp, match="redis is not running"):
        own.kill("redis")


async def test_the_others_stay_up_where_one_fails(own: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAFLOW_REDIS_FSYNC", "sometimes")
    with pytest.raises(NotUp, match="redis"):
        await own.up(["redis", "temporal"], print, free=True)
    assert own.status(["temporal"])[0].state == "ready"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's parent death signal is Linux's")
async def test_a_server_dies_with_its_killed_keeper(own: Fleet) -> None:
    await own.up(["redis"], print, free=True)
    held = Held.read_live(own.site("redis"))
    assert held
    server = psutil.Process(held.pid)
    os.kill(held.keeper, signal.SIGKILL)
    gone, _ = psutil.wait_procs([server], timeout=30)
    assert gone or server.status() == psutil.STATUS_ZOMBIE
    while is_held(own.site("redis").keeper):  # the lock goes when the killed process is gone
        assert psutil.pid_exists(held.keeper)
    assert own.status(["redis"])[0].state == "died"
    await own.up(["redis"], print)
    assert own.site("redis").ports == held.ports


def run(*words: str, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(MAIN), *words, "--root", str(root)], capture_output=True, text=True, check=False
    )


def test_the_command_line(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    up = run("up", "redis", "--port", f"redis={port}", root=tmp_path)
    assert up.returncode == 0, up.stderr
    assert f"answers on port {port}" in up.stderr
    status = json.loads(run("status", "redis", "--json", root=tmp_path).stdout)[0]
    assert (status["state"], status["port"]) == ("ready", port)
    assert run("env", root=tmp_path).stdout == f"export DATAFLOW_REDIS_URL=redis://127.0.0.1:{port}/0\n"
    assert "Ready to accept connections" in run("logs", "redis", root=tmp_path).stdout
    for _ in range(2):  # again: nothing to do
        assert run("down", "redis", root=tmp_path).returncode == 0
    assert is_free(port)
    assert "stopped" in run("status", "redis", root=tmp_path).stdout
    assert not psutil.pid_exists(status["pid"])


def test_an_unknown_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["up", "mysql"]) == 2
    assert "unknown server mysql; there are kafka" in capsys.readouterr().err


def test_java_is_looked_for_by_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "jdk"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").write_text("#!/bin/sh\necho 'openjdk version \"21.0.1\" 2023-10-17' >&2\n")
    (home / "bin" / "java").chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert java.find(21, 21) == home / "bin" / "java"
    with pytest.raises(Missing, match=r"Java 99 or newer is needed .*jdk/bin/java is 21.*openjdk-99-jre-headless"):
        java.find(99)


def test_each_test_has_a_database_of_its_own(postgres_url: str, unique: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT current_database(), count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert found.fetchone() == (unique, 0)


async def test_postgres_keeps_what_it_committed(fleet: Fleet, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    with psycopg.connect(postgres_url) as connection:
        connection.execute("INSERT INTO kept VALUES (-1)")
        fleet.kill("postgres")  # in the middle of a transaction
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
    await fleet.restart("postgres", print)
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*), sum(n) FROM kept").fetchone() == (1000, 500500)


@pytest.mark.slow
async def test_kafka_keeps_what_it_acknowledged(fleet: Fleet, kafka: Site, unique: str) -> None:
    brokers = f"127.0.0.1:{kafka.port}"
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    await admin.create_topics([NewTopic(unique, num_partitions=2, replication_factor=1)])
    await admin.close()
    sent = [str(number).encode() for number in range(200)]
    async with AIOKafkaProducer(bootstrap_servers=brokers, acks="all") as producer:
        for number, value in enumerate(sent):
            await producer.send_and_wait(unique, value, partition=number % 2)
    fleet.kill("kafka")
    await fleet.restart("kafka", print)
    got: list[bytes] = []
    async with AIOKafkaConsumer(unique, bootstrap_servers=brokers, auto_offset_reset="earliest") as consumer:
        async with asyncio.timeout(60):
            while len(got) < len(sent):
                batches = await consumer.getmany(timeout_ms=1000)
                got += [record.value for records in batches.values() for record in records]
    assert sorted(got) == sorted(sent)


@pytest.mark.slow
async def test_cassandra_keeps_what_it_acknowledged(fleet: Fleet, cassandra: Site, cassandra_session: Any) -> None:
    assert (
        wire.cassandra(cassandra.port) == cassandra_session.execute("SELECT release_version FROM system.local").one()[0]
    )
    cassandra_session.execute("CREATE TABLE kept (n int PRIMARY KEY)")
    for number in range(200):
        cassandra_session.execute("INSERT INTO kept (n) VALUES (%s)", (number,))
    fleet.kill("cassandra")
    await fleet.restart("cassandra", print)
    async with asyncio.timeout(120):
        while True:  # the driver finds its way back by itself
            try:
                assert cassandra_session.execute("SELECT count(*) FROM kept").one()[0] == 200
                return
            except NoHostAvailable:
                await asyncio.sleep(0.1)


@pytest.mark.slow
def test_elasticsearch_answers(elasticsearch: Site) -> None:
    health = wire.get_json(elasticsearch.port, "/_cluster/health")
    assert isinstance(health, dict)
    assert health["number_of_nodes"] == 1

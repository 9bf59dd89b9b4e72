"""The embedded dev server, for real: shared, restarted, stopped, and never left behind."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from temporalio.client import Client

from dataflow.embedded import binary, keeper
from dataflow.embedded.livefile import LiveFile
from dataflow.embedded.lock import FileLock, is_held
from dataflow.embedded.probe import serving
from dataflow.embedded.process import free_ports
from dataflow.embedded.record import Files, Record
from dataflow.embedded.temporal import Address, running, temporal_server
from dataflow.errors import Rejected, Retryable
from dataflow.settings import Settings

pytestmark = pytest.mark.temporal

USER = """
import asyncio, sys
from pathlib import Path
from dataflow.embedded.temporal import temporal_server
from dataflow.settings import Settings

async def main():
    async with temporal_server(Settings.load(home=Path(sys.argv[1]))) as address:
        print(address.target, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


def user(home: Path) -> subprocess.Popen[str]:
    """A process that uses the home's server until its standard input is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def said(child: subprocess.Popen[str]) -> str:
    assert child.stdout
    return child.stdout.readline().strip()


def eventually(condition: Callable[[], object], limit: float = 60.0) -> None:
    """Wait for something that another process does; the limit is only there to end a hopeless wait."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def now(home: Path) -> Record:
    record = running(home)
    assert record
    return record


@pytest.fixture(scope="module")
def homes() -> Iterator[list[Path]]:
    """At the end of all these tests no keeper and no server of theirs is left."""
    used: list[Path] = []
    yield used
    eventually(lambda: not any(is_held(Files(home=home).keeper) for home in used))
    databases = {str(Files(home=home).database) for home in used}
    left = [info for p in psutil.process_iter(["cmdline"]) if databases & {*((info := p.info)["cmdline"] or ())}]
    assert left == []


@pytest.fixture
def home(settings: Settings, homes: list[Path]) -> Path:
    homes.append(settings.home)
    return settings.home


async def start_something(address: Address, name: str) -> None:
    client = await Client.connect(address.target, namespace=address.namespace)
    await client.start_workflow("Nobody", id=name, task_queue="nowhere")


async def test_it_serves_at_once_and_goes_with_its_user(settings: Settings, home: Path) -> None:
    heard: list[str] = []
    async with temporal_server(settings, on_progress=heard.append) as address:
        assert address.owned
        assert address.ui
        record = now(home)
        assert alive(record.pid)
        await start_something(address, "first")
        client = await Client.connect(address.target)
        found = client.list_workflows("DataflowName IS NULL AND DataflowFailed IS NULL")  # the attributes are known
        assert [workflow.id async for workflow in found] in (["first"], [])
    eventually(lambda: not alive(record.pid))
    eventually(lambda: running(home) is None)
    assert not Files(home=home).record.exists()
    assert heard == []


@pytest.mark.parametrize("used", [False, True])
async def test_a_home_made_anew_has_a_server_of_its_own(settings: Settings, home: Path, used: bool) -> None:
    """Removed while its keeper still waits for a next user, or has one: that keeper ends, and touches nothing new."""
    async with AsyncExitStack() as old:
        await old.enter_async_context(temporal_server(settings))
        before = now(home)
        if not used:
            await old.aclose()
        shutil.rmtree(home)
        async with temporal_server(settings):
            record = now(home)
            assert record.pid != before.pid
            await asyncio.to_thread(eventually, lambda: not alive(before.keeper))
            assert not alive(before.pid)
            assert now(home) == record and alive(record.pid)


async def test_a_named_namespace_is_made(settings: Settings, home: Path) -> None:
    async with temporal_server(settings.model_copy(update={"temporal_namespace": "orders"})) as address:
        assert address.namespace == "orders"
        await start_something(address, "first")


async def test_a_configured_temporal_is_left_alone(settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"temporal_address": "temporal.invalid:7233"})
    async with temporal_server(elsewhere) as address:
        assert address == Address(target="temporal.invalid:7233", namespace="default", ui=None, owned=False)
    assert not settings.home.exists()


def test_many_users_share_one_server_and_kill_9_leaks_nothing(home: Path) -> None:
    users = [user(home) for _ in range(4)]  # all at once: one keeper wins
    assert len({said(child) for child in users}) == 1
    record = now(home)
    for child in users[:3]:
        child.kill()
        child.communicate()
    assert alive(record.pid)
    assert now(home) == record
    users[3].kill()  # the last one
    users[3].communicate()
    eventually(lambda: not alive(record.pid))
    eventually(lambda: not alive(record.keeper))


def test_the_server_outlives_the_user_that_started_it(home: Path) -> None:
    first = user(home)
    target = said(first)
    second = user(home)
    assert said(second) == target
    record = now(home)
    first.communicate()
    assert alive(record.pid)
    assert serving(target)
    second.communicate()


async def test_a_killed_server_comes_back_with_its_data(settings: Settings, home: Path) -> None:
    async with temporal_server(settings) as address:
        await start_something(address, "survivor")
        before = now(home)
        os.kill(before.pid, signal.SIGKILL)
        eventually(lambda: now(home).pid != before.pid and now(home).state == "ready")
        after = now(home)
        assert (after.port, after.ui_port, after.keeper) == (before.port, before.ui_port, before.keeper)
        assert after.restarts == 1
        client = await Client.connect(address.target)
        described = await client.get_workflow_handle("survivor").describe()
        assert described.workflow_type == "Nobody"


async def test_a_killed_keeper_takes_its_server_along_and_is_replaced(settings: Settings, home: Path) -> None:
    heard: list[str] = []
    async with temporal_server(settings, on_progress=heard.append) as address:
        await start_something(address, "survivor")
        before = now(home)
        os.kill(before.keeper, signal.SIGKILL)
        await asyncio.to_thread(eventually, lambda: not alive(before.pid))
        await asyncio.to_thread(eventually, lambda: (r := running(home)) and r.state == "ready" and r.pid != before.pid)
        assert now(home).address == address.target
        assert now(home).keeper != before.keeper
        client = await Client.connect(address.target)
        assert await client.get_workflow_handle("survivor").describe()
        assert heard == ["Temporal dev server: its keeper has died, starting it again"]


async def test_a_keeper_told_to_stop_leaves_its_address_to_the_next(settings: Settings, home: Path) -> None:
    async with temporal_server(settings) as address:
        before = now(home)
        os.kill(before.keeper, signal.SIGTERM)
        await asyncio.to_thread(eventually, lambda: (r := running(home)) and r.state == "ready" and r.pid != before.pid)
        assert now(home).address == address.target


async def test_a_server_left_behind_is_ended_before_the_next_start(settings: Settings, home: Path) -> None:
    # As after kill -9 of a keeper where the kernel does not take the children along.
    files = Files(home=home)
    port, ui, metrics = free_ports(3)
    left = Record(state="ready", keeper=os.getpid(), port=port, ui_port=ui, metrics_port=metrics)
    program = await binary.find(None, print)
    files.log.parent.mkdir(parents=True)
    server = subprocess.Popen(
        keeper.command(program, files, left, "default"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    eventually(lambda: serving(left.address))
    publisher = LiveFile(files.record)
    publisher.publish(replace(left, pid=server.pid).text)
    publisher.close()
    reaper = threading.Thread(target=server.wait)
    reaper.start()
    async with temporal_server(settings) as address:
        assert address.target == left.address
        assert now(home).pid != server.pid
    reaper.join()
    assert server.returncode == -signal.SIGKILL


async def test_a_hung_server_is_replaced(settings: Settings, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "SILENT_LIMIT", 3.0)  # no less: beside other work even a sound server is slow
    monkeypatch.setattr(keeper, "PROBE_EVERY", 0.5)
    monkeypatch.setattr(keeper, "STOP_GRACE", 0.2)
    files = Files(home=home)
    one = keeper.Keeper(home, await binary.find(None, print))
    with FileLock(files.users) as using:
        assert using.acquire(shared=True)
        thread = threading.Thread(target=one.run)
        thread.start()
        eventually(lambda: (r := running(home)) and r.state == "ready")
        before = now(home)
        os.kill(before.pid, signal.SIGSTOP)
        eventually(lambda: now(home).pid != before.pid and now(home).state == "ready")
        assert now(home).address == before.address
        assert not alive(before.pid)
    thread.join()


def test_a_second_keeper_gives_way(home: Path, tmp_path: Path) -> None:
    with FileLock(Files(home=home).keeper) as lock:
        assert lock.acquire()
        assert keeper.main(["--home", str(home), "--binary", str(tmp_path / "none")]) == 0
    assert not Files(home=home).record.exists()


async def test_taken_ports_are_left_to_others(settings: Settings, home: Path, homes: list[Path]) -> None:
    other = settings.model_copy(update={"home": home.with_name("other")})
    homes.append(other.home)
    async with temporal_server(settings) as one, temporal_server(other) as two:
        assert one.target != two.target
        assert one.ui != two.ui
        await start_something(two, "first")


async def test_a_port_taken_at_the_last_moment_and_let_go_at_once(
    settings: Settings, home: Path, tmp_path: Path
) -> None:
    """What looks at the ports afterwards finds them free: they were an outgoing connection's for a moment."""
    program, asked = tmp_path / "temporal", tmp_path / "asked"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$*" >> {asked}\n'
        f'if [ "$2" = start-dev ] && [ $(grep -c start-dev {asked}) -lt 3 ]; then\n'
        '  echo "listen tcp 127.0.0.1:7233: bind: address already in use"; exit 2\n'
        "fi\n"
        f'exec {await binary.find(None, print)} "$@"\n'
    )
    program.chmod(0o755)
    async with temporal_server(settings.model_copy(update={"temporal_binary": program})) as address:
        await start_something(address, "first")
    starts = [line for line in asked.read_text().splitlines() if "start-dev" in line]
    assert len(set(starts)) == len(starts) == 3, "each time with other ports"


async def test_a_server_that_will_not_start_says_why(settings: Settings, home: Path) -> None:
    settings.home.mkdir()
    Files(home=home).database.write_text("this is no database " * 1000)
    with pytest.raises(Retryable, match=r"did not start.*not a database") as caught:
        async with temporal_server(settings):
            raise AssertionError("it started")
    assert caught.value.code == "TEMPORAL_UNAVAILABLE"
    assert str(Files(home=home).log) in caught.value.hint


async def test_a_named_program_that_is_none_is_refused(settings: Settings, home: Path, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="cannot be run") as caught:
        async with temporal_server(settings.model_copy(update={"temporal_binary": tmp_path / "none"})):
            raise AssertionError("it started")
    assert caught.value.code == "TEMPORAL_NOT_FOUND"

"""Lock, probe, process, record: each on its own."""

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from dataflow.embedded import process
from dataflow.embedded.livefile import LiveFile, read_live
from dataflow.embedded.lock import FileLock, is_held
from dataflow.embedded.probe import serving
from dataflow.embedded.record import Record
from dataflow.embedded.temporal import Address
from dataflow.errors import Corrupt

HOLDER = """
import sys
from pathlib import Path
from dataflow.embedded.livefile import LiveFile
from dataflow.embedded.lock import FileLock
lock = FileLock(Path(sys.argv[1]))
print(lock.acquire(shared=sys.argv[2] == "shared"), flush=True)
sys.stdin.read()
"""


def holder(path: Path, mode: str) -> subprocess.Popen[str]:
    """A process that holds the lock until it dies."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    assert child.stdout.readline() == "True\n"
    return child


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    with holder(path, "exclusive") as child:
        assert is_held(path)
        with FileLock(path) as lock:
            assert not lock.acquire()
            assert not lock.acquire(shared=True)
            child.kill()
            child.wait()
            assert lock.acquire()


def test_a_lock_whose_file_was_removed_stands_no_more(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock(path) as lock, FileLock(path) as other:
        assert not lock.stands()
        lock.acquire()
        assert lock.stands()
        path.unlink()
        assert not lock.stands()
        assert other.acquire()
        assert other.stands() and not lock.stands()


def test_shared_holders_keep_out_the_exclusive_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path, "shared") as other, FileLock(path) as mine, FileLock(path) as alone:
        assert mine.acquire(shared=True)
        assert not is_held(path)  # nobody holds it exclusively
        assert not alone.acquire()
        other.kill()
        other.wait()
        assert not alone.acquire()
        mine.release()
        assert alone.acquire()


def test_a_child_does_not_inherit_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = FileLock(path)
    assert lock.acquire()
    with subprocess.Popen(["sleep", "60"]) as child:
        lock.release()
        assert not is_held(path)
        child.kill()


def test_taking_a_lock_twice_is_a_mistake(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock") as lock:
        assert lock.acquire()
        with pytest.raises(RuntimeError):
            lock.acquire()


def test_nobody_serves_on_a_closed_or_silent_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert not serving(address, timeout=0.05)
    assert not serving(address)


def test_another_protocol_does_not_serve() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(24)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        other = threading.Thread(target=answer)
        other.start()
        assert not serving(f"127.0.0.1:{server.getsockname()[1]}")
        other.join()


@pytest.mark.temporal
def test_a_real_frontend_serves(temporal: Address) -> None:
    assert serving(temporal.target)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's parent death signal is Linux's")
def test_a_child_dies_with_its_killed_parent(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from dataflow.embedded import process\n"
        "print(process.spawn(['sleep', '600'], log=Path(sys.argv[1])).pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    gone, _ = psutil.wait_procs([child], timeout=30)
    assert gone or child.status() == psutil.STATUS_ZOMBIE  # where nobody reaps orphans


def test_a_deaf_process_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "deaf.log"
    script = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    )
    child = process.spawn([sys.executable, "-c", script], log=log)
    while "up" not in log.read_text():
        assert child.poll() is None
    assert process.stop(child, grace=0.05) == -signal.SIGKILL
    assert process.stop(child, grace=0.05) == -signal.SIGKILL  # again: nothing to do


def test_a_willing_process_ends_by_sigterm(tmp_path: Path) -> None:
    assert process.stop(process.spawn(["sleep", "600"], log=tmp_path / "log"), grace=30) == -signal.SIGTERM


def test_free_ports_are_distinct_and_free() -> None:
    ports = process.free_ports(5)
    assert len(set(ports)) == 5
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert not process.is_free(taken.getsockname()[1])
    assert all(process.is_free(port) for port in ports)


def test_a_reader_is_never_told_that_a_writer_is_gone_while_it_publishes(tmp_path: Path) -> None:
    path = tmp_path / "it"
    publisher = LiveFile(path)
    publisher.publish("0")
    over = threading.Event()

    def publish() -> None:
        for number in range(1, 2_001):
            publisher.publish(str(number))
        over.set()

    writer = threading.Thread(target=publish)
    writer.start()
    seen = []
    while not over.is_set():
        seen.append(read_live(path))
    writer.join()
    publisher.close()
    assert None not in seen
    assert read_live(path) is None


def test_a_record_is_live_as_long_as_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "home" / "temporal.json"
    assert Record.read(path) is None
    assert Record.read_live(path) is None
    record = Record(state="starting", keeper=os.getpid(), port=7233, ui_port=8233, pid=1, started=2.5)
    assert (record.address, record.ui) == ("127.0.0.1:7233", "http://127.0.0.1:8233")
    publisher = LiveFile(path)
    for state in ("starting", "ready"):
        record = replace(record, state=state)
        publisher.publish(record.text)
        assert Record.read(path) == record
        assert Record.read_live(path) == record
    publisher.close()
    assert Record.read(path) == record
    assert Record.read_live(path) is None
    assert [file.name for file in path.parent.iterdir()] == ["temporal.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"state": "ready"}'])
def test_a_foreign_record_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "temporal.json"
    path.write_text(text)
    with pytest.raises(Corrupt, match=r"temporal\.json: not a record"):
        Record.read(path)


def test_a_record_of_another_release_is_read(tmp_path: Path) -> None:
    path = tmp_path / "temporal.json"
    path.write_text('{"state": "ready", "keeper": 7, "port": 7233, "colour": "green"}')
    assert Record.read(path) == Record(state="ready", keeper=7, port=7233)

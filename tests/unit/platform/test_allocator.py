from __future__ import annotations

import gc
import platform
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

import dataflow.cli.app as program
from dataflow import allocator


def test_glibc_takes_the_settings() -> None:
    assert allocator.keep_freed_buffers() is (platform.libc_ver()[0] == "glibc")


_COUNT = """
import ctypes, sys, threading
from dataflow import allocator

assert allocator.keep_freed_buffers()
libc, met = ctypes.CDLL(None), threading.Barrier(20)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]

def take():
    met.wait()  # all at once: a thread that has ended leaves its arena to the next
    assert libc.malloc(100_000)
    met.wait()

threads = [threading.Thread(target=take) for _ in range(20)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
told = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, told)
libc.fclose(told)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
def test_threads_share_what_was_freed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _COUNT, str(tmp_path / "arenas.xml")], check=True, timeout=60)
    assert 1 <= (tmp_path / "arenas.xml").read_text().count("<heap nr=") <= allocator.ARENAS


def test_the_program_says_so_before_anything_has_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(program, "starting", lambda: done.append("starting"))
    monkeypatch.setattr(program, "keep_freed_buffers", lambda: done.append("buffers"))
    monkeypatch.setattr(program, "app", lambda: done.append("commands"))
    program.main()
    assert done == ["starting", "buffers", "commands"]


def test_elsewhere_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    assert allocator.keep_freed_buffers() is False


@pytest.mark.parametrize("stays", [False, True])
def test_what_a_start_leaves_behind_goes_where_the_process_stays(stays: bool) -> None:
    class Ring:
        pass

    usual = gc.get_threshold()
    allocator.starting()
    try:
        ring = Ring()
        ring.itself = ring  # type: ignore[attr-defined]
        left = weakref.ref(ring)
        del ring
        allocator.started(stays=stays)
        assert (left() is None) is stays
        assert gc.get_threshold() == usual
    finally:
        gc.unfreeze()

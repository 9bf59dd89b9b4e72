from __future__ import annotations

import gc
import platform
import weakref

import pytest

from dataflow import allocator


def test_glibc_takes_the_settings() -> None:
    assert allocator.keep_freed_buffers() is (platform.libc_ver()[0] == "glibc")


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

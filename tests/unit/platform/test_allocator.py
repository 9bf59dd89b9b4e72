from __future__ import annotations

import platform

import pytest

from dataflow import allocator


def test_glibc_takes_the_settings() -> None:
    assert allocator.keep_freed_buffers() is (platform.libc_ver()[0] == "glibc")


def test_elsewhere_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    assert allocator.keep_freed_buffers() is False

"""The guard of this test suite's own threads against a refused tracer."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from tests.tracing import TRIES, patient


class Refusing:
    """`sys.settrace` that is refused some times, as CPython does."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.installed: list[Any] = []

    def __call__(self, tracer: Any) -> None:
        if self.times:
            self.times -= 1
            raise RuntimeError("Cannot install a trace function while another trace function is being installed")
        self.installed.append(tracer)


def test_a_thread_whose_tracer_is_refused_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def tracer(*_: object) -> None: ...

    refusing = Refusing(3)
    monkeypatch.setattr(threading, "_trace_hook", tracer)
    monkeypatch.setattr(sys, "settrace", patient(refusing))
    ran = threading.Event()
    thread = threading.Thread(target=ran.set)
    thread.start()
    thread.join()
    assert ran.is_set()
    assert refusing.installed == [tracer]


def test_a_tracer_that_is_never_taken_is_an_error() -> None:
    refusing = Refusing(TRIES)
    with pytest.raises(RuntimeError, match="another trace function"):
        patient(refusing)(None)
    assert refusing.times == 0


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="CPython refuses no tracer there")
def test_this_run_has_the_guard() -> None:
    assert hasattr(sys.settrace, "__wrapped__")

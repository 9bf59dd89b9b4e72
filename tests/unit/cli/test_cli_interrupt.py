"""Ctrl-C, once and twice."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from dataflow.cli.interrupt import Interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_once_asks_twice_leaves(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(os, "_exit", told.append)
    before = signal.getsignal(signal.SIGTERM)
    with Interrupt(lambda: told.append("first"), lambda: told.append("second")) as interrupt:
        os.kill(os.getpid(), number)
        await asyncio.wait_for(interrupt.wait(), 10)
        assert (interrupt.number, told) == (number, ["first"])
        await interrupt.pause(3600)  # no waiting any more
        os.kill(os.getpid(), number)
        while len(told) < 3:
            await asyncio.sleep(0)
        assert told == ["first", "second", 128 + number]
    assert signal.getsignal(signal.SIGTERM) == before


async def test_nothing_comes() -> None:
    with Interrupt(lambda: None, lambda: None) as interrupt:
        await interrupt.pause(0)
        assert interrupt.number == 0

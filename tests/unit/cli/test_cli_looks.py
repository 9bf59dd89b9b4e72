"""When `run` looks at its pipeline again: at its end, and seldom before."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from dataflow.cli.interrupt import Interrupt
from dataflow.cli.looks import ENDS, NEAR, SELDOM, SOON, Looks
from dataflow.domain import events
from dataflow.domain.record import EventRecord


@dataclass
class Pauses(Interrupt):
    """Waits for nothing; keeps for how long it was asked to."""

    asked: list[float]

    async def pause(self, seconds: float, other: asyncio.Event | None = None) -> None:
        self.asked.append(round(seconds, 3))


def looks() -> tuple[Looks, list[float]]:
    asked: list[float] = []
    return Looks("orders", Pauses(asked)), asked


def event(number: int, kind: str = "PipelineStarted", stream: str = "orders") -> EventRecord:
    return EventRecord(id="", stream=stream, sequence=number, type=kind, schema_version=1, time=datetime.now(UTC))


def test_the_ends_of_a_run_are_events() -> None:
    assert all(hasattr(events, name) for name in ENDS)


async def test_where_another_process_records_pauses_grow_until_the_end_is_near() -> None:
    some, asked = looks()
    some.recorded(event(7, "PipelineCompleted", "others"))
    for _ in range(8):
        await some.pause(1, near=False, over=False)
    await some.pause(1, near=True, over=False)
    assert asked == [0.05, 0.08, 0.128, 0.205, 0.328, SELDOM, SELDOM, SELDOM, NEAR]


async def test_where_this_one_records_looks_are_rare() -> None:
    some, asked = looks()
    some.recorded(event(2))
    for near in (False, True):
        await some.pause(2, near=near, over=False)
    await some.pause(2, near=True, over=True)
    assert asked == [SELDOM, SELDOM, NEAR]


async def test_a_look_that_came_too_early_is_repeated_soon() -> None:
    some, asked = looks()
    some.recorded(event(3, "PipelineStopped"))
    for version in (2, 2, 3):
        await some.pause(version, near=False, over=False)
    some.recorded(event(4))
    await some.pause(3, near=False, over=False)
    some.recorded(event(5, "PipelineCompleted"))
    await some.pause(3, near=False, over=False)
    assert asked == [SOON, 2 * SOON, SELDOM, SELDOM, SOON]


@pytest.mark.parametrize("moment", ["before", "while"])
async def test_the_end_ends_the_pause(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataflow.cli.looks.SELDOM", 30.0)
    some = Looks("orders", Interrupt(lambda: None, lambda: None))
    some.recorded(event(2))
    if moment == "while":
        asyncio.get_running_loop().call_later(0.01, some.recorded, event(3, "PipelineFailed"))
    else:
        some.recorded(event(3, "PipelineFailed"))
    begun = time.monotonic()
    await some.pause(2, near=False, over=False)
    assert time.monotonic() - begun < 20

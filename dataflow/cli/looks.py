"""When to look at a running pipeline again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dataflow.cli.interrupt import Interrupt

if TYPE_CHECKING:
    from dataflow.domain.record import EventRecord

ENDS = frozenset({"PipelineCompleted", "PipelineStopped", "PipelineFailed", "PipelineDeleted"})
"""Types of the events that a run ends with."""

SOON, SELDOM = 0.02, 0.5
FIRST, GROWTH = 0.05, 1.6
NEAR = 0.1


class Looks:
    """The pauses between two looks, each of which costs some 10 ms of processor time that the data could have.

    Where this process records the pipeline's events, it looks when one of `ENDS` is there, and seldom else. Where
    another one does, it looks after pauses that grow, and often near the end. `recorded` is to be told of appends."""

    def __init__(self, pipeline: str, interrupt: Interrupt) -> None:
        self._pipeline = pipeline
        self._interrupt = interrupt
        self._here = False  # this process records events of the pipeline
        self._end = 0
        self._ended = asyncio.Event()
        self._delay = FIRST
        self._early = 0  # looks after an end that did not know of it yet

    def recorded(self, event: EventRecord) -> None:
        """The event is in the journal."""
        if event.stream == self._pipeline:
            self._here = True
            if event.type in ENDS:
                self._end = event.sequence
                self._ended.set()

    async def pause(self, version: int, *, near: bool, over: bool) -> None:
        """Wait for the next look. `version`: the events that the last one knew of; `near`: the end of the data;
        `over`: of the run, only segments are still on their way."""
        self._ended.clear()
        self._early = self._early + 1 if self._end > version else 0
        if self._early:  # the workflow that had it recorded is about to move its state
            seconds = min(SOON * self._early, SELDOM)
        elif over or (near and not self._here):
            seconds = min(NEAR, self._delay)
        else:
            seconds = SELDOM if self._here else self._delay
        await self._interrupt.pause(seconds, self._ended)
        self._delay = min(self._delay * GROWTH, SELDOM)

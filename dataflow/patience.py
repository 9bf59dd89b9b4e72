"""Waiting for what comes up later: services are started in any order, and one that stays is in no hurry."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from dataflow.errors import Retryable

FIRST, LONGEST = 0.5, 5.0
"""Seconds between two tries: the first time, and at most."""

TOLD = 30.0
"""Seconds between two words about it."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


def _silent(_line: str) -> None:
    return None


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for something that is not there yet, in seconds: 0 is not at all. `tell` takes lines for people,
    `pause` sleeps, and what `over` says ends the waiting early."""

    seconds: float = 0.0
    tell: Callable[[str], object] = _silent
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    over: Callable[[], bool] = _never

    async def until(self, what: str, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer of `ask`, asked again while it raises `Retryable`; the last of these where patience ends first."""
        clock = asyncio.get_running_loop()
        begun, said, delay = clock.time(), -TOLD, FIRST
        while True:
            try:
                found = await ask()
            except Retryable as error:
                waited = clock.time() - begun
                if waited + delay > self.seconds or self.over():
                    raise
                if waited - said >= TOLD:
                    said = waited
                    line = f"waiting for {what}, {self.seconds - waited:.0f} s at most: {error}"
                    self.tell(line)
                    _log.warning("%s", line)
                await self.pause(delay)
                if self.over():
                    raise
                delay = min(2 * delay, LONGEST)
            else:
                if said >= 0:
                    self.tell(f"{what} is there")
                return found

"""Ctrl-C and SIGTERM while a command waits: asked once, the pipeline stops in order; asked twice, we leave at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Interrupt:
    """Listens for SIGINT and SIGTERM while entered. `number` is the signal that came, 0 as long as none did.

    Leaving at once is safe: an epoch that is not committed was never there, and the keeper of the embedded server
    notices that its last user is gone."""

    def __init__(self, on_first: Callable[[], None], on_second: Callable[[], None]) -> None:
        self.number = 0
        self._came = asyncio.Event()
        self._on_first = on_first
        self._on_second = on_second

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._take, number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    def _take(self, number: int) -> None:
        if not self.number:
            self.number = number
            self._came.set()
            self._on_first()
        else:
            self._on_second()
            os._exit(128 + number)

    def came(self) -> bool:
        """Whether there was a signal."""
        return self._came.is_set()

    async def pause(self, seconds: float, other: asyncio.Event | None = None) -> None:
        """Wait that long, or until the signal comes or the `other` event; no wait at all where one has come."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._came, other) if event is not None]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def wait(self) -> None:
        """Wait for the signal."""
        await self._came.wait()

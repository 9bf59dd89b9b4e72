"""A queue bounded in bytes, closed by its producer: what stands between the tasks of a segment."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")

ITEM = 4096
"""Bytes that an item takes beside its own, so that many empty ones are bounded too: what a small data frame costs."""


class Closed(Exception):
    """The producer has closed the queue and every item was taken."""


class ByteQueue(Generic[T]):
    """One producer side, one consumer. Holds `limit` bytes at most, but always at least one item."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._room = asyncio.Event()
        self._arrived = asyncio.Event()

    async def put(self, item: T, size: int) -> None:
        """Wait for room, then add."""
        size += ITEM
        while self._items and self._bytes + size > self._limit:
            self._room.clear()
            await self._room.wait()
        self._items.append((item, size))
        self._bytes += size
        self._arrived.set()

    def close(self) -> None:
        """No more items will come; those that are there are still given out."""
        self._closed = True
        self._arrived.set()

    async def get(self, timeout: float | None = None) -> T:
        """The next item. Raises `TimeoutError` after `timeout` seconds, `Closed` at the end."""
        async with asyncio.timeout(timeout):
            while not self._items:
                if self._closed:
                    raise Closed
                self._arrived.clear()
                await self._arrived.wait()
        item, size = self._items.popleft()
        self._bytes -= size
        self._room.set()
        return item

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            try:
                item = await self.get()
            except Closed:
                return
            yield item

"""Calls of many tasks as one: what comes in while one call is under way goes with the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


class Together(Generic[In, Out]):
    """`call` takes up to `most` items and gives as many results. Alone, an item goes at once; under load batches form
    by themselves. Used from one event loop."""

    def __init__(self, call: Callable[[Sequence[In]], Awaitable[Sequence[Out]]], most: int) -> None:
        self._call = call
        self._most = most
        self._waiting: list[tuple[In, asyncio.Future[Out]]] = []
        self._working: asyncio.Task[None] | None = None

    async def __call__(self, item: In) -> Out:
        """The result for this item; the error of the call it went with. Giving up waiting does not take it back."""
        future: asyncio.Future[Out] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                results = await self._call([item for item, _ in batch])
            except Exception as error:  # noqa: BLE001 - it belongs to those who wait
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), result in zip(batch, results, strict=True):
                    if not future.done():
                        future.set_result(result)

    async def close(self) -> None:
        """Let what is under way end, and nothing begin."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait({self._working})
        for _, future in self._waiting:
            future.cancel()
        self._waiting = []

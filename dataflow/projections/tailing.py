"""Reading the journal's end once for all projections that stand there."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from itertools import islice

from dataflow.journal.base import Entry, Journal

KEPT = 1000
"""Newest events that are kept at hand, for projections that are a little behind the first."""

POLL = 0.1
"""Seconds between two looks at a journal that had nothing new."""


class SharedTail:
    """`Journal.tail` for several readers: what one has read the others need not read again, and where there is nothing
    new one of them asks for all."""

    def __init__(self, journal: Journal, kept: int = KEPT) -> None:
        self._journal = journal
        self._recent: deque[Entry] = deque(maxlen=kept)
        self._asking = asyncio.Lock()
        self._nothing_behind = -1
        self._asked = 0.0

    async def read(self, after: int, limit: int) -> list[Entry]:
        """Events behind the position `after`, in the reading order; none: that was the end a moment ago."""
        async with self._asking:
            if found := self._at_hand(after, limit):
                return found
            if after == self._nothing_behind and time.monotonic() - self._asked < POLL:
                return []
            found = await self._journal.tail(after, limit)
            if not found:
                self._nothing_behind, self._asked = after, time.monotonic()
            elif not self._recent or found[-1].position > self._recent[-1].position:
                if self._recent and found[0].position != self._recent[-1].position + 1:
                    self._recent.clear()
                self._recent.extend(found)
            return found

    def _at_hand(self, after: int, limit: int) -> list[Entry]:
        if not self._recent or not self._recent[0].position <= after + 1 <= self._recent[-1].position:
            return []
        first = after + 1 - self._recent[0].position
        return list(islice(self._recent, first, first + limit))

"""When a source that has been read to its end is asked again: so that what trickles in moves in few chunks, and is
committed no later for it. And when an epoch may end, for nothing more can come in time.

A chunk costs some milliseconds, however few rows it has. Asked on and on, a source at its end gives one for each row
that comes; asked shortly before the epoch ends, it gives all of them at once.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress

MOST = 1.0
"""Seconds that a source is left alone at most, however long an epoch lasts: progress shows, and work stays spread."""

MARGIN = 1.5
"""Longer than a chunk lately took: rows that miss the end of their epoch wait for one more, early ones end it."""

_LEAST_LEAD = 0.005
_LEAD_SHARE = 0.25  # of the interval: a lead that is longer says that the machine is too slow for such epochs
_FORGOTTEN = 0.1  # of what a slow chunk took, with each that is quicker


class Pace:
    """Of one lane, whose epochs last `interval` seconds. Times are those of `time.monotonic`."""

    def __init__(self, interval: float, deadline: float) -> None:
        """`deadline`: when reading ends. What has come by then is asked for just before it."""
        self._interval, self._deadline = interval, deadline
        self._due: float | None = None
        self._lead = _LEAST_LEAD
        self._pauses: dict[asyncio.Event, float] = {}  # when each of them began
        self._over = False

    def due(self, at: float) -> None:
        """The open epoch ends then, or the one that comes; those that follow are expected to last `interval` each."""
        self._due = at
        self._wake()

    def took(self, seconds: float) -> None:
        """How long rows were on their way from the source until they were written: so long before an epoch ends they
        have to be asked for. Longer times count at once, shorter ones bit by bit."""
        longest = max(_LEAST_LEAD, min(MARGIN * seconds, self._interval * _LEAD_SHARE))
        before, self._lead = self._lead, max(longest, self._lead + _FORGOTTEN * (longest - self._lead))
        if self._lead > before:
            self._wake()

    def end(self) -> None:
        """No pause any more."""
        self._over = True
        self._wake()

    async def pause(self) -> bool:
        """Wait until the source is worth asking again. False, at once: it has been asked for the last time."""
        begun = time.monotonic()
        if begun >= self._deadline - self._lead:
            return False
        woken = asyncio.Event()
        self._pauses[woken] = begun
        try:
            while not self._over and (left := self.until(begun) - time.monotonic()) > 0:
                woken.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await woken.wait()
        finally:
            del self._pauses[woken]
        return True

    def rests(self, splits: int) -> bool:
        """Whether none of so many is asked again before the open epoch ends."""
        due = self._due
        if due is None or self._over or len(self._pauses) < splits:
            return False
        return all(self.until(begun) >= due for begun in self._pauses.values())

    def until(self, begun: float) -> float:
        """When a pause ends that began then: before the end of an epoch, the first that is not too near, in parts of
        about `MOST`."""
        ahead = self._interval if self._due is None else self._due - self._lead - begun
        shortest = min(self._lead, self._interval / 2)
        if ahead < shortest:
            ahead += math.ceil((shortest - ahead) / self._interval) * self._interval
        pause = ahead / max(1, round(ahead / MOST))
        return min(begun + pause, self._deadline - self._lead)

    def _wake(self) -> None:
        for event in self._pauses:
            event.set()

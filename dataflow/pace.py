"""When a source that has been read to its end is asked again: so that what trickles in moves in few chunks, and is
committed no later for it.

A chunk costs some milliseconds, however few rows it has. Asked on and on, a source at its end gives one for each row
that comes; asked shortly before the epoch ends, it gives all of them at once.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress

MOST = 0.5
"""Seconds that a source is left alone at most, however long an epoch lasts: progress shows, and work stays spread."""

_LEAST_LEAD = 0.005
_LEAD_SHARE = 0.25  # of the interval: a lead that is longer says that the machine is too slow for such epochs


class Pace:
    """Of one lane, whose epochs last `interval` seconds. Times are those of `time.monotonic`."""

    def __init__(self, interval: float, deadline: float) -> None:
        """`deadline`: when reading ends. What has come by then is asked for just before it."""
        self._interval, self._deadline = interval, deadline
        self._due: float | None = None
        self._lead = _LEAST_LEAD
        self._woken: set[asyncio.Event] = set()
        self._over = False

    def due(self, at: float) -> None:
        """The open epoch ends then; those that follow are expected to last `interval` each."""
        self._due = at
        self._wake()

    def took(self, seconds: float) -> None:
        """How long rows were on their way from the source until they were written: so long before an epoch ends they
        have to be asked for. Longer times count at once, shorter ones bit by bit."""
        longest = max(_LEAST_LEAD, min(seconds, self._interval * _LEAD_SHARE))
        self._lead = max(longest, 0.8 * self._lead + 0.2 * longest)

    def end(self) -> None:
        """No pause any more."""
        self._over = True
        self._wake()

    async def pause(self) -> None:
        """Wait until the source is worth asking again."""
        begun = time.monotonic()
        woken = asyncio.Event()
        self._woken.add(woken)
        try:
            while not self._over and (left := self.until(begun) - time.monotonic()) > 0:
                woken.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await woken.wait()
        finally:
            self._woken.discard(woken)

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
        for event in self._woken:
            event.set()

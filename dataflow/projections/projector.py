"""Keeping all projections up with the journal: each on its own, so that one whose store is down holds up no other."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dataflow.errors import Corrupt, DataFlowError, Retryable
from dataflow.journal.base import Entry, Journal
from dataflow.projections.base import Projection
from dataflow.projections.recompute import Swap, recompute
from dataflow.projections.retention import retain
from dataflow.projections.store import Store, TableProjection
from dataflow.projections.tailing import POLL, SharedTail

BATCH = 500
AGAIN = (0.5, 1.0, 2.0, 5.0)
"""Seconds before the next try with a store that does not answer: the last one again and again."""

WINDOW = 1000
"""Batches whose lag is remembered."""

RETENTION = 600.0
"""Seconds between two looks for rows that are too old."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Following:
    """How one projection is doing. `degraded` says why it cannot go on, and is empty where it can. Lags are the
    seconds between the time of an event and its being in the read model."""

    position: int = 0
    events: int = 0
    degraded: str = ""
    lags: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def told(self) -> dict[str, Any]:
        """As plain JSON, for a heartbeat."""
        lags = sorted(self.lags)
        p99 = lags[min(len(lags) - 1, len(lags) * 99 // 100)] if lags else 0.0
        return {
            "position": self.position,
            "events": self.events,
            "degraded": self.degraded,
            "lag_last_s": round(self.lags[-1], 3) if lags else 0.0,
            "lag_p99_s": round(p99, 3),
        }


class Projector:
    """Runs projections over one journal. Several projectors may run at once, in several processes: they do the same
    work twice, and count nothing twice."""

    def __init__(
        self,
        journal: Journal,
        projections: Sequence[Projection],
        store: Store | None = None,
        keep: Mapping[str, float] | None = None,
        *,
        batch: int = BATCH,
    ) -> None:
        """`store` is that of the table projections, `keep` says how long it keeps rows (table -> seconds, 0 for
        ever)."""
        self._journal, self._projections, self._store = journal, projections, store
        self._keep, self._batch = keep or {}, batch
        self._tail = SharedTail(journal)
        self.following = {projection.name: Following() for projection in projections}

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the journal until `stop` is set. Errors of a projection are told in `following`, and tried again."""
        async with asyncio.TaskGroup() as group:
            for projection in self._projections:
                group.create_task(self._follow(projection, stop), name=f"projection-{projection.name}")
            group.create_task(self._retain(stop), name="projections-retention")

    async def catch_up(self) -> None:
        """Take in what is in the journal now, and return; the first error of any projection is raised, once all
        others have done what they can."""
        end = await self._journal.end()
        results = await asyncio.gather(*(self._reach(one, end) for one in self._projections), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def told(self) -> dict[str, Any]:
        """How each projection is doing, as plain JSON."""
        return {name: one.told() for name, one in self.following.items()}

    async def _reach(self, projection: Projection, end: int) -> None:
        async with projection:
            await self._renew(projection)
            position = await projection.position()
            while position < end:
                # The tail may still hold that there was nothing, of a moment before the end was asked for.
                entries = await self._tail.read(position, self._batch) or await self._journal.tail(
                    position, self._batch
                )
                if not entries:
                    raise Corrupt(f"the journal ends at {position}, it should go on to {end}")
                position = await self._taken(projection, entries)

    async def _follow(self, projection: Projection, stop: asyncio.Event) -> None:
        following, failures = self.following[projection.name], 0
        while not stop.is_set():
            try:
                async with projection:
                    await self._renew(projection)
                    position = await projection.position()
                    while not stop.is_set():
                        entries = await self._tail.read(position, self._batch)
                        if entries:
                            position = await self._taken(projection, entries)
                        else:
                            following.position = position
                            await _pause(stop, POLL)
                        if failures:
                            log.warning("projection %s goes on at %d", projection.name, position)
                            failures, following.degraded = 0, ""
            except Exception as error:  # noqa: BLE001  (told and logged; a fault in one must not stop the others)
                self._degraded(projection, error, first=not failures)
                await _pause(stop, AGAIN[min(failures, len(AGAIN) - 1)])
                failures += 1

    async def _retain(self, stop: asyncio.Event) -> None:
        """Drop what is too old, now and every few minutes."""
        while self._store is not None and not stop.is_set():
            try:
                async with self._store:
                    dropped = await retain(self._store, self._keep, datetime.now(UTC))
                if any(dropped.values()):
                    log.info("old rows were dropped: %s", dropped)
            except DataFlowError as error:
                log.warning("old rows cannot be dropped now: %s", error)
            await _pause(stop, RETENTION)

    async def _taken(self, projection: Projection, entries: Sequence[Entry]) -> int:
        await projection.apply(entries)
        following, last = self.following[projection.name], entries[-1]
        following.position = last.position
        following.events += len(entries)
        following.lags.append(max(0.0, (datetime.now(UTC) - last.record.time).total_seconds()))
        return last.position

    async def _renew(self, projection: Projection) -> None:
        """Tables that older code has filled are built anew before they are added to."""
        if isinstance(projection, TableProjection) and self._store is not None:
            place = await projection.place()
            if place.version < projection.model.version:
                log.warning("read model %s is of version %d: rebuilding", projection.name, place.version)
                await recompute(self._journal, self._store, projection.model, Swap.ALWAYS)

    def _degraded(self, projection: Projection, error: Exception, *, first: bool) -> None:
        following = self.following[projection.name]
        foreseen = isinstance(error, DataFlowError)
        code = error.code if isinstance(error, DataFlowError) else f"INTERNAL: {type(error).__name__}"
        following.degraded = f"{code}: {error}"
        if first or not isinstance(error, Retryable):
            where = (projection.name, following.position, error)
            log.warning("projection %s stands still at %d: %s", *where, exc_info=None if foreseen else error)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return

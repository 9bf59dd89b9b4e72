"""How far each projection has come, and how far that is behind the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dataflow.errors import DataFlowError
from dataflow.journal.base import Journal
from dataflow.projections.base import Peeking, Projection
from dataflow.projections.store import TableProjection


@dataclass(frozen=True, slots=True)
class Standing:
    """`behind` counts the events that are missing, `lag` is the age of the oldest of them in seconds; 0 where none is.
    `degraded` says why nothing can be said. `building` is the position of a rebuild under way."""

    name: str
    position: int = 0
    behind: int = 0
    lag: float = 0.0
    building: int | None = None
    degraded: str = ""


async def standings(journal: Journal, projections: Sequence[Projection], now: datetime) -> list[Standing]:
    """Ask every projection's store."""
    return [await _standing(journal, projection, now) for projection in projections]


async def _standing(journal: Journal, projection: Projection, now: datetime) -> Standing:
    building = None
    try:
        if isinstance(projection, Peeking):
            position = await projection.peek()
        else:
            async with projection:
                if isinstance(projection, TableProjection):
                    place = await projection.place()
                    position, building = place.position, place.building
                else:
                    position = await projection.position()
    except DataFlowError as error:
        return Standing(projection.name, degraded=f"{error.code}: {error}")
    missing = await journal.tail(position, 1)
    lag = max(0.0, (now - missing[0].record.time).total_seconds()) if missing else 0.0
    return Standing(projection.name, position, max(0, await journal.end() - position), round(lag, 3), building)

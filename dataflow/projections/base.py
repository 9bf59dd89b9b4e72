"""What every projection is, whatever it writes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, runtime_checkable

from dataflow.domain.events import EVENT_TYPES
from dataflow.domain.record import EventRecord
from dataflow.errors import Corrupt
from dataflow.journal.base import Entry

PIPELINE_TAG = "pipeline-events"


class Projection(Protocol):
    """A read model that follows the journal. Entering connects, leaving lets go. Used from one event loop; several
    processes may apply at the same time, and no event counts twice for that.

    Errors: `Retryable` where the store does not answer (the projector tries again, the others go on), `Corrupt` where
    the events cannot be understood or the store holds what cannot be."""

    @property
    def name(self) -> str: ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def position(self) -> int:
        """The journal's position up to which the store holds everything; what to read on from."""
        ...

    async def apply(self, entries: Sequence[Entry]) -> None:
        """Take in the events, which follow each other without a gap and begin at or before `position() + 1`. Those that
        were taken in before are passed over."""


@runtime_checkable
class Peeking(Protocol):
    """A projection that entering would take away from whoever runs it: its position can be looked at from outside."""

    async def peek(self) -> int:
        """As `position`, without being entered, and without disturbing who is."""
        ...


def following(entries: Sequence[Entry], position: int) -> Sequence[Entry]:
    """The entries behind `position`. `Corrupt` where some between are missing: they would never be made up for."""
    if entries and entries[0].position > position + 1:
        raise Corrupt(f"events {position + 1} to {entries[0].position - 1} of the journal were passed over")
    return entries[max(0, position + 1 - entries[0].position) :] if entries else entries


def of_a_pipeline(record: EventRecord) -> bool:
    """Whether the event is a pipeline's: streams of other kinds are none of a pipeline model's business. `Corrupt` for
    a pipeline's event of a type that only a later version of DataFlow knows: going on without it would be wrong."""
    if PIPELINE_TAG not in record.tags:
        return False
    if record.type not in EVENT_TYPES:
        raise Corrupt(
            f"event type {record.type!r} is not known to this version of DataFlow",
            where=f"{record.stream}/{record.sequence}",
            hint="it was written by a newer DataFlow: upgrade this one",
        )
    return True

"""Values that cross every seam: small, frozen, JSON. They name rows and never carry them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import NewType

Position = NewType("Position", str)
"""Where the next read of a split begins. Opaque text, owned and versioned by the source that wrote it."""


class Delivery(StrEnum):
    """What a sink keeps when an attempt is repeated, strongest first."""

    EXACTLY_ONCE = "exactly_once"  # rows, dead letters and receipt become visible in one act
    EFFECTIVELY_ONCE = "effectively_once"  # a repeated row overwrites itself
    AT_LEAST_ONCE = "at_least_once"


class OnRecord(StrEnum):
    """What becomes of one record that cannot be read, transformed or written."""

    SKIP = "skip"
    FAIL = "fail"
    DEAD_LETTER = "dead_letter"


@dataclass(frozen=True, slots=True)
class Counters:
    """Cumulative over a lane's generation. Always: read + expanded == written + filtered + failed.

    `failed` counts every record with an error; `dead_lettered` those of them that were kept as dead letters.
    `expanded` is the net number of rows that transforms added (flatmap). `bytes_read` counts input bytes.
    """

    read: int = 0
    written: int = 0
    filtered: int = 0
    failed: int = 0
    dead_lettered: int = 0
    expanded: int = 0
    bytes_read: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: Counters) -> Counters:
        return Counters(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The unit of parallel work: some splits on their way to one sink, under one generation of the pipeline."""

    pipeline: str
    generation: int
    sink: str
    number: int
    splits: tuple[str, ...]

    @property
    def name(self) -> str:
        """Unique within pipeline and generation, stable, safe as a file name."""
        return f"{self.sink}-{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Proof that an epoch is committed. The sink keeps the newest one of every lane.

    `positions` are those after the epoch, of every split of the lane read so far; `counters` are cumulative
    from epoch 1 of the generation; `state` refers to operator state stored before the commit.
    """

    pipeline: str
    generation: int
    lane: str
    epoch: int
    positions: Mapping[str, Position]
    counters: Counters = field(default_factory=Counters)
    state: str | None = None

"""What can happen to the registry. The rules of `dataflow.domain.events` hold for these types too: stored for ever,
changed only by fields with defaults. Who, when and as part of what are on the envelope."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, get_args

from dataflow.domain.coordinator.state import Limits, Need, Share
from dataflow.domain.sealing import Catalogue
from dataflow.domain.state import Status

TAGS = ("coordinator",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRegistered:
    schema_version: ClassVar[int] = 1

    pipeline_id: str
    name: str
    status: Status
    version: int
    group: str = ""
    priority: int = 0
    records: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineUnregistered:
    """The pipeline was deleted, or an operator took it out; what it held is free."""

    schema_version: ClassVar[int] = 1

    pipeline_id: str
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStatusUpdated:
    """`share` is what its slot counts for where it runs without having been granted one: before there was a
    coordinator, or while none answered."""

    schema_version: ClassVar[int] = 1

    pipeline_id: str
    name: str
    status: Status
    version: int
    group: str = ""
    priority: int = 0
    records: int = 0
    failed: int = 0
    waiting: bool = False
    share: Share | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceUsageReported:
    """A worker's use of its machine's CPU, its memory, the segments it runs and may run at once."""

    schema_version: ClassVar[int] = 1

    worker: str
    host: str
    cpu_percent: float
    memory_mb: int
    slots: int
    used: int
    task_queue: str
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRemoved:
    schema_version: ClassVar[int] = 1

    worker: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsChanged:
    schema_version: ClassVar[int] = 1

    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionGranted:
    """The pipeline may start. `waited_ms` is how long its start had waited; `reason` tells what room there was."""

    schema_version: ClassVar[int] = 1

    pipeline_id: str
    share: Share
    reason: str
    version: int = 0
    waited_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionQueued:
    """The start is beyond the limits and waits."""

    schema_version: ClassVar[int] = 1

    pipeline_id: str
    reason: str
    version: int = 0
    priority: int = 0
    group: str = ""
    need: Need = field(default_factory=Need)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionRefused:
    """The start is beyond the limits and is not made."""

    schema_version: ClassVar[int] = 1

    pipeline_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionWithdrawn:
    """The start no longer waits, or its slot is given back unused."""

    schema_version: ClassVar[int] = 1

    pipeline_id: str
    reason: str


Event = (
    PipelineRegistered
    | PipelineUnregistered
    | PipelineStatusUpdated
    | ResourceUsageReported
    | WorkerRemoved
    | LimitsChanged
    | AdmissionGranted
    | AdmissionQueued
    | AdmissionRefused
    | AdmissionWithdrawn
)

EVENT_TYPES: Mapping[str, type[Event]] = {cls.__name__: cls for cls in get_args(Event)}

CATALOGUE: Catalogue[Event] = Catalogue(EVENT_TYPES, {}, lambda event: TAGS)
"""Puts these events into envelopes and takes them out again."""

"""What can happen to a pipeline. Stored for ever: an event type changes only by fields with defaults, or by a new
`schema_version` with an upcaster (`UPCASTERS`), and a stored event of every released version stays a test fixture.

An event's type is the name of its class. Pipeline, time, actor and ids are on the envelope (`EventRecord`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, get_args

from pydantic import Field

from dataflow.domain.flow import Counters
from dataflow.domain.record import EventRecord, verify
from dataflow.domain.sealing import Catalogue, Upcaster
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import LaneCheckpoint, Metrics, PipelineError, Plan, Rewind

__all__ = [
    "EVENT_TYPES",
    "UPCASTERS",
    "BatchIngested",
    "BatchProcessed",
    "BatchTimedOut",
    "CheckpointMove",
    "CheckpointUpdated",
    "ConfigUpdated",
    "Event",
    "EventRecord",
    "MetricsReported",
    "PipelineCompleted",
    "PipelineCreated",
    "PipelineDeleted",
    "PipelineFailed",
    "PipelinePaused",
    "PipelinePlanned",
    "PipelineReset",
    "PipelineResumed",
    "PipelineStarted",
    "PipelineStopped",
    "RetryScheduled",
    "StartQueued",
    "StartWithdrawn",
    "seal",
    "tags",
    "unseal",
    "verify",
]

LIFECYCLE = ("pipeline-lifecycle",)
BASE_TAGS = ("pipeline-events", "all-events")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineCreated:
    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = ()

    name: str
    description: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStarted:
    """`offset` is the checkpoint's, from which this run goes on."""

    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = LIFECYCLE

    generation: int
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StartQueued:
    """A start waits for a free slot; `reason` tells what there is no room for."""

    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = LIFECYCLE

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWithdrawn:
    """The start that waited is no longer wanted."""

    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = LIFECYCLE

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStopped:
    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = LIFECYCLE

    reason: str
    final_metrics: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelinePaused:
    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = LIFECYCLE

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineResumed:
    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = LIFECYCLE


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelinePlanned:
    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = LIFECYCLE

    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchIngested:
    """A batch entered: a segment's records read on `lane`, or a pushed batch (`lane` is empty, epochs are 0)."""

    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = ("batch-events",)

    batch_id: str
    record_count: int
    source_offset: int
    lane: str = ""
    first_epoch: int = 0
    last_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchProcessed:
    """What became of the batch's records. `success_count` = written + filtered; `counters` are the batch's own (not
    cumulative); `epochs` is the compact ledger of the segment. `cpu_ms`, the CPU time it took, is left out where it is
    not known: events of before stay what they were, hash and all."""

    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = ("batch-events", "metrics")

    batch_id: str
    success_count: int
    failure_count: int
    processing_time_ms: int
    cpu_ms: Annotated[int, Field(exclude_if=lambda ms: ms == 0)] = 0
    lane: str = ""
    counters: Counters = field(default_factory=Counters)
    epochs: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointMove:
    """Where the checkpoint moved. `lanes` are those that moved; the others stay. Its time is the event's."""

    offset: int
    records_processed: int
    lanes: Mapping[str, LaneCheckpoint] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointUpdated:
    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = LIFECYCLE

    checkpoint: CheckpointMove


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsReported:
    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = ("metrics",)

    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled:
    """The run (or `lane` of it) goes on after `backoff_ms`; this is its retry number `retry_count` in a row, from 1."""

    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = ("retry-events", "error-recovery")

    error: PipelineError
    retry_count: int
    backoff_ms: int
    lane: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTimedOut:
    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = ("timeout-events", "failure-events")

    batch_id: str
    timeout_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineFailed:
    """The run ended in an error, after `retry_count` retries."""

    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = ("failure-events",)

    error: PipelineError
    retry_count: int
    final_metrics: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineCompleted:
    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = LIFECYCLE

    outputs: Mapping[str, Any]
    final_metrics: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineReset:
    """`generation` is the one that holds from now on; a higher one starts from the first record, or where `rewind`
    says."""

    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = LIFECYCLE

    from_start: bool
    generation: int
    rewind: Rewind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigUpdated:
    """The whole new definition. `plan_kept` is false where sinks came or went and the source must be cut anew;
    a higher `generation` starts from the first record."""

    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = LIFECYCLE

    spec: Mapping[str, Any]
    generation: int
    plan_kept: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineDeleted:
    schema_version: ClassVar[int] = 1
    extra_tags: ClassVar[tuple[str, ...]] = LIFECYCLE


Event = (
    PipelineCreated
    | PipelineStarted
    | StartQueued
    | StartWithdrawn
    | PipelineStopped
    | PipelinePaused
    | PipelineResumed
    | PipelinePlanned
    | BatchIngested
    | BatchProcessed
    | CheckpointUpdated
    | MetricsReported
    | RetryScheduled
    | BatchTimedOut
    | PipelineFailed
    | PipelineCompleted
    | PipelineReset
    | ConfigUpdated
    | PipelineDeleted
)

EVENT_TYPES: Mapping[str, type[Event]] = {cls.__name__: cls for cls in get_args(Event)}
UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""(type, schema version n) -> the payload as version n + 1 has it."""


def tags(event: Event) -> tuple[str, ...]:
    """The tags of an event: two that all have, and its own; creation is tagged by source and sink types."""
    own = event.extra_tags
    if isinstance(event, PipelineCreated):
        spec = PipelineSpec.model_validate(dict(event.spec))
        own = (f"source-{spec.source.type}", *sorted({f"sink-{sink.type}" for sink in spec.sinks}))
    return (*BASE_TAGS, *own)


CATALOGUE: Catalogue[Event] = Catalogue(EVENT_TYPES, UPCASTERS, tags)

seal, unseal = CATALOGUE.seal, CATALOGUE.unseal

"""What is known of a pipeline: the aggregate's state and the values it is made of.

Everything here is frozen, made of JSON values, and comes back equal from a JSON round trip through pydantic's
`TypeAdapter`. All times are aware UTC datetimes that were taken from event records, never from a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from dataflow.domain.flow import Counters, Position
from dataflow.domain.spec import PipelineSpec

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
GENESIS = "0" * 64
"""`previous_hash` of the first event of a stream."""

MEMORY = 1000
"""How many pushed batches a pipeline remembers: repeats of these need no look into the inbox, which knows them all.
Segments need none: their epochs count up."""


class Status(StrEnum):
    """Where a pipeline stands. `dataflow.domain.transitions` says which may follow which."""

    EMPTY = "empty"
    CONFIGURED = "configured"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    COMPLETED = "completed"
    FAILED = "failed"
    DELETED = "deleted"


class ErrorType(StrEnum):
    """The part of a pipeline an error came from."""

    SOURCE = "source"
    TRANSFORM = "transform"
    SINK = "sink"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineError:
    """An error as pipelines report and store it. `where` is the place of the error (`transforms[0]`, `orders.csv:17`).

    `retryable` is what the component that failed says; None where nobody knows, then the code decides.
    """

    error_type: ErrorType
    code: str
    message: str
    retryable: bool | None = None
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Totals of one run, or of all runs of a pipeline.

    `records_processed` counts records that ended well: written or filtered. `records_failed` counts those with an
    error, `records_dead_lettered` those of them that were kept. `processing_ms` sums the batches' own times (lanes
    work in parallel, so it may exceed the time that passed); `active_seconds` is the time from the start of the run
    to its latest batch, pauses left out. The average is `processing_ms / batches_processed`, the throughput
    `records_processed / active_seconds`; both are 0 where nothing was measured.
    """

    records_processed: int = 0
    records_failed: int = 0
    records_filtered: int = 0
    records_dead_lettered: int = 0
    batches_processed: int = 0
    average_processing_time_ms: float = 0.0
    last_processed_at: datetime | None = None
    throughput_per_second: float = 0.0
    processing_ms: int = 0
    active_seconds: float = 0.0

    def plus_batch(
        self, *, processed: int, failed: int, filtered: int, dead_lettered: int, ms: int, active: float, at: datetime
    ) -> Metrics:
        """These totals and one batch more; `active` seconds have passed since the batch before it."""
        records = self.records_processed + processed
        batches = self.batches_processed + 1
        total_ms = self.processing_ms + ms
        seconds = self.active_seconds + active
        return Metrics(
            records_processed=records,
            records_failed=self.records_failed + failed,
            records_filtered=self.records_filtered + filtered,
            records_dead_lettered=self.records_dead_lettered + dead_lettered,
            batches_processed=batches,
            average_processing_time_ms=total_ms / batches,
            last_processed_at=at,
            throughput_per_second=records / seconds if seconds > 0 else 0.0,
            processing_ms=total_ms,
            active_seconds=seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneCheckpoint:
    """How far one lane is: its last recorded epoch, the positions after it, its counters from epoch 1 on, and the
    batch (segment) that brought it there."""

    epoch: int
    positions: Mapping[str, Position] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    batch_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """How far a pipeline is in its generation.

    `offset` is one number for people: records read by all lanes, or what was reported from outside.
    What reading really resumes from are the lanes (and, above them, the sink's own receipts). `timestamp` is when
    the checkpoint last moved; `records_processed` counts as in `Metrics`, over the whole generation.
    """

    offset: int = 0
    timestamp: datetime = EPOCH
    records_processed: int = 0
    lanes: Mapping[str, LaneCheckpoint] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLane:
    """A lane of the plan: these splits go to that sink. Its name is unique within the generation."""

    sink: str
    number: int
    splits: tuple[str, ...]

    @property
    def name(self) -> str:
        """As `flow.Lane.name`."""
        return f"{self.sink}-{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the splits of the source are cut into lanes, and what was pinned when that was decided.

    `number` rises with every plan of a pipeline. `schema` maps column to type, as text; `pin` is the source's own
    opaque JSON. `total_bytes` and `total_rows` are for progress, None where endless or unknown.
    """

    number: int
    generation: int
    lanes: tuple[PlannedLane, ...]
    schema: Mapping[str, str] = field(default_factory=dict)
    pin: str = "{}"
    total_bytes: int | None = None
    total_rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewind:
    """Where a generation begins that reads again, on purpose, what `generation` had read.

    `lanes` has the positions of each lane's splits; a split without one begins at its first record. `kept` is, for each
    lane, the last epoch whose output is to stay: what sinks wrote after it goes, where they can take it away; None
    leaves all of it there. `event` is the event whose checkpoint this is, 0 where the positions were given.
    """

    generation: int
    lanes: Mapping[str, Mapping[str, Position]] = field(default_factory=dict)
    kept: Mapping[str, int] | None = None
    event: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineState:
    """All that is known of one pipeline after `version` events. Only `pipeline.evolve` makes new ones.

    `spec` is the stored definition (`PipelineSpec.stored()`). `metrics` counts this run, `lifetime` all of them, this
    one included. `error` is why the pipeline failed, or what the retry under way is for.
    `recent_batches` are the ids of the newest pushed batches, oldest first, `recent_offsets` their source offsets; a
    batch at or below `forgotten_offset` may be a repeat of one no longer remembered.
    `retries` counts the failures in a row of each lane (`""`: of no lane in particular), `retry_count` is the highest.
    `queued_at` is since when a start waits for a free slot, `queue_reason` why.
    `rewind` says where this generation began, None for the first records; `former` is the plan of the generation that
    was rewound, whose splits, columns and pin hold on.
    `paused_seconds` sums this run's finished pauses. `reported` holds the figures of the latest metrics report.
    """

    pipeline_id: str
    status: Status = Status.EMPTY
    name: str = ""
    description: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    generation: int = 1
    version: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    queued_at: datetime | None = None
    queue_reason: str = ""
    paused_at: datetime | None = None
    pause_reason: str = ""
    paused_seconds: float = 0.0
    stopped_at: datetime | None = None
    stop_reason: str = ""
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    error: PipelineError | None = None
    retry_count: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)
    plan: Plan | None = None
    plan_number: int = 0
    rewind: Rewind | None = None
    former: Plan | None = None
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    metrics: Metrics = field(default_factory=Metrics)
    lifetime: Metrics = field(default_factory=Metrics)
    reported: Mapping[str, float] = field(default_factory=dict)
    recent_batches: tuple[str, ...] = ()
    recent_offsets: tuple[int, ...] = ()
    forgotten_offset: int = -1
    outputs: Mapping[str, Any] = field(default_factory=dict)
    last_hash: str = GENESIS

    @classmethod
    def empty(cls, pipeline_id: str) -> PipelineState:
        """The state before the first event."""
        return cls(pipeline_id=pipeline_id)

    @property
    def definition(self) -> PipelineSpec:
        """The stored definition, parsed."""
        return PipelineSpec.model_validate(dict(self.spec))

    def remembering(self, batch_id: str, offset: int) -> PipelineState:
        """This state with one batch id more in its memory, and the oldest one forgotten if it was full."""
        ids, offsets, forgotten = (
            (*self.recent_batches, batch_id),
            (*self.recent_offsets, offset),
            self.forgotten_offset,
        )
        if len(ids) > MEMORY:
            forgotten = max(forgotten, *offsets[:-MEMORY])
        return replace(self, recent_batches=ids[-MEMORY:], recent_offsets=offsets[-MEMORY:], forgotten_offset=forgotten)


@cache
def states() -> TypeAdapter[PipelineState]:
    """The state as plain JSON, and back. Made when first asked for: it takes as long as a small run does."""
    return TypeAdapter(PipelineState)

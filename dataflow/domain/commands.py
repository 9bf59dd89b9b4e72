"""What a pipeline can be asked, or told by its own workflow.

Of the original platform's thirteen commands two are none here: GetState is a query (it changes nothing), and
StopEntity is the shutdown of a worker, which Temporal handles. `kind` tells the commands apart in JSON, so a
`Command` survives a round trip through pydantic's `TypeAdapter(Command)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from dataflow.domain.flow import Counters, Position
from dataflow.domain.state import Checkpoint, PipelineError, Plan, Rewind


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who asked, and as part of what. `correlation_id` is one id for all that one request set off; `causation_id`
    is the id of the request or event directly before. They go onto every event record the command leads to."""

    actor: str = "system"
    correlation_id: str = ""
    causation_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePipeline:
    """Define the pipeline. `spec` is a definition as `PipelineSpec` takes it, in short or normalised form."""

    spec: Mapping[str, Any]
    kind: Literal["CreatePipeline"] = "CreatePipeline"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPipeline:
    """Start a configured pipeline, or start a stopped one again where it was."""

    kind: Literal["StartPipeline"] = "StartPipeline"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStart:
    """A start was asked for and waits for a free slot. Where one waits already, nothing changes."""

    reason: str
    kind: Literal["QueueStart"] = "QueueStart"


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawStart:
    """A start that waits is no longer wanted."""

    reason: str = ""
    kind: Literal["WithdrawStart"] = "WithdrawStart"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopPipeline:
    """End the run. The checkpoint stays; the next start goes on from it."""

    reason: str = ""
    kind: Literal["StopPipeline"] = "StopPipeline"


@dataclass(frozen=True, slots=True, kw_only=True)
class PausePipeline:
    """Hold the run; its checkpoint and metrics stay."""

    reason: str = ""
    kind: Literal["PausePipeline"] = "PausePipeline"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePipeline:
    """Go on after a pause."""

    kind: Literal["ResumePipeline"] = "ResumePipeline"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestBatch:
    """Records pushed by a caller, stored in the inbox under `token` and not yet seen by the source: their number (1 to
    10 000) and the caller's offset (0 or more). A batch id that is remembered changes nothing; the inbox knows all of
    them, so whoever carries this out asks it before the event is recorded."""

    batch_id: str
    record_count: int
    source_offset: int
    token: str = ""
    kind: Literal["IngestBatch"] = "IngestBatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSegment:
    """What one segment committed on one lane.

    `counters` are cumulative over the lane's generation and `positions` cover every split read so far, both as in
    the last receipt: epochs that an attempt committed and could not report are thus covered by the next report.
    `first_epoch` may be `last_epoch + 1` where a segment found earlier commits and made none itself. `epochs` is the
    compact ledger, one JSON object for each epoch. `milliseconds` and `cpu_ms` as the segment reported them.
    `generation` is the one the segment ran under; None means the current one.
    """

    batch_id: str
    lane: str
    first_epoch: int
    last_epoch: int
    positions: Mapping[str, Position] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    epochs: tuple[Mapping[str, Any], ...] = ()
    milliseconds: int = 0
    cpu_ms: int = 0
    generation: int | None = None
    kind: Literal["RecordSegment"] = "RecordSegment"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateCheckpoint:
    """Move the checkpoint's offset and count forward from outside. Lanes are left out or as they are: only what their
    sinks commit moves them. `timestamp` is ignored, the event's own time counts. Going back takes a reset."""

    checkpoint: Checkpoint
    kind: Literal["UpdateCheckpoint"] = "UpdateCheckpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMetrics:
    """Figures from outside (at most 100), kept as the latest report. They change none of the pipeline's own totals."""

    metrics: Mapping[str, float]
    kind: Literal["ReportMetrics"] = "ReportMetrics"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFailure:
    """The run hit an error, on `lane` if that is known: each lane's failures in a row are counted apart, so one that
    goes on well does not hide one that never does. `jitter`, between -0.2 and 0.2, comes from the caller's random
    source."""

    error: PipelineError
    jitter: float = 0.0
    lane: str = ""
    kind: Literal["ReportFailure"] = "ReportFailure"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptPlan:
    """The source was looked at and cut into lanes. `plan.number` is above `state.plan_number`. The same plan again
    changes nothing."""

    plan: Plan
    kind: Literal["AdoptPlan"] = "AdoptPlan"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletePipeline:
    """All lanes reached the end of a bounded source. `outputs` is JSON: what each sink published."""

    outputs: Mapping[str, Any] = field(default_factory=dict)
    kind: Literal["CompletePipeline"] = "CompletePipeline"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetPipeline:
    """Back to configured, keeping the definition. A failed or completed pipeline keeps its checkpoint too, unless
    `from_start`: then a new generation begins at the source's first record, and the plan is dropped. With `rewind` the
    new generation begins there instead."""

    from_start: bool = False
    rewind: Rewind | None = None
    kind: Literal["ResetPipeline"] = "ResetPipeline"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateConfig:
    """Change the definition of a pipeline that is configured or stopped.

    `spec` is a whole definition that replaces the stored one; with `partial` it is laid over the stored one, top-level
    key by key (`{"description": "..."}`; `sink` replaces `sinks`; a value of None goes back to the default).
    Once data has moved, another source or sink (anything but batch sizes, polling and routing) begins a new
    generation and must be asked for with `from_start`. The pipeline's id never changes.
    """

    spec: Mapping[str, Any]
    partial: bool = False
    from_start: bool = False
    kind: Literal["UpdateConfig"] = "UpdateConfig"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTimeout:
    """A batch took longer than it may. Ignored where that batch is recorded already. `jitter` and `lane` as in
    ReportFailure."""

    batch_id: str
    timeout_ms: int
    jitter: float = 0.0
    lane: str = ""
    kind: Literal["BatchTimeout"] = "BatchTimeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePipeline:
    """Retire the pipeline for good. Its id is not given out again and its events stay."""

    kind: Literal["DeletePipeline"] = "DeletePipeline"


Command = Annotated[
    CreatePipeline
    | StartPipeline
    | QueueStart
    | WithdrawStart
    | StopPipeline
    | PausePipeline
    | ResumePipeline
    | IngestBatch
    | RecordSegment
    | UpdateCheckpoint
    | ReportMetrics
    | ReportFailure
    | AdoptPlan
    | CompletePipeline
    | ResetPipeline
    | UpdateConfig
    | BatchTimeout
    | DeletePipeline,
    Field(discriminator="kind"),
]

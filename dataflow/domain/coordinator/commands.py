"""What the coordinator is told and asked. `PipelineReport` is what pipelines say of themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from dataflow.domain.coordinator.state import Limits, Need
from dataflow.domain.state import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineReport:
    """A pipeline after `version` events. `changed`: something the coordinator decides by is new (status, name, group,
    priority, need, waiting); else it only tells that it lives. `waiting`: a start of it waits for a slot."""

    pipeline_id: str
    name: str
    status: Status
    version: int
    group: str = ""
    priority: int = 0
    records: int = 0
    failed: int = 0
    need: Need = field(default_factory=Need)
    waiting: bool = False
    changed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterPipeline:
    """Add a pipeline. `Conflict` where its id is known."""

    report: PipelineReport


@dataclass(frozen=True, slots=True, kw_only=True)
class UnregisterPipeline:
    """Take a pipeline out and give back what it holds. `NotFound` where it is not known."""

    pipeline_id: str
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePipelineStatus:
    """A pipeline's own report. Ignored where the pipeline is not known or the report is not newer than the last."""

    report: PipelineReport


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteReport:
    """A report of whatever pipeline, in whatever state: registers it, updates it or takes it out."""

    report: PipelineReport


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportResourceUsage:
    """A worker tells of itself; its report replaces the one before."""

    worker: str
    host: str
    cpu_percent: float
    memory_mb: int
    slots: int
    used: int
    task_queue: str
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveWorker:
    """A worker has gone. `NotFound` where it is not known."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeLimits:
    """New limits hold from now on; what runs goes on."""

    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAdmission:
    """May this pipeline start? One that holds a slot has it; one that waits goes on waiting."""

    report: PipelineReport


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantWaiting:
    """Give the slots that are free to those that wait, by priority, then by time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawAdmission:
    """A start no longer waits, or a slot that was granted is not used."""

    pipeline_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidy:
    """Remove the workers that are silent and the grants that nothing came of, as of `at`."""

    at: datetime


Command = (
    RegisterPipeline
    | UnregisterPipeline
    | UpdatePipelineStatus
    | NoteReport
    | ReportResourceUsage
    | RemoveWorker
    | ChangeLimits
    | RequestAdmission
    | GrantWaiting
    | WithdrawAdmission
    | Tidy
)

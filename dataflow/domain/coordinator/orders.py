"""What passes between the coordinator's workflow, its activities and those who speak to it: small JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dataflow.domain.commands import Origin
from dataflow.domain.coordinator.commands import PipelineReport, ReportResourceUsage
from dataflow.domain.coordinator.state import Limits


class Admission(StrEnum):
    """What became of a request to start."""

    GRANTED = "granted"
    QUEUED = "queued"
    REFUSED = "refused"
    UNANSWERED = "unanswered"  # the coordinator did not answer in time: the start is made, and counted when reported


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionRequest:
    """`report` is the pipeline as it asks, `origin` who wants it to start."""

    report: PipelineReport
    origin: Origin = field(default_factory=Origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to an `AdmissionRequest`, and why."""

    admission: Admission
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A worker tells of itself, which limits its settings name, and what CPU its pipelines took since it told last:
    pipeline -> percent of its machine."""

    usage: ReportResourceUsage
    limits: Limits
    cpu: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallOrder:
    """Fold the stream from the journal, up to the event `upto` (None: the newest), and give part `part` of the state.
    With `survey`, count the streams of pipelines too."""

    stream: str
    upto: int | None = None
    part: int = 0
    survey: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """A part of the packed state after the event `sequence`. `parts` tells how many there are: none where nothing has
    happened yet."""

    sequence: int
    parts: int
    text: str = ""
    pipelines: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyOrder:
    """Tell these pipelines that their start need not wait any longer, each with the origin of its request."""

    granted: tuple[tuple[str, Origin], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyOrder:
    """Report every pipeline of the journal to this coordinator."""

    coordinator_id: str


Heard = Mapping[str, tuple[int, int] | None]
"""Pipeline -> records and failed records, of those that recorded something lately; None for one that only runs."""

"""What the workflow orders of activities, and what they report: small JSON values, never rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dataflow.domain.coordinator.commands import PipelineReport
from dataflow.domain.events import EventRecord
from dataflow.domain.flow import Lane, Position, Receipt
from dataflow.domain.state import PipelineError, Plan


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """Epochs `first` to `last` of a segment: rows read and written in them, positions after the last one."""

    first: int
    last: int
    read: int
    written: int
    positions: Mapping[str, Position] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReport:
    """One segment over one lane. `receipt` is the lane's newest, `ledger` covers the epochs from `first_epoch` on.

    `ended`: the input is exhausted. `error`: why the segment stopped early; what was committed before it counts.
    `grown`: the source has splits that the plan does not know."""

    lane: str
    first_epoch: int
    receipt: Receipt
    ended: bool
    ledger: tuple[LedgerEntry, ...] = ()
    milliseconds: int = 0
    error: PipelineError | None = None
    grown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOrder:
    """Look at the source, check the transforms against it, make room in the sinks, cut the splits into lanes. `plan`:
    the one that the generation is read under; its lanes keep their splits, and splits that were added join them."""

    pipeline: str
    generation: int
    number: int
    spec: Mapping[str, Any]
    plan: Plan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOrder:
    """Move `lane` from its sink's last receipt on, for `seconds` or `max_epochs`, or to the end of the input.
    `settled`: how far upstream may forget, by split."""

    lane: Lane
    spec: Mapping[str, Any]
    plan: Plan
    seconds: float
    max_epochs: int = 5_000
    settled: Mapping[str, Position] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendOrder:
    """Append to the journal. `snapshot` is the state after the last record, where one is due; `report` what the
    coordinator is to know of it."""

    records: tuple[EventRecord, ...]
    snapshot: Mapping[str, Any] | None = None
    report: PipelineReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteOrder:
    """All lanes have ended: let every sink publish what only a whole run can show. `settled` as in `SegmentOrder`."""

    pipeline: str
    generation: int
    spec: Mapping[str, Any]
    plan: Plan
    settled: Mapping[str, Position] = field(default_factory=dict)

"""What the workflow orders of activities, and what they report: small JSON values, never rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from dataflow.domain.coordinator.commands import PipelineReport
from dataflow.domain.events import EventRecord
from dataflow.domain.flow import Lane, Position, Receipt
from dataflow.domain.state import PipelineError, Plan, Rewind


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

    `milliseconds` went by; `cpu_ms` of CPU time were its share of what its worker's process took.
    `ended`: the input is exhausted. `error`: why the segment stopped early; what was committed before it counts.
    `grown`: the source has splits that the plan does not know."""

    lane: str
    first_epoch: int
    receipt: Receipt
    ended: bool
    ledger: tuple[LedgerEntry, ...] = ()
    milliseconds: int = 0
    cpu_ms: int = 0
    error: PipelineError | None = None
    grown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOrder:
    """Look at the source, check the transforms against it, make room in the sinks, cut the splits into lanes. `plan`:
    the one that the generation is read under; its lanes keep their splits, and splits that were added join them.
    `former` and `rewind`: the generation reads again what the one before had read, under what was pinned then."""

    pipeline: str
    generation: int
    number: int
    spec: Mapping[str, Any]
    plan: Plan | None = None
    former: Plan | None = None
    rewind: Rewind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to go back to: the checkpoint after an event, that of a time, or a place for every split (`*`: for all of
    them) as its source understands it: a number, a time, or a position as events have it."""

    event: int | None = None
    time: datetime | None = None
    splits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocateOrder:
    """Find the positions of `target` for the lanes of `plan`."""

    pipeline: str
    spec: Mapping[str, Any]
    plan: Plan
    target: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOrder:
    """Move `lane` from its sink's last receipt on, for `seconds` or `max_epochs`, or to the end of the input.

    `settled`: how far upstream may forget, by split. `starts`: where splits begin that no receipt knows yet; the others
    at their first record."""

    lane: Lane
    spec: Mapping[str, Any]
    plan: Plan
    seconds: float
    max_epochs: int = 5_000
    settled: Mapping[str, Position] = field(default_factory=dict)
    starts: Mapping[str, Position] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleOrder:
    """Nothing moves for now: tell upstream how far it may forget. `settled` as in `SegmentOrder`."""

    pipeline: str
    generation: int
    spec: Mapping[str, Any]
    settled: Mapping[str, Position]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendOrder:
    """Append to the journal. `snapshot` is the state after the last record, where one is due; `report` what the
    coordinator is to know of it."""

    records: tuple[EventRecord, ...]
    snapshot: Mapping[str, Any] | None = None
    report: PipelineReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOrder:
    """Let the source see the batch that is stored in the inbox under `token`, then append its event to the journal;
    neither where the inbox has that batch already."""

    pipeline: str
    batch_id: str
    token: str
    append: AppendOrder


class Admission(StrEnum):
    """What became of a batch that is staged in the inbox."""

    NEW = "new"  # it has its place now, or had it already under the same token
    REPEAT = "repeat"  # the same batch was admitted under another token
    CONFLICT = "conflict"  # another batch has that id
    GONE = "gone"  # it is not staged any more


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOrder:
    """Let the source see batches that are stored in the inbox (id, token), in that order."""

    pipeline: str
    batches: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestAnswer:
    """Only the event of a NEW batch was appended."""

    admission: Admission


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteOrder:
    """All lanes have ended: let every sink publish what only a whole run can show. `settled` as in `SegmentOrder`."""

    pipeline: str
    generation: int
    spec: Mapping[str, Any]
    plan: Plan
    settled: Mapping[str, Position] = field(default_factory=dict)

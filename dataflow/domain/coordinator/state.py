"""What the coordinator knows: pipelines, workers, who holds a slot, who waits for one. JSON values, all frozen.

CPU is counted in thousandths of a percent of one machine and memory in megabytes, both whole numbers: sums of them are
exact after any number of additions and subtractions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dataflow.domain.state import GENESIS, Status

ACTIVE = frozenset({Status.RUNNING, Status.PAUSED})
"""A pipeline in one of these holds a slot; a pause keeps it, so that going on asks nobody."""

REMEMBERED = 1000
"""How many removed pipelines are remembered, so that a report which comes too late brings none of them back."""


class WhenFull(StrEnum):
    """What becomes of a start that is beyond the limits."""

    QUEUE = "queue"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may run at once.

    `pipelines_per_worker` counts for each worker that is there, and for one where none is. `cpu_percent` is a share of
    each machine, `memory_mb` the sum over the system. A pipeline that runs counts for what its definition asks for,
    else for `pipeline_cpu_percent` and `pipeline_memory_mb`. With `measured`, what workers measure counts too where it
    is more. `group_slots` bounds the groups it names, `slots_per_group` all others (0: they have no bound).
    A worker that is silent for `silent_seconds` is removed; so is a grant that leads to no start within
    `grant_seconds`.
    """

    when_full: WhenFull = WhenFull.QUEUE
    pipelines_per_worker: int = 100
    cpu_percent: float = 80.0
    memory_mb: int = 80_000
    pipeline_cpu_percent: float = 0.8
    pipeline_memory_mb: int = 64
    measured: bool = False
    group_slots: Mapping[str, int] = field(default_factory=dict)
    slots_per_group: int = 0
    silent_seconds: float = 180.0
    grant_seconds: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a pipeline asks for while it runs; None: what the limits say is usual."""

    cpu_percent: float | None = None
    memory_mb: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a slot that is held counts for."""

    cpu: int
    memory_mb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """One pipeline. `version` counts the events of its own stream that it had when it was last heard of: a report with
    a lower one comes too late. `share` is what its slot counts for, None where it holds none."""

    name: str
    status: Status
    version: int
    registered_at: datetime
    heard_at: datetime
    group: str = ""
    priority: int = 0
    records: int = 0
    failed: int = 0
    share: Share | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A start that waits: of two with the same priority the one with the lower `place` goes first."""

    place: int
    since: datetime
    reason: str
    actor: str
    correlation_id: str = ""
    priority: int = 0
    group: str = ""
    need: Need = Need()


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker as it last told of itself: use of its machine's CPU, its own memory, segments it runs and may run."""

    host: str
    cpu_percent: float
    memory_mb: int
    slots: int
    used: int
    task_queue: str
    since: datetime
    reported_at: datetime
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorState:
    """Everything after `version` events. `held`, `reserved_cpu`, `reserved_memory_mb` and `held_by_group` sum up the
    slots that pipelines hold; `granted` are the slots whose pipeline has not reported to be running yet."""

    coordinator_id: str
    version: int = 0
    last_hash: str = GENESIS
    updated_at: datetime | None = None
    limits: Limits = Limits()
    pipelines: Mapping[str, Registered] = field(default_factory=dict)
    workers: Mapping[str, Worker] = field(default_factory=dict)
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    granted: Mapping[str, datetime] = field(default_factory=dict)
    removed: Mapping[str, int] = field(default_factory=dict)
    held: int = 0
    reserved_cpu: int = 0
    reserved_memory_mb: int = 0
    held_by_group: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def empty(cls, coordinator_id: str) -> CoordinatorState:
        """The state before the first event."""
        return cls(coordinator_id=coordinator_id)

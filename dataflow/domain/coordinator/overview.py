"""What people ask of the coordinator: health, counts, one pipeline, a page of them. Answers of bounded size."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dataflow.domain.coordinator.admission import in_order, machines, slots
from dataflow.domain.coordinator.state import CoordinatorState, Limits, Registered, Worker
from dataflow.domain.state import Status

SHOWN = 100
"""Starts that wait, stale pipelines and workers that an overview names at most; the counts are always whole."""

BUSIEST = 10
"""Pipelines that take most, named by an overview."""


class Health(StrEnum):
    """The state of the whole system in one word: see `health`."""

    IDLE = "idle"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"


def health(counts: Mapping[Status, int]) -> Health:
    """Of all registered pipelines: none registered is idle, none failed healthy, half of them or more failed critical,
    fewer than half degraded."""
    total, failed = sum(counts.values()), counts.get(Status.FAILED, 0)
    if not total:
        return Health.IDLE
    if not failed:
        return Health.HEALTHY
    return Health.CRITICAL if 2 * failed >= total else Health.DEGRADED


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """The last sign of life of a pipeline between two changes: when, and its counts then. Not part of the recorded
    state; kept only as long as there is a coordinator (Invariant 7)."""

    at: datetime
    records: int = 0
    failed: int = 0


CpuByWorker = Mapping[str, Mapping[str, float]]
"""Worker -> pipeline -> CPU in percent of the worker's machine, as measured last. Not recorded, as beats are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """What a pipeline takes, as its workers measured last: CPU in percent of one machine."""

    pipeline_id: str
    cpu_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineInfo:
    """A pipeline as the coordinator knows it. `cpu_percent` and `memory_mb` are what its slot counts for,
    `cpu_used_percent` is what its workers measured last. `waiting` is why its start waits, and `ahead` how many go
    before it. `stale`: it should be running, and nothing has been heard of it for too long."""

    pipeline_id: str
    name: str
    status: Status
    group: str
    priority: int
    records: int
    failed: int
    registered_at: datetime
    last_heartbeat: datetime
    holds_slot: bool
    cpu_percent: float = 0.0
    cpu_used_percent: float = 0.0
    memory_mb: int = 0
    waiting: str = ""
    waiting_since: datetime | None = None
    ahead: int = 0
    stale: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingStart:
    """A start that waits, in the order in which they go."""

    pipeline_id: str
    priority: int
    group: str
    since: datetime
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The system as the coordinator knows it.

    `cpu_percent` is the mean over machines of what their workers measured, `memory_mb` the sum of the workers' own
    memory, `busiest` the pipelines that take most of the CPU. `reserved_*` is what the slots that are held count for.
    `failed_records` and `records` sum up what the pipelines reported last.
    """

    coordinator_id: str
    health: Health
    events: int
    updated_at: datetime | None
    total: int
    by_status: Mapping[str, int]
    records: int
    failed_records: int
    slots: int
    held: int
    reserved_cpu_percent: float
    cpu_limit_percent: float
    reserved_memory_mb: int
    memory_limit_mb: int
    cpu_percent: float
    memory_mb: int
    segments: int
    segment_slots: int
    waiting: int
    next_waiting: tuple[WaitingStart, ...]
    stale: int
    stale_pipelines: tuple[str, ...]
    workers: Mapping[str, Worker]
    worker_count: int
    limits: Limits
    by_group: Mapping[str, int] = field(default_factory=dict)
    busiest: tuple[Busy, ...] = ()


def still(entry: Registered, beat: Beat | None, at: datetime) -> Beat:
    """The sign of life of a pipeline that counts what it counted before."""
    records, failed = _counted(entry, beat)
    return Beat(at=at, records=records, failed=failed)


def counts(state: CoordinatorState) -> dict[Status, int]:
    """How many pipelines are in each status."""
    return dict(Counter(entry.status for entry in state.pipelines.values()))


def is_stale(entry: Registered, beat: Beat | None, at: datetime, limits: Limits) -> bool:
    """Running, and not heard of for as long as makes a worker silent. Pipelines in other states have nothing to say."""
    heard = max(entry.heard_at, beat.at) if beat else entry.heard_at
    return entry.status is Status.RUNNING and (at - heard).total_seconds() > limits.silent_seconds


def measured(state: CoordinatorState) -> tuple[float, int]:
    """The mean CPU percent of the machines, and the workers' memory. Summed anew each time, so nothing drifts."""
    busiest: dict[str, float] = {}
    for worker in state.workers.values():
        busiest[worker.host] = max(busiest.get(worker.host, 0.0), worker.cpu_percent)
    cpu = math.fsum(busiest.values()) / len(busiest) if busiest else 0.0
    return cpu, sum(worker.memory_mb for worker in state.workers.values())


def used(state: CoordinatorState, cpu: CpuByWorker) -> dict[str, float]:
    """What each pipeline takes on all its workers that are still there."""
    taken: dict[str, float] = {}
    for worker, pipelines in cpu.items():
        for pipeline, percent in pipelines.items():
            if worker in state.workers and pipeline in state.pipelines:
                taken[pipeline] = taken.get(pipeline, 0.0) + percent
    return taken


def overview(
    state: CoordinatorState, beats: Mapping[str, Beat], at: datetime, cpu_by_worker: CpuByWorker | None = None
) -> Overview:
    """The whole system at a glance, as of `at`."""
    taken = used(state, cpu_by_worker or {})
    by_status = counts(state)
    cpu, memory = measured(state)
    stale = sorted(
        pipeline
        for pipeline, entry in state.pipelines.items()
        if is_stale(entry, beats.get(pipeline), at, state.limits)
    )
    told = [_counted(entry, beats.get(pipeline)) for pipeline, entry in state.pipelines.items()]
    workers = state.workers
    return Overview(
        coordinator_id=state.coordinator_id,
        health=health(by_status),
        events=state.version,
        updated_at=state.updated_at,
        total=len(state.pipelines),
        by_status={str(status): by_status[status] for status in Status if status in by_status},
        records=sum(records for records, _ in told),
        failed_records=sum(failed for _, failed in told),
        slots=slots(state),
        held=state.held,
        reserved_cpu_percent=state.reserved_cpu / 1000,
        cpu_limit_percent=state.limits.cpu_percent * machines(state),
        reserved_memory_mb=state.reserved_memory_mb,
        memory_limit_mb=state.limits.memory_mb,
        cpu_percent=cpu,
        memory_mb=memory,
        segments=sum(worker.used for worker in workers.values()),
        segment_slots=sum(worker.slots for worker in workers.values()),
        waiting=len(state.waiting),
        next_waiting=tuple(
            WaitingStart(
                pipeline_id=pipeline,
                priority=waiting.priority,
                group=waiting.group,
                since=waiting.since,
                actor=waiting.actor,
                reason=waiting.reason,
            )
            for pipeline, waiting in in_order(state)[:SHOWN]
        ),
        stale=len(stale),
        stale_pipelines=tuple(stale[:SHOWN]),
        workers=dict(sorted(workers.items())[:SHOWN]),
        worker_count=len(workers),
        limits=state.limits,
        by_group=dict(state.held_by_group),
        busiest=tuple(
            Busy(pipeline_id=pipeline, cpu_percent=round(percent, 2))
            for pipeline, percent in sorted(taken.items(), key=lambda item: (-item[1], item[0]))[:BUSIEST]
        ),
    )


def info(
    state: CoordinatorState,
    beats: Mapping[str, Beat],
    pipeline: str,
    at: datetime,
    cpu_by_worker: CpuByWorker | None = None,
) -> PipelineInfo | None:
    """One pipeline, None where it is not registered."""
    entry = state.pipelines.get(pipeline)
    taken = used(state, cpu_by_worker or {})
    return None if entry is None else _info(state, beats.get(pipeline), pipeline, entry, at, _places(state), taken)


def _places(state: CoordinatorState) -> dict[str, int]:
    return {name: place for place, (name, _) in enumerate(in_order(state))}


def _info(
    state: CoordinatorState,
    beat: Beat | None,
    pipeline: str,
    entry: Registered,
    at: datetime,
    places: Mapping[str, int],
    taken: Mapping[str, float],
) -> PipelineInfo:
    waiting = state.waiting.get(pipeline)
    records, failed = _counted(entry, beat)
    return PipelineInfo(
        pipeline_id=pipeline,
        name=entry.name,
        status=entry.status,
        group=entry.group,
        priority=entry.priority,
        records=records,
        failed=failed,
        registered_at=entry.registered_at,
        last_heartbeat=max(entry.heard_at, beat.at) if beat else entry.heard_at,
        holds_slot=entry.share is not None,
        cpu_percent=entry.share.cpu / 1000 if entry.share else 0.0,
        cpu_used_percent=round(taken.get(pipeline, 0.0), 2),
        memory_mb=entry.share.memory_mb if entry.share else 0,
        waiting=waiting.reason if waiting else "",
        waiting_since=waiting.since if waiting else None,
        ahead=places.get(pipeline, 0),
        stale=is_stale(entry, beat, at, state.limits),
    )


def page(
    state: CoordinatorState,
    beats: Mapping[str, Beat],
    at: datetime,
    *,
    status: Status | None = None,
    after: str = "",
    limit: int = 1000,
    cpu_by_worker: CpuByWorker | None = None,
) -> tuple[PipelineInfo, ...]:
    """The next `limit` pipelines behind the id `after`, by id; only those in that status where one is given."""
    ids = sorted(name for name, entry in state.pipelines.items() if status is None or entry.status is status)
    start = bisect_right(ids, after) if after else 0
    places, taken = _places(state), used(state, cpu_by_worker or {})
    return tuple(
        _info(state, beats.get(pipeline), pipeline, state.pipelines[pipeline], at, places, taken)
        for pipeline in ids[start : start + limit]
    )


def _counted(entry: Registered, beat: Beat | None) -> tuple[int, int]:
    """The newest counts: of the last change, or of a beat after it."""
    return (beat.records, beat.failed) if beat and beat.at >= entry.heard_at else (entry.records, entry.failed)

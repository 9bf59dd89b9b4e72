"""What an operator could do about what the cluster view shows. Rules, not guesses: each line tells the figures it is
made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from dataflow.domain.coordinator.overview import Overview

BACKLOG_SECONDS = 10.0
"""A task that is older than this waits for want of workers, not by chance."""

UNEVEN = 0.5
"""Share of slots by which the busiest worker is fuller than the idlest one before that is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """One task queue: who takes from it, and what waits in it. `role` is control, data, coordinator or projector."""

    name: str
    role: str
    kind: str
    pollers: tuple[str, ...]
    backlog: int
    backlog_seconds: float
    added_per_second: float
    taken_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A worker in the cluster view. `live`: it has reported lately. `load` is the share of its slots that are used."""

    worker: str
    host: str
    live: bool
    load: float
    slots: int
    used: int
    cpu_percent: float
    memory_mb: int
    task_queue: str
    version: str
    since: datetime
    reported_at: datetime


def members(seen: Overview, at: datetime) -> tuple[Member, ...]:
    """The workers as of `at`."""
    silent = seen.limits.silent_seconds
    return tuple(
        Member(
            worker=name,
            host=worker.host,
            live=(at - worker.reported_at).total_seconds() <= silent,
            load=worker.used / worker.slots if worker.slots else 0.0,
            slots=worker.slots,
            used=worker.used,
            cpu_percent=worker.cpu_percent,
            memory_mb=worker.memory_mb,
            task_queue=worker.task_queue,
            version=worker.version,
            since=worker.since,
            reported_at=worker.reported_at,
        )
        for name, worker in seen.workers.items()
    )


def hints(seen: Overview, workers: Sequence[Member], queues: Sequence[Queue]) -> tuple[str, ...]:
    """What could be done, most urgent first; nothing where all is well."""
    return tuple(_hints(seen, workers, queues))


def _hints(seen: Overview, workers: Sequence[Member], queues: Sequence[Queue]) -> Iterator[str]:
    live = [worker for worker in workers if worker.live]
    running = seen.by_status.get("running", 0)
    if not live and (running or seen.waiting):
        yield f"no worker is live and {_count(running, 'pipeline')} should run: start one with dataflow worker"
    for queue in queues:
        if not queue.pollers and queue.backlog:
            backlog = _count(queue.backlog, "task")
            yield f"nobody takes from {queue.name} ({queue.kind}), backlog {backlog}: start a worker"
        elif queue.backlog_seconds > BACKLOG_SECONDS:
            yield (
                f"backlog of {_count(queue.backlog, 'task')} in {queue.name} ({queue.kind}), the oldest"
                f" {queue.backlog_seconds:.0f} s old: add a worker"
            )
    if seen.waiting and seen.next_waiting:
        reason = seen.next_waiting[0].reason
        yield f"{_count(seen.waiting, 'start')} waiting ({reason}): add a worker, or raise the limit it names"
    if seen.stale:
        names = ", ".join(seen.stale_pipelines[:3])
        yield f"{_count(seen.stale, 'running pipeline')} not heard of lately ({names}): see dataflow status"
    if len(live) > 1:
        busiest, idlest = max(live, key=lambda one: one.load), min(live, key=lambda one: one.load)
        if busiest.load - idlest.load > UNEVEN:
            yield (
                f"{busiest.worker} runs {busiest.used} of {busiest.slots} segments and {idlest.worker}"
                f" {idlest.used} of {idlest.slots}: new segments go to whoever is free, so this evens out within"
                " segment_max; if it stays, the busy one has more slots than it can serve (worker_segments)"
            )
    versions = sorted({worker.version for worker in live})
    if len(versions) > 1:
        yield f"workers of several versions are live: {', '.join(versions)}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

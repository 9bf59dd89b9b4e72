"""Who may start: slots, CPU, memory, and the quota of the group, in the order of priority.

A start fits where all four have room for it. What waits goes in the order of priority, then of time: the first one that
does not fit holds back all behind it, also smaller ones, or a large one would never start. Only a group that has used
up its own quota is passed over, for it is no other group's business.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from dataflow.domain.coordinator.state import CoordinatorState, Limits, Need, Share, Waiting


def share(need: Need, limits: Limits) -> Share:
    """What a pipeline that needs this counts for."""
    cpu = limits.pipeline_cpu_percent if need.cpu_percent is None else need.cpu_percent
    memory = limits.pipeline_memory_mb if need.memory_mb is None else need.memory_mb
    return Share(cpu=round(cpu * 1000), memory_mb=memory)


@dataclass(slots=True)
class Room:
    """What is left, while slots are dealt out."""

    limits: Limits
    slots: int
    held: int
    cpu_limit: int
    cpu: int
    memory_limit: int
    memory: int
    by_group: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, state: CoordinatorState) -> Room:
        limits, workers = state.limits, state.workers
        cpu, memory = state.reserved_cpu, state.reserved_memory_mb
        if limits.measured and workers:
            busiest: dict[str, float] = {}
            for worker in workers.values():
                busiest[worker.host] = max(busiest.get(worker.host, 0.0), worker.cpu_percent)
            cpu = max(cpu, round(math.fsum(busiest.values()) * 1000))
            memory = max(memory, sum(worker.memory_mb for worker in workers.values()))
        return cls(
            limits=limits,
            slots=slots(state),
            held=state.held,
            cpu_limit=round(limits.cpu_percent * 1000) * machines(state),
            cpu=cpu,
            memory_limit=limits.memory_mb,
            memory=memory,
            by_group=dict(state.held_by_group),
        )

    def quota(self, group: str) -> int | None:
        """How many of this group may run at once, None where it has no bound."""
        if group in self.limits.group_slots:
            return self.limits.group_slots[group]
        return (self.limits.slots_per_group or None) if group else None

    def group_lacks(self, group: str) -> str:
        """Why no more of this group may run; empty where one may."""
        quota, used = self.quota(group), self.by_group.get(group, 0)
        return "" if quota is None or used < quota else f"group {group} uses {used} of its {quota} slots"

    def lacks(self, wanted: Share) -> str:
        """Why there is no room for any group; empty where there is."""
        if self.held >= self.slots:
            return f"{self.held} of {self.slots} slots are taken"
        if self.cpu + wanted.cpu > self.cpu_limit:
            taken, most = self.cpu / 1000, self.cpu_limit / 1000
            return f"CPU: {taken:g} % of {most:g} % are taken, {wanted.cpu / 1000:g} % are needed"
        if self.memory + wanted.memory_mb > self.memory_limit:
            return f"memory: {self.memory} of {self.memory_limit} MB are taken, {wanted.memory_mb} MB are needed"
        return ""

    def take(self, group: str, wanted: Share) -> str:
        """Take the room for one more; returns what there was, for people."""
        self.held += 1
        self.cpu += wanted.cpu
        self.memory += wanted.memory_mb
        self.by_group[group] = self.by_group.get(group, 0) + 1
        return f"slot {self.held} of {self.slots}"


def slots(state: CoordinatorState) -> int:
    """How many pipelines may run at once; an idle system is taken for one worker that is about to come."""
    return max(1, len(state.workers)) * state.limits.pipelines_per_worker


def machines(state: CoordinatorState) -> int:
    """The machines that workers are on; at least one."""
    return max(1, len({worker.host for worker in state.workers.values()}))


def in_order(state: CoordinatorState) -> list[tuple[str, Waiting]]:
    """Those that wait, the next one first."""
    return sorted(state.waiting.items(), key=lambda item: (-item[1].priority, item[1].place))


@dataclass(frozen=True, slots=True)
class Grant:
    pipeline_id: str
    share: Share
    reason: str


def grants(state: CoordinatorState) -> Iterator[Grant]:
    """Which of those that wait can start now, in their order."""
    if not state.waiting:
        return
    room = Room.of(state)
    for pipeline, waiting in in_order(state):
        wanted = share(waiting.need, state.limits)
        if room.group_lacks(waiting.group):
            continue
        if room.lacks(wanted):
            return
        yield Grant(pipeline, wanted, room.take(waiting.group, wanted))


def shortfall(state: CoordinatorState, group: str, priority: int, need: Need) -> tuple[str, Grant | None]:
    """For a start that is asked for now: why it must wait, or what it is granted."""
    room = Room.of(state)
    wanted = share(need, state.limits)
    if lacking := room.group_lacks(group) or room.lacks(wanted):
        return lacking, None
    ahead = [w for w in state.waiting.values() if w.priority >= priority and not room.group_lacks(w.group)]
    if ahead:
        return f"{len(ahead)} with the same or a higher priority wait before it", None
    return "", Grant("", wanted, room.take(group, wanted))

"""What each event changes. As with pipelines, a history that cannot have happened is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar, assert_never

from dataflow.domain.coordinator import events as e
from dataflow.domain.coordinator.state import (
    ACTIVE,
    REMEMBERED,
    CoordinatorState,
    Registered,
    Share,
    Waiting,
    Worker,
)
from dataflow.domain.record import EventRecord
from dataflow.errors import Corrupt

V = TypeVar("V")


def evolve(state: CoordinatorState, record: EventRecord) -> CoordinatorState:
    """The state after this event. `Corrupt` if the record does not follow the state (sequence, hash link), cannot be
    read, or tells of what cannot be (a pipeline that is not there)."""
    where = f"{record.stream}/{record.sequence}"
    if record.sequence != state.version + 1:
        raise Corrupt(f"event {state.version + 1} is expected next, this is {record.sequence}", where=where)
    if record.previous_hash != state.last_hash:
        raise Corrupt("the event is not linked to the one before it: the history was changed", where=where)
    changed = _changed(state, e.CATALOGUE.unseal(record), record, where)
    return replace(changed, version=record.sequence, updated_at=record.time, last_hash=record.hash)


def fold(state: CoordinatorState, records: Iterable[EventRecord]) -> CoordinatorState:
    """The state after all these events, in order."""
    state = thawed(state)
    for record in records:
        state = evolve(state, record)
    return frozen(state)


class _Draft(dict[str, V]):
    """A map that nobody else sees yet: changed in place, where any other is copied for each change."""


_LARGE = ("pipelines", "waiting", "granted", "removed")


def thawed(state: CoordinatorState) -> CoordinatorState:
    """The same state to evolve many times: each state made from it, up to the one that is `frozen`, is one's own and is
    forgotten once the next one is made from it. With ten thousand pipelines that is ten times as fast."""
    drafts: dict[str, Any] = {name: _Draft(getattr(state, name)) for name in _LARGE}
    return replace(state, **drafts)


def frozen(state: CoordinatorState) -> CoordinatorState:
    """The state that many changes led to, to be kept."""
    kept: dict[str, Any] = {name: dict(getattr(state, name)) for name in _LARGE}
    return replace(state, **kept)


def _changed(state: CoordinatorState, event: e.Event, record: EventRecord, where: str) -> CoordinatorState:
    match event:
        case e.PipelineRegistered():
            if event.pipeline_id in state.pipelines:
                raise Corrupt(f"pipeline {event.pipeline_id} is registered twice", where=where)
            return replace(
                state,
                pipelines=_with(state.pipelines, event.pipeline_id, _newcomer(event, record.time)),
                removed=_without(state.removed, event.pipeline_id),
            )
        case e.PipelineUnregistered():
            known = _known(state, event.pipeline_id, where)
            removed = _with(state.removed, event.pipeline_id, max(event.version, known.version))
            if len(removed) > REMEMBERED:
                del removed[next(iter(removed))]
            left = _left(_released(state, event.pipeline_id), event.pipeline_id)
            return replace(left, pipelines=_without(left.pipelines, event.pipeline_id), removed=removed)
        case e.PipelineStatusUpdated():
            return _updated(state, event, record.time, where)
        case e.ResourceUsageReported():
            before = state.workers.get(event.worker)
            worker = Worker(
                host=event.host,
                cpu_percent=event.cpu_percent,
                memory_mb=event.memory_mb,
                slots=event.slots,
                used=event.used,
                task_queue=event.task_queue,
                since=before.since if before else record.time,
                reported_at=record.time,
                version=event.version,
            )
            return replace(state, workers=_with(state.workers, event.worker, worker))
        case e.WorkerRemoved():
            if event.worker not in state.workers:
                raise Corrupt(f"worker {event.worker} is removed and was not there", where=where)
            return replace(state, workers=_without(state.workers, event.worker))
        case e.LimitsChanged():
            return replace(state, limits=event.limits)
        case e.AdmissionGranted():
            return _granted(state, event, record.time, where)
        case e.AdmissionQueued():
            return _queued(state, event, record, where)
        case e.AdmissionRefused():
            return state
        case e.AdmissionWithdrawn():
            _known(state, event.pipeline_id, where)
            unused = event.pipeline_id in state.granted
            state = _released(state, event.pipeline_id) if unused else state
            return _left(state, event.pipeline_id)
    assert_never(event)


def _newcomer(event: e.PipelineRegistered, time: datetime) -> Registered:
    return Registered(
        name=event.name,
        status=event.status,
        version=event.version,
        registered_at=time,
        heard_at=time,
        group=event.group,
        priority=event.priority,
        records=event.records,
        failed=event.failed,
    )


def _updated(state: CoordinatorState, event: e.PipelineStatusUpdated, time: datetime, where: str) -> CoordinatorState:
    pipeline = event.pipeline_id
    known = _known(state, pipeline, where)
    if known.share is not None and event.group != known.group:  # the slot is counted for the new group from now on
        by_group = _counted(_counted(state.held_by_group, known.group, -1), event.group, 1)
        state = replace(state, held_by_group=by_group)
    entry = replace(
        known,
        name=event.name,
        status=event.status,
        version=max(known.version, event.version),
        heard_at=time,
        group=event.group,
        priority=event.priority,
        records=event.records,
        failed=event.failed,
    )
    state = replace(state, pipelines=_with(state.pipelines, pipeline, entry))
    if event.status in ACTIVE:
        if event.share is not None and known.share is None:
            state = _held(state, pipeline, event.share)
        return _left(state, pipeline)
    if event.waiting:
        return state
    return _left(_released(state, pipeline), pipeline)


def _granted(state: CoordinatorState, event: e.AdmissionGranted, time: datetime, where: str) -> CoordinatorState:
    pipeline = event.pipeline_id
    known = _known(state, pipeline, where)
    if known.share is not None:
        raise Corrupt(f"pipeline {pipeline} is granted a second slot", where=where)
    state = _versioned(state, pipeline, known, event.version)
    state = replace(_held(state, pipeline, event.share), waiting=_without(state.waiting, pipeline))
    return replace(state, granted=_with(state.granted, pipeline, time))


def _queued(state: CoordinatorState, event: e.AdmissionQueued, record: EventRecord, where: str) -> CoordinatorState:
    known = _known(state, event.pipeline_id, where)
    waiting = Waiting(
        place=record.sequence,
        since=record.time,
        reason=event.reason,
        actor=record.actor,
        correlation_id=record.correlation_id,
        priority=event.priority,
        group=event.group,
        need=event.need,
    )
    state = _versioned(state, event.pipeline_id, known, event.version)
    return replace(state, waiting=_with(state.waiting, event.pipeline_id, waiting))


def _versioned(state: CoordinatorState, pipeline: str, known: Registered, version: int) -> CoordinatorState:
    """What was reported before the request was made no longer counts."""
    if version <= known.version:
        return state
    return replace(state, pipelines=_with(state.pipelines, pipeline, replace(known, version=version)))


def _held(state: CoordinatorState, pipeline: str, share: Share) -> CoordinatorState:
    entry = replace(state.pipelines[pipeline], share=share)
    return replace(
        state,
        pipelines=_with(state.pipelines, pipeline, entry),
        held=state.held + 1,
        reserved_cpu=state.reserved_cpu + share.cpu,
        reserved_memory_mb=state.reserved_memory_mb + share.memory_mb,
        held_by_group=_counted(state.held_by_group, entry.group, 1),
    )


def _released(state: CoordinatorState, pipeline: str) -> CoordinatorState:
    entry = state.pipelines[pipeline]
    if entry.share is None:
        return state
    return replace(
        state,
        pipelines=_with(state.pipelines, pipeline, replace(entry, share=None)),
        held=state.held - 1,
        reserved_cpu=state.reserved_cpu - entry.share.cpu,
        reserved_memory_mb=state.reserved_memory_mb - entry.share.memory_mb,
        held_by_group=_counted(state.held_by_group, entry.group, -1),
    )


def _left(state: CoordinatorState, pipeline: str) -> CoordinatorState:
    """It neither waits nor is about to start."""
    if pipeline not in state.waiting and pipeline not in state.granted:
        return state
    return replace(state, waiting=_without(state.waiting, pipeline), granted=_without(state.granted, pipeline))


def _known(state: CoordinatorState, pipeline: str, where: str) -> Registered:
    known = state.pipelines.get(pipeline)
    if known is None:
        raise Corrupt(f"pipeline {pipeline} is not registered", where=where)
    return known


def _counted(counts: Mapping[str, int], key: str, more: int) -> dict[str, int]:
    changed = {**counts, key: counts.get(key, 0) + more}
    return {name: count for name, count in changed.items() if count}


def _with(values: Mapping[str, V], key: str, value: V) -> dict[str, V]:
    changed = values if isinstance(values, _Draft) else dict(values)
    changed[key] = value
    return changed


def _without(values: Mapping[str, V], key: str) -> dict[str, V]:
    changed = values if isinstance(values, _Draft) else dict(values)
    changed.pop(key, None)
    return changed

"""What each command leads to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import assert_never

from dataflow.domain.coordinator import commands as c
from dataflow.domain.coordinator import events as e
from dataflow.domain.coordinator.admission import grants, share, shortfall
from dataflow.domain.coordinator.commands import PipelineReport
from dataflow.domain.coordinator.evolution import evolve, fold
from dataflow.domain.coordinator.state import ACTIVE, CoordinatorState, Registered, WhenFull
from dataflow.domain.state import Status
from dataflow.errors import Conflict, NotFound

__all__ = ["AT_ONCE", "decide", "evolve", "fold"]

AT_ONCE = 200
"""Grants, and clearances, of one command at most: what it leads to fits into one message."""


def decide(state: CoordinatorState, command: c.Command) -> tuple[e.Event, ...]:
    """What happens if this command is carried out now; an empty tuple where it changes nothing.

    Raises `Conflict` where a pipeline is registered twice, `NotFound` for one, or a worker, that is not known."""
    match command:
        case c.RegisterPipeline(report=report):
            if report.pipeline_id in state.pipelines:
                raise Conflict(f"pipeline {report.pipeline_id} is registered already")
            return tuple(_registered(state, report))
        case c.UnregisterPipeline():
            if command.pipeline_id not in state.pipelines:
                raise NotFound(f"pipeline {command.pipeline_id} is not registered")
            return (e.PipelineUnregistered(pipeline_id=command.pipeline_id, version=command.version),)
        case c.UpdatePipelineStatus(report=report):
            known = state.pipelines.get(report.pipeline_id)
            return tuple(_updated(state, known, report)) if known and report.version > known.version else ()
        case c.NoteReport(report=report):
            return tuple(_noted(state, report))
        case c.ReportResourceUsage():
            return (
                e.ResourceUsageReported(
                    worker=command.worker,
                    host=command.host,
                    cpu_percent=command.cpu_percent,
                    memory_mb=command.memory_mb,
                    slots=command.slots,
                    used=command.used,
                    task_queue=command.task_queue,
                    version=command.version,
                ),
            )
        case c.RemoveWorker():
            if command.worker not in state.workers:
                raise NotFound(f"worker {command.worker} is not known")
            return (e.WorkerRemoved(worker=command.worker, reason=command.reason),)
        case c.ChangeLimits(limits=limits):
            return () if limits == state.limits else (e.LimitsChanged(limits=limits),)
        case c.RequestAdmission(report=report):
            return tuple(_requested(state, report))
        case c.GrantWaiting():
            return tuple(islice(_grants(state), AT_ONCE))
        case c.WithdrawAdmission():
            held = command.pipeline_id in state.waiting or command.pipeline_id in state.granted
            return (e.AdmissionWithdrawn(pipeline_id=command.pipeline_id, reason=command.reason),) if held else ()
        case c.Tidy(at=at):
            return tuple(islice(_tidied(state, at), AT_ONCE))
    assert_never(command)


def _registered(state: CoordinatorState, report: PipelineReport) -> Iterator[e.Event]:
    configured = Status.CONFIGURED if report.status in ACTIVE or report.waiting else report.status
    registered = e.PipelineRegistered(
        pipeline_id=report.pipeline_id,
        name=report.name,
        status=configured,
        version=report.version,
        group=report.group,
        priority=report.priority,
        records=report.records,
        failed=report.failed,
    )
    yield registered
    if report.status in ACTIVE or report.waiting:  # it was there before this coordinator knew of it
        yield from _updated(state, None, report)


def _updated(state: CoordinatorState, known: Registered | None, report: PipelineReport) -> Iterator[e.Event]:
    active = report.status in ACTIVE
    holds = known is not None and known.share is not None
    yield e.PipelineStatusUpdated(
        pipeline_id=report.pipeline_id,
        name=report.name,
        status=report.status,
        version=report.version,
        group=report.group,
        priority=report.priority,
        records=report.records,
        failed=report.failed,
        waiting=report.waiting,
        share=share(report.need, state.limits) if active and not holds else None,
    )
    if report.waiting and not holds and report.pipeline_id not in state.waiting:
        yield _queued(report, "it waits, as it says itself")


def _noted(state: CoordinatorState, report: PipelineReport) -> Iterator[e.Event]:
    pipeline, known = report.pipeline_id, state.pipelines.get(report.pipeline_id)
    if known is None:
        gone = state.removed.get(pipeline)
        if report.status is not Status.DELETED and (gone is None or gone < report.version):
            yield from _registered(state, report)
    elif report.status is Status.DELETED:
        yield e.PipelineUnregistered(pipeline_id=pipeline, version=report.version)
    elif report.version > known.version:
        yield from _updated(state, known, report)


def _requested(state: CoordinatorState, report: PipelineReport) -> Iterator[e.Event]:
    pipeline, known = report.pipeline_id, state.pipelines.get(report.pipeline_id)
    if known is not None and (known.share is not None or report.version < known.version):
        return  # it has a slot; or this is a request of long ago, delivered again
    if pipeline in state.waiting:
        return
    if known is None:
        yield from _registered(state, replace(report, waiting=False))
    lacking, grant = shortfall(state, report.group, report.priority, report.need)
    if grant is not None:
        yield e.AdmissionGranted(pipeline_id=pipeline, share=grant.share, reason=grant.reason, version=report.version)
    elif state.limits.when_full is WhenFull.REFUSE:
        yield e.AdmissionRefused(pipeline_id=pipeline, reason=lacking)
    else:
        yield _queued(report, lacking)


def _queued(report: PipelineReport, reason: str) -> e.AdmissionQueued:
    return e.AdmissionQueued(
        pipeline_id=report.pipeline_id,
        reason=reason,
        version=report.version,
        priority=report.priority,
        group=report.group,
        need=report.need,
    )


def _grants(state: CoordinatorState) -> Iterator[e.Event]:
    at = state.updated_at
    for grant in grants(state):
        waiting = state.waiting[grant.pipeline_id]
        waited = at - waiting.since if at else timedelta()
        yield e.AdmissionGranted(
            pipeline_id=grant.pipeline_id,
            share=grant.share,
            reason=grant.reason,
            waited_ms=max(0, round(waited.total_seconds() * 1000)),
        )


def _tidied(state: CoordinatorState, at: datetime) -> Iterator[e.Event]:
    limits = state.limits
    for worker, known in state.workers.items():
        if (silent := (at - known.reported_at).total_seconds()) > limits.silent_seconds:
            yield e.WorkerRemoved(worker=worker, reason=f"silent for {silent:.0f} s")
    for pipeline, since in state.granted.items():
        if (at - since).total_seconds() > limits.grant_seconds:
            yield e.AdmissionWithdrawn(
                pipeline_id=pipeline, reason=f"it did not start within {limits.grant_seconds:.0f} s"
            )

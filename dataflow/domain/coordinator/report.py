"""What a pipeline tells the coordinator of itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dataflow.domain.coordinator.commands import PipelineReport
from dataflow.domain.coordinator.state import Need
from dataflow.domain.state import PipelineState

_MEGABYTE = 10**6


def report_of(before: PipelineState | None, state: PipelineState) -> PipelineReport:
    """The report of a pipeline that was `before` (None: not known) and is `state` now."""
    report = _report(state)
    return report if before is None or not before.version else replace(report, changed=_told(before) != _told(state))


def _report(state: PipelineState) -> PipelineReport:
    spec = state.spec
    resources: dict[str, Any] = spec.get("resources") or {}
    memory = resources.get("memory")
    return PipelineReport(
        pipeline_id=state.pipeline_id,
        name=state.name,
        status=state.status,
        version=state.version,
        group=str(spec.get("group") or spec.get("owner") or ""),
        priority=int(spec.get("priority", 0)),
        records=state.lifetime.records_processed,
        failed=state.lifetime.records_failed,
        need=Need(
            cpu_percent=resources.get("cpu_percent"), memory_mb=None if memory is None else -(-memory // _MEGABYTE)
        ),
        waiting=state.queued_at is not None,
    )


def _told(state: PipelineState) -> PipelineReport:
    """All of a report that decisions depend on."""
    return replace(_report(state), version=0, records=0, failed=0)

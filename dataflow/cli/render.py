"""States and events as JSON objects and as lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dataflow.projections.words import gist

if TYPE_CHECKING:
    from dataflow.domain.record import EventRecord
    from dataflow.domain.state import PipelineState
    from dataflow.sdk.progress import Progress

_COUNTERS = ("read", "written", "filtered", "failed", "dead_lettered")


def state_json(state: PipelineState) -> dict[str, Any]:
    """The whole state, as recorded; the bookkeeping of repeated batches is left out, it is long and for nobody."""
    from dataflow.domain.state import states

    plain = replace(state, recent_batches=(), recent_offsets=())
    whole: dict[str, Any] = states().dump_python(plain, mode="json")
    return {key: value for key, value in whole.items() if key not in ("recent_batches", "recent_offsets")}


def progress_json(progress: Progress) -> dict[str, Any]:
    """The state in short, with the live counters of the running segments."""
    state = progress.state
    return {
        "pipeline_id": state.pipeline_id,
        "name": state.name,
        "description": state.description,
        "status": str(state.status),
        "generation": state.generation,
        **{f"records_{name}": getattr(progress.counters, name) for name in _COUNTERS},
        "epochs": progress.epochs,
        "lag": dict(progress.lag),
        "lanes": {name: asdict(doing) for name, doing in progress.lanes.items()},
        "blocked": list(progress.blocked),
        "fraction": progress.fraction,
        "metrics": {**asdict(state.metrics), "last_processed_at": moment(state.metrics.last_processed_at)},
        "waiting": state.queue_reason or None,
        "retry_count": state.retry_count,
        "error": asdict(state.error) if state.error else None,
        "outputs": dict(state.outputs),
        "created_at": moment(state.created_at),
        "updated_at": moment(state.updated_at),
        "started_at": moment(state.started_at),
    }


def progress_lines(progress: Progress) -> list[str]:
    """The same for people."""
    counters = progress.counters
    lines = state_lines(progress.state)
    figures = ", ".join(f"{getattr(counters, name):,} {name.replace('_', ' ')}" for name in _COUNTERS)
    lines.insert(1, f"  records:    {figures}")
    done = f" ({progress.fraction:.0%} of the input)" if progress.fraction is not None else ""
    lines.insert(2, f"  epochs:     {progress.epochs:,}{done}")
    for name, doing in reversed(list(progress.blocked.items())):
        lines.insert(3, f"  blocked:    lane {name} by the {doing.part}: {doing.stage} for {doing.seconds:.0f} s")
    if progress.lag:
        far = ", ".join(f"{split} {behind:,}" for split, behind in _largest(progress.lag) if behind)
        lines.insert(3, f"  lag:        {sum(progress.lag.values()):,} rows to read{f' ({far})' if far else ''}")
    return lines


def _largest(lag: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(lag.items(), key=lambda one: (-one[1], one[0]))[:8]


def state_lines(state: PipelineState) -> list[str]:
    """A state for people: what it is in, since when, and what there is to know of that."""
    lines = [f"{state.pipeline_id}: {state.status}"]
    times = {
        "created": state.created_at,
        "queued": state.queued_at,
        "started": state.started_at,
        "paused": state.paused_at,
        "stopped": state.stopped_at,
        "completed": state.completed_at,
        "failed": state.failed_at,
    }
    lines += [f"  {what + ':':<11} {moment(at)}" for what, at in times.items() if at is not None]
    if state.queue_reason:
        lines.append(f"  waiting:    for a slot: {state.queue_reason}")
    if state.pause_reason:
        lines.append(f"  reason:     {state.pause_reason}")
    if state.stop_reason:
        lines.append(f"  reason:     {state.stop_reason}")
    if state.error:
        place = f"{state.error.where}: " if state.error.where else ""
        lines.append(f"  error:      {state.error.error_type}: {state.error.code}: {place}{state.error.message}")
    if state.retry_count:
        lines.append(f"  retries:    {state.retry_count}")
    lines.append(f"  generation: {state.generation}, {state.version} events")
    return lines


def event_json(record: EventRecord) -> dict[str, Any]:
    """The whole event record."""
    return {**asdict(record), "time": moment(record.time), "tags": list(record.tags)}


def event_row(record: EventRecord) -> tuple[str, str, str, str, str]:
    """One event as a row of a table: sequence, time, type, actor, and its payload in short."""
    return str(record.sequence), moment(record.time) or "", record.type, record.actor, gist(record.payload)


def moment(at: datetime | None) -> str | None:
    """A time as ISO 8601 in UTC, to the millisecond."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None

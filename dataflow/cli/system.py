"""Commands about the whole system: system, cluster."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from dataflow.cli.render import moment
from dataflow.cli.result import DONE, JSON, count, emit, note, perform, say, table
from dataflow.cli.session import is_up, session, settings

if TYPE_CHECKING:
    from dataflow.domain.coordinator.overview import Overview
    from dataflow.domain.coordinator.state import CoordinatorState
    from dataflow.sdk.system import Cluster
    from dataflow.settings import Settings

_SURVEY = typer.Option(False, "--survey", help="First look through the journal for pipelines that were missed.")


def system(survey: bool = _SURVEY, as_json: bool = JSON) -> None:
    """Show the health of the whole system: pipelines, slots, load, starts that wait."""
    perform(_system(survey, as_json), as_json=as_json)


async def _system(survey: bool, as_json: bool) -> int:
    from dataflow.api.system import system_json

    chosen = settings()
    if is_up(chosen) or survey:
        async with session(chosen, note) as up:
            if survey:
                await up.client.system.survey()
            overview = await up.client.system.overview()
    else:
        overview = await _recorded(chosen)
    if as_json:
        emit(system_json(overview))
    else:
        for line in system_lines(overview):
            say(line)
    return DONE


async def _recorded(chosen: Settings) -> Overview:
    """The system as the journal knows it."""
    from dataflow.domain.coordinator.overview import overview
    from dataflow.domain.coordinator.state import CoordinatorState
    from dataflow.journal import open_journal
    from dataflow.journal.history import coordinators, folded
    from workflows.names import coordinator_id

    stream = coordinator_id(chosen.task_queue)
    chosen.home.mkdir(parents=True, exist_ok=True)
    async with open_journal(chosen.journal_url) as journal:
        head = await journal.head(stream)
        state = await folded(journal, stream, head.sequence, coordinators()) if head else CoordinatorState.empty(stream)
    return overview(state, {}, datetime.now(UTC))


def show_coordinator(state: CoordinatorState, as_json: bool) -> int:
    """A state of the coordinator as it was; returns the exit code."""
    from dataflow.domain.coordinator.overview import overview
    from dataflow.domain.coordinator.packing import states

    if as_json:
        emit(states().dump_python(state, mode="json"))
        return DONE
    for line in system_lines(overview(state, {}, state.updated_at or datetime.now(UTC))):
        say(line)
    say(f"  after event {state.version}")
    return DONE


def system_lines(seen: Overview) -> list[str]:
    """The overview for people."""
    statuses = ", ".join(f"{number:,} {status}" for status, number in seen.by_status.items()) or "none"
    lines = [
        f"system: {seen.health}",
        f"  pipelines:  {statuses}",
        f"  records:    {seen.records:,}, {seen.failed_records:,} failed",
        f"  slots:      {seen.held:,} of {seen.slots:,} taken",
        f"  reserved:   CPU {seen.reserved_cpu_percent:g} % of {seen.cpu_limit_percent:g} %,"
        f" memory {seen.reserved_memory_mb:,} of {seen.memory_limit_mb:,} MB",
        f"  workers:    {seen.worker_count:,}, {seen.segments:,} of {seen.segment_slots:,} segments,"
        f" CPU {seen.cpu_percent:.0f} %, memory {seen.memory_mb:,} MB",
    ]
    if seen.busiest:
        most = ", ".join(f"{one.pipeline_id} {one.cpu_percent:g} %" for one in seen.busiest[:5])
        lines.append(f"  busiest:    {most} of a machine's CPU")
    if seen.stale:
        names = ", ".join(seen.stale_pipelines[:5])
        lines.append(f"  stale:      {count(seen.stale, 'running pipeline')} not heard of lately: {names}")
    if seen.waiting:
        lines.append(f"  waiting:    {count(seen.waiting, 'start')}, first of all")
        lines += [
            f"    {one.pipeline_id} (priority {one.priority}{f', group {one.group}' if one.group else ''})"
            f" since {moment(one.since)}: {one.reason}"
            for one in seen.next_waiting[:10]
        ]
    return lines


def cluster(as_json: bool = JSON) -> None:
    """Show the workers and task queues, their load, and what could be done."""
    perform(_cluster(as_json), as_json=as_json)


async def _cluster(as_json: bool) -> int:
    from dataflow.api.system import cluster_json
    from dataflow.errors import Retryable

    chosen = settings()
    if not is_up(chosen):
        raise Retryable("no Temporal is up here, so there is no cluster to look at", hint="dataflow up starts one")
    async with session(chosen, note) as up:
        found = await up.client.system.cluster()
    if as_json:
        emit(cluster_json(found))
    else:
        _show(found)
    return DONE


def _show(found: Cluster) -> None:
    say(f"health: {found.overview.health if found.overview else 'unknown'}")
    say("")
    if found.workers:
        rows = [
            (
                one.worker,
                "live" if one.live else "silent",
                f"{one.used}/{one.slots}",
                f"{one.cpu_percent:.0f} %",
                f"{one.memory_mb:,} MB",
                one.version,
                moment(one.reported_at) or "",
            )
            for one in found.workers
        ]
        table(("WORKER", "STATE", "SEGMENTS", "CPU", "MEMORY", "VERSION", "REPORTED"), rows)
    else:
        say("no workers")
    say("")
    table(
        ("TASK QUEUE", "ROLE", "KIND", "POLLERS", "BACKLOG", "OLDEST"),
        [
            (one.name, one.role, one.kind, str(len(one.pollers)), str(one.backlog), f"{one.backlog_seconds:.1f} s")
            for one in found.queues
        ],
    )
    for hint in found.hints:
        say("")
        say(f"hint: {hint}")


COMMANDS = (system, cluster)

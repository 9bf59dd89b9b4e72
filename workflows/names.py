"""Names that clients and workers share with the workflows."""

from __future__ import annotations

from dataclasses import dataclass

from dataflow.domain.state import PipelineState

PIPELINE = "dataflow.pipeline"
"""Workflow type of a pipeline; its workflow id is `pipeline/<pipeline id>`."""

COORDINATOR = "dataflow.coordinator"
"""Workflow type of the coordinator."""

PROJECTOR = "dataflow.projector"
"""Workflow type of the projector."""

CONTINUING = "CONTINUING"
"""Code of a refusal that means: in a moment. Clients that push try again by themselves."""

ATTRIBUTES = {
    "DataflowName": "Keyword",
    "DataflowStatus": "Keyword",
    "DataflowSource": "Keyword",
    "DataflowSink": "Keyword",
    "DataflowOwner": "Keyword",
    "DataflowFailed": "Int",
}
"""Search attributes every pipeline carries, with their Temporal types."""


def workflow_id(pipeline: str) -> str:
    """The workflow id of a pipeline."""
    return f"pipeline/{pipeline}"


def data_queue(task_queue: str) -> str:
    """The task queue of the activities that move data, beside the one of workflows and journal appends: a process may
    answer commands without being given segments to run."""
    return f"{task_queue}-data"


def coordinator_id(task_queue: str) -> str:
    """Workflow id and journal stream of the coordinator: one for all that work on this task queue. No pipeline's id has
    a slash."""
    return f"coordinator/{task_queue}"


def coordinator_queue(task_queue: str) -> str:
    """The task queue of the coordinator alone: starts that wait for its answer never keep it from answering."""
    return f"{task_queue}-coordinator"


def projector_id(task_queue: str) -> str:
    """Workflow id of the projector: one for all that work on this task queue."""
    return f"projector/{task_queue}"


def projector_queue(task_queue: str) -> str:
    """The task queue of the projector: only processes that stay take it on."""
    return f"{task_queue}-projector"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorTuning:
    """How the projector's workflow paces its activity; seconds. `stints` activities are one run of the workflow: then
    it continues as new, before its history grows long."""

    heartbeat_timeout: float = 8.0
    stint: float = 600.0
    stints: int = 100
    again: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How a pipeline's workflow paces its activities; seconds. Fixed for a run, renewed when it continues as new."""

    heartbeat_timeout: float = 8.0
    segment_first: float = 10.0
    segment_longest: float = 60.0
    snapshot_every: int = 100
    history_events: int = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """All that a pipeline's workflow carries from run to run: one value."""

    state: PipelineState
    tuning: Tuning = Tuning()
    segment_seconds: float = 0.0
    ended: tuple[str, ...] = ()
    runs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorCarried:
    """What the coordinator carries from run to run, beside its packed state. `recall`: the state was too large to be
    carried, and is folded from the journal up to this event."""

    coordinator_id: str
    task_queue: str
    runs: int = 1
    recall: int | None = None
    history_events: int = 4_000
    batch: int = 250

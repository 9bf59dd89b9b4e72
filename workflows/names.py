"""Names that clients and workers share with the workflows."""

from __future__ import annotations

from dataclasses import dataclass

from dataflow.domain.state import PipelineState

PIPELINE = "dataflow.pipeline"
"""Workflow type of a pipeline; its workflow id is `pipeline/<pipeline id>`."""

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

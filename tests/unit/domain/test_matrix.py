"""Every command in every state: what follows, or a typed refusal that changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest

from dataflow.domain import commands as c
from dataflow.domain.pipeline import decide
from dataflow.domain.refusal import ACCEPTED
from dataflow.domain.state import Checkpoint, ErrorType, PipelineError, Status
from dataflow.errors import Conflict, IllegalCommand

ORDER = ("empty", "configured", "running", "paused", "stopped", "completed", "failed", "deleted")

# The state after the command; `-` where it is refused.
PUSHED = {"name": "orders", "source": {"type": "push"}, "sink": {"type": "console"}}
MATRIX = """
CreatePipeline     configured -          -         -       -          -          -          -
StartPipeline      -          running    -         -       running    -          -          -
QueueStart         -          configured -         -       stopped    -          -          -
WithdrawStart      -          -          -         -       -          -          -          -
StopPipeline       -          -          stopped   stopped -          -          -          -
PausePipeline      -          -          paused    -       -          -          -          -
ResumePipeline     -          -          -         running -          -          -          -
IngestBatch        -          -          running   -       -          -          -          -
RecordSegment      -          -          running   paused  stopped    -          failed     -
UpdateCheckpoint   -          -          running   -       -          -          -          -
ReportMetrics      -          -          running   paused  -          -          -          -
ReportFailure      -          -          failed    -       -          -          -          -
AdoptPlan          -          -          running   paused  -          -          -          -
CompletePipeline   -          -          completed -       -          -          -          -
ResetPipeline      -          -          -         -       -          configured configured -
ResetFromStart     -          configured -         -       configured configured configured -
UpdateConfig       -          configured -         -       stopped    -          -          -
BatchTimeout       -          -          running   -       -          -          -          -
DeletePipeline     -          deleted    -         -       deleted    deleted    deleted    -
"""
ROWS = {cells[0]: dict(zip(ORDER, cells[1:], strict=True)) for line in MATRIX.split("\n") if (cells := line.split())}
CASES = [(name, Status(before), after) for name, row in ROWS.items() for before, after in row.items()]


def command(name: str, pipeline: Any) -> c.Command:
    error = PipelineError(error_type=ErrorType.SINK, code="SINK_ERROR", message="disk full")
    made: dict[str, c.Command] = {
        "CreatePipeline": c.CreatePipeline(spec=pipeline.spec),
        "QueueStart": c.QueueStart(reason="no room"),
        "WithdrawStart": c.WithdrawStart(reason="why not"),
        "StopPipeline": c.StopPipeline(reason="why not"),
        "PausePipeline": c.PausePipeline(reason="why not"),
        "IngestBatch": c.IngestBatch(batch_id="b1", record_count=10, source_offset=10),
        "RecordSegment": pipeline.segment(1, 2, 100),
        "UpdateCheckpoint": c.UpdateCheckpoint(checkpoint=Checkpoint(offset=5, records_processed=5)),
        "ReportMetrics": c.ReportMetrics(metrics={"lag": 3.0}),
        "ReportFailure": c.ReportFailure(error=error),
        "AdoptPlan": pipeline.plan(),
        "ResetFromStart": c.ResetPipeline(from_start=True),
        "UpdateConfig": c.UpdateConfig(spec={"description": "other"}, partial=True),
        "BatchTimeout": c.BatchTimeout(batch_id="b2", timeout_ms=2000),
    }
    found: c.Command = made[name] if name in made else getattr(c, name)()
    return found


@pytest.mark.parametrize(("name", "before", "after"), CASES)
def test_command_in_state(at: Callable[..., Any], name: str, before: Status, after: str) -> None:
    pipeline = at(before, PUSHED) if name == "IngestBatch" else at(before)
    order = command(name, pipeline)
    state, known = pipeline.state, len(pipeline.records)
    if after == "-":
        with pytest.raises((IllegalCommand, Conflict)) as refused:
            pipeline.do(order)
        assert state.pipeline_id in str(refused.value)
        assert refused.value.hint, "a refusal says what to do"
        assert pipeline.state == state
        assert len(pipeline.records) == known
    else:
        assert pipeline.do(order)
        assert pipeline.state.status == after


def test_the_matrix_names_every_command() -> None:
    every = {kind.__name__ for kind in get_args(get_args(c.Command)[0])}
    assert set(ROWS) - {"ResetFromStart"} == every
    assert {kind.__name__ for kind in ACCEPTED} == every


def test_creating_what_exists_is_a_conflict(at: Callable[[Status], Any]) -> None:
    for status in Status:
        pipeline = at(status)
        if status is not Status.EMPTY:
            with pytest.raises(Conflict):
                decide(pipeline.state, c.CreatePipeline(spec=pipeline.spec))


def test_ingest_is_refused_with_the_state_in_words(at: Callable[[Status], Any]) -> None:
    order = c.IngestBatch(batch_id="b1", record_count=10, source_offset=10)
    texts = {}
    for status in (Status.EMPTY, Status.CONFIGURED, Status.PAUSED, Status.STOPPED):
        with pytest.raises(IllegalCommand) as refused:
            decide(at(status).state, order)
        texts[status] = str(refused.value)
    assert texts[Status.PAUSED] == (
        "pipeline orders is paused and cannot take batches (resume it first: dataflow resume orders)"
    )
    assert texts[Status.STOPPED].endswith("(start it first: dataflow start orders)")
    assert len(set(texts.values())) == 4


def test_a_failed_pipeline_says_why_and_how_to_go_on(at: Callable[[Status], Any]) -> None:
    with pytest.raises(IllegalCommand) as refused:
        decide(at(Status.FAILED).state, c.StartPipeline())
    assert str(refused.value) == (
        "pipeline orders is failed with SINK_ERROR: disk full; it cannot be started "
        "(reset it first: dataflow reset orders)"
    )


def test_a_completed_pipeline_points_to_again(at: Callable[[Status], Any]) -> None:
    with pytest.raises(IllegalCommand, match="--again"):
        decide(at(Status.COMPLETED).state, c.StartPipeline())


@pytest.mark.parametrize("status", [Status.EMPTY, Status.DELETED])
def test_what_is_not_there_is_not_found(at: Callable[[Status], Any], status: Status) -> None:
    with pytest.raises(IllegalCommand) as refused:
        decide(at(status).state, c.StartPipeline())
    assert refused.value.code == "NOT_FOUND"

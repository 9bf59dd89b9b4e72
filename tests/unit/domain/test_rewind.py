"""Going back on purpose: a new generation that begins at an earlier checkpoint."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from dataflow.domain import commands as c
from dataflow.domain import events as e
from dataflow.domain.pipeline import fold
from dataflow.domain.state import Checkpoint, PipelineState, Rewind, Status
from dataflow.errors import Conflict, IllegalCommand, InvalidSpec


def back(running: Any, **more: Any) -> Rewind:
    lane = running.state.checkpoint.lanes["sink-0"]
    given = {"lanes": {"sink-0": lane.positions}, "kept": {"sink-0": lane.epoch}, "event": running.state.version}
    return Rewind(generation=1, **{**given, **more})


@pytest.fixture
def twice(running: Any) -> tuple[Any, Rewind]:
    """A pipeline that stopped after two segments, and the checkpoint after the first."""
    running.do(running.segment(1, 3, 1000))
    found = back(running)
    running.do(running.segment(4, 6, 2000))
    running.do(c.StopPipeline(reason=""))
    return running, found


def test_a_new_generation_begins_there(twice: tuple[Any, Rewind]) -> None:
    pipeline, found = twice
    plan, lifetime = pipeline.state.plan, pipeline.state.lifetime
    [event] = pipeline.do(c.ResetPipeline(rewind=found))
    assert event == e.PipelineReset(from_start=True, generation=2, rewind=found)
    state = pipeline.state
    assert (state.status, state.generation, state.plan) == (Status.CONFIGURED, 2, None)
    assert (state.rewind, state.former, state.checkpoint) == (found, plan, Checkpoint())
    assert state.lifetime == lifetime
    assert fold(PipelineState.empty("orders"), pipeline.records) == state
    adapter = TypeAdapter(PipelineState)
    assert adapter.validate_json(adapter.dump_json(state)) == state
    pipeline.do(c.StartPipeline())
    pipeline.do(pipeline.plan())
    pipeline.do(pipeline.segment(1, 2, 1000))
    assert pipeline.state.checkpoint.offset == 1000, "counters are those of the range"


def test_from_the_start_forgets_it(twice: tuple[Any, Rewind]) -> None:
    pipeline, found = twice
    pipeline.do(c.ResetPipeline(rewind=found))
    pipeline.do(c.ResetPipeline(from_start=True))
    assert (pipeline.state.rewind, pipeline.state.former, pipeline.state.generation) == (None, None, 3)


def test_what_does_not_fit_is_refused_with_every_problem(twice: tuple[Any, Rewind]) -> None:
    pipeline, _ = twice
    for wrong, paths in (
        ({"lanes": {"sink-7": {}}}, ["rewind.lanes.sink-7"]),
        ({"lanes": {"sink-0": {"other.csv": "1"}}}, ["rewind.lanes.sink-0"]),
        ({"kept": {"sink-0": 7}}, ["rewind.kept.sink-0"]),
        ({"kept": {"sink-0": -1, "sink-9": 1}}, ["rewind.kept.sink-0", "rewind.kept.sink-9"]),
    ):
        with pytest.raises(InvalidSpec) as refused:
            pipeline.do(c.ResetPipeline(rewind=back(pipeline, **wrong)))
        assert [problem.path for problem in refused.value.problems] == paths


def test_another_generation_and_nothing_read_are_conflicts(twice: tuple[Any, Rewind], at: Any) -> None:
    pipeline, found = twice
    pipeline.do(c.ResetPipeline(rewind=found))
    with pytest.raises(Conflict, match="is of generation 1, pipeline orders is in generation 2"):
        pipeline.do(c.ResetPipeline(rewind=found))
    with pytest.raises(Conflict, match="has read nothing in generation 1 yet"):
        at(Status.CONFIGURED).do(c.ResetPipeline(rewind=Rewind(generation=1)))


@pytest.mark.parametrize("status", [Status.RUNNING, Status.PAUSED])
def test_a_running_pipeline_is_stopped_first(at: Any, status: Status) -> None:
    with pytest.raises(IllegalCommand, match="stop it first"):
        at(status).do(c.ResetPipeline(rewind=Rewind(generation=1)))


def test_another_source_after_it_needs_a_new_start(twice: tuple[Any, Rewind]) -> None:
    pipeline, found = twice
    pipeline.do(c.ResetPipeline(rewind=found))
    other = {"source": {"type": "file", "path": "other.csv", "format": "csv"}}
    with pytest.raises(Conflict, match="would have another source"):
        pipeline.do(c.UpdateConfig(spec=other, partial=True))
    pipeline.do(c.UpdateConfig(spec={"description": "again"}, partial=True))
    assert pipeline.state.rewind == found
    pipeline.do(c.UpdateConfig(spec=other, partial=True, from_start=True))
    assert (pipeline.state.rewind, pipeline.state.generation) == (None, 3)

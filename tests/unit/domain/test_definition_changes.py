"""Definitions: how they may change under a pipeline that exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dataflow.domain import commands as c
from dataflow.domain.pipeline import decide
from dataflow.domain.state import Checkpoint, Status
from dataflow.errors import Conflict, IllegalCommand, InvalidSpec

At = Callable[[Status], Any]


@pytest.fixture
def stopped(running: Any) -> Any:
    """A stopped pipeline that has moved data."""
    running.do(running.segment(1, 3, 1000))
    running.do(c.StopPipeline(reason=""))
    return running


@pytest.mark.parametrize("status", [Status.CONFIGURED, Status.STOPPED])
def test_a_whole_definition_replaces_the_stored_one(at: At, status: Status) -> None:
    pipeline = at(status)
    spec = {**pipeline.spec, "transforms": [], "parallelism": 4}
    del spec["description"]
    pipeline.do(c.UpdateConfig(spec=spec))
    assert pipeline.records[-1].type == "ConfigUpdated"
    assert pipeline.state.definition.transforms == ()
    assert pipeline.state.definition.parallelism == 4
    assert pipeline.state.description == ""


@pytest.mark.parametrize("status", [Status.CONFIGURED, Status.STOPPED])
def test_a_partial_one_is_laid_over_it(at: At, status: Status) -> None:
    pipeline = at(status)
    pipeline.do(c.UpdateConfig(spec={"description": "other", "name": "renamed"}, partial=True))
    assert (pipeline.state.name, pipeline.state.description) == ("renamed", "other")
    assert pipeline.state.definition.pipeline_id == pipeline.state.pipeline_id == "orders"
    assert pipeline.state.definition.transforms[0].options == {"where": "amount > 50"}
    pipeline.do(c.UpdateConfig(spec={"description": None, "sink": {"type": "console"}}, partial=True))
    assert pipeline.state.description == ""
    assert [sink.type for sink in pipeline.state.definition.sinks] == ["console"]


@pytest.mark.parametrize("status", [Status.RUNNING, Status.PAUSED])
def test_not_while_it_runs(at: At, status: Status) -> None:
    pipeline = at(status)
    before = pipeline.state
    with pytest.raises(IllegalCommand, match="stop it first: dataflow stop orders"):
        pipeline.do(c.UpdateConfig(spec=pipeline.spec))
    assert pipeline.state == before


def test_no_change_is_no_event(stopped: Any) -> None:
    assert stopped.do(c.UpdateConfig(spec=stopped.spec)) == ()
    assert stopped.do(c.UpdateConfig(spec={}, partial=True)) == ()


def test_a_wrong_change_is_refused_with_every_problem(stopped: Any) -> None:
    before = stopped.state
    with pytest.raises(InvalidSpec) as refused:
        stopped.do(c.UpdateConfig(spec={"description": "x" * 501, "parallelism": 0, "colour": "red"}, partial=True))
    assert sorted(p.path for p in refused.value.problems) == ["colour", "description", "parallelism"]
    assert stopped.state == before


def test_an_id_never_changes(stopped: Any) -> None:
    with pytest.raises(InvalidSpec, match="the pipeline's id is orders"):
        stopped.do(c.UpdateConfig(spec={"id": "another"}, partial=True))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"source": {"type": "file", "path": "other.csv", "format": "csv"}}, "another source"),
        ({"sink": {"type": "file", "path": "elsewhere", "format": "parquet"}}, "another sink sink"),
        ({"sink": {"type": "file", "path": "out", "format": "parquet", "name": "new-name"}}, "another sink sink"),
        ({"base": "/elsewhere"}, "another folder"),
    ],
)
def test_another_place_after_data_has_moved_takes_a_new_generation(
    stopped: Any, change: dict[str, Any], what: str
) -> None:
    with pytest.raises(Conflict, match=what):
        stopped.do(c.UpdateConfig(spec=change, partial=True))
    stopped.do(c.UpdateConfig(spec=change, partial=True, from_start=True))
    state = stopped.state
    assert (state.status, state.generation, state.plan) == (Status.STOPPED, 2, None)
    assert state.checkpoint == Checkpoint()
    assert state.lifetime.records_processed == 900


def test_another_place_before_data_has_moved_is_free(at: At) -> None:
    pipeline = at(Status.STOPPED)
    pipeline.do(c.UpdateConfig(spec={"source": {"type": "file", "path": "b.csv"}}, partial=True))
    assert pipeline.state.generation == 1


@pytest.mark.parametrize(
    "change",
    [
        {"source": {"type": "file", "path": "orders.csv", "format": "csv", "batch_size": 7, "poll_interval": "1s"}},
        {"sink": {"type": "file", "path": "out", "format": "parquet", "batch_size": 7, "where": "a > 1"}},
        {"transforms": []},
        {"parallelism": 8},
    ],
)
def test_what_is_no_place_keeps_plan_and_checkpoint(stopped: Any, change: dict[str, Any]) -> None:
    before = stopped.state
    assert stopped.do(c.UpdateConfig(spec=change, partial=True))
    assert (stopped.state.plan, stopped.state.checkpoint) == (before.plan, before.checkpoint)
    assert stopped.state.generation == 1


def test_sinks_may_come_and_go_but_need_a_new_plan(stopped: Any) -> None:
    out = {"type": "file", "path": "out", "format": "parquet"}
    with pytest.raises(Conflict, match="another sink sink"):  # one unnamed sink is `sink`, the first of two `sink1`
        decide(stopped.state, c.UpdateConfig(spec={"sinks": [out, {"type": "console"}]}, partial=True))
    two = [{**out, "name": "sink"}, {"type": "console", "name": "screen"}]
    stopped.do(c.UpdateConfig(spec={"sinks": two}, partial=True))
    assert (stopped.state.generation, stopped.state.plan, stopped.state.plan_number) == (1, None, 1)
    assert stopped.state.checkpoint.offset == 1000
    stopped.do(c.UpdateConfig(spec={"sinks": two[:1]}, partial=True))
    assert stopped.state.definition.sink_names() == ("sink",)


def test_the_folder_stays_unless_it_is_given(at: At) -> None:
    pipeline = at(Status.EMPTY)
    pipeline.do(c.CreatePipeline(spec={**pipeline.spec, "base": "/data"}))
    pipeline.do(c.UpdateConfig(spec={**pipeline.spec, "description": "new"}))
    assert pipeline.state.definition.base == "/data"


def test_an_id_apart_from_the_name(at: At) -> None:
    pipeline = type(at(Status.EMPTY))("5d7c1f0e-8a4b-4c52-9d3e-111111111111")
    pipeline.do(c.CreatePipeline(spec=pipeline.spec))
    assert (pipeline.state.name, pipeline.state.definition.id) == ("orders", pipeline.state.pipeline_id)
    other = type(pipeline)("orders")
    with pytest.raises(InvalidSpec, match="id"):
        other.do(c.CreatePipeline(spec={**pipeline.spec, "id": "not-orders"}))

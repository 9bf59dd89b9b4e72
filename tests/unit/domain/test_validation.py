"""Limits of what commands may carry, each at its edge, and all violations at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dataflow.domain import commands as c
from dataflow.domain.pipeline import decide
from dataflow.domain.state import Checkpoint, ErrorType, PipelineError, PipelineState, Status
from dataflow.errors import InvalidSpec

At = Callable[[Status], Any]


def paths(state: PipelineState, command: c.Command) -> list[str]:
    """Where the command is wrong."""
    try:
        decide(state, command)
    except InvalidSpec as refused:
        return [problem.path for problem in refused.problems]
    return []


def create(change: dict[str, Any], name: str = "orders") -> list[str]:
    spec: dict[str, Any] = {
        "name": name,
        "source": {"type": "file", "path": "a.csv"},
        "sink": {"type": "console"},
        **change,
    }
    return paths(PipelineState.empty(name), c.CreatePipeline(spec={k: v for k, v in spec.items() if v is not ...}))


@pytest.mark.parametrize("name", ["abc", "a" * 100, "A-b_9", "---"])
def test_good_names(name: str) -> None:
    assert create({}, name) == []


@pytest.mark.parametrize("name", ["ab", "a" * 101, "", "a b c", "abc\n", "naïve", "a/b/c", "a.b.c"])
def test_bad_names(name: str) -> None:
    assert "name" in create({}, name)


def test_description() -> None:
    assert create({"description": "x" * 500}) == []
    assert create({"description": "x" * 501}) == ["description"]


@pytest.mark.parametrize(
    ("batch_size", "good"), [(1, True), (10_000, True), (0, False), (-1, False), (10_001, False), ("many", False)]
)
def test_batch_sizes(batch_size: Any, good: bool) -> None:
    source = {"type": "file", "path": "a", "batch_size": batch_size}
    sink = {"type": "console", "batch_size": batch_size}
    assert create({"source": source}) == ([] if good else ["source.batch_size"])
    assert create({"sink": sink}) == ([] if good else ["sink.batch_size"])
    assert create({"sink": ..., "sinks": [sink]}) == ([] if good else ["sinks[0].batch_size"])


@pytest.mark.parametrize(
    ("interval", "good"),
    [
        (0, True),
        ("1ms", True),
        ("3600000ms", True),
        ("1h", True),
        ("0.5ms", False),
        ("3600001ms", False),
        (-1, False),
        ("soon", False),
    ],
)
def test_poll_interval(interval: Any, good: bool) -> None:
    source = {"type": "file", "path": "a", "poll_interval": interval}
    assert create({"source": source}) == ([] if good else ["source.poll_interval"])


def test_types_must_be_named() -> None:
    assert create({"source": {"path": "a"}}) == ["source.type"]
    assert create({"sink": {"type": ""}}) == ["sink.type"]
    assert create({"transforms": [{"type": "filter"}, {}]}) == ["transforms[1].type"]


def test_no_transforms_pass_all_through() -> None:
    assert create({"transforms": []}) == []
    assert create({}) == []


def test_all_violations_at_once_with_their_paths() -> None:
    with pytest.raises(InvalidSpec) as refused:
        decide(
            PipelineState.empty("no"),
            c.CreatePipeline(
                spec={"name": "no", "sink": {"type": "console", "batch_size": 0}, "transform": [], "parallelism": 0}
            ),
        )
    found = {problem.path: problem for problem in refused.value.problems}
    assert set(found) == {"name", "source", "sink.batch_size", "transform", "parallelism"}
    assert found["transform"].hint == "did you mean transforms?"
    assert str(refused.value).startswith("Validation failed: ")
    assert all(path in str(refused.value) for path in found)


def test_a_definition_needs_a_sink_and_one_form_of_it() -> None:
    assert create({"sink": ...}) == ["sink"]
    assert create({"sinks": [{"type": "console"}]}) == ["spec"]


def test_sinks_have_names_of_their_own() -> None:
    console = {"type": "console"}
    assert create({"sink": ..., "sinks": [console, console]}) == []
    assert create({"sink": ..., "sinks": [{**console, "name": "sink2"}, console]}) == ["sinks[1].name"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_options_are_json(value: Any) -> None:
    assert create({"source": {"type": "file", "path": "a", "deep": {"list": [1, value]}}}) == ["source.deep.list[1]"]
    assert "retry.maximum" in create({"retry": {"maximum": value}})


@pytest.mark.parametrize(
    ("batch", "wrong"),
    [
        (("b", 1, 0), []),
        (("b", 10_000, 0), []),
        (("b", 0, 0), ["record_count"]),
        (("b", 10_001, 0), ["record_count"]),
        (("b", 1, -1), ["source_offset"]),
        (("", 0, -1), ["batch_id", "record_count", "source_offset"]),
        ((" ", 1, 0), ["batch_id"]),
        (("b" * 200, 1, 0), []),
        (("b" * 201, 1, 0), ["batch_id"]),
    ],
)
def test_pushed_batches(pushed: Any, batch: tuple[str, int, int], wrong: list[str]) -> None:
    batch_id, count, offset = batch
    command = c.IngestBatch(batch_id=batch_id, record_count=count, source_offset=offset)
    assert paths(pushed.state, command) == wrong


@pytest.mark.parametrize(
    ("first", "last", "wrong"),
    [(1, 1, []), (1, 9, []), (3, 2, []), (0, 2, ["first_epoch"]), (4, 2, ["first_epoch"]), (1, -1, ["first_epoch"])],
)
def test_segments(at: At, first: int, last: int, wrong: list[str]) -> None:
    pipeline = at(Status.RUNNING)
    assert paths(pipeline.state, pipeline.segment(first, last, 10)) == wrong
    bad = pipeline.segment(first, last, 10, batch_id="", milliseconds=-1)
    assert paths(pipeline.state, bad) == ["batch_id", *wrong, "milliseconds"]


def test_error_reports_need_code_and_message(at: At) -> None:
    error = PipelineError(error_type=ErrorType.SOURCE, code=" ", message="")
    command = c.ReportFailure(error=error, jitter=0.21)
    assert paths(at(Status.RUNNING).state, command) == ["error.code", "error.message", "jitter"]


def test_timeouts(at: At) -> None:
    command = c.BatchTimeout(batch_id="", timeout_ms=-1, jitter=float("nan"))
    assert paths(at(Status.RUNNING).state, command) == ["batch_id", "timeout_ms", "jitter"]


def test_checkpoints_and_figures(at: At) -> None:
    state = at(Status.RUNNING).state
    checkpoint = Checkpoint(offset=-1, records_processed=-1)
    assert paths(state, c.UpdateCheckpoint(checkpoint=checkpoint)) == [
        "checkpoint.offset",
        "checkpoint.records_processed",
    ]
    assert paths(state, c.ReportMetrics(metrics={})) == ["metrics"]
    assert paths(state, c.ReportMetrics(metrics={str(n): 1.0 for n in range(101)})) == ["metrics"]
    assert paths(state, c.ReportMetrics(metrics={str(n): 1.0 for n in range(100)})) == []
    assert paths(state, c.ReportMetrics(metrics={"lag": float("nan")})) == ["metrics.lag"]


def test_outputs_are_json(at: At) -> None:
    command = c.CompletePipeline(outputs={"sink": {"paths": [b"raw"]}})
    assert paths(at(Status.RUNNING).state, command) == ["outputs.sink.paths[0]"]

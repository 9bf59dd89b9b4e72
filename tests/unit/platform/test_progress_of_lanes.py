"""What heartbeats say, as people and programs see it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from dataflow.cli.render import progress_json, progress_lines
from dataflow.domain.flow import Counters
from dataflow.domain.state import Checkpoint, ErrorType, LaneCheckpoint, PipelineError, PipelineState, Plan, PlannedLane
from dataflow.sdk.progress import Doing, combine

LANES = tuple(PlannedLane(sink="out", number=n, splits=(f"t-{n}",)) for n in range(2))
PLAN = Plan(number=1, generation=1, lanes=LANES)
STATE = replace(
    PipelineState.empty("orders"),
    plan=PLAN,
    checkpoint=Checkpoint(lanes={"out-0": LaneCheckpoint(epoch=5, counters=Counters(read=50))}),
)


def beat(epoch: int, stage: str, part: str, seconds: float, **more: Any) -> dict[str, Any]:
    counters = asdict(Counters(read=10 * epoch))
    return {"epoch": epoch, "counters": counters, "stage": stage, "part": part, "seconds": seconds, **more}


def test_a_lane_that_stands_still_is_blocked() -> None:
    progress = combine(STATE, {"out-0": beat(6, "committing", "sink", 12.4), "out-1": beat(1, "writing", "sink", 0.1)})
    assert progress.blocked == {"out-0": Doing("committing", "sink", 12.4)}
    assert progress.counters.read == 70
    assert "  blocked:    lane out-0 by the sink: committing for 12 s" in progress_lines(progress)
    told = progress_json(progress)
    assert told["blocked"] == ["out-0"]
    assert told["lanes"]["out-1"] == {"stage": "writing", "part": "sink", "seconds": 0.1}


def test_an_attempt_that_is_opening_is_told_before_it_has_read_its_receipt() -> None:
    progress = combine(STATE, {"out-0": beat(0, "opening", "sink", 9)})
    assert list(progress.blocked) == ["out-0"]
    assert (progress.epochs, progress.counters.read) == (5, 50)


def test_waiting_for_input_is_a_block_only_where_there_is_some() -> None:
    waiting = beat(6, "waiting", "source", 60)
    assert not combine(STATE, {"out-0": {**waiting, "lag": {"t-0": 0}}}).blocked
    behind = combine(STATE, {"out-0": {**waiting, "lag": {"t-0": 7}}})
    assert list(behind.blocked) == ["out-0"]
    assert "  lag:        7 rows to read (t-0 7)" in progress_lines(behind)
    assert list(combine(STATE, {"out-0": {**waiting, "part": "transform"}}).blocked) == ["out-0"]


def test_beats_of_older_workers() -> None:
    old = {"epoch": 6, "counters": asdict(Counters(read=60)), "stage": "writing"}
    progress = combine(STATE, {"out-0": old})
    assert (progress.lag, progress.blocked, progress.stages) == ({}, {}, ("writing",))


def test_of_several_sinks_the_one_farthest_behind_counts() -> None:
    beats = {"a-0": beat(1, "writing", "sink", 0, lag={"t-0": 3}), "b-0": beat(1, "writing", "sink", 0, lag={"t-0": 9})}
    assert combine(STATE, beats).lag == {"t-0": 9}


def test_the_part_that_failed_is_named() -> None:
    error = PipelineError(error_type=ErrorType.SINK, code="TIMEOUT", message="topic 'x' did not answer in time")
    lines = progress_lines(combine(replace(STATE, error=error), {}))
    assert "  error:      sink: TIMEOUT: topic 'x' did not answer in time" in lines

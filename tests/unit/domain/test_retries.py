"""Failures: retried so often, after so long, then final."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dataflow.domain import commands as c
from dataflow.domain import events as e
from dataflow.domain.state import Status

Fail = Callable[..., c.ReportFailure]


def test_five_retries_then_failed(running: Any, fail: Fail) -> None:
    waits = []
    for attempt in range(1, 6):
        (event,) = running.do(fail("TIMEOUT"))
        assert isinstance(event, e.RetryScheduled)
        assert event.retry_count == running.state.retry_count == attempt
        assert running.state.status is Status.RUNNING
        assert running.state.error.code == "TIMEOUT"
        waits.append(event.backoff_ms)
    assert waits == [1000, 2000, 4000, 8000, 16000]
    (last,) = running.do(fail("TIMEOUT"))
    assert isinstance(last, e.PipelineFailed)
    assert last.retry_count == 5
    assert running.state.status is Status.FAILED


def test_the_jitter_comes_from_outside(running: Any, fail: Fail) -> None:
    (event,) = running.do(fail("TIMEOUT", jitter=-0.2))
    assert event.backoff_ms == 800


def test_success_starts_the_count_anew(running: Any, fail: Fail) -> None:
    running.do(fail("TIMEOUT"))
    running.do(fail("TIMEOUT"))
    running.do(running.segment(1, 1, 10))
    assert (running.state.retry_count, running.state.error) == (0, None)
    running.do(fail("TIMEOUT"))
    assert running.state.retry_count == 1


@pytest.mark.parametrize("commands", [(c.PausePipeline(), c.ResumePipeline()), (c.StopPipeline(), c.StartPipeline())])
def test_resume_and_start_begin_the_count_anew(running: Any, fail: Fail, commands: tuple[c.Command, ...]) -> None:
    running.do(fail("TIMEOUT"))
    for command in commands:
        running.do(command)
    assert (running.state.retry_count, running.state.retries) == (0, {})


def test_a_lane_that_goes_on_does_not_hide_one_that_never_does(at: Callable[[Status], Any], fail: Fail) -> None:
    pipeline = at(Status.RUNNING)
    for n in range(1, 6):
        pipeline.do(fail("TIMEOUT", lane="sink-1"))
        pipeline.do(fail("TIMEOUT", lane="sink-0"))
        pipeline.do(pipeline.segment(n, n, 10 * n, lane="sink-0"))
        assert (pipeline.state.retry_count, dict(pipeline.state.retries)) == (n, {"sink-1": n})
        assert pipeline.state.error is not None
    pipeline.do(fail("TIMEOUT", lane="sink-1"))
    assert pipeline.state.status is Status.FAILED


def test_the_pipelines_own_policy(running: Any, fail: Fail) -> None:
    running.do(c.StopPipeline())
    retry = {"max_attempts": 2, "initial": "100ms", "maximum": "150ms", "codes": ["disk_full"]}
    running.do(c.UpdateConfig(spec={"retry": retry}, partial=True))
    running.do(c.StartPipeline())
    assert [running.do(fail("DISK_FULL"))[0].backoff_ms for _ in range(2)] == [100, 150]
    running.do(fail("DISK_FULL"))
    assert running.state.status is Status.FAILED


def test_no_retries_at_all(running: Any, fail: Fail) -> None:
    running.do(c.StopPipeline())
    running.do(c.UpdateConfig(spec={"retry": {"max_attempts": 0}}, partial=True))
    running.do(c.StartPipeline())
    running.do(fail("TIMEOUT"))
    assert running.state.status is Status.FAILED


def test_a_batch_that_takes_too_long(running: Any) -> None:
    timed_out, retry = running.do(c.BatchTimeout(batch_id="b1", timeout_ms=2000, jitter=0.2))
    assert timed_out == e.BatchTimedOut(batch_id="b1", timeout_ms=2000)
    assert isinstance(retry, e.RetryScheduled)
    assert (retry.error.code, retry.retry_count, retry.backoff_ms) == ("TIMEOUT", 1, 1200)
    for _ in range(4):
        running.do(c.BatchTimeout(batch_id="b1", timeout_ms=2000))
    timed_out, failed = running.do(c.BatchTimeout(batch_id="b1", timeout_ms=2000))
    assert isinstance(failed, e.PipelineFailed)
    assert running.state.status is Status.FAILED


def test_a_late_timeout_of_a_finished_batch_is_nothing(running: Any) -> None:
    segment = running.segment(1, 1, 10)
    running.do(segment)
    before = running.state
    assert running.do(c.BatchTimeout(batch_id=segment.batch_id, timeout_ms=2000)) == ()
    assert running.state == before

"""Pipelines come, report and go; workers too; sums stay exact and nothing that comes late counts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dataflow.domain.coordinator import commands as c
from dataflow.domain.coordinator.overview import Beat, Health, counts, health, info, overview, page
from dataflow.domain.coordinator.state import REMEMBERED, Need
from dataflow.domain.state import Status
from dataflow.errors import Conflict, NotFound

from .conftest import Desk, report


def test_three_are_created_and_a_second_registration_is_refused(desk: Desk) -> None:
    for name in "abc":
        assert desk.do(c.RegisterPipeline(report=report(name, Status.CONFIGURED, 1))) == ["PipelineRegistered"]
    assert [one.pipeline_id for one in page(desk.state, {}, desk.now)] == ["a", "b", "c"]
    with pytest.raises(Conflict, match="registered already"):
        desk.do(c.RegisterPipeline(report=report("b", Status.CONFIGURED, 1)))


def test_unregistering_frees_what_was_held_and_the_unknown_is_an_error() -> None:
    desk = Desk(pipelines_per_worker=10)
    desk.run("a")
    before = desk.state
    desk.run("b", need=c.Need(cpu_percent=12.3, memory_mb=77))
    assert desk.state.reserved_memory_mb == before.reserved_memory_mb + 77
    assert desk.do(c.UnregisterPipeline(pipeline_id="b", version=9)) == ["PipelineUnregistered"]
    after = desk.state
    assert (after.held, after.reserved_cpu, after.reserved_memory_mb, after.held_by_group) == (
        before.held,
        before.reserved_cpu,
        before.reserved_memory_mb,
        before.held_by_group,
    )
    with pytest.raises(NotFound, match="not registered"):
        desk.do(c.UnregisterPipeline(pipeline_id="b"))


def test_a_report_moves_the_heartbeat_and_an_unknown_or_late_one_changes_nothing(desk: Desk) -> None:
    assert desk.do(c.UpdatePipelineStatus(report=report("x", Status.RUNNING, 3))) == []
    desk.report("a", Status.CONFIGURED, 1)
    heard = desk.state.pipelines["a"].heard_at
    assert desk.report("a", Status.RUNNING, 5, records=100, failed=3) == ["PipelineStatusUpdated"]
    entry = desk.state.pipelines["a"]
    assert (entry.heard_at > heard, entry.records, entry.failed) == (True, 100, 3)
    for version in (4, 5):
        assert desk.report("a", Status.STOPPED, version) == []
    assert desk.state.pipelines["a"].status is Status.RUNNING


def test_a_deleted_pipeline_is_taken_out_and_no_late_report_brings_it_back(desk: Desk) -> None:
    desk.report("a", Status.CONFIGURED, 1)
    assert desk.report("a", Status.DELETED, 2) == ["PipelineUnregistered"]
    assert desk.report("a", Status.DELETED, 2) == []
    assert desk.report("a", Status.CONFIGURED, 1) == []
    assert "a" not in desk.state.pipelines


def test_only_so_many_removed_ones_are_remembered(desk: Desk) -> None:
    for n in range(REMEMBERED + 5):
        desk.batch(
            c.NoteReport(report=report(f"p{n}", Status.CONFIGURED, 1)),
            c.NoteReport(report=report(f"p{n}", Status.DELETED, 2)),
        )
    assert len(desk.state.removed) == REMEMBERED
    assert f"p{REMEMBERED + 4}" in desk.state.removed
    assert "p0" not in desk.state.removed


def test_one_that_ran_before_it_was_known_holds_its_slot(desk: Desk) -> None:
    assert desk.report("old", Status.RUNNING, 40) == ["PipelineRegistered", "PipelineStatusUpdated"]
    assert desk.state.held == 1
    desk.report("old", Status.PAUSED, 41)
    assert desk.state.held == 1
    desk.report("old", Status.COMPLETED, 42)
    assert desk.state.held == 0


def test_worker_reports_replace_each_other_without_drift(desk: Desk) -> None:
    for n in range(300):
        desk.worker("w1", cpu_percent=0.1 + n % 7 * 0.1, memory_mb=100 + n)
        desk.worker("w2", cpu_percent=0.3, memory_mb=1)
    now = overview(desk.state, {}, desk.now)
    assert (now.memory_mb, now.worker_count) == (400, 2)
    desk.do(c.RemoveWorker(worker="w1", reason="it left"))
    now = overview(desk.state, {}, desk.now)
    assert (now.cpu_percent, now.memory_mb, now.segment_slots) == (0.3, 1, 100)
    desk.do(c.RemoveWorker(worker="w2", reason="it left"))
    now = overview(desk.state, {}, desk.now)
    assert (now.cpu_percent, now.memory_mb, now.segment_slots) == (0.0, 0, 0)
    with pytest.raises(NotFound):
        desk.do(c.RemoveWorker(worker="w2", reason="it left"))


def test_a_silent_worker_is_removed(desk: Desk) -> None:
    desk.worker("w1")
    desk.now += timedelta(seconds=100)
    desk.worker("w2")
    assert desk.do(c.Tidy(at=desk.now + timedelta(seconds=100))) == ["WorkerRemoved"]
    assert list(desk.state.workers) == ["w2"]


@pytest.mark.parametrize(
    ("failed", "others", "expected"),
    [
        (0, 0, Health.IDLE),
        (0, 100, Health.HEALTHY),
        (1, 99, Health.DEGRADED),
        (49, 51, Health.DEGRADED),
        (50, 50, Health.CRITICAL),
        (100, 0, Health.CRITICAL),
        (1, 1, Health.CRITICAL),
        (1, 2, Health.DEGRADED),
    ],
)
def test_health(failed: int, others: int, expected: Health) -> None:
    assert health({Status.FAILED: failed, Status.RUNNING: others}) is expected


def test_info_list_list_by_status_and_counts(desk: Desk) -> None:
    statuses = [Status.RUNNING, Status.FAILED, Status.CONFIGURED, Status.RUNNING, Status.STOPPED]
    for name, status in zip("abcde", statuses, strict=True):
        desk.report(name, status, 3, records=10)
    assert counts(desk.state) == {
        Status.RUNNING: 2,
        Status.FAILED: 1,
        Status.CONFIGURED: 1,
        Status.STOPPED: 1,
    }
    one = info(desk.state, {}, "b", desk.now)
    assert one is not None
    assert (one.status, one.holds_slot) == (Status.FAILED, False)
    assert info(desk.state, {}, "z", desk.now) is None
    running = page(desk.state, {}, desk.now, status=Status.RUNNING)
    assert [(p.pipeline_id, p.holds_slot) for p in running] == [("a", True), ("d", True)]
    first = page(desk.state, {}, desk.now, limit=2)
    rest = page(desk.state, {}, desk.now, after=first[-1].pipeline_id, limit=10)
    assert [p.pipeline_id for p in (*first, *rest)] == list("abcde")
    whole = overview(desk.state, {}, desk.now)
    assert (whole.total, whole.records, whole.health) == (5, 50, Health.DEGRADED)
    assert whole.by_status == {"configured": 1, "running": 2, "stopped": 1, "failed": 1}


def test_only_a_running_pipeline_of_which_nothing_is_heard_is_stale(desk: Desk) -> None:
    desk.report("a", Status.RUNNING, 3)
    desk.report("b", Status.PAUSED, 3)
    soon, late = desk.now + timedelta(seconds=179), desk.now + timedelta(seconds=182)
    assert overview(desk.state, {}, soon).stale_pipelines == ()
    assert overview(desk.state, {}, late).stale_pipelines == ("a",)
    beat = Beat(at=desk.now + timedelta(seconds=60), records=7, failed=1)
    assert overview(desk.state, {"a": beat}, late).stale == 0
    one: Any = info(desk.state, {"a": beat}, "a", late)
    assert (one.records, one.failed, one.last_heartbeat) == (7, 1, beat.at)


def test_the_cpu_of_a_pipeline_is_that_of_all_its_workers_that_are_there(desk: Desk) -> None:
    for name in ("a", "b"):
        desk.run(name, need=Need(cpu_percent=1.5))
    desk.worker("w1")
    desk.worker("w2")
    cpu = {"w1": {"a": 10.5, "b": 40.0}, "w2": {"a": 20.0}, "gone": {"a": 50.0}, "w3": {}}
    seen = overview(desk.state, {}, desk.now, cpu)
    assert [(one.pipeline_id, one.cpu_percent) for one in seen.busiest] == [("b", 40.0), ("a", 30.5)]
    one: Any = info(desk.state, {}, "a", desk.now, cpu)
    assert (one.cpu_percent, one.cpu_used_percent) == (1.5, 30.5)
    assert [each.cpu_used_percent for each in page(desk.state, {}, desk.now, cpu_by_worker=cpu)] == [30.5, 40.0]
    assert overview(desk.state, {}, desk.now).busiest == ()
    desk.report("b", Status.DELETED, 9)
    assert [one.pipeline_id for one in overview(desk.state, {}, desk.now, cpu).busiest] == ["a"]

"""Who may start: slots, CPU, memory, quotas, priorities, and what is written down of each decision."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dataflow.domain.coordinator import commands as c
from dataflow.domain.coordinator.state import Limits, Need, WhenFull
from dataflow.domain.state import Status

from .conftest import Desk, report


def test_the_third_start_of_two_slots_waits_and_goes_when_one_is_free() -> None:
    desk = Desk(pipelines_per_worker=2)
    assert [desk.run(name) for name in "abc"] == ["granted", "granted", "queued"]
    assert desk.state.waiting["c"].reason == "2 of 2 slots are taken"
    assert desk.report("a", Status.COMPLETED, 5) == ["PipelineStatusUpdated", "AdmissionGranted"]
    assert desk.granted == ["c"]
    assert (desk.state.held, dict(desk.state.waiting)) == (2, {})


def test_it_is_refused_where_that_is_configured() -> None:
    desk = Desk(pipelines_per_worker=2, when_full=WhenFull.REFUSE)
    assert [desk.run(name) for name in "abc"] == ["granted", "granted", "refused"]
    assert not desk.state.waiting
    desk.report("a", Status.STOPPED, 3)
    assert desk.run("c") == "granted"


def test_every_decision_tells_who_when_and_why() -> None:
    desk = Desk(pipelines_per_worker=1)
    desk.do(c.RequestAdmission(report=report("a", Status.CONFIGURED, 1)), actor="ada")
    desk.do(c.RequestAdmission(report=report("b", Status.CONFIGURED, 1)), actor="bob")
    granted, queued = (record for record in desk.records if record.type.startswith("Admission"))
    assert (granted.type, granted.actor, granted.payload["reason"]) == ("AdmissionGranted", "ada", "slot 1 of 1")
    assert (queued.type, queued.actor, queued.time, queued.payload["reason"]) == (
        "AdmissionQueued",
        "bob",
        desk.now,
        "1 of 1 slots are taken",
    )
    assert {record.tags for record in desk.records} == {("coordinator",)}
    desk.report("a", Status.STOPPED, 3)
    assert desk.records[-1].payload["waited_ms"] == 1000


def test_the_limits_are_eighty_percent_and_eighty_thousand_megabytes() -> None:
    desk = Desk(pipelines_per_worker=10_000)
    assert desk.run("a", need=Need(cpu_percent=79.9)) == "granted"
    assert desk.run("b", need=Need(cpu_percent=0.2)) == "queued"
    assert "79.9 % of 80 %" in desk.state.waiting["b"].reason
    desk = Desk(pipelines_per_worker=10_000)
    assert desk.run("a", need=Need(memory_mb=80_000 - 64)) == "granted"
    assert desk.run("b") == "granted"
    assert desk.run("c", need=Need(memory_mb=1)) == "queued"
    assert desk.state.waiting["c"].reason == "memory: 80000 of 80000 MB are taken, 1 MB are needed"


def test_a_hundred_run_on_one_worker_and_the_next_with_the_next() -> None:
    desk = Desk()
    decided = [desk.run(f"p{n:03}") for n in range(101)]
    assert decided == ["granted"] * 100 + ["queued"]
    desk.worker("w1")
    assert desk.granted == []
    assert desk.worker("w2") == ["ResourceUsageReported", "AdmissionGranted"]
    assert desk.granted == ["p100"]


def test_what_workers_measure_counts_where_that_is_asked_for() -> None:
    desk = Desk(measured=True)
    desk.worker("w1", cpu_percent=79.5)
    assert desk.run("a") == "queued"
    desk.worker("w1", cpu_percent=20.0)
    assert desk.granted == ["a"]
    desk.worker("w1", cpu_percent=20.0, memory_mb=79_990)
    assert desk.run("b") == "queued"
    desk = Desk()
    desk.worker("w1", cpu_percent=100.0)
    assert desk.run("a") == "granted"


def test_changed_limits_hold_at_once_and_what_runs_goes_on() -> None:
    desk = Desk(pipelines_per_worker=3)
    assert [desk.run(name) for name in "abcd"] == ["granted"] * 3 + ["queued"]
    assert desk.do(c.ChangeLimits(limits=desk.state.limits)) == []
    desk.do(c.ChangeLimits(limits=Limits(pipelines_per_worker=1)))
    assert desk.state.held == 3
    desk.report("a", Status.STOPPED, 3)
    assert desk.granted == []
    desk.do(c.ChangeLimits(limits=Limits(pipelines_per_worker=5)))
    assert desk.granted == ["d"]


def test_low_priority_waits_while_high_starts() -> None:
    desk = Desk(pipelines_per_worker=1)
    desk.run("first")
    for name, priority in (("low", -1), ("usual", 0), ("high", 7), ("usual2", 0)):
        assert desk.run(name, priority=priority) == "queued"
    order = []
    running = "first"
    for _ in range(4):
        desk.report(running, Status.COMPLETED, 9)
        running = desk.granted[-1]
        desk.report(running, Status.RUNNING, 4)
        order.append(running)
    assert order == ["high", "usual", "usual2", "low"]


def test_nobody_overtakes_those_that_wait_but_a_higher_priority() -> None:
    desk = Desk(pipelines_per_worker=10)
    desk.run("a", need=Need(cpu_percent=79))
    assert desk.run("large", need=Need(cpu_percent=50)) == "queued"
    assert desk.run("small") == "queued"
    assert desk.state.waiting["small"].reason == "1 with the same or a higher priority wait before it"
    assert desk.run("urgent", priority=1) == "granted"


def test_a_group_has_its_quota_and_holds_back_no_other() -> None:
    desk = Desk(pipelines_per_worker=10, group_slots={"etl": 1}, slots_per_group=2)
    assert [desk.run(f"e{n}", group="etl", priority=9) for n in range(2)] == ["granted", "queued"]
    assert desk.state.waiting["e1"].reason == "group etl uses 1 of its 1 slots"
    assert [desk.run(f"b{n}", group="bi") for n in range(3)] == ["granted", "granted", "queued"]
    assert [desk.run(f"n{n}") for n in range(3)] == ["granted"] * 3
    desk.report("b0", Status.FAILED, 5, group="bi")
    assert desk.granted == ["b2"]


def test_asking_twice_gives_one_slot_and_one_place() -> None:
    desk = Desk(pipelines_per_worker=1)
    assert desk.ask("a") == "granted"
    assert desk.ask("a") == ""
    assert desk.ask("b") == "queued"
    assert desk.ask("b") == ""
    assert (desk.state.held, len(desk.state.waiting)) == (1, 1)


def test_what_was_said_before_the_request_does_not_take_the_slot_away() -> None:
    desk = Desk()
    assert desk.ask("a", version=4) == "granted"
    assert desk.report("a", Status.CONFIGURED, 1) == []
    assert desk.report("a", Status.STOPPED, 4) == []
    assert desk.state.held == 1


def test_one_that_says_it_waits_keeps_its_place_or_gets_one() -> None:
    desk = Desk(pipelines_per_worker=1)
    desk.run("a")
    desk.ask("b")
    assert desk.report("b", Status.CONFIGURED, 2, waiting=True) == ["PipelineStatusUpdated"]
    assert "b" in desk.state.waiting
    assert desk.report("c", Status.STOPPED, 8, waiting=True)[-1] == "AdmissionQueued"
    desk.report("a", Status.COMPLETED, 5)
    assert desk.granted == ["b"]
    assert desk.report("b", Status.CONFIGURED, 3, waiting=True) == ["PipelineStatusUpdated"]
    assert desk.state.held == 1, "its report crossed the grant"
    desk.report("b", Status.RUNNING, 4)
    assert dict(desk.state.granted) == {}


def test_withdrawing_frees_the_place_and_a_slot_that_is_not_used() -> None:
    desk = Desk(pipelines_per_worker=1)
    desk.ask("a")
    desk.ask("b")
    assert desk.report("b", Status.CONFIGURED, 2) == ["PipelineStatusUpdated"]
    assert not desk.state.waiting
    desk.ask("c")
    assert desk.do(c.WithdrawAdmission(pipeline_id="a", reason="gone")) == ["AdmissionWithdrawn", "AdmissionGranted"]
    assert desk.granted == ["c"]
    assert desk.do(c.WithdrawAdmission(pipeline_id="a", reason="gone")) == []


def test_a_grant_that_nothing_comes_of_is_taken_back() -> None:
    desk = Desk(pipelines_per_worker=1, grant_seconds=60)
    desk.ask("a")
    desk.ask("b")
    assert desk.do(c.Tidy(at=desk.now + timedelta(seconds=30))) == []
    assert desk.do(c.Tidy(at=desk.now + timedelta(seconds=70))) == ["AdmissionWithdrawn", "AdmissionGranted"]
    assert desk.granted == ["b"]


def test_one_that_started_without_asking_is_counted() -> None:
    desk = Desk(pipelines_per_worker=1)
    desk.run("a")
    desk.ask("b")
    desk.report("b", Status.RUNNING, 2)
    assert (desk.state.held, dict(desk.state.waiting)) == (2, {})


def test_many_grants_come_in_several_steps() -> None:
    desk = Desk(pipelines_per_worker=1)
    desk.run("a")
    desk.batch(*(c.RequestAdmission(report=report(f"p{n}", Status.CONFIGURED, 1)) for n in range(450)))
    outcome = desk.batch(c.ChangeLimits(limits=Limits(pipelines_per_worker=1000, cpu_percent=10_000)))
    assert len(outcome.granted) == 200
    assert [len(desk.batch().granted) for _ in range(3)] == [200, 50, 0]


@pytest.mark.parametrize("status", [Status.STOPPED, Status.FAILED, Status.COMPLETED, Status.DELETED])
def test_whatever_ends_a_run_frees_its_slot(status: Status) -> None:
    desk = Desk(pipelines_per_worker=1)
    desk.run("a")
    desk.run("b")
    desk.report("a", status, 5)
    assert desk.granted == ["b"]

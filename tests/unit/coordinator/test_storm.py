"""Whatever happens in whatever order: sums stay exact, nothing is lost, nobody runs beyond the limits unnoticed."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataflow.domain.coordinator import commands as c
from dataflow.domain.coordinator.batch import Order, carry_out
from dataflow.domain.coordinator.evolution import fold
from dataflow.domain.coordinator.overview import overview
from dataflow.domain.coordinator.state import ACTIVE, CoordinatorState, Limits, Need
from dataflow.domain.record import verify
from dataflow.domain.state import Status

from .conftest import START, Desk, check_sums, report

NAMES = st.sampled_from([f"p{n}" for n in range(8)])
STATUSES = st.sampled_from([Status.CONFIGURED, *ACTIVE, Status.STOPPED, Status.COMPLETED, Status.FAILED])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_slots_are_given_within_the_limits_and_come_back(data: st.DataObject) -> None:
    desk = Desk(pipelines_per_worker=3, group_slots={"small": 1}, cpu_percent=50)
    versions: Counter[str] = Counter()
    groups = {f"p{n}": ("small", "large", "")[n % 3] for n in range(8)}
    for _ in range(data.draw(st.integers(1, 30))):
        name = data.draw(NAMES)
        more = {"group": groups[name], "priority": data.draw(st.integers(-1, 1))}
        need = Need(cpu_percent=data.draw(st.sampled_from([None, 10.0, 33.3])))
        match data.draw(st.integers(0, 5)):
            case 0 | 1 | 2:
                desk.ask(name, version=versions[name], need=need, **more)
            case 3:
                versions[name] += 1
                holds = (entry := desk.state.pipelines.get(name)) is not None and entry.share is not None
                status = data.draw(STATUSES)
                if status in ACTIVE and not holds:
                    status = Status.STOPPED
                desk.report(name, status, versions[name], **more)
            case 4:
                desk.do(c.WithdrawAdmission(pipeline_id=name, reason="no"))
            case 5:
                versions[name] += 1
                desk.report(name, Status.DELETED, versions[name])
        state = desk.state
        assert state.held <= 3
        assert state.held_by_group.get("small", 0) <= 1
        assert state.reserved_cpu <= 50_000
    assert fold(CoordinatorState.empty("coordinator/test"), desk.records) == desk.state
    assert verify(desk.records) is None
    for name in list(desk.state.pipelines):
        desk.report(name, Status.DELETED, versions[name] + 1)
    assert (desk.state.held, desk.state.reserved_cpu, desk.state.reserved_memory_mb) == (0, 0, 0)
    assert (dict(desk.state.waiting), dict(desk.state.granted), dict(desk.state.held_by_group)) == ({}, {}, {})


def test_ten_thousand_register_and_change_a_thousand_times_a_second() -> None:
    """Reports of each second in batches as they form, some twice, some late, in any order."""
    chance = random.Random(5)
    names = [f"p{n:05}" for n in range(10_000)]
    state, at = CoordinatorState.empty("coordinator/test"), START
    limits = Limits(pipelines_per_worker=20_000, cpu_percent=1e6, memory_mb=10**7)
    events, hashes = 0, []

    def step(reports: list[c.PipelineReport]) -> None:
        nonlocal state, events
        outcome = carry_out(state, [Order(c.NoteReport(report=one)) for one in reports], at)
        assert verify(outcome.records, state.last_hash) is None
        events += len(outcome.records)
        hashes.append(outcome.state.last_hash)
        state = outcome.state

    state = carry_out(state, [Order(c.ChangeLimits(limits=limits))], at).state
    for start in range(0, len(names), 250):
        step([report(name, Status.CONFIGURED, 1) for name in names[start : start + 250]])
    assert len(state.pipelines) == 10_000
    newest: dict[str, c.PipelineReport] = {}
    for _ in range(5):
        at += timedelta(seconds=1)
        told = []
        for name in chance.choices(names, k=1000):
            version = newest[name].version + 1 if name in newest else 2
            status = chance.choice([*ACTIVE, Status.STOPPED, Status.FAILED, Status.COMPLETED])
            newest[name] = report(name, status, version, records=version * 10)
            told.append(newest[name])
        told += chance.choices(told, k=50)
        chance.shuffle(told)
        for start in range(0, len(told), 250):
            step(told[start : start + 250])
    check_sums(state)
    for name, last in newest.items():
        entry = state.pipelines[name]
        assert (entry.status, entry.version, entry.records) == (last.status, last.version, last.records)
    assert state.version == events + 1
    assert len(set(hashes)) == len(hashes)
    seen = overview(state, {}, at)
    assert (seen.total, seen.held) == (10_000, sum(one.status in ACTIVE for one in newest.values()))

"""What is carried from run to run comes back equal, and fits into a message."""

from __future__ import annotations

import json
import random
import string
import zlib
from dataclasses import replace
from datetime import timedelta

import pytest

from dataflow.domain.coordinator import commands as c
from dataflow.domain.coordinator import packing
from dataflow.domain.coordinator.overview import Beat
from dataflow.domain.coordinator.packing import MOST, cut, joined, pack, packed, states, unpack, unpacked
from dataflow.domain.coordinator.state import CoordinatorState, Need, Registered, Share
from dataflow.domain.state import Status

from .conftest import START, Desk, report


def busy() -> Desk:
    desk = Desk(pipelines_per_worker=2, group_slots={"größe": 1})
    desk.worker("w1")
    for n, name in enumerate(("a", "b", "c", "d")):
        desk.run(name, priority=n, group="größe" if n == 1 else "", need=Need(cpu_percent=1.5))
    desk.report("e", Status.FAILED, 9, records=2**53, failed=1)
    desk.report("f", Status.CONFIGURED, 1)
    desk.report("f", Status.DELETED, 2)
    return desk


def test_it_comes_back_as_it_was() -> None:
    desk = busy()
    beats = {"a": Beat(at=desk.now, records=7, failed=1), "e": Beat(at=desk.now + timedelta(microseconds=1))}
    reports = (report("g", Status.RUNNING, 4, need=Need(memory_mb=3)),)
    assert unpack(pack(desk.state, beats, reports)) == (desk.state, beats, reports)
    assert unpack(pack(desk.state)) == (desk.state, {}, ())
    assert unpack(pack(CoordinatorState.empty("x"))) == (CoordinatorState.empty("x"), {}, ())
    assert states().validate_json(states().dump_json(desk.state)) == desk.state


def test_a_snapshot_comes_back_packed_or_written_out_as_before() -> None:
    state = busy().state
    assert unpacked(json.loads(json.dumps(packed(state)))) == state
    assert unpacked(json.loads(states().dump_json(state))) == state
    for nothing in ({"packed": "?"}, {"packed": "AAAA"}, {"packed": 7}, {"version": 3}):
        with pytest.raises(ValueError):
            unpacked(nothing)


def test_it_comes_back_from_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PART", 100)
    desk = busy()
    parts = cut(desk.state)
    assert len(parts) > 10
    assert joined(parts) == desk.state


def test_a_column_that_is_not_there_has_its_default() -> None:
    desk = Desk()
    desk.report("a", Status.CONFIGURED, 3)
    whole = json.loads(zlib.decompress(pack(desk.state)))
    for column in ("group", "priority", "records", "failed", "share", "beat"):
        del whole["pipelines"][column]
    whole["pipelines"]["colour"] = ["red"]
    del whole["reports"]
    assert unpack(zlib.compress(json.dumps(whole).encode())) == (desk.state, {}, ())


@pytest.mark.parametrize(("length", "most"), [(36, 800_000), (100, MOST)])
def test_ten_thousand_fit_into_one_message(length: int, most: int) -> None:
    chance = random.Random(length)

    def name() -> str:
        return "".join(chance.choices(string.ascii_letters + string.digits + "-_", k=length))

    def entry(pipeline: str) -> Registered:
        return Registered(
            name=name() if length == 100 else pipeline,
            status=chance.choice(list(Status)),
            version=chance.randrange(10**5),
            registered_at=START + timedelta(microseconds=chance.randrange(10**12)),
            heard_at=START + timedelta(microseconds=chance.randrange(10**12)),
            group=f"team-{chance.randrange(20)}",
            records=chance.randrange(10**9),
            failed=chance.randrange(10**3),
            share=Share(cpu=800, memory_mb=64) if chance.random() < 0.5 else None,
        )

    pipelines = {pipeline: entry(pipeline) for pipeline in (name() for _ in range(10_000))}
    state = replace(CoordinatorState.empty("coordinator/x"), pipelines=pipelines)
    beats = {}
    if length == 36:
        beats = {pipeline: Beat(at=START, records=chance.randrange(10**9)) for pipeline in pipelines}
    packed = pack(state, beats)
    assert len(packed) < most
    assert unpack(packed) == (state, beats, ())


def test_a_report_of_any_need_survives_the_journal() -> None:
    desk = Desk()
    desk.do(c.RequestAdmission(report=report("a", Status.CONFIGURED, 1, need=Need(cpu_percent=0.1, memory_mb=5))))
    assert desk.state.pipelines["a"].share == Share(cpu=100, memory_mb=5)

"""`dataflow system` and `dataflow cluster` where nothing is up: the journal tells what there is."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dataflow.cli.app import app
from dataflow.cli.system import system_lines
from dataflow.domain.commands import Origin
from dataflow.domain.coordinator import commands as c
from dataflow.domain.coordinator.batch import Order, carry_out
from dataflow.domain.coordinator.hints import Queue, hints, members
from dataflow.domain.coordinator.overview import Overview, overview
from dataflow.domain.coordinator.state import CoordinatorState, Limits
from dataflow.domain.record import EventRecord
from dataflow.domain.state import Status
from dataflow.journal import open_journal

STREAM = "coordinator/dataflow"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATAFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DATAFLOW_TEMPORAL_ADDRESS", raising=False)
    return tmp_path / "home"


def report(pipeline: str, status: Status, version: int = 3) -> c.PipelineReport:
    return c.PipelineReport(pipeline_id=pipeline, name=pipeline, status=status, version=version, group="etl")


def usage(worker: str, used: int, version: str = "1") -> c.ReportResourceUsage:
    return c.ReportResourceUsage(
        worker=worker,
        host=worker,
        cpu_percent=50.0,
        memory_mb=900,
        slots=10,
        used=used,
        task_queue="dataflow",
        version=version,
    )


def told(*commands: c.Command) -> tuple[CoordinatorState, tuple[EventRecord, ...]]:
    outcome = carry_out(CoordinatorState.empty(STREAM), [Order(one, Origin(actor="ada")) for one in commands], AT)
    return outcome.state, outcome.records


def some() -> tuple[c.Command, ...]:
    return (
        c.ChangeLimits(limits=Limits(pipelines_per_worker=1)),
        c.NoteReport(report=report("a", Status.RUNNING)),
        c.NoteReport(report=report("b", Status.FAILED)),
        c.NoteReport(report=report("c", Status.COMPLETED)),
        c.RequestAdmission(report=report("d", Status.CONFIGURED)),
    )


def recorded(home: Path) -> None:
    async def write() -> None:
        home.mkdir()
        async with open_journal(f"sqlite:///{home / 'journal.db'}") as journal:
            await journal.append(STREAM, 0, told(*some())[1])

    asyncio.run(write())


def test_the_system_is_told_from_the_journal(home: Path) -> None:
    recorded(home)
    result = CliRunner().invoke(app, ["system", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["status"], found["total"], found["held"], found["waiting"]) == ("degraded", 4, 1, 1)
    assert found["next_waiting"][0] == {
        "pipeline_id": "d",
        "priority": 0,
        "group": "etl",
        "since": "2026-01-02T03:04:05Z",
        "actor": "ada",
        "reason": "1 of 1 slots are taken",
    }
    lines = CliRunner().invoke(app, ["system"]).stdout.splitlines()
    assert lines[:4] == [
        "system: degraded",
        "  pipelines:  1 configured, 1 running, 1 completed, 1 failed",
        "  records:    0, 0 failed",
        "  slots:      1 of 1 taken",
    ]
    assert "  waiting:    1 start, first of all" in lines
    listed = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)
    assert listed["total"] == 0, "the coordinator's stream is no pipeline"


def test_the_registry_as_it_was(home: Path) -> None:
    recorded(home)
    early = CliRunner().invoke(app, ["state", STREAM, "--at", "4", "--json"])
    assert early.exit_code == 0, early.output
    found = json.loads(early.stdout)
    assert (found["version"], sorted(found["pipelines"]), found["waiting"]) == (4, ["a", "b"], {})
    lines = CliRunner().invoke(app, ["state", STREAM]).stdout.splitlines()
    assert (lines[0], lines[-1]) == ("system: degraded", "  after event 7")


def test_an_empty_home_is_idle() -> None:
    result = CliRunner().invoke(app, ["system", "--json"])
    assert (result.exit_code, json.loads(result.stdout)["status"]) == (0, "idle")


def test_a_cluster_needs_something_that_is_up() -> None:
    result = CliRunner().invoke(app, ["cluster", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["hint"] == "dataflow up starts one"


def seen(*commands: c.Command, at: datetime = AT) -> Overview:
    return overview(told(*commands)[0], {}, at)


def queue(**more: object) -> Queue:
    figures: dict[str, object] = {
        "name": "q-data",
        "role": "data",
        "kind": "activity",
        "pollers": ("one",),
        "backlog": 0,
        "backlog_seconds": 0.0,
        "added_per_second": 0.0,
        "taken_per_second": 0.0,
    }
    return Queue(**{**figures, **more})  # type: ignore[arg-type]


def test_hints_tell_what_could_be_done() -> None:
    fine = seen(usage("w1", 1), c.NoteReport(report=report("a", Status.RUNNING)))
    assert hints(fine, members(fine, AT), [queue()]) == ()

    def one(view: Overview, *queues: Queue) -> str:
        (hint,) = hints(view, members(view, AT), queues)
        return hint

    lonely = seen(c.NoteReport(report=report("a", Status.RUNNING)))
    assert one(lonely).startswith("no worker is live and 1 pipeline should run")
    assert "nobody takes from q-data (activity), backlog 3 tasks" in one(fine, queue(pollers=(), backlog=3))
    assert "the oldest 60 s old: add a worker" in one(fine, queue(backlog=3, backlog_seconds=60.0))
    uneven = seen(usage("w1", 9), usage("w2", 1))
    assert "w1 runs 9 of 10 segments and w2 1 of 10" in one(uneven)
    assert "several versions" in one(seen(usage("w1", 1, "1"), usage("w2", 1, "2")))
    full = seen(usage("w1", 1), *some())
    assert "1 start waiting (1 of 1 slots are taken)" in one(full)
    late = datetime(2026, 1, 2, 4, tzinfo=UTC)
    old = seen(c.NoteReport(report=report("a", Status.RUNNING)), at=late)
    assert any("1 running pipeline not heard of lately (a)" in hint for hint in hints(old, members(old, late), []))
    assert any("stale:      1 running pipeline not heard of lately: a" in line for line in system_lines(old))

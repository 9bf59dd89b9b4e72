"""`run` without a platform: what it decides, what it shows, what it leaves behind.

The client here is a fake with the interface of `dataflow.sdk.client.Client`, over the real aggregate: commands go
through `decide` and `evolve`, so what it refuses is what a pipeline refuses.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from dataflow import specfile
from dataflow.cli import run as command
from dataflow.cli.display import LiveDisplay, PlainDisplay, Rate, live_line, told
from dataflow.cli.interrupt import Interrupt
from dataflow.cli.looks import Looks
from dataflow.cli.outcome import outcome, tell
from dataflow.cli.recall import recall
from dataflow.domain import commands as c
from dataflow.domain.events import seal
from dataflow.domain.flow import Counters
from dataflow.domain.pipeline import decide, fold
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import Checkpoint, ErrorType, PipelineError, PipelineState, Plan, PlannedLane, Status
from dataflow.errors import IllegalCommand, NotFound, Retryable
from dataflow.journal import MemoryJournal
from dataflow.sdk.progress import Progress
from dataflow.specfile import LoadedSpec

NOW = datetime(2026, 1, 31, tzinfo=UTC)


class FakeClient:
    """One pipeline in memory."""

    def __init__(self) -> None:
        self.state_now: PipelineState | None = None
        self.given: list[str] = []
        self.stages: list[tuple[str, ...]] = []
        self.away = 0

    def give(self, given: c.Command) -> PipelineState:
        self.given.append(type(given).__name__)
        state = self.state_now or PipelineState.empty("orders")
        records = seal(
            decide(state, given),
            stream="orders",
            after_sequence=state.version,
            previous_hash=state.last_hash,
            time=NOW + timedelta(seconds=state.version),
        )
        self.state_now = fold(state, records)
        return self.state_now

    async def create(self, spec: PipelineSpec) -> PipelineState:
        return self.give(c.CreatePipeline(spec=spec.stored()))

    async def start(self, pipeline: str) -> PipelineState:
        return self.give(c.StartPipeline())

    async def stop(self, pipeline: str, reason: str = "") -> PipelineState:
        return self.give(c.StopPipeline(reason=reason))

    async def pause(self, pipeline: str, reason: str = "") -> PipelineState:
        return self.give(c.PausePipeline(reason=reason))

    async def resume(self, pipeline: str) -> PipelineState:
        return self.give(c.ResumePipeline())

    async def reset(self, pipeline: str, *, from_start: bool = False) -> PipelineState:
        return self.give(c.ResetPipeline(from_start=from_start))

    async def update(self, pipeline: str, spec: PipelineSpec) -> PipelineState:
        return self.give(c.UpdateConfig(spec=spec.stored()))

    async def state(self, pipeline: str) -> PipelineState:
        if self.state_now is None:
            raise NotFound("there is none")
        return self.state_now

    async def progress(self, pipeline: str) -> Progress:
        if self.away:
            self.away -= 1
            raise Retryable("Temporal does not answer")
        return Progress(await self.state(pipeline), Counters(read=10), 1, self.stages.pop(0) if self.stages else ())


def loaded(**changes: Any) -> LoadedSpec:
    data = {
        "name": "orders",
        "source": {"type": "generator", "kind": "order", "rows": 10},
        "transforms": [{"type": "filter", "where": "amount > 1"}],
        "sink": {"type": "console"},
    }
    return specfile.from_dict(data | changes)


def failure() -> c.ReportFailure:
    error = PipelineError(error_type=ErrorType.SINK, code="DISK_FULL", message="no space", retryable=False)
    return c.ReportFailure(error=error)


REACHED: dict[str, list[Callable[[], c.Command]]] = {
    "configured": [],
    "running": [c.StartPipeline],
    "paused": [c.StartPipeline, c.PausePipeline],
    "stopped": [c.StartPipeline, c.StopPipeline],
    "completed": [c.StartPipeline, c.CompletePipeline],
    "failed": [c.StartPipeline, failure],
}


async def client_in(status: str) -> FakeClient:
    client = FakeClient()
    await client.create(loaded().spec)
    for step in REACHED[status]:
        client.give(step())
    assert client.state_now is not None and client.state_now.status == status
    client.given.clear()
    return client


CHANGED = {"transforms": [{"type": "filter", "where": "amount > 2"}]}
DECISIONS = [
    ("configured", False, False, ["StartPipeline"]),
    ("configured", True, False, ["UpdateConfig", "StartPipeline"]),
    ("configured", False, True, ["ResetPipeline", "StartPipeline"]),
    ("running", False, False, []),
    ("running", True, False, []),
    ("paused", False, False, ["ResumePipeline"]),
    ("paused", True, False, ["StopPipeline", "UpdateConfig", "StartPipeline"]),
    ("paused", False, True, ["StopPipeline", "ResetPipeline", "StartPipeline"]),
    ("stopped", False, False, ["StartPipeline"]),
    ("stopped", True, False, ["UpdateConfig", "StartPipeline"]),
    ("stopped", True, True, ["ResetPipeline", "UpdateConfig", "StartPipeline"]),
    ("completed", False, False, []),
    ("completed", True, False, ["ResetPipeline", "UpdateConfig", "StartPipeline"]),
    ("completed", False, True, ["ResetPipeline", "StartPipeline"]),
    ("failed", False, False, ["ResetPipeline", "StartPipeline"]),
    ("failed", True, False, ["ResetPipeline", "UpdateConfig", "StartPipeline"]),
    ("failed", True, True, ["ResetPipeline", "UpdateConfig", "StartPipeline"]),
]


@pytest.mark.parametrize(("status", "changed", "again", "given"), DECISIONS)
async def test_begin_from_every_status(status: str, changed: bool, again: bool, given: list[str]) -> None:
    client = await client_in(status)
    notes: list[str] = []
    wanted = loaded(**CHANGED) if changed else loaded()
    state = await command.begin(client, wanted, client.state_now, again=again, note=notes.append)  # type: ignore[arg-type]
    assert client.given == given
    assert state == client.state_now
    if given and not (status == "configured" and not changed) and not (again and not changed):
        assert notes, "whoever runs it is told what happens"
    if given:
        assert state.status == "running"
        assert state.generation == (2 if again or (status == "completed" and changed) else 1)
        assert state.definition.transforms == wanted.spec.transforms


async def test_the_stop_of_a_killed_command_is_told_from_one_meant_now() -> None:
    client = await client_in("running")
    known = client.state_now
    assert known is not None
    stopped = client.give(c.StopPipeline(reason="interrupted"))
    assert command.belated(known, stopped)
    assert not command.belated(known, replace(stopped, stop_reason="by hand"))
    assert not command.belated(known, replace(stopped, checkpoint=Checkpoint(offset=5)))
    assert not command.belated(replace(known, status=Status.STOPPED), stopped)


async def test_a_new_description_is_no_reason_to_run_again() -> None:
    client, notes = await client_in("completed"), list[str]()
    wanted = loaded(description="said better", checkpoint={"interval": "2s"})
    state = await command.begin(client, wanted, client.state_now, again=False, note=notes.append)  # type: ignore[arg-type]
    assert client.given == [] and state.status == "completed" and "nothing to do" in notes[0]


async def test_begin_creates_what_is_new() -> None:
    client = FakeClient()
    state = await command.begin(client, loaded(), None, again=False, note=lambda text: None)  # type: ignore[arg-type]
    assert client.given == ["CreatePipeline", "StartPipeline"] and state.status == "running"


async def test_again_does_not_break_into_a_running_pipeline() -> None:
    client = await client_in("running")
    with pytest.raises(IllegalCommand, match="dataflow stop orders"):
        await command.begin(client, loaded(), client.state_now, again=True, note=lambda text: None)  # type: ignore[arg-type]


class Forgetful(FakeClient):
    """A client of a Temporal that has lost everything."""

    async def restore(self, state: PipelineState) -> None:
        self.given.append("restore")
        self.state_now = state


async def past(*given: c.Command) -> MemoryJournal:
    """A journal in which that has happened to `orders`."""
    journal, state = MemoryJournal(), PipelineState.empty("orders")
    for one in (c.CreatePipeline(spec=loaded().spec.stored()), *given):
        records = seal(
            decide(state, one),
            stream="orders",
            after_sequence=state.version,
            previous_hash=state.last_hash,
            time=NOW + timedelta(seconds=state.version),
        )
        await journal.append("orders", state.version, records)
        state = fold(state, records)
    return journal


async def test_what_temporal_forgot_comes_back_from_the_journal() -> None:
    client, notes = Forgetful(), list[str]()
    journal = await past(c.StartPipeline(), c.StopPipeline(reason="enough"))
    state = await recall(client, journal, "orders", notes.append)  # type: ignore[arg-type]
    assert state is not None and (state.status, state.version, client.given) == ("stopped", 3, ["restore"])
    assert notes == ["Temporal does not know orders: restoring it from the journal, event 3"]


async def test_what_never_was_is_not_recalled() -> None:
    client = Forgetful()
    assert await recall(client, MemoryJournal(), "orders", print) is None  # type: ignore[arg-type]
    assert client.given == []


async def test_what_was_deleted_stays_deleted() -> None:
    client = Forgetful()
    with pytest.raises(IllegalCommand, match="take another name or id"):
        await recall(client, await past(c.DeletePipeline()), "orders", print)  # type: ignore[arg-type]
    assert client.given == []


class Recorder:
    """A display that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.updates: list[Progress] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def update(self, progress: Progress) -> None:
        self.updates.append(progress)


def interrupt() -> Interrupt:
    return Interrupt(lambda: None, lambda: None)


async def watched(client: Any, shown: Any, asked: Interrupt) -> Progress:
    return await command.watch(client, "orders", shown, asked, Looks("orders", asked))


async def test_watch_ends_with_the_run() -> None:
    client, shown = await client_in("running"), Recorder()
    shown.update = lambda progress: client.give(c.CompletePipeline())  # type: ignore[method-assign, assignment]
    last = await watched(client, shown, interrupt())
    assert last.state.status == "completed"


async def test_watch_stops_the_pipeline_when_interrupted_and_waits_for_its_segments() -> None:
    client, asked = await client_in("running"), interrupt()
    client.stages = [("committing",), ("committing",), ()]
    asked.number = 2
    last = await watched(client, Recorder(), asked)
    assert client.given == ["StopPipeline"] and not client.stages
    assert last.state.status == "stopped" and last.state.stop_reason == "interrupted"


async def test_watch_does_not_wait_for_lost_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    client = await client_in("stopped")
    client.stages = [("writing",)] * 1000
    monkeypatch.setattr(command, "LAST_WORDS", -1.0)
    last = await watched(client, Recorder(), interrupt())
    assert last.state.status == "stopped" and len(client.stages) == 999


async def test_watch_bears_a_silent_server(monkeypatch: pytest.MonkeyPatch) -> None:
    client, shown, asked = await client_in("completed"), Recorder(), interrupt()
    client.away = 2

    async def at_once(seconds: float, other: object = None) -> None:
        return None

    monkeypatch.setattr(asked, "pause", at_once)
    assert (await watched(client, shown, asked)).state.status == "completed"
    assert shown.notes == ["waiting: Temporal does not answer"] * 2
    client.away = 10**6
    monkeypatch.setattr(command, "SILENCE", -1.0)
    with pytest.raises(Retryable):
        await watched(client, shown, asked)


def progress(status: str = "running", **changes: Any) -> Progress:
    plan = Plan(number=1, generation=1, lanes=(PlannedLane(sink="sink", number=0, splits=("a",)),), total_rows=2000)
    state = replace(PipelineState.empty("orders"), status=Status(status), plan=plan, **changes)
    counters = Counters(read=1000, written=600, filtered=390, failed=10, dead_lettered=7)
    return Progress(state, counters, 12)


def test_the_json_object_is_the_fixed_one() -> None:
    result = outcome(progress("completed"), seconds=1.23456, startup=0.5)
    fixed = {
        "pipeline_id": "orders",
        "status": "completed",
        "records_read": 1000,
        "records_written": 600,
        "records_filtered": 390,
        "records_failed": 10,
        "records_dead_lettered": 7,
        "epochs": 12,
        "seconds": 1.235,
    }
    assert fixed.items() <= json.loads(json.dumps(result)).items()
    assert "error" not in result


def test_the_json_object_of_a_failure_names_it() -> None:
    error = PipelineError(error_type=ErrorType.SINK, code="DISK_FULL", message="no space", where="out")
    result = outcome(progress("failed", error=error), seconds=1, startup=0)
    assert result["error"] == {"code": "DISK_FULL", "message": "no space", "where": "out", "part": "sink"}


def test_the_summary_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    error = PipelineError(error_type=ErrorType.SINK, code="DISK_FULL", message="no space", where="out")
    last = progress("failed", error=error, outputs={"sink": {"path": "out", "files": 1, "bytes": 1_234_567, "x": None}})
    tell(last, outcome(last, seconds=2, startup=0), "p.yaml")
    assert capsys.readouterr().out.splitlines() == [
        "orders: failed after 2.0 s, 12 epochs",
        "  records: 1,000 read, 600 written, 390 filtered, 10 failed (7 kept as dead letters)",
        "  sink: out, 1 file, 1.2 MB",
        "  error: DISK_FULL: out: no space",
        "  dataflow run p.yaml goes on from the last commit; with --again it begins anew",
    ]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_rate_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    rate = Rate(clock)
    assert rate(0) == 0
    for second in range(1, 11):
        clock.now = second
        found = rate(1000 * second if second <= 5 else 5000 + 10 * (second - 5))
    assert found == pytest.approx(10)
    clock.now = 11
    assert rate(0) == 0  # counters that fall back (another attempt began) make no negative rate


def test_plain_lines_come_once_a_second_and_only_with_news() -> None:
    clock, out = Clock(), io.StringIO()
    shown = PlainDisplay(Console(file=out, width=200), clock)
    for tenth in range(35):
        clock.now = tenth / 10
        shown.update(progress())
    lines = out.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("orders: 50%, 1,000 of 2,000 rows, 12 epochs, 7 dead letters, ")
    shown.update(progress("paused"))
    assert out.getvalue().splitlines()[-1].startswith("orders: paused, 50%")


def test_plain_notes_are_never_wrapped_or_marked_up() -> None:
    out = io.StringIO()
    PlainDisplay(Console(file=out, width=20)).note("[bold]" + "x" * 50)
    assert out.getvalue() == "[bold]" + "x" * 50 + "\n"


def test_the_live_line() -> None:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True, color_system=None)
    console.print(live_line(progress(), 12_345.6, 3.21))
    line = out.getvalue()
    assert "orders" in line and "50%" in line and "12,346 rows/s" in line and "3.2 s" in line and "━" in line
    with LiveDisplay(console) as shown:
        shown.note("a note")
        shown.update(progress())
    assert "a note" in out.getvalue()


def test_a_retry_is_shown() -> None:
    error = PipelineError(error_type=ErrorType.SOURCE, code="TIMEOUT", message="no answer")
    assert told(progress(error=error, retry_count=2)).endswith("retry 2 after TIMEOUT: no answer")
    assert told(replace(progress(), counters=Counters(read=1, dead_lettered=1), epochs=1)).endswith(
        "1 of 2,000 rows, 1 epoch, 1 dead letter"
    )

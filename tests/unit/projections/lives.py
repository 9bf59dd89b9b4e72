"""Pipelines that live at random, by legal commands only: what projections are fed with."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from dataflow.domain import commands as do
from dataflow.domain.events import EventRecord, seal
from dataflow.domain.flow import Counters
from dataflow.domain.pipeline import decide, fold
from dataflow.domain.record import event_id, hashed
from dataflow.domain.state import ErrorType, LaneCheckpoint, PipelineError, PipelineState
from dataflow.errors import Conflict, IllegalCommand, InvalidSpec
from dataflow.journal import Journal

START = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)


@dataclass
class Lives:
    """Several pipelines over one journal; `step` lets a random one do something, and appends its events."""

    journal: Journal
    pipelines: int = 5
    seed: int = 1
    prefix: str = "p"
    now: datetime = START
    states: dict[str, PipelineState] = field(default_factory=dict)
    appended: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        for n in range(self.pipelines):
            name = f"{self.prefix}-{n}"
            self.states[name] = PipelineState.empty(name)

    async def step(self) -> None:
        name = self.random.choice(list(self.states))
        state = self.states[name]
        self.now += timedelta(seconds=self.random.random() * 20)
        try:
            events = decide(state, self._command(state))
        except (IllegalCommand, Conflict, InvalidSpec):
            return
        records = seal(
            events,
            stream=name,
            after_sequence=state.version,
            previous_hash=state.last_hash,
            time=self.now,
            actor=self.random.choice(["ann", "bob", "pipeline"]),
            correlation_id=f"c{self.appended}",
        )
        await self.journal.append(name, state.version, records)
        self.states[name] = fold(state, records)
        self.appended += len(records)

    async def live(self, events: int) -> None:
        """Until so many events more are there."""
        goal = self.appended + events
        while self.appended < goal:
            await self.step()

    def _command(self, state: PipelineState) -> do.Command:
        spec: dict[str, Any] = {
            "name": state.pipeline_id,
            "description": self.random.choice(["orders of the day", "sensors"]),
            "source": {"type": "generator"},
            "sinks": [{"type": self.random.choice(["console", "memory"])}],
        }
        if not state.version:
            return do.CreatePipeline(spec=spec)
        choice = self.random.random()
        if state.status != "running":
            return self.random.choice(
                [
                    do.StartPipeline(),
                    do.StartPipeline(),
                    do.ResumePipeline(),
                    do.ResetPipeline(from_start=choice < 0.5),
                    do.UpdateConfig(spec={**spec, "description": f"changed {state.version}"}, from_start=choice < 0.2),
                    do.StopPipeline(reason="enough"),
                ]
            )
        if choice < 0.8:
            return self._segment(state)
        error = PipelineError(
            error_type=ErrorType.SINK, code=self.random.choice(["TIMEOUT", "DENIED"]), message="the sink is away"
        )
        return self.random.choice(
            [
                do.PausePipeline(reason="lunch"),
                do.StopPipeline(reason="night"),
                do.ReportFailure(error=error, jitter=0.0),
                do.ReportMetrics(metrics={"lag": choice}),
            ]
        )

    def _segment(self, state: PipelineState) -> do.RecordSegment:
        before = state.checkpoint.lanes.get("main-0", LaneCheckpoint(epoch=0))
        read = self.random.randint(1, 500)
        failed, filtered = self.random.randint(0, read // 10), self.random.randint(0, read // 5)
        more = Counters(
            read=read,
            written=read - failed - filtered,
            filtered=filtered,
            failed=failed,
            dead_lettered=failed,
            bytes_read=read * 50,
        )
        return do.RecordSegment(
            batch_id=f"b{state.version}",
            lane="main-0",
            first_epoch=before.epoch + 1,
            last_epoch=before.epoch + 1,
            counters=before.counters + more,
            milliseconds=read,
            cpu_ms=read // 2,
        )


def foreign(stream: str, count: int, previous: str = "0" * 64) -> Iterator[EventRecord]:
    """Events of a stream of another kind, of types that nobody here knows."""
    for sequence in range(1, count + 1):
        record = hashed(
            EventRecord(
                id=event_id(stream, sequence),
                stream=stream,
                sequence=sequence,
                type="WeatherChanged",
                schema_version=7,
                time=START,
                actor="sky",
                tags=("weather", "all-events"),
                payload={"rain": sequence, "place": {"city": "Bern"}},
                previous_hash=previous,
            )
        )
        previous = record.hash
        yield record

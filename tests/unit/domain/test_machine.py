"""Any commands in any order: the live state, the folded history and a plain count of what moved agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import TypeAdapter

from dataflow.domain import commands as c
from dataflow.domain.events import Event, EventRecord, seal
from dataflow.domain.flow import Counters, Position
from dataflow.domain.pipeline import decide, evolve, fold
from dataflow.domain.record import verify
from dataflow.domain.state import (
    Checkpoint,
    ErrorType,
    Metrics,
    PipelineError,
    PipelineState,
    Plan,
    PlannedLane,
    Status,
)
from dataflow.errors import DataFlowError

SPEC: dict[str, Any] = {
    "name": "orders",
    "source": {"type": "push"},
    "sinks": [{"type": "file", "path": "out", "name": "sink"}],
    "retry": {"max_attempts": 2},
}
LANES = ("sink-0", "sink-1")
REASONS = st.sampled_from(["", "lunch", "Größe"])
JITTER = st.floats(-0.2, 0.2)
CODES = st.sampled_from(["TIMEOUT", "deadlock", "NETWORK_ERROR", "SINK_ERROR"])
RECORDS = TypeAdapter(tuple[EventRecord, ...])
SIMPLE: tuple[c.Command, ...] = (
    c.StartPipeline(),
    c.ResumePipeline(),
    c.CompletePipeline(outputs={"sink": {"files": 1}}),
    c.ResetPipeline(),
    c.ResetPipeline(from_start=True),
    c.UpdateConfig(spec={"description": "new"}, partial=True),
    c.UpdateConfig(spec={"source": {"type": "push", "keep": "1h"}}, partial=True),
    c.UpdateConfig(spec={"source": {"type": "push", "keep": "1h"}}, partial=True, from_start=True),
    c.ReportMetrics(metrics={"lag": 1.5}),
)


def begun(machine: Aggregate) -> bool:
    """Most commands are tried where something may come of them; the matrix has all the others."""
    return machine.state.status not in {Status.CONFIGURED, Status.COMPLETED, Status.DELETED}


class Aggregate(RuleBasedStateMachine):
    """Beside the aggregate it keeps a model: what the sinks hold of the current generation, what was counted in all."""

    def __init__(self) -> None:
        super().__init__()
        self.state = PipelineState.empty("orders")
        self.records: list[EventRecord] = []
        self.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.committed = {lane: (0, Counters()) for lane in LANES}
        self.reported = {lane: Counters() for lane in LANES}
        self.pushed: set[str] = set()
        self.totals: Counter[str] = Counter()
        self.run_base: Counter[str] = Counter()

    def attempt(self, command: c.Command) -> tuple[Event, ...] | None:
        """Carry it out as the workflow does; None if it is refused."""
        before = self.state
        try:
            events = decide(before, command)
        except DataFlowError:
            return None
        sealed = seal(
            events,
            stream="orders",
            after_sequence=before.version,
            previous_hash=before.last_hash,
            time=self.time,
        )
        for record in sealed:
            self.state = evolve(self.state, record)
        self.records += sealed
        if self.state.generation != before.generation:
            self.committed = {lane: (0, Counters()) for lane in LANES}
            self.reported = {lane: Counters() for lane in LANES}
            self.pushed = set()
        if self.state.status is Status.RUNNING and before.status in {Status.CONFIGURED, Status.STOPPED}:
            self.run_base = self.totals.copy()
        self.lifetime_only_grows(before.lifetime, self.state.lifetime)
        return events

    @staticmethod
    def lifetime_only_grows(before: Metrics, after: Metrics) -> None:
        for name in ("records_processed", "records_failed", "records_filtered", "batches_processed", "active_seconds"):
            assert getattr(after, name) >= getattr(before, name)

    @precondition(begun)
    @rule(seconds=st.integers(-5, 100))
    def time_passes(self, seconds: int) -> None:
        self.time += timedelta(seconds=seconds)

    @initialize()
    def create(self) -> None:
        assert self.attempt(c.CreatePipeline(spec=SPEC))
        assert self.attempt(c.StartPipeline())

    @rule(from_start=st.booleans())
    def get_going(self, from_start: bool) -> None:
        """From wherever it is to running, if there is a way."""
        if self.state.status in {Status.FAILED, Status.COMPLETED}:
            assert self.attempt(c.ResetPipeline(from_start=from_start))
        self.attempt(c.ResumePipeline() if self.state.status is Status.PAUSED else c.StartPipeline())
        assert self.state.status in {Status.RUNNING, Status.DELETED}

    @rule(command=st.sampled_from(SIMPLE))
    def simple(self, command: c.Command) -> None:
        self.attempt(command)

    @precondition(begun)
    @rule(reason=REASONS, pause=st.booleans())
    def halt(self, reason: str, pause: bool) -> None:
        self.attempt(c.PausePipeline(reason=reason) if pause else c.StopPipeline(reason=reason))

    @precondition(begun)
    @rule(many=st.booleans())
    def adopt(self, many: bool) -> None:
        lanes = tuple(PlannedLane(sink="sink", number=n, splits=(f"part-{n}",)) for n in range(1 + many))
        number = self.state.plan_number + 1
        self.attempt(c.AdoptPlan(plan=Plan(number=number, generation=self.state.generation, lanes=lanes)))

    @rule(lane=st.sampled_from(LANES), written=st.integers(0, 50), failed=st.integers(0, 5), filtered=st.integers(0, 9))
    def commit(self, lane: str, written: int, failed: int, filtered: int) -> None:
        """An epoch lands in the sink; it may be reported now, later, or by another attempt."""
        epoch, counters = self.committed[lane]
        more = Counters(read=written + failed + filtered, written=written, failed=failed, filtered=filtered)
        self.committed[lane] = (epoch + 1, counters + more)

    @precondition(begun)
    @rule(lane=st.sampled_from(LANES))
    def commit_and_report(self, lane: str) -> None:
        self.commit(lane, 10, 1, 2)
        self.report(lane, False, 100)

    @precondition(begun)
    @rule(lane=st.sampled_from(LANES), lost=st.booleans(), ms=st.integers(0, 900))
    def report(self, lane: str, lost: bool, ms: int) -> None:
        """The sink's last receipt is reported, perhaps for the second time, perhaps after lost reports."""
        last, counters = self.committed[lane]
        known = self.state.checkpoint.lanes.get(lane)
        known_epoch = known.epoch if known else 0
        first = last + 1 if lost else min(known_epoch + 1, last + 1)
        before = self.state
        events = self.attempt(
            c.RecordSegment(
                batch_id=f"{lane}/{self.state.generation}/{last}",
                lane=lane,
                first_epoch=first,
                last_epoch=last,
                positions={f"part-{lane[-1]}": Position(str(counters.read))},
                counters=counters,
                milliseconds=ms,
                generation=self.state.generation,
            )
        )
        if events is None:
            return
        assert bool(events) == (last > known_epoch)
        assert self.state.status is before.status
        assert len(events) in (0, 3)
        if events:
            self.count(counters - self.reported[lane])
            self.reported[lane] = counters

    def count(self, moved: Counters) -> None:
        self.totals["processed"] += moved.written + moved.filtered
        self.totals["failed"] += moved.failed
        self.totals["batches"] += 1

    @precondition(begun)
    @rule(number=st.integers(0, 6), count=st.integers(1, 20))
    def push(self, number: int, count: int) -> None:
        events = self.attempt(c.IngestBatch(batch_id=f"b{number}", record_count=count, source_offset=number))
        if events is None:
            return
        assert bool(events) == (f"b{number}" not in self.pushed)
        if events:
            self.pushed.add(f"b{number}")

    @precondition(begun)
    @rule(code=CODES, jitter=JITTER, lane=st.sampled_from(["", *LANES]))
    def fail(self, code: str, jitter: float, lane: str) -> None:
        error = PipelineError(error_type=ErrorType.SINK, code=code, message="no")
        self.attempt(c.ReportFailure(error=error, jitter=jitter, lane=lane))

    @precondition(begun)
    @rule(jitter=JITTER)
    def time_out(self, jitter: float) -> None:
        self.attempt(c.BatchTimeout(batch_id="slow", timeout_ms=10, jitter=jitter))

    @precondition(begun)
    @rule(offset=st.integers(0, 9), records=st.integers(0, 9))
    def move_checkpoint(self, offset: int, records: int) -> None:
        checkpoint = Checkpoint(offset=offset, records_processed=records)
        self.attempt(c.UpdateCheckpoint(checkpoint=checkpoint))

    @rule(sure=st.integers(0, 30))
    def delete(self, sure: int) -> None:
        if sure == 30:
            self.attempt(c.DeletePipeline())

    @invariant()
    def totals_are_what_moved(self) -> None:
        for metrics, base in ((self.state.lifetime, Counter[str]()), (self.state.metrics, self.run_base)):
            assert metrics.records_processed == self.totals["processed"] - base["processed"]
            assert metrics.records_failed == self.totals["failed"] - base["failed"]
            assert metrics.batches_processed == self.totals["batches"] - base["batches"]

    @invariant()
    def the_checkpoint_never_passes_the_sink(self) -> None:
        for name, lane in self.state.checkpoint.lanes.items():
            assert lane.epoch <= self.committed[name][0]
            assert lane.counters == self.reported[name]

    @invariant()
    def times_and_versions_fit(self) -> None:
        assert self.state.version == len(self.records)
        assert [record.sequence for record in self.records[-5:]] == [*range(1, self.state.version + 1)][-5:]
        assert self.state.retry_count == max(self.state.retries.values(), default=0) <= 2
        assert (self.state.error is None) or self.state.status is not Status.COMPLETED
        assert (self.state.paused_at is not None) == (self.state.status is Status.PAUSED)

    def teardown(self) -> None:
        stored = RECORDS.validate_json(RECORDS.dump_json(tuple(self.records)))
        assert verify(stored) is None
        assert fold(PipelineState.empty("orders"), stored) == self.state


Aggregate.TestCase.settings = settings(
    max_examples=50, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestAggregate = Aggregate.TestCase


def random_step(machine: Aggregate, random: Random) -> None:
    lane = random.choice(LANES)
    some, coin = random.randint(0, 50), random.random() < 0.5
    steps: tuple[Callable[[], object], ...] = (
        lambda: machine.time_passes(some),
        lambda: machine.commit_and_report(lane),
        lambda: machine.commit(lane, some, some // 10, some // 5),
        lambda: machine.report(lane, coin, some),
        lambda: machine.push(some % 7, 5),
        lambda: machine.fail("TIMEOUT" if coin else "SINK_ERROR", 0.1, lane),
        lambda: machine.time_out(0.0),
        lambda: machine.adopt(coin),
        lambda: machine.halt("lunch", coin),
        lambda: machine.simple(random.choice(SIMPLE)),
        lambda: machine.get_going(coin),
    )
    random.choice(steps)()


def test_a_thousand_random_histories_fold_to_their_live_state() -> None:
    ends: Counter[Status] = Counter()
    for seed in range(1000):
        random, machine = Random(seed), Aggregate()
        machine.create()
        for _ in range(20):
            random_step(machine, random)
        machine.totals_are_what_moved()
        machine.the_checkpoint_never_passes_the_sink()
        machine.times_and_versions_fit()
        machine.teardown()
        ends[machine.state.status] += 1
    assert len(ends) == 6, "the walk ends in every state but empty and deleted"

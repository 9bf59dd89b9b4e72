"""The state at any event or time equals folding all events up to there, with snapshots and without."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow.domain.commands import (
    CreatePipeline,
    PausePipeline,
    RecordSegment,
    ReportFailure,
    ReportMetrics,
    ResetPipeline,
    ResumePipeline,
    StartPipeline,
    StopPipeline,
)
from dataflow.domain.events import seal
from dataflow.domain.flow import Counters
from dataflow.domain.pipeline import decide, fold
from dataflow.domain.state import ErrorType, PipelineError, PipelineState
from dataflow.errors import Conflict, IllegalCommand, NotFound
from dataflow.journal import MemoryJournal, open_journal
from dataflow.journal.history import append_and_snapshot, folded, pipelines, sequence_at, state_at, take_snapshots

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SPEC = {"name": "orders", "source": {"type": "memory"}, "sinks": [{"type": "memory"}]}
ERROR = PipelineError(error_type=ErrorType.SINK, code="SINK_ERROR", message="disk full")


class Pipeline:
    """A pipeline that is commanded for a while, one command every ten seconds, its events in memory."""

    def __init__(self):
        self.state = PipelineState.empty("orders")
        self.records = []
        self.time = START
        self.batches = 0

    def do(self, command):
        """The command's records, none where it is refused."""
        self.time += timedelta(seconds=10)
        try:
            events = decide(self.state, command)
        except (IllegalCommand, Conflict):
            return ()
        sealed = seal(
            events,
            stream="orders",
            after_sequence=self.state.version,
            previous_hash=self.state.last_hash,
            time=self.time,
        )
        self.state = fold(self.state, sealed)
        self.records.extend(sealed)
        return sealed

    def batch(self):
        self.batches += 1
        n, counters = self.batches, Counters(read=10 * self.batches, written=10 * self.batches)
        return self.do(RecordSegment(batch_id=f"b{n}", lane="sink-0", first_epoch=n, last_epoch=n, counters=counters))

    def began(self):
        return [*self.do(CreatePipeline(spec=SPEC)), *self.do(StartPipeline())]


async def keep(journal, records, aggregate=None, cut=3):
    for n in range(0, len(records), cut):
        await append_and_snapshot(journal, "orders", n, records[n : n + cut], aggregate or pipelines())


@pytest.fixture(params=["memory", "sqlite"])
async def journal(request, tmp_path):
    url = "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/journal.db"
    async with open_journal(url) as opened:
        yield opened


COMMANDS = st.lists(
    st.sampled_from(["batch", "pause", "resume", "stop", "start", "fail", "reset", "metrics"]), max_size=60
)


@settings(max_examples=40, deadline=None)
@given(commands=COMMANDS, data=st.data())
async def test_state_at_any_event_is_the_fold_up_to_it(commands, data):
    pipeline = Pipeline()
    pipeline.began()
    plain = {
        "pause": PausePipeline(reason="lunch"),
        "resume": ResumePipeline(),
        "stop": StopPipeline(reason="done"),
        "start": StartPipeline(),
        "fail": ReportFailure(error=ERROR),
        "reset": ResetPipeline(),
        "metrics": ReportMetrics(metrics={"lag": 3.5}),
    }
    for name in commands:
        pipeline.batch() if name == "batch" else pipeline.do(plain[name])
    records = pipeline.records
    journal, aggregate = MemoryJournal(), replace(pipelines(), every=data.draw(st.integers(2, 20)))
    await keep(journal, records, aggregate, cut=data.draw(st.integers(1, 7)))
    at = data.draw(st.integers(1, len(records)))
    wanted = fold(PipelineState.empty("orders"), records[:at])
    assert await folded(journal, "orders", at, aggregate) == wanted
    assert await state_at(journal, "orders", records[at - 1].id) == await state_at(journal, "orders", at)
    assert await state_at(journal, "orders") == pipeline.state


class Counting(MemoryJournal):
    """Counts the events that are read."""

    events_read = 0

    async def read(self, stream, **bounds):
        async for record in super().read(stream, **bounds):
            self.events_read += 1
            yield record


async def test_250_events_two_snapshots_recovery_reads_50():
    pipeline, journal = Pipeline(), Counting()
    pipeline.began()
    while len(pipeline.records) < 250:
        pipeline.do(ReportMetrics(metrics={"n": 1.0}))
    await keep(journal, pipeline.records)
    assert sorted(journal.store.snapshots["orders"]) == [100, 200]
    journal.events_read = 0
    assert await state_at(journal, "orders") == pipeline.state
    assert journal.events_read == 50
    assert [r.sequence async for r in journal.read("orders")] == list(range(1, 251))


async def test_the_state_at_a_time_is_that_after_the_last_event_before_it(journal):
    pipeline = Pipeline()
    pipeline.began()  # at 10 and 20 seconds
    pipeline.batch()  # three events at 30
    await keep(journal, pipeline.records)
    second, instant = timedelta(seconds=1), timedelta(microseconds=1)
    for time, sequence in ((10 * second, 1), (20 * second - instant, 1), (20 * second, 2), (99 * second, 5)):
        assert await sequence_at(journal, "orders", START + time) == sequence
    assert (await state_at(journal, "orders", START + 15 * second)).status == "configured"
    with pytest.raises(NotFound, match="nothing had happened yet"):
        await state_at(journal, "orders", START)


async def test_what_never_happened_is_not_found(journal):
    with pytest.raises(NotFound):
        await state_at(journal, "orders")
    pipeline = Pipeline()
    await keep(journal, pipeline.began())
    for at in (0, 3, -1, "no such id"):
        with pytest.raises(NotFound):
            await state_at(journal, "orders", at)
    other = seal(
        decide(PipelineState.empty("other"), CreatePipeline(spec={**SPEC, "name": "other"})),
        stream="other", after_sequence=0, previous_hash="0" * 64, time=START,
    )  # fmt: skip
    await journal.append("other", 0, other)
    with pytest.raises(NotFound):
        await state_at(journal, "orders", other[0].id)


async def test_snapshots_survive_and_are_used_by_another_handle(tmp_path):
    pipeline = Pipeline()
    pipeline.began()
    while len(pipeline.records) < 205:
        pipeline.batch()
    url = f"sqlite:///{tmp_path}/journal.db"
    async with open_journal(url) as journal:
        await keep(journal, pipeline.records)
        lied = (await journal.latest_snapshot("orders")).state
        lied["description"] = "taken from the snapshot"
        await journal.snapshot("orders", 200, lied)
    async with open_journal(url) as journal:
        assert (await state_at(journal, "orders")).description == "taken from the snapshot"
        assert (await state_at(journal, "orders", 199)).description == ""


@pytest.mark.parametrize("state", [{}, {"aggregate_version": 99}, {"version": "many"}])
async def test_a_snapshot_of_another_version_is_passed_over(journal, state):
    pipeline = Pipeline()
    pipeline.began()
    while len(pipeline.records) < 102:
        pipeline.batch()
    await keep(journal, pipeline.records)
    good = (await journal.latest_snapshot("orders")).state
    await journal.snapshot("orders", 100, {**good, "description": "from the snapshot", **state} if state else {})
    assert await state_at(journal, "orders") == pipeline.state


async def test_snapshots_that_were_missed_are_made_up_for(journal):
    pipeline = Pipeline()
    pipeline.began()
    while len(pipeline.records) < 1452:
        pipeline.batch()
    for n in range(0, len(pipeline.records), 50):
        await journal.append("orders", n, pipeline.records[n : n + 50])
    assert await take_snapshots(journal, "orders", pipelines()) == 8  # 200, 400, ... and the newest two
    assert await take_snapshots(journal, "orders", pipelines()) == 0
    found = [await journal.latest_snapshot("orders", at) for at in (None, 1399, 1299, 999, 199)]
    assert [snapshot and snapshot.sequence for snapshot in found] == [1400, 1300, 1200, 800, None]
    assert await state_at(journal, "orders", 1123) == fold(PipelineState.empty("orders"), pipeline.records[:1123])
    assert await take_snapshots(journal, "nobody", pipelines()) == 0


async def test_the_state_as_it_is_and_at_any_sequence_is_a_snapshot_too(journal):
    """As the workflow gives it: wherever the batch ended that crossed a hundred. The first behind a milestone stays."""
    pipeline, states = Pipeline(), {}
    await journal.append("orders", 0, pipeline.began())
    while len(pipeline.records) < 1403:
        before = len(pipeline.records)
        await journal.append("orders", before, pipeline.batch())
        if before // 100 != len(pipeline.records) // 100:
            states[pipeline.state.version] = pipelines().dump(pipeline.state)
    for sequence, state in states.items():
        await journal.snapshot("orders", sequence, {**state, "description": "from the snapshot"})
    found = [await journal.latest_snapshot("orders", at) for at in (None, 1399, 1299, 1199, 999, 199)]
    assert [snapshot and snapshot.sequence for snapshot in found] == [1400, 1301, 1202, 1001, 800, None]
    assert (await state_at(journal, "orders", 1200)).description == "from the snapshot"

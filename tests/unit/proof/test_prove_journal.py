"""The journal's side of a proof: edits break the chain, and histories that do not add up are named."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dataflow.cli.app import app
from dataflow.connectors.file.source import FileSource
from dataflow.domain import events as e
from dataflow.domain.flow import Counters, Position
from dataflow.domain.orders import LedgerEntry
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import LaneCheckpoint, Plan, PlannedLane
from dataflow.errors import NotFound
from dataflow.journal import Journal
from dataflow.proof import prove
from dataflow.proof.ledger import read_ledger

SPEC = PipelineSpec.model_validate(
    {"name": "orders", "source": {"type": "generator", "kind": "order"}, "sink": {"type": "console"}}
)


def at(row: int) -> Mapping[str, Position]:
    return {"s": Position(f'{{"v":1,"row":{row}}}')}


def batch(first: int, last: int, before: int, after: int, **changes: Any) -> list[e.Event]:
    """A segment of one lane that read rows `before` to `after`, an entry of its ledger for each epoch."""
    rows = [before + (after - before) * n // (last - first + 1) for n in range(last - first + 2)]
    ledger = [
        LedgerEntry(first + n, first + n, b - a, b - a, at(b)) for n, (a, b) in enumerate(itertools.pairwise(rows))
    ]
    gain = Counters(read=after - before, written=after - before)
    ingested = e.BatchIngested(
        batch_id=f"b{first}",
        record_count=gain.read,
        source_offset=after,
        lane="sink-0",
        first_epoch=first,
        last_epoch=last,
    )
    processed = e.BatchProcessed(
        batch_id=f"b{first}",
        success_count=gain.read,
        failure_count=0,
        processing_time_ms=1,
        lane="sink-0",
        counters=gain,
        epochs=tuple(asdict(entry) for entry in changes.pop("ledger", lambda found: found)(ledger)),
    )
    lane = LaneCheckpoint(
        epoch=last, positions=at(after), counters=Counters(read=after, written=after), batch_id=f"b{first}"
    )
    moved = e.CheckpointUpdated(
        checkpoint=e.CheckpointMove(
            offset=after, records_processed=after, lanes={"sink-0": replace(lane, **changes.pop("lane", {}))}
        )
    )
    return [replace(ingested, **changes.pop("ingested", {})), replace(processed, **changes.pop("processed", {})), moved]


def ledger_of(*segments: list[e.Event]) -> Any:
    lane = PlannedLane(sink="sink", number=0, splits=("s",))
    first: list[e.Event] = [
        e.PipelineCreated(name="orders", description="", spec=SPEC.stored()),
        e.PipelineStarted(generation=1),
        e.PipelinePlanned(plan=Plan(number=1, generation=1, lanes=(lane,))),
    ]
    every = [*first, *(event for segment in segments for event in segment)]
    time = datetime(2026, 11, 25, tzinfo=UTC)
    return read_ledger("orders", e.seal(every, stream="orders", after_sequence=0, previous_hash="0" * 64, time=time))


def test_epochs_in_order_have_no_faults() -> None:
    ledger = ledger_of(batch(1, 3, 0, 30), batch(4, 4, 30, 41))
    assert ledger.faults == []
    assert [(part.first, part.last, part.read) for part in ledger.lanes["sink-0"].ranges] == [
        (1, 1, 10),
        (2, 2, 10),
        (3, 3, 10),
        (4, 4, 11),
    ]


@pytest.mark.parametrize(
    ("change", "ranges"),
    [
        (lambda found: [LedgerEntry(1, 2, -1, -1), *found[2:]], [(1, 3, 30), (4, 4, 10)]),
        (lambda found: [LedgerEntry(1, 4, -1, -1)], [(1, 4, 40)]),
        (lambda found: [], [(1, 4, 40)]),
    ],
)
def test_epochs_of_a_lost_report_are_what_the_others_leave(change: Any, ranges: list[tuple[int, int, int]]) -> None:
    ledger = ledger_of(batch(1, 4, 0, 40, ledger=change))
    assert ledger.faults == []
    found = ledger.lanes["sink-0"].ranges
    assert [(part.first, part.last, part.read) for part in found] == ranges
    assert all(part.written == part.read for part in found)
    assert found[-1].end == at(40)


@pytest.mark.parametrize(
    ("segments", "told", "gaps", "overlaps"),
    [
        ([batch(1, 3, 0, 30), batch(5, 5, 30, 40)], "epochs 4 to 4 are recorded nowhere", 1, 0),
        ([batch(1, 3, 0, 30), batch(3, 4, 30, 40)], "epochs 3 to 3 are recorded twice", 0, 1),
        ([batch(1, 3, 0, 30, ledger=lambda found: [*found[:1], *found[2:]])], "epochs 2 to 2", 1, 0),
        ([batch(1, 3, 0, 30, ledger=lambda found: found[:2])], "ledger ends in epoch 2", 0, 0),
        ([batch(1, 3, 0, 30, ingested={"record_count": 29})], "29 records came in", 0, 0),
        ([batch(1, 3, 0, 30, processed={"success_count": 29})], "successes", 0, 0),
        ([batch(1, 3, 0, 30, processed={"failure_count": 1})], "failures", 0, 0),
        ([batch(1, 3, 0, 30, lane={"positions": at(31)})], "other positions", 0, 0),
        ([batch(1, 3, 0, 30, lane={"batch_id": "b9"})], "without the batch", 0, 0),
        ([batch(1, 3, 0, 30, lane={"counters": Counters(read=31, written=30)})], "accounted for", 0, 0),
        ([batch(1, 3, 0, 30, lane={"epoch": 4})], "the checkpoint says 4", 0, 0),
        ([batch(1, 3, 0, 30, ledger=lambda found: [replace(found[0], read=9), *found[1:]])], "add up", 0, 0),
    ],
)
def test_histories_that_do_not_add_up(segments: Any, told: str, gaps: int, overlaps: int) -> None:
    ledger = ledger_of(*segments)
    assert any(told in fault.message for fault in ledger.faults), ledger.faults
    lane = ledger.lanes["sink-0"]
    assert (lane.gaps, lane.overlaps) == (gaps, overlaps)


async def test_positions_that_go_back_are_overlaps(run: Any, tmp_path: Path) -> None:
    pipeline = run({"type": "file", "path": "out", "format": "parquet"})
    await pipeline.begin()
    await pipeline.segment(4)
    ledger = next(iter((await pipeline.proof()).sinks)).lanes[0].ledger
    source = FileSource.__new__(FileSource)
    ends = [part.end[split] for part in ledger.ranges for split in part.end]
    assert all(source.precedes("files", one, other) for one, other in itertools.pairwise(ends))
    assert not any(source.precedes("files", other, one) for one, other in itertools.pairwise(ends))


async def test_other_streams_are_no_pipelines(journal: Journal, tmp_path: Path) -> None:
    records = e.seal(
        [e.PipelinePaused(reason="")],
        stream="other",
        after_sequence=0,
        previous_hash="0" * 64,
        time=datetime(2026, 11, 25, tzinfo=UTC),
    )
    await journal.append("other", 0, records)
    for name in ("other", "nosuch"):
        with pytest.raises(NotFound):
            await prove(journal, name, tmp_path)


async def test_an_edited_journal_is_found(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the command's exit codes: 0 proved, 1 contradicted, 2 not to be told."""
    pipeline = run({"type": "file", "path": "out", "format": "jsonl"})
    await pipeline.whole()
    monkeypatch.setenv("DATAFLOW_HOME", str(tmp_path / "home"))

    async def call(*words: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, app, list(words))

    told = await call("prove", "orders")
    assert told.exit_code == 0 and told.stdout.endswith("gaps 0, overlaps 0\nproved\n")
    assert (await call("prove", "orders", "--json")).exit_code == 0
    assert (await call("prove", "nosuch")).exit_code == 2
    with sqlite3.connect(tmp_path / "home/journal.db") as database:
        for (name,) in database.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            database.execute(f"drop trigger {name}")
        database.execute("update journal_events set actor = 'me' where sequence = 5")
    told = await call("prove", "orders")
    assert told.exit_code == 1 and "FAULT  event 5: the journal was changed" in told.stdout

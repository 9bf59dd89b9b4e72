"""Going back to an earlier checkpoint, on a real Temporal server: the range again, and nothing else."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dataflow.domain.pipeline import fold
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import PipelineState, Status
from dataflow.errors import Conflict, IllegalCommand, NotFound, Rejected
from dataflow.proof import prove

pytestmark = pytest.mark.temporal

ROWS = 3000


@pytest.fixture
async def world(new_world: Any) -> Any:
    """Segments are short: a run that is told to stop half-way ends there, not when a heartbeat is answered."""
    return await new_world(segment_min=0.2, segment_max=0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = "".join(f"{n},{'x' if n % 100 == 7 else n}\n" for n in range(ROWS))
    (tmp_path / "in.csv").write_text("id,amount\n" + lines)
    return tmp_path


def spec(world: Any, folder: Path, **more: Any) -> PipelineSpec:
    return PipelineSpec.model_validate(
        {
            "name": world.name,
            "base": str(folder),
            "source": {
                "type": "file",
                "path": "in.csv",
                "format": "csv",
                "columns": {"id": "bigint", "amount": "bigint"},
            },
            "sinks": [{"type": "file", "path": "out", "format": "jsonl"}],
            "checkpoint": {"max_rows": 5, "interval": "50ms"},
            **more,
        }
    )


def written(folder: Path) -> list[int]:
    """Every id of the output, in the order of the parts' names."""
    return [
        json.loads(line)["id"] for path in sorted(folder.glob("out/*.jsonl")) for line in path.read_text().splitlines()
    ]


def dead(folder: Path) -> list[int]:
    lines = [line for path in sorted(folder.glob("out.dead/*.jsonl")) for line in path.read_text().splitlines()]
    return [int(json.loads(line)["record"].split(",")[0]) for line in lines]


async def halfway(world: Any, folder: Path) -> PipelineState:
    """Started, and stopped somewhere in the middle."""
    client = world.platform.client
    await client.create(spec(world, folder))
    await client.start(world.name)
    while len(list(folder.glob("out/*.jsonl"))) < 20:
        await asyncio.sleep(0.005)
    stopped = await client.stop(world.name, "half way")
    assert 0 < stopped.checkpoint.offset < ROWS
    return stopped


def all_of_it(folder: Path) -> None:
    assert written(folder) == [n for n in range(ROWS) if n % 100 != 7]
    assert dead(folder) == [n for n in range(ROWS) if n % 100 == 7]


@pytest.mark.parametrize("by", ["event", "time"])
async def test_files_are_read_again_from_a_checkpoint_and_the_output_is_whole(
    world: Any, folder: Path, by: str
) -> None:
    client = world.platform.client
    stopped = await halfway(world, folder)
    await client.start(world.name)
    before = await world.reach(Status.COMPLETED)
    all_of_it(folder)
    at = stopped.updated_at
    assert at is not None
    configured = await client.rewind(world.name, stopped.version if by == "event" else at + timedelta(milliseconds=1))
    assert (configured.status, configured.generation) == (Status.CONFIGURED, 2)
    assert configured.rewind.event in (stopped.version, stopped.version + 1)
    await client.start(world.name)
    state = await world.reach(Status.COMPLETED)
    all_of_it(folder)
    [lane] = state.checkpoint.lanes.values()
    assert lane.counters.read == ROWS - stopped.checkpoint.offset, "only the range"
    assert state.lifetime.records_processed > before.lifetime.records_processed
    proof = await prove(world.platform.journal, world.name, world.platform.settings.home)
    assert proof.verdict == "proved", (proof.faults, proof.open)
    records = [record async for record in world.platform.journal.read(world.name)]
    assert fold(PipelineState.empty(world.name), records) == state


async def test_twice_and_with_another_transform(world: Any, folder: Path) -> None:
    client = world.platform.client
    stopped = await halfway(world, folder)
    for _ in range(2):
        await client.rewind(world.name, stopped.version) if (await world.state()).generation == 1 else None
        await client.start(world.name)
        await world.until(lambda _: len(written(folder)) > stopped.checkpoint.offset + 100)
        await client.stop(world.name)
    second = await world.state()
    await client.rewind(world.name, second.version)
    await client.update(world.name, {"transforms": [{"type": "map", "set": {"amount": "-amount"}}]}, partial=True)
    await client.start(world.name)
    await world.reach(Status.COMPLETED)
    all_of_it(folder)
    rows = [json.loads(line) for p in sorted(folder.glob("out/*.jsonl")) for line in p.read_text().splitlines()]
    border = second.checkpoint.offset + stopped.checkpoint.offset
    assert [row["amount"] == -row["id"] for row in rows if row["id"]] == [
        row["id"] >= border for row in rows if row["id"]
    ]


async def test_a_position_of_a_file_as_events_have_it_writes_the_range_a_second_time(world: Any, folder: Path) -> None:
    client = world.platform.client
    stopped = await halfway(world, folder)
    await client.start(world.name)
    await world.reach(Status.COMPLETED)
    [lane] = stopped.checkpoint.lanes.values()
    [(split, position)] = lane.positions.items()
    await client.rewind(world.name, {split: position})
    await client.start(world.name)
    await world.reach(Status.COMPLETED)
    good = [n for n in range(ROWS) if n % 100 != 7]
    assert written(folder) == good + [n for n in good if n >= stopped.checkpoint.offset]


async def test_refusals(world: Any, folder: Path) -> None:
    client = world.platform.client
    await client.create(spec(world, folder))
    with pytest.raises(Conflict, match="has read nothing"):
        await client.rewind(world.name, 1)
    await client.start(world.name)
    with pytest.raises(IllegalCommand, match="stop it first"):
        await client.rewind(world.name, 1)
    await world.reach(Status.COMPLETED)
    state = await world.state()
    [split] = state.plan.lanes[0].splits
    for to, code in (
        (10_000, "NOT_FOUND"),
        (datetime(2020, 1, 1, tzinfo=UTC), "NOT_FOUND"),
        ({"nowhere": 1}, "NOT_FOUND"),
        ({split: 7}, "NOT_LOCATING"),
        ({split: "yesterday"}, "BAD_PLACE"),
    ):
        with pytest.raises(Rejected) as refused:
            await client.rewind(world.name, to)
        assert refused.value.code == code, to
    assert await world.state() == state
    await client.reset(world.name, from_start=True)
    await client.start(world.name)
    await world.until(lambda now: now.status is Status.COMPLETED and now.generation == 2)
    with pytest.raises(Conflict, match="is of generation 1"):
        await client.rewind(world.name, state.version)
    all_of_it(folder)
    with pytest.raises(NotFound):
        await client.rewind("nobody", 1)


async def test_pushed_records_again_from_an_offset(world: Any, folder: Path) -> None:
    client = world.platform.client
    source = {"type": "push", "columns": {"id": "bigint"}}
    await client.create(spec(world, folder, source=source, checkpoint={"interval": "50ms"}))
    await client.start(world.name)
    await client.ingest(world.name, [{"id": n} for n in range(10)], batch_id="b")
    await world.until(lambda _: len(written(folder)) == 10)
    await client.stop(world.name)
    await client.rewind(world.name, {"inbox": 7})
    await client.start(world.name)
    await world.until(lambda _: len(written(folder)) == 13)
    repeat = await client.ingest(world.name, [{"id": n} for n in range(10)], batch_id="b")
    assert repeat.repeated
    await client.stop(world.name)
    assert written(folder) == [*range(10), 7, 8, 9]
    with pytest.raises(Rejected, match="there is no offset 11 yet"):
        await client.rewind(world.name, {"*": 11})

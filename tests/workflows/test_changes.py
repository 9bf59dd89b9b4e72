"""Held, stopped, changed and started again in the middle of files: each record once, by the definition of its time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import Status
from dataflow.errors import IllegalCommand

pytestmark = pytest.mark.temporal

ROWS = 30_000


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """In the order of the parts' names, which is the order of commits where there is one lane."""
    return [json.loads(line) for path in sorted(folder.glob("out/*.jsonl")) for line in path.read_text().splitlines()]


@pytest.fixture
async def world(new_world: Any) -> Any:
    """Segments are short: a halt takes effect at the end of one, not when a heartbeat is answered."""
    return await new_world(segment_min=0.2, segment_max=0.2)


async def test_every_record_once_through_pauses_stops_and_changes(world: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id\n" + "".join(f"{n}\n" for n in range(ROWS)))
    client = world.platform.client

    def spec(version: int) -> PipelineSpec:
        return PipelineSpec.model_validate(
            {
                "name": world.name,
                "base": str(tmp_path),
                "source": {"type": "file", "path": "in.csv", "format": "csv"},
                "transforms": [{"type": "map", "set": {"version": str(version)}}],
                "sinks": [{"type": "file", "path": "out", "format": "jsonl"}],
                "checkpoint": {"max_rows": 10, "interval": "50ms"},
            }
        )

    async def more(count: int = 5) -> int:
        """Until so many parts more are there; how many records that makes."""
        goal = len(list(tmp_path.glob("out/*.jsonl"))) + count
        while len(list(tmp_path.glob("out/*.jsonl"))) < goal:
            await asyncio.sleep(0.002)
        return len(rows_of(tmp_path))

    await client.create(spec(0))
    await client.update(world.name, spec(1), partial=False)
    await client.start(world.name)
    borders = []
    for version in (2, 3, 4):
        await more()
        with pytest.raises(IllegalCommand, match="cannot change its definition"):
            await client.update(world.name, spec(version))
        paused = await client.pause(world.name, "a look")
        held = rows_of(tmp_path)
        assert [row["id"] for row in held] == list(range(len(held)))
        assert paused.checkpoint.offset == len(held)
        with pytest.raises(IllegalCommand, match="cannot change its definition"):
            await client.update(world.name, spec(version))
        await client.resume(world.name)
        await more()
        stopped = await client.stop(world.name, "a change")
        borders.append(stopped.checkpoint.offset)
        assert len(rows_of(tmp_path)) == borders[-1] < ROWS
        changed = await client.update(world.name, spec(version))
        assert (changed.status, changed.generation, changed.plan is not None) == (Status.STOPPED, 1, True)
        await client.start(world.name)
    await world.reach(Status.COMPLETED)
    found = rows_of(tmp_path)
    assert [row["id"] for row in found] == list(range(ROWS))
    assert [row["version"] for row in found] == [1 + sum(row["id"] >= border for border in borders) for row in found]
    state = await world.state()
    assert state.lifetime.records_processed == ROWS

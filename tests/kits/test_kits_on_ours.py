"""Our own small connectors and transforms under the kits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dataflow.connectors.memory import MemorySink, MemorySource, Store
from dataflow.registry import Kind, component
from dataflow.seams import Context
from dataflow.testing import exercise_sink, exercise_source, exercise_transform


def build(kind: Kind, name: str, base: Path = Path(), **options: Any) -> Any:
    found = component(kind, name)
    return found.build(found.config(**options), Context(pipeline="kit", base=base))


def test_memory_sink() -> None:
    stores: dict[int, Store] = {}

    def make() -> MemorySink:
        kept = Store()
        sink = MemorySink(kept)
        stores[id(sink)] = kept
        return sink

    exercise_sink(
        make,
        lambda sink: stores[id(sink)].rows.to_dicts(),
        lambda sink: stores[id(sink)].rejected.to_dicts(),
        visible_at_once=True,
    )


def test_memory_source() -> None:
    rows = {"a": pl.DataFrame({"n": range(23), "s": ["x"] * 23}), "b": pl.DataFrame({"n": [1, 2], "s": ["y", None]})}
    exercise_source(lambda: MemorySource(rows, chunk_rows=5))


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.csv.gz", "in.parquet"])
async def test_file_sink_feeds_file_source(tmp_path: Path, name: str) -> None:
    """What the file sink writes, the file source reads, resuming anywhere."""
    from dataflow.domain.flow import Lane, Position, Receipt

    frame = pl.DataFrame({"n": range(500), "s": [None if n % 7 == 0 else f'é,"{n}' for n in range(500)]})
    sink = build(Kind.SINK, "file", tmp_path, path=name)
    lane = Lane(pipeline="kit", generation=1, sink="sink", number=0, splits=("s",))
    await sink.prepare(frame.schema, [lane])
    async with sink.open(lane, frame.schema) as writer:
        for epoch in range(1, 6):
            await writer.write(frame.slice((epoch - 1) * 100, 100))
            receipt = Receipt(
                pipeline="kit", generation=1, lane=lane.name, epoch=epoch, positions={"s": Position(str(epoch))}
            )
            await writer.commit(receipt)
    await sink.complete([lane])

    source = build(Kind.SOURCE, "file", tmp_path, path=name)
    async with source:
        found = await source.discover()
        rows = [chunk.rows for split in found.splits async for chunk in source.read(split, None, pin=found.pin)]
    assert pl.concat(rows).select("n", "s").equals(frame)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("filter", {"where": "n > 3 AND s IS NOT NULL"}),
        ("map", {"set": {"m": "n * 2"}, "rename": {"s": "t"}}),
        ("flatmap", {"field": "many", "into": "one"}),
    ],
)
def test_transforms(name: str, options: dict[str, Any]) -> None:
    rows = pl.DataFrame(
        {
            "n": range(30),
            "s": [None if n % 4 == 0 else str(n) for n in range(30)],
            "many": [list(range(n % 3)) for n in range(30)],
        }
    )
    exercise_transform(lambda: build(Kind.TRANSFORM, name, **options), rows)

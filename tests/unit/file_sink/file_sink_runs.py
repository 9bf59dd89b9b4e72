"""Small runs of the file sink, shared by its tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from dataflow.connectors.file.sink import SINK, FileSink
from dataflow.domain.flow import Counters, Lane, Position, Receipt
from dataflow.domain.state import Rewind
from dataflow.seams import REJECTS, Context, LaneWriter

SCHEMA = pl.Schema({"n": pl.Int64})


def sink_at(
    base: Path,
    path: str,
    *,
    pipeline: str = "pipe",
    generation: int = 1,
    rewind: Rewind | None = None,
    begins: bool = False,
    **options: Any,
) -> FileSink:
    context = Context(pipeline=pipeline, generation=generation, base=base, rewind=rewind, begins=begins)
    sink: FileSink = SINK.build(SINK.config(path=path, **options), context)
    return sink


def lane_of(number: int = 0, *, pipeline: str = "pipe", generation: int = 1, sink: str = "sink") -> Lane:
    return Lane(pipeline=pipeline, generation=generation, sink=sink, number=number, splits=("s",))


def receipt_of(lane: Lane, epoch: int, at: int) -> Receipt:
    return Receipt(
        pipeline=lane.pipeline,
        generation=lane.generation,
        lane=lane.name,
        epoch=epoch,
        positions={"s": Position(str(at))},
        counters=Counters(read=at, written=at),
    )


def frame(numbers: Sequence[int]) -> pl.DataFrame:
    return pl.DataFrame({"n": numbers}, schema=SCHEMA)


def letters(numbers: Sequence[int]) -> pl.DataFrame:
    columns = {name: [name] * len(numbers) for name in REJECTS} | {"record": [json.dumps({"n": n}) for n in numbers]}
    return pl.DataFrame(columns, schema=REJECTS)


async def next_epoch(writer: LaneWriter, lane: Lane, rows: int, dead: int = 0) -> Receipt:
    """Write the next `rows` numbers, reject `dead` of the same numbers, commit. Positions count rows."""
    last = await writer.last_receipt()
    at = int(last.positions["s"]) if last else 0
    await writer.write(frame(range(at, at + rows)))
    if dead:
        await writer.reject(letters(range(at, at + dead)))
    receipt = receipt_of(lane, (last.epoch if last else 0) + 1, at + rows)
    await writer.commit(receipt)
    return receipt


def visible(base: Path) -> list[str]:
    """Every file that is not hidden, by its path under `base`."""
    paths = (path.relative_to(base) for path in base.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if not any(part.startswith(".") for part in path.parts))

"""Dead letters as data: what every sink writes beside its rows, whatever the medium."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from dataflow.connectors.in_memory import in_memory
from dataflow.domain.flow import Lane
from dataflow.seams import REJECTS, Context

DEAD_LETTERS = pl.Schema(
    {
        **REJECTS,
        "pipeline": pl.String(),
        "generation": pl.Int64(),
        "lane": pl.String(),
        "epoch": pl.Int64(),
        "attempt": pl.String(),
        "at": pl.String(),
    }
)
"""The columns of `REJECTS`, and who refused the record: the lane's epoch, the attempt at it, when (ISO 8601, UTC)."""


def stamped(rejected: pl.DataFrame, lane: Lane, epoch: int, attempt: str, at: datetime | None = None) -> pl.DataFrame:
    """`rejected` (columns of `REJECTS`) with the columns of `DEAD_LETTERS`, in their order."""
    moment = (at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="milliseconds")
    return rejected.select(
        *REJECTS,
        pl.lit(lane.pipeline).alias("pipeline"),
        pl.lit(lane.generation, dtype=pl.Int64).alias("generation"),
        pl.lit(lane.name).alias("lane"),
        pl.lit(epoch, dtype=pl.Int64).alias("epoch"),
        pl.lit(attempt).alias("attempt"),
        pl.lit(moment).alias("at"),
    )


def as_jsonl(letters: pl.DataFrame) -> memoryview:
    """One JSON object a line, UTF-8."""
    return in_memory(letters.write_ndjson)


def folder_of(context: Context, beside: Path) -> Path:
    """Where dead letters go: the folder the definition names, else `<output>.dead` beside the output."""
    if context.dead_letters is not None:
        return context.base / context.dead_letters
    return beside.parent / f"{beside.name}.dead"


def file_name(lane: Lane, epoch: int, number: int = 0) -> str:
    """Unique among all pipelines that share a folder, and sorted by epoch."""
    return f"dead-{lane.pipeline}-g{lane.generation}-{lane.name}-{epoch:08d}-{number:03d}.jsonl"


def epoch_of(name: str, pipeline: str, generation: int, lane_name: str) -> int | None:
    """The epoch in a name that `file_name` gave to dead letters of that lane; None for any other name."""
    found = re.fullmatch(re.escape(f"dead-{pipeline}-g{generation}-{lane_name}-") + r"(\d{8,})-\d{3,}\.jsonl", name)
    return int(found[1]) if found else None


def is_file_of(name: str, pipeline: str, generation: int, lane_name: str) -> bool:
    """Whether `file_name` gave this name to dead letters of that lane."""
    return epoch_of(name, pipeline, generation, lane_name) is not None

"""Preview: a few records of the source, shown before and after every stage. No sink is opened, nothing is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dataflow.assembly import build_source, build_stages, context_of
from dataflow.chain import Chain
from dataflow.domain.spec import PipelineSpec
from dataflow.references import References
from dataflow.seams import REJECTS, Chunk, Discovery, Source

_PATIENCE = 3.0  # seconds


@dataclass(frozen=True, slots=True)
class View:
    """The records as they leave one stage: `source`, `transforms[0]`, ..., `sinks[0].where`. `label` is its type.

    `rejected` has the columns of `REJECTS`; `filtered` counts the rows that a filter took out here."""

    name: str
    label: str
    rows: pl.DataFrame
    rejected: pl.DataFrame
    filtered: int = 0


async def preview(
    spec: PipelineSpec, rows: int = 20, *, home: Path, inbox: str = "", references: References | None = None
) -> list[View]:
    """Read the first `rows` records and run the transforms on them, stage by stage.

    Raises `InvalidSpec` where a stage does not fit its columns, `Rejected` or `Retryable` where the source cannot be
    read. Record errors are shown, whatever the policy for them is."""
    context = context_of(spec, home=home, inbox=inbox)
    async with build_source(spec, context, references) as source:
        found = await source.discover()
        sample, rejected = await _sample(source, found, rows)
    views = [View("source", spec.source.type, sample, rejected)]
    for index in range(len(spec.sinks)):
        stages = build_stages(spec, index, context, references)
        Chain(stages, spec.errors.on_record).bind(found.schema)
        flowing = sample
        for number, stage in enumerate(stages):
            own = number >= len(spec.transforms)  # the sink's `where`; the transforms are the same for every sink
            if index and not own:
                flowing = views[number + 1].rows
                continue
            applied = await asyncio.to_thread(stage.transform.apply, flowing)
            flowing = applied.rows
            dead = applied.rejected if applied.rejected is not None else REJECTS.to_frame()
            label = "filter" if own else spec.transforms[number].type
            views.append(
                View(stage.name, label, flowing, dead.with_columns(stage=pl.lit(stage.name)), applied.filtered)
            )
    return views


async def _sample(source: Source, found: Discovery, rows: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first `rows` records over all splits, and the records refused before them."""
    taken, refused = found.schema.to_frame(), REJECTS.to_frame()
    for split in found.splits:
        async with aclosing(source.read(split, None, pin=found.pin)) as chunks:
            while (chunk := await _next(chunks, bounded=source.bounded)) is not None:
                taken = pl.concat([taken, chunk.rows.head(rows - taken.height)])
                if chunk.rejected is not None:
                    refused = pl.concat([refused, chunk.rejected.head(rows - refused.height)])
                if taken.height >= rows:
                    return taken, refused
    return taken, refused


async def _next(chunks: AsyncGenerator[Chunk, None], *, bounded: bool) -> Chunk | None:
    """The next chunk; None at the end, or where an endless source has nothing more for now."""
    try:
        async with asyncio.timeout(None if bounded else _PATIENCE):
            return await anext(chunks, None)
    except TimeoutError:
        return None

"""What every source must keep: stable splits, positions that resume exactly, columns that are only a view."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import polars as pl

from dataflow.domain.flow import Position
from dataflow.seams import REJECTS, Discovery, Source


@dataclass(slots=True)
class _Drained:
    """What a split gave: its rows and rejected records, and after how many of each every position came."""

    rows: pl.DataFrame
    rejected: pl.DataFrame
    resumes: list[tuple[int, int, Position]] = field(default_factory=list)


def exercise_source(make: Callable[[], Source], *, limit: int = 100_000, resumes: int = 40) -> None:
    """Exercise sources that `make` returns, all over the same input; raises AssertionError with what went wrong.

    Of an unbounded source the first `limit` rows of every split are compared. At most about `resumes` positions of a
    split are resumed from, spread over its length.
    """
    asyncio.run(_exercise(make, limit, resumes))


async def _exercise(make: Callable[[], Source], limit: int, resumes: int) -> None:
    found = await _discover(make)
    again = await _discover(make)
    assert list(found.splits) == list(again.splits), "two looks name different splits"
    assert found.schema == again.schema, "two looks find different columns"
    assert len(set(found.splits)) == len(found.splits), "a split is named twice"
    assert len(found.pin.encode()) < 100_000, "the pin is too large for the workflow's state"
    total = 0
    for split in found.splits:
        total += await _exercise_split(make, found, split, limit, resumes)
    if found.total_rows is not None and total < limit:
        assert total == found.total_rows, f"total_rows says {found.total_rows}, {total} were read"


async def _exercise_split(make: Callable[[], Source], found: Discovery, split: str, limit: int, resumes: int) -> int:
    whole = await _drain(make, found, split, limit=limit)
    assert whole.rows.schema == found.schema, f"{split}: rows of {whole.rows.schema}, not {found.schema} as discovered"
    step = max(1, len(whole.resumes) // resumes)
    for rows, rejected, position in [*whole.resumes[::step], *whole.resumes[-1:]]:
        left = limit - rows
        rest = await _drain(make, found, split, start=position, limit=left)
        expected = whole.rows.slice(rows)
        assert rest.rows.equals(expected), f"{split}: {position} does not resume after row {rows}"
        if rows + rest.rows.height < limit:
            assert rest.rejected.equals(whole.rejected.slice(rejected)), (
                f"{split}: {position} does not resume after rejected record {rejected}"
            )
    for columns in _subsets(found.schema.names()):
        view = await _drain(make, found, split, columns=columns, limit=limit)
        assert set(columns) <= set(view.rows.columns), f"{split}: asked for {columns}, got {view.rows.columns}"
        assert view.rows.select(columns).equals(whole.rows.select(columns)), f"{split}: {columns} alone differ"
    await _close_early(make, found, split)
    return whole.rows.height + whole.rejected.height


async def _discover(make: Callable[[], Source]) -> Discovery:
    async with make() as source:
        return await source.discover()


async def _drain(
    make: Callable[[], Source],
    found: Discovery,
    split: str,
    *,
    start: Position | None = None,
    columns: Sequence[str] | None = None,
    limit: int,
) -> _Drained:
    """Read to the end, or to `limit` rows exactly. A new source every time, as another process would have it."""
    rows: list[pl.DataFrame] = []
    rejected: list[pl.DataFrame] = []
    resumes: list[tuple[int, int, Position]] = []
    read = refused = 0
    async with make() as source, aclosing(source.read(split, start, pin=found.pin, columns=columns)) as chunks:
        async for chunk in chunks:
            rows.append(chunk.rows)
            read += chunk.rows.height
            if chunk.rejected is not None:
                assert chunk.rejected.schema == REJECTS, f"{split}: rejected records have {chunk.rejected.schema}"
                rejected.append(chunk.rejected)
                refused += chunk.rejected.height
            if read > limit:
                break
            resumes.append((read, refused, chunk.resume))
    schema = found.schema if columns is None else pl.Schema({name: found.schema[name] for name in columns})
    if not rows:
        rows.append(schema.to_frame())
    gathered = pl.concat(rows).head(limit)  # raises where two chunks differ in their columns
    return _Drained(gathered, pl.concat([REJECTS.to_frame(), *rejected]), resumes)


async def _close_early(make: Callable[[], Source], found: Discovery, split: str) -> None:
    """Stop after the first chunk; what it promised can be settled, more than once."""
    async with make() as source:
        async with aclosing(source.read(split, None, pin=found.pin)) as chunks:
            async for chunk in chunks:
                position = chunk.resume
                break
            else:
                return
        await source.settle(split, position)
        await source.settle(split, position)


def _subsets(names: list[str]) -> list[list[str]]:
    """Each column alone, every second one, the last two: in the schema's order."""
    few = [[name] for name in names[:4]]
    return [part for part in (*few, names[::2], names[-2:]) if part and len(part) < len(names)]

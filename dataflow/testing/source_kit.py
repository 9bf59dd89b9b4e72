"""What every source must keep: stable splits, positions that resume exactly, columns that are only a view.

Attempts at a split end at moments that Hypothesis chooses, and the next one goes on from the last position that the
one before it gave out: together they are the split, each row and each rejected record once and in order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import pairwise

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataflow.domain.flow import Position
from dataflow.seams import REJECTS, Chunk, Discovery, Ordered, Source

ENDS = (
    "closed",  # the reading is closed between two chunks
    "cancelled",  # ... cancelled while it waits for a chunk
    "unread",  # ... closed, and what it gave last was never committed: the next attempt reads that again
    "left",  # the source is left with the reading still open, as a killed worker leaves it
)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Reads `chunks` chunks and ends so; `patience` turns of the event loop before a cancellation."""

    chunks: int
    end: str
    patience: int = 0


@dataclass(slots=True)
class _Drained:
    """What a split gave: its rows and rejected records, and after how many of each every position came."""

    rows: pl.DataFrame
    rejected: pl.DataFrame
    resumes: list[tuple[int, int, Position]] = field(default_factory=list)


def exercise_source(
    make: Callable[[], Source],
    *,
    limit: int = 100_000,
    resumes: int = 40,
    examples: int = 25,
    ends: Sequence[str] = ENDS,
) -> None:
    """Exercise sources that `make` returns, all over the same input; raises AssertionError with what went wrong.

    Of an unbounded source the first `limit` rows of every split are compared. At most about `resumes` positions of a
    split are resumed from, spread over its length, and `examples` series of disturbed attempts are played on each.
    """
    found, wholes = asyncio.run(_exercise(make, limit, resumes))
    attempts = st.builds(_Attempt, st.integers(0, 4), st.sampled_from(list(ends)), st.sampled_from([0, 1, 2, 5, 20]))

    @settings(max_examples=examples, deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
    @given(split=st.sampled_from(list(wholes)), script=st.lists(attempts, max_size=6))
    def play(split: str, script: list[_Attempt]) -> None:
        asyncio.run(_play(make, found, split, wholes[split], script, limit))

    if wholes:
        play()


async def _exercise(make: Callable[[], Source], limit: int, resumes: int) -> tuple[Discovery, dict[str, _Drained]]:
    found = await _discover(make)
    again = await _discover(make)
    assert list(found.splits) == list(again.splits), "two looks name different splits"
    assert found.schema == again.schema, "two looks find different columns"
    assert len(set(found.splits)) == len(found.splits), "a split is named twice"
    assert len(found.pin.encode()) < 100_000, "the pin is too large for the workflow's state"
    wholes = {split: await _exercise_split(make, found, split, limit, resumes) for split in found.splits}
    total = sum(whole.rows.height + whole.rejected.height for whole in wholes.values())
    if found.total_rows is not None and total < limit:
        assert total == found.total_rows, f"total_rows says {found.total_rows}, {total} were read"
    return found, wholes


async def _exercise_split(
    make: Callable[[], Source], found: Discovery, split: str, limit: int, resumes: int
) -> _Drained:
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
    _check_order(make(), split, [position for _, _, position in whole.resumes])
    return whole


async def _play(
    make: Callable[[], Source],
    found: Discovery,
    split: str,
    whole: _Drained,
    script: Sequence[_Attempt],
    limit: int,
) -> None:
    """Disturbed attempts one after the other, then one that nobody disturbs: together they are the whole split."""
    rows: list[pl.DataFrame] = [whole.rows.clear()]
    rejected: list[pl.DataFrame] = [REJECTS.to_frame()]
    start: Position | None = None
    for attempt in script:
        left = limit - sum(part.height for part in rows)
        if left <= 0:
            break  # an endless source may have no more than that to give
        chunks = await _disturbed(make, found, split, start, attempt, left)
        if attempt.end == "unread":
            chunks = chunks[:-1]
        for chunk in chunks:
            rows.append(chunk.rows)
            if chunk.rejected is not None:
                rejected.append(chunk.rejected)
            start = chunk.resume
    read = sum(part.height for part in rows)
    if read < limit:
        rest = await _drain(make, found, split, start=start, limit=limit - read)
        rows.append(rest.rows)
        rejected.append(rest.rejected)
    told = f"{split}: attempts that ended as {[(attempt.chunks, attempt.end) for attempt in script]} give other"
    assert pl.concat(rows).head(limit).equals(whole.rows), f"{told} rows than one that was not disturbed"
    if whole.rows.height < limit:
        assert pl.concat(rejected).equals(whole.rejected), f"{told} rejected records than one that was not disturbed"


async def _disturbed(
    make: Callable[[], Source], found: Discovery, split: str, start: Position | None, attempt: _Attempt, left: int
) -> list[Chunk]:
    """What the attempt was given before its end, `left` rows or a chunk more at most."""
    chunks: list[Chunk] = []
    async with make() as source:
        reading = source.read(split, start, pin=found.pin)
        async for chunk in reading:
            chunks.append(chunk)
            left -= chunk.rows.height
            if len(chunks) > attempt.chunks or left <= 0:
                break
        if attempt.end == "cancelled":
            coming = asyncio.ensure_future(anext(reading, None))
            for _ in range(attempt.patience):
                await asyncio.sleep(0)
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await coming  # a chunk that came all the same was never committed
        if attempt.end != "left":
            await reading.aclose()
    if attempt.end == "left":
        await reading.aclose()  # the process is gone by then; here somebody must take its place
    return chunks


def _check_order(source: Source, split: str, positions: Sequence[Position]) -> None:
    """A source that says which position comes first says it of those that it gives out."""
    if not isinstance(source, Ordered):
        return
    for one, other in pairwise(positions):
        assert not source.precedes(split, other, one), f"{split}: {other} came after {one}, and precedes it"
        assert one == other or source.precedes(split, one, other), f"{split}: {one} does not precede {other}"


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

"""Reading a CSV file: the file source against plain Polars, on the same file in the same run.

    python bench/file_source.py orders.csv [rounds]

Both drop what they have read, piece by piece; the source also checks quoting and field counts, and keeps positions.
Prints seconds, MB/s and the ratio of the two (above 1: the source is faster). A file from ../shared/reference/bench
or any other CSV with a header will do.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
import time
from pathlib import Path

import polars as pl

from dataflow.connectors.file import SOURCE
from dataflow.seams import Context


async def ours(path: Path) -> int:
    source = SOURCE.build(SOURCE.config.model_validate({"path": str(path)}), Context(pipeline="bench"))
    rows = 0
    async with source:
        found = await source.discover()
        for split in found.splits:
            async for chunk in source.read(split, None, pin=found.pin):
                rows += chunk.rows.height
    return rows


def streamed(path: Path) -> int:
    """The whole file through the streaming engine into a sink that looks at nothing but the heights."""
    rows = 0

    def take(batch: pl.DataFrame) -> None:
        nonlocal rows
        rows += batch.height

    pl.scan_csv(path).sink_batches(take)
    return rows


def collected(path: Path) -> int:
    return pl.scan_csv(path).collect(engine="streaming").height


def main() -> None:
    path, rounds = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    ways = {
        "source": lambda: asyncio.run(ours(path)),
        "sink_batches": lambda: streamed(path),
        "collect": lambda: collected(path),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    rows: dict[str, int] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            rows[name] = way()
            spent[name].append(time.perf_counter() - begun)
    if len(set(rows.values())) != 1:
        raise SystemExit(f"different numbers of rows: {rows}")
    size = path.stat().st_size
    for name, times in spent.items():
        typical = statistics.median(times)
        ratio = typical / statistics.median(spent["source"])
        print(f"{name:13} {typical:7.3f} s  {size / typical / 1e6:6.0f} MB/s  source is {ratio:.2f} times as fast")
    print(f"{rows['source']} rows; peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()

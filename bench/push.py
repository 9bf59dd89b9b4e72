"""A million batches pushed to one pipeline: its state stays as small as it was, and no batch is forgotten.

    python -m bench push [--batches 1000000] [--callers 500]

Batches of one record each go through the SDK, `--callers` at a time, into a pipeline that writes JSON Lines, on an
embedded server. Reported at each tenth: batches a second, and the size of the pipeline's state as JSON. Then batches
of all ages are pushed again: each has to get the answer it had. What was written is compared with what was pushed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb

from bench.measure import gone, keep, table
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import states
from dataflow.platform import Platform, platform
from dataflow.settings import Settings

NAME = "bench-push"
AGAIN = 1000  # batches that are pushed again


async def measure(work: Path, batches: int, callers: int) -> dict[str, Any]:
    spec = PipelineSpec.model_validate(
        {
            "name": NAME,
            "base": str(work),
            "source": {"type": "push", "columns": {"n": "bigint"}},
            "sinks": [{"type": "file", "path": "out", "format": "jsonl"}],
        }
    )
    async with platform(Settings.load(home=work / "home")) as up:
        await up.client.create(spec)
        await up.client.start(NAME)
        tenths, done = [], 0
        for tenth in range(1, 11):
            begun, was = time.perf_counter(), done
            done = batches * tenth // 10
            await push(up, range(was, done), callers)
            seconds = time.perf_counter() - begun
            state = await up.client.state(NAME)
            tenths.append(
                {
                    "batches": done,
                    "per_second": round((done - was) / seconds),
                    "state_bytes": len(states().dump_json(state)),
                    "remembered": len(state.recent_batches),
                }
            )
            print(f"\r{done:,} batches, {tenths[-1]['per_second']:,}/s", end="", flush=True)
        old = random.Random(batches).sample(range(batches), min(AGAIN, batches))
        again = await push(up, old, callers)
        if not all(again):
            raise RuntimeError(f"{again.count(False)} of {len(again)} old batches were taken for new ones")
        await all_written(up, batches)
        await up.client.stop(NAME)
    [counted] = duckdb.sql(
        f"SELECT count(*), count(DISTINCT n), sum(n) FROM read_json('{work}/out/*.jsonl')"
    ).fetchall()
    if counted != (batches, batches, batches * (batches - 1) // 2):
        raise RuntimeError(f"{counted} is not {batches:,} rows, each once, and their sum")
    return {"batches": batches, "callers": callers, "tenths": tenths, "again": len(again)}


async def push(up: Platform, numbers: Iterable[int], callers: int) -> list[bool]:
    """One batch for each number; whether it was there already."""
    waiting = iter(numbers)

    async def call() -> list[bool]:
        return [(await up.client.ingest(NAME, [{"n": n}], batch_id=f"batch-{n}")).repeated for n in waiting]

    return [known for found in await asyncio.gather(*(call() for _ in range(callers))) for known in found]


async def all_written(up: Platform, batches: int) -> None:
    while True:
        if (await up.client.state(NAME)).checkpoint.records_processed >= batches:
            return
        await asyncio.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=1_000_000)
    parser.add_argument("--callers", type=int, default=500)
    asked = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="bench-push-"))
    try:
        result = asyncio.run(measure(work, asked.batches, asked.callers))
    finally:
        gone(work / "home")
        shutil.rmtree(work)
    print(f"\n{result['batches']:,} batches written once each, {result['again']:,} pushed again and known")
    print(table(["batches", "a second", "state in bytes", "ids in it"], [list(t.values()) for t in result["tenths"]]))
    print(f"kept in {keep('push', result)}")


if __name__ == "__main__":
    main()

"""Tens of thousands of epochs in one pipeline: Temporal's histories stay small, and the totals are exact.

    python -m bench history [--epochs 50000] [--rows 20] [--segment 5]

A generator with tiny epochs of `--rows` rows writes into one JSON Lines file, in this process, on an embedded server.
Reported: for each run of the workflow (it continues as new) the length and size of its history. The sum and the count
of what was written are compared with arithmetic.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from bench.measure import gone, keep, table
from dataflow.domain.spec import PipelineSpec
from dataflow.platform import Platform, platform
from dataflow.settings import Settings

NAME = "bench-history"
EVENTS, BYTES = 51_200, 50 * 2**20  # where Temporal ends a workflow


async def measure(work: Path, epochs: int, rows: int, segment: float) -> dict[str, Any]:
    spec = PipelineSpec.model_validate(
        {
            "name": NAME,
            "base": str(work),
            "source": {"type": "generator", "kind": "sensor", "rows": epochs * rows},
            "sinks": [{"type": "file", "path": "out.jsonl"}],
            "checkpoint": {"max_rows": rows},
        }
    )
    chosen = Settings.load(home=work / "home", segment_min=segment, segment_max=segment)
    begun = time.perf_counter()
    async with platform(chosen) as up:
        await up.client.create(spec)
        await up.client.start(NAME)
        state = await up.client.state(NAME)
        while state.status == "running":
            await asyncio.sleep(1)
            state = await up.client.state(NAME)
            print(f"\r{state.checkpoint.records_processed:,} records", end="", flush=True)
        seconds = time.perf_counter() - begun
        if state.status != "completed":
            raise RuntimeError(f"{state.status}: {state.error}")
        histories = await runs_of(up)
        epochs_done = sum(lane.epoch for lane in state.checkpoint.lanes.values())
    [counted] = duckdb.sql(f"SELECT count(*), sum(reading_id) FROM read_json('{work / 'out.jsonl'}')").fetchall()
    total = epochs * rows
    if counted != (total, total * (total - 1) // 2):
        raise RuntimeError(f"{counted} is not {total:,} rows and their sum")
    return {"epochs": epochs_done, "rows": total, "seconds": seconds, "runs": histories}


async def runs_of(up: Platform) -> list[dict[str, Any]]:
    """Every run of the pipeline's workflow, oldest first."""
    found = []
    async for run in up.client.temporal.list_workflows(f"WorkflowId = 'pipeline/{NAME}'"):
        handle = up.client.temporal.get_workflow_handle(run.id, run_id=run.run_id)
        info = (await handle.describe()).raw_description.workflow_execution_info
        found.append(
            {
                "run": run.run_id,
                "status": run.status.name if run.status else "",
                "start": run.start_time.isoformat(),
                "events": info.history_length,
                "bytes": info.history_size_bytes,
            }
        )
    return sorted(found, key=lambda run: run["start"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=50_000)
    parser.add_argument("--rows", type=int, default=20, help="of each epoch")
    parser.add_argument("--segment", type=float, default=5.0, help="seconds of each segment: short, for many of them")
    asked = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="bench-history-"))
    try:
        result = asyncio.run(measure(work, asked.epochs, asked.rows, asked.segment))
    finally:
        gone(work / "home")
        shutil.rmtree(work)
    print(f"\n{result['epochs']:,} epochs, {result['rows']:,} rows in {result['seconds']:.0f} s, totals exact")
    rows = [[run["run"], run["status"], run["events"], run["bytes"]] for run in result["runs"]]
    print(table(["run of the workflow", "status", "events", "bytes"], rows))
    most = max(run["events"] for run in result["runs"]), max(run["bytes"] for run in result["runs"])
    print(f"at most {most[0] / EVENTS:.1%} of the events and {most[1] / BYTES:.1%} of the bytes that Temporal allows")
    print(f"kept in {keep('history', result)}")


if __name__ == "__main__":
    main()

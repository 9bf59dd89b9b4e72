"""A Kafka pipeline that runs on and on: is its memory flat, and how many activities does Temporal see?

    python -m bench soak [--seconds 600] [--rate 3000] [--lanes 4]

`dataflow run` moves what `bench/peers` writes at a steady rate. Resident memory is looked at every two seconds; its
slope is that of a line through the second half, when caches are full. Activities are counted in Temporal's histories,
from the tenth part of the time on, as a segment grows longer in the beginning. At the end nothing may be missing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import uuid
from argparse import Namespace
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from temporalio.client import Client

from bench.kafka import PARTITIONS, Broker, start
from bench.measure import gone, keep, spread
from bench.peer import built, java
from dataflow.embedded.temporal import running

EVERY = 2.0


async def activities(target: str, pipeline: str, since: datetime) -> Counter[str]:
    """The activities that Temporal has scheduled for the pipeline since then, by type."""
    client = await Client.connect(target)
    found: Counter[str] = Counter()
    run: str | None = None  # the newest one; each names the one before it
    while True:
        before = ""
        async for event in client.get_workflow_handle(f"pipeline/{pipeline}", run_id=run).fetch_history_events():
            before = before or event.workflow_execution_started_event_attributes.continued_execution_run_id
            scheduled = event.activity_task_scheduled_event_attributes
            if scheduled.activity_type.name and event.event_time.ToDatetime(UTC) >= since:
                found[scheduled.activity_type.name] += 1
        if not before:
            return found
        run = before


def slope(samples: list[tuple[float, float]]) -> float:
    """MiB a minute."""
    times, sizes = zip(*samples, strict=True)
    return statistics.linear_regression(times, sizes).slope * 60


def soak(broker: Broker, work: Path, asked: Namespace) -> dict[str, Any]:
    name = uuid.uuid4().hex[:8]
    names = {"input": f"live-{name}", "output": f"out-{name}"}
    topics = (broker.address, *names.values(), PARTITIONS)
    tool = java(built("kafka"), "Live", *topics, asked.rate, asked.seconds, 0, options=["-Xmx512m"])
    live = subprocess.Popen(tool, stdout=subprocess.PIPE, text=True)
    assert live.stdout is not None
    live.stdout.readline()
    run = start("dataflow", broker, names, work, 1000, Namespace(rows=0, lanes=asked.lanes, processes=None))
    process, begun, samples = psutil.Process(run.process.pid), time.monotonic(), []
    since, counted = datetime.now(UTC), Counter[str]()
    try:
        while live.poll() is None:
            samples.append((time.monotonic() - begun, process.memory_info().rss / 2**20))
            print(f"\r{samples[-1][0]:6.0f} s {samples[-1][1]:7.1f} MiB", end="", flush=True)
            if samples[-1][0] < asked.seconds / 10:
                since = datetime.now(UTC)
            time.sleep(EVERY)
        record = running(work / "home")
        if record is None:
            raise RuntimeError(f"the run has ended: {run.log.read_text()[-3000:]}")
        counted = asyncio.run(activities(record.address, f"bench-{names['output']}", since))
        counting = (datetime.now(UTC) - since).total_seconds()
    finally:
        log = run.log.read_text()[-3000:]
        spent = run.end()
        live.kill()
    count, p50, p99, _, missing = live.stdout.read().split()
    if int(missing):
        raise RuntimeError(f"{missing} records are missing: {log}")
    half = samples[len(samples) // 2 :]
    return {
        "records": int(count),
        "seconds": samples[-1][0],
        "p50": float(p50),
        "p99": float(p99),
        "cpu": spent.cpu,
        "memory": spread([size for _, size in half]),
        "slope": slope(half),
        "activities": dict(counted),
        "activities_per_second_and_lane": sum(counted.values()) / counting / asked.lanes,
        "samples": samples[:: max(1, len(samples) // 100)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--rate", type=int, default=3000, help="records a second")
    parser.add_argument("--lanes", type=int, default=PARTITIONS)
    asked = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_TMP")))
    try:
        found = soak(Broker.up(), work, asked)
    finally:
        gone(work / "home")
        shutil.rmtree(work)
    memory = found["memory"]
    print(f"\r{found['records']:,} records in {found['seconds']:.0f} s, none missing; {found['cpu']:.0f} s of CPU")
    print(
        f"memory in the second half: {memory['median']:.0f} MiB ({memory['least']:.0f} to {memory['most']:.0f}), ",
        end="",
    )
    print(f"{found['slope']:+.2f} MiB a minute")
    print(f"activities: {found['activities']}, {found['activities_per_second_and_lane']:.3f} a second and lane")
    print(f"kept in {keep('soak', {'rate': asked.rate, 'lanes': asked.lanes, **found})}")


if __name__ == "__main__":
    main()

"""The journal's speed: appending with 1, 10 and 100 streams, looking back in a long stream, opening.

    python bench/journal.py [--url sqlite:////some/where.db] [--events 100000] [--seconds 3] [--json]

Every append is one batch of three events, as a segment writes them, and is on the disk before it counts. An append is
measured from the call to its return; with many streams it waits for others that share its transaction. Looking back
asks for the state after random events, as `dataflow state --at` does, from a process that has nothing in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

START = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = {"name": "bench", "source": {"type": "generator"}, "sinks": [{"type": "console"}]}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50_ms": round(cuts[49] * 1000, 2), "p99_ms": round(cuts[98] * 1000, 2)}


async def append_speed(journal: Any, streams: int, seconds: float) -> dict[str, float]:
    from dataflow.domain.events import MetricsReported, seal

    taken: list[float] = []
    end = time.perf_counter() + seconds

    async def write(stream: str) -> int:
        sequence, last = 0, "0" * 64
        events = [MetricsReported(metrics={"records_per_second": 1000.5, "lag": float(n)}) for n in range(3)]
        while time.perf_counter() < end:
            sealed = seal(events, stream=stream, after_sequence=sequence, previous_hash=last, time=START)
            begun = time.perf_counter()
            await journal.append(stream, sequence, sealed)
            taken.append(time.perf_counter() - begun)
            sequence, last = sealed[-1].sequence, sealed[-1].hash
        return sequence

    begun = time.perf_counter()
    counts = await asyncio.gather(*(write(f"append-{streams}-{n}") for n in range(streams)))
    return {"events_per_second": round(sum(counts) / (time.perf_counter() - begun)), **percentiles(taken)}


async def fill(journal: Any, stream: str, events: int) -> float:
    """A stream of `events` events, segments for the most part; returns the seconds that storing them took."""
    from dataflow.domain.commands import CreatePipeline, RecordSegment, StartPipeline
    from dataflow.domain.events import seal
    from dataflow.domain.flow import Counters
    from dataflow.domain.pipeline import decide, fold
    from dataflow.domain.state import PipelineState
    from dataflow.journal.history import append_and_snapshot, pipelines

    state, records, stored, storing = PipelineState.empty(stream), [], 0, 0.0
    commands: list[Any] = [CreatePipeline(spec={**SPEC, "name": stream}), StartPipeline()]
    while state.version < events:
        n = state.version
        command = (
            commands.pop(0)
            if commands
            else RecordSegment(
                batch_id=f"b{n}", lane="sink-0", first_epoch=n, last_epoch=n, counters=Counters(read=n, written=n)
            )
        )
        sealed = seal(
            decide(state, command),
            stream=stream,
            after_sequence=n,
            previous_hash=state.last_hash,
            time=START + timedelta(seconds=n),
        )
        state = fold(state, sealed)
        records.extend(sealed)
        if len(records) >= 99 or state.version >= events:
            begun = time.perf_counter()
            await append_and_snapshot(journal, stream, stored, records, pipelines())
            storing += time.perf_counter() - begun
            stored, records = stored + len(records), []
    return storing


async def look_back(journal: Any, stream: str, tries: int) -> dict[str, float]:
    from dataflow.journal.history import state_at

    head = await journal.head(stream)
    taken, numbers = [], random.Random(1)
    for _ in range(tries):
        sequence = numbers.randint(1, head.sequence)
        begun = time.perf_counter()
        state = await state_at(journal, stream, sequence)
        taken.append(time.perf_counter() - begun)
        assert state.version == sequence
    return {"median_ms": round(statistics.median(taken) * 1000, 1), "worst_ms": round(max(taken) * 1000, 1)}


async def measure(url: str, events: int, seconds: float) -> dict[str, Any]:
    figures: dict[str, Any] = {"url": url.rpartition("@")[2]}
    begun = time.perf_counter()
    from dataflow.journal import open_journal

    figures["import_seconds"] = round(time.perf_counter() - begun, 3)
    for name in ("open_new_seconds", "open_again_seconds"):
        begun = time.perf_counter()
        async with open_journal(url):
            figures[name] = round(time.perf_counter() - begun, 3)
    async with open_journal(url) as journal:
        for streams in (1, 10, 100):
            figures[f"append_{streams}_streams"] = await append_speed(journal, streams, seconds)
        figures["long_stream_events"] = events
        figures["long_stream_store_seconds"] = round(await fill(journal, "long", events), 1)
        figures["state_at_random"] = await look_back(journal, "long", 40)
        figures["fold_from_the_first"] = await fold_all(journal, "long")
    return figures


async def fold_all(journal: Any, stream: str) -> dict[str, float]:
    """Reading and folding the whole stream without snapshots, and walking its chain of hashes."""
    from dataclasses import replace

    from dataflow.journal.audit import audit_verify
    from dataflow.journal.history import folded, pipelines

    head = await journal.head(stream)
    begun = time.perf_counter()
    await folded(journal, stream, head.sequence, replace(pipelines(), version=-1))
    fold_seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    assert await audit_verify(journal, stream) is None
    return {"fold_seconds": round(fold_seconds, 2), "verify_seconds": round(time.perf_counter() - begun, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="an empty journal; default: SQLite in a temporary folder")
    parser.add_argument("--events", type=int, default=100_000, help="length of the long stream")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each append measurement")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = options.url or f"sqlite:///{Path(folder) / 'journal.db'}"
        figures = asyncio.run(measure(url, options.events, options.seconds))
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:28} {value}")


if __name__ == "__main__":
    main()

"""The read side's speed: replaying a journal into empty read models, being up with a busy one, being found by words.

    python bench/projections.py [--events 1000000] [--rate 500] [--seconds 20] [--readmodel-url URL]
                                [--search-url http://127.0.0.1:9200] [--json]

Other work on the machine shows in the seconds, hardly in the CPU seconds: compare those. The journal is SQLite in a
temporary folder, the read models too unless a URL is given. Replay: all read models from the first event, the totals
checked. Lag: events are appended at an even rate, by 20 pipelines, three at a time as segments write them; it is taken
from the event's time to the commit of its rows. Search: from the append of a pipeline's first event to the answer that
has it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

SPEC = {"name": "bench", "source": {"type": "generator"}, "sinks": [{"type": "console"}]}
PIPELINES = 20


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50_s": round(cuts[49], 3), "p99_s": round(cuts[98], 3), "worst_s": round(max(seconds), 3)}


class Writer:
    """One pipeline: created, started, then segments for ever, as the aggregate would record them."""

    def __init__(self, name: str) -> None:
        from dataflow.domain.state import GENESIS

        self.name, self.version, self.hash, self.epoch = name, 0, GENESIS, 0

    def records(self) -> Any:
        from dataflow.domain.events import PipelineCreated, PipelineStarted, seal
        from dataflow.domain.spec import PipelineSpec

        if self.version:
            events = self._segment()
        else:
            spec = PipelineSpec.model_validate({**SPEC, "name": self.name}).stored()
            events = [PipelineCreated(name=self.name, description="", spec=spec), PipelineStarted(generation=1)]
        sealed = seal(
            events,
            stream=self.name,
            after_sequence=self.version,
            previous_hash=self.hash,
            time=datetime.now(UTC),
            actor="bench",
        )
        self.version, self.hash = sealed[-1].sequence, sealed[-1].hash
        return sealed

    def _segment(self) -> list[Any]:
        from dataflow.domain.events import BatchIngested, BatchProcessed, CheckpointMove, CheckpointUpdated
        from dataflow.domain.flow import Counters
        from dataflow.domain.state import LaneCheckpoint

        self.epoch += 1
        moved = Counters(read=1000, written=900, filtered=90, failed=10, dead_lettered=10)
        total = {name: count * self.epoch for name, count in asdict(moved).items()}
        lane = LaneCheckpoint(epoch=self.epoch, counters=Counters(**total), batch_id=f"b{self.epoch}")
        done = {"success_count": 990, "failure_count": 10, "processing_time_ms": 1000}
        here: dict[str, Any] = {"batch_id": f"b{self.epoch}", "lane": "main-0"}
        span = {"first_epoch": self.epoch, "last_epoch": self.epoch}
        move = CheckpointMove(offset=1000 * self.epoch, records_processed=990 * self.epoch, lanes={"main-0": lane})
        return [
            BatchIngested(**here, record_count=1000, source_offset=1000 * self.epoch, **span),
            BatchProcessed(**here, **done, counters=moved),
            CheckpointUpdated(checkpoint=move),
        ]


async def fill(journal: Any, events: int) -> list[Writer]:
    writers = [Writer(f"pipeline-{n}") for n in range(PIPELINES)]

    async def write(writer: Writer, goal: int) -> None:
        while writer.version < goal:
            before, batch = writer.version, []
            while len(batch) < 300 and writer.version < goal:
                batch.extend(writer.records())
            await journal.append(writer.name, before, batch)

    await asyncio.gather(*(write(writer, events // PIPELINES) for writer in writers))
    return writers


async def replay(journal: Any, store: Any, writers: list[Writer]) -> dict[str, Any]:
    from dataflow.projections.models import MODELS
    from dataflow.projections.projector import Projector
    from dataflow.projections.queries import Queries
    from dataflow.projections.store import TableProjection

    end = await journal.end()
    begun, used = time.perf_counter(), time.process_time()
    await Projector(journal, [TableProjection(store, model) for model in MODELS.values()], store).catch_up()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    found: dict[str, Any] = {
        "events": end,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "events_per_second": round(end / seconds),
        "events_per_cpu_second": round(end / cpu),
    }
    rows = await Queries(store).pipelines(limit=1000)
    assert {row["pipeline_id"]: row["total_records"] for row in rows.rows} == {w.name: 990 * w.epoch for w in writers}
    return found


async def lag(journal: Any, store: Any, writers: list[Writer], rate: int, seconds: float) -> dict[str, Any]:
    from dataflow.projections.models import MODELS
    from dataflow.projections.projector import Projector
    from dataflow.projections.store import TableProjection

    stop = asyncio.Event()
    projector = Projector(journal, [TableProjection(store, model) for model in MODELS.values()], store)
    running = asyncio.create_task(projector.run(stop))
    written, begun = 0, time.perf_counter()
    while (now := time.perf_counter() - begun) < seconds:
        if written >= now * rate:
            await asyncio.sleep(0.002)
            continue
        writer = writers[written // 3 % len(writers)]
        before = writer.version
        records = writer.records()
        await journal.append(writer.name, before, records)
        written += len(records)
    end = await journal.end()
    while min(one["position"] for one in projector.told().values()) < end:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    stop.set()
    await running
    found: dict[str, Any] = {"events_per_second": round(written / seconds)}
    for name, one in projector.following.items():
        found[name] = percentiles(list(one.lags))
    return found


async def search(journal: Any, url: str, tries: int) -> dict[str, Any]:
    from dataflow.projections.projector import Projector
    from dataflow.projections.search import SearchProjection
    from dataflow.projections.searching import by_words

    projection = SearchProjection(url, f"bench-{uuid4().hex[:8]}")
    begun = time.perf_counter()
    await Projector(journal, [projection]).catch_up()
    found: dict[str, Any] = {"index_events_per_second": round(await journal.end() / (time.perf_counter() - begun))}
    stop = asyncio.Event()
    running = asyncio.create_task(Projector(journal, [projection]).run(stop))
    taken = []
    for _ in range(tries):
        name = f"found-{uuid4().hex}"
        await journal.append(name, 0, Writer(name).records())
        begun = time.perf_counter()
        while not (await by_words(url, projection.prefix, name, ["pipelines"], 1)).parts["pipelines"].hits:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        taken.append(time.perf_counter() - begun)
    stop.set()
    await running
    async with projection:
        names = await projection.client.indices.get(index=f"{projection.prefix}-*")
        await projection.client.indices.delete(index=",".join(names))
    return {**found, **percentiles(taken)}


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from dataflow.journal import open_journal
    from dataflow.projections.store import Store

    figures: dict[str, Any] = {}
    url = options.readmodel_url or f"sqlite:///{folder / 'readmodels.db'}"
    async with open_journal(f"sqlite:///{folder / 'journal.db'}") as journal, Store(url) as store:
        writers = await fill(journal, options.events)
        figures["replay"] = await replay(journal, store, writers)
        figures["lag"] = await lag(journal, store, writers, options.rate, options.seconds)
    if options.search_url:
        async with open_journal(f"sqlite:///{folder / 'search.db'}") as journal:
            await fill(journal, 10_000)
            figures["search"] = await search(journal, options.search_url, options.tries)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000, help="of the replay")
    parser.add_argument("--rate", type=int, default=500, help="events a second while the lag is taken")
    parser.add_argument("--seconds", type=float, default=20.0, help="of that")
    parser.add_argument("--tries", type=int, default=20, help="pipelines that are searched for")
    parser.add_argument("--readmodel-url", help="empty read models; default: SQLite in a temporary folder")
    parser.add_argument("--search-url", help="an Elasticsearch; default: search is left out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(options, Path(folder)))
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:10} {value}")


if __name__ == "__main__":
    main()

"""Ten thousand registrations and a storm of status changes on one coordinator: none is lost, histories stay small.

    python -m bench coordinator [--pipelines 10000] [--rate 1000] [--seconds 10]

Reports as pipelines make them, from this process, through an embedded server: first one of each pipeline, all at once,
then `--rate` changes a second of pipelines at random, several of one pipeline among them, and in the end everything is
deleted but one in ten. Compared with arithmetic: every pipeline's last status, version and counts, the slots that are
held, the chain of hashes. Reported: the seconds that each part took until the registry had it, and for each run of the
workflow (it continues as new) the length and size of its history.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from activities.link import CoordinatorLink
from bench.measure import table
from dataflow.domain.coordinator.commands import PipelineReport
from dataflow.domain.coordinator.overview import Overview
from dataflow.domain.coordinator.state import ACTIVE, CoordinatorState
from dataflow.domain.state import Status
from dataflow.errors import Retryable
from dataflow.journal.audit import audit_verify
from dataflow.journal.history import coordinators, folded
from dataflow.platform import Platform, Work, platform
from dataflow.settings import Settings

CHANGES = (Status.RUNNING, Status.PAUSED, Status.STOPPED, Status.FAILED, Status.COMPLETED, Status.CONFIGURED)


class Storm:
    """Pipelines that only report."""

    def __init__(self, up: Platform, pipelines: int, seed: int) -> None:
        self.up = up
        self.random = random.Random(seed)
        self.link = CoordinatorLink(up.client.temporal, up.settings.task_queue, None)
        self.last: dict[str, PipelineReport] = {
            name: PipelineReport(pipeline_id=name, name=name, status=Status.CONFIGURED, version=1, group=f"g{n % 7}")
            for n, name in enumerate(f"p{n:05}-{self.random.randrange(16**8):08x}" for n in range(pipelines))
        }
        self.live = set(self.last)

    def change(self, name: str, status: Status) -> PipelineReport:
        before = self.last[name]
        new = PipelineReport(
            pipeline_id=name,
            name=name,
            status=status,
            version=before.version + self.random.randint(1, 5),
            group=before.group,
            records=before.records + self.random.randrange(1000),
            failed=before.failed + self.random.randrange(3),
        )
        self.last[name] = new
        if status is Status.DELETED:
            self.live.discard(name)
        return new

    async def tell(self, reports: list[PipelineReport]) -> None:
        await asyncio.gather(*(self.link.report(report) for report in reports))

    async def settled(self, deadline: float) -> Overview:
        """Wait until the registry has all that was told, and check it."""
        end = time.monotonic() + deadline
        while True:
            try:
                seen = await self.up.client.system.overview()
            except Retryable:  # too busy to answer: wait
                if time.monotonic() > end:
                    raise
                continue
            records = sum(self.last[name].records for name in self.live)
            if (seen.total, seen.records) == (len(self.live), records):
                break
            if time.monotonic() > end:
                raise RuntimeError(f"{seen.total} pipelines and {seen.records} records are not all after {deadline} s")
            await asyncio.sleep(0.2)
        state = await self.state()
        wrong = [
            name
            for name in self.live
            if (entry := state.pipelines.get(name)) is None
            or (entry.status, entry.version, entry.records, entry.failed, entry.group)
            != (
                self.last[name].status,
                self.last[name].version,
                self.last[name].records,
                self.last[name].failed,
                self.last[name].group,
            )
        ]
        held = sum(self.last[name].status in ACTIVE for name in self.live)
        if wrong or set(state.pipelines) != self.live or (state.held, seen.held) != (held, held):
            raise RuntimeError(f"{len(wrong)} pipelines are not as they said last, {state.held} slots are not {held}")
        return seen

    async def state(self) -> CoordinatorState:
        """As the journal has it."""
        stream = self.up.client.system.coordinator
        head = await self.up.journal.head(stream)
        if head is None:
            raise RuntimeError("nothing is in the journal")
        return await folded(self.up.journal, stream, head.sequence, coordinators())


async def storm(up: Platform, pipelines: int, rate: int, seconds: int, *, seed: int = 1, deadline: float = 300) -> Any:
    """Run it; figures of each part. Raises RuntimeError where anything is lost."""
    work = Storm(up, pipelines, seed)
    parts = []

    async def part(name: str, changes: int, doing: Any) -> None:
        begun = time.perf_counter()
        await doing
        told = time.perf_counter() - begun
        await work.settled(deadline)
        parts.append((name, changes, told, time.perf_counter() - begun))

    async def changing() -> None:
        told = []
        begun = time.perf_counter()
        for second in range(seconds):
            for _ in range(10):
                names = work.random.choices(sorted(work.live), k=max(1, rate // 10))
                reports = [work.change(name, work.random.choice(CHANGES)) for name in names]
                told.append(asyncio.create_task(work.tell(reports)))
                await asyncio.sleep(0.1)
            late = time.perf_counter() - begun - second - 1
            if late < 0:
                await asyncio.sleep(-late)
        await asyncio.gather(*told)

    await part("register", pipelines, work.tell(list(work.last.values())))
    await part("change", rate * seconds, changing())
    gone = [name for n, name in enumerate(sorted(work.live)) if n % 10]
    await part("delete", len(gone), work.tell([work.change(name, Status.DELETED) for name in gone]))
    await work.link.close()
    stream = up.client.system.coordinator
    if broken := await audit_verify(up.journal, stream):
        raise RuntimeError(str(broken))
    head = await up.journal.head(stream)
    return {"parts": parts, "runs": await runs_of(up), "events": head.sequence if head else 0}


async def runs_of(up: Platform) -> list[tuple[int, int]]:
    """Length and size of the history of each run of the coordinator."""
    found = []
    query = f"WorkflowId = '{up.client.system.coordinator}'"
    async for run in up.client.temporal.list_workflows(query):
        handle = up.client.temporal.get_workflow_handle(run.id, run_id=run.run_id)
        described = await handle.describe()
        found.append((described.history_length, described.raw_description.workflow_execution_info.history_size_bytes))
    return found


async def main(pipelines: int, rate: int, seconds: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        async with platform(Settings.load(home=Path(home)), work=Work.CONTROL) as up:
            found = await storm(up, pipelines, rate, seconds)
    print(
        table(
            ("part", "reports", "taken by Temporal, s", "in the registry, s", "reports/s"),
            [
                (name, f"{n:,}", f"{told:.1f}", f"{done:.1f}", f"{n / done:,.0f}")
                for name, n, told, done in found["parts"]
            ],
        )
    )
    longest, largest = max(length for length, _ in found["runs"]), max(size for _, size in found["runs"])
    print(
        f"{found['events']:,} events; {len(found['runs'])} runs, the longest {longest:,} events, {largest / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pipelines", type=int, default=10_000)
    options.add_argument("--rate", type=int, default=1000)
    options.add_argument("--seconds", type=int, default=10)
    chosen = options.parse_args()
    asyncio.run(main(chosen.pipelines, chosen.rate, chosen.seconds))

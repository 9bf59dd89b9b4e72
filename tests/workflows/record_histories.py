"""Record golden histories: `python tests/workflows/record_histories.py VERSION [SCENARIO ...]`, once for every release.

Runs a handful of scenarios on the embedded server and writes `histories/VERSION-SCENARIO.json`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import polars as pl
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

from dataflow.connectors import memory
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import Status
from dataflow.platform import Platform, platform
from dataflow.sdk import Client
from dataflow.settings import Settings
from workflows.names import PROJECTOR, ProjectorTuning, Tuning, projector_id, projector_queue, workflow_id

FOLDER = Path(__file__).parent / "histories"


def spec(name: str, rate: int | None = None, **more: object) -> PipelineSpec:
    source = {"type": "generator", "kind": "order", "rows": 400, "seed": 1, **({"rate": rate} if rate else {})}
    return PipelineSpec.model_validate(
        {"name": name, "source": source, "sinks": [{"type": "memory", "name": name}], **more}
    )


async def until(client: Client, name: str, status: Status) -> None:
    while (await client.state(name)).status is not status:
        await asyncio.sleep(0.05)


async def completes(client: Client, name: str) -> None:
    await client.create(spec(name, transforms=[{"type": "filter", "where": "quantity > 1"}]))
    await client.start(name)
    await until(client, name, Status.COMPLETED)


async def paused_stopped_restarted(client: Client, name: str) -> None:
    await client.create(spec(name, rate=100, checkpoint={"interval": "100ms"}))
    await client.start(name)
    await asyncio.sleep(0.7)
    await client.pause(name, "a look")
    await client.resume(name)
    await asyncio.sleep(0.5)
    await client.stop(name, "enough")
    await client.update(name, {"description": "changed"}, partial=True)
    await client.start(name)
    await until(client, name, Status.COMPLETED)


async def fails_and_is_reset(client: Client, name: str) -> None:
    stored = {**spec(name).stored(), "source": {"type": "memory", "name": "nowhere"}}
    await client.create(PipelineSpec.model_validate(stored))
    await client.start(name)
    await until(client, name, Status.FAILED)
    memory.provide("nowhere", pl.DataFrame({"n": range(10)}))
    await client.reset(name)
    await client.start(name)
    await until(client, name, Status.COMPLETED)


async def again_and_deleted(client: Client, name: str) -> None:
    await client.create(spec(name))
    await client.start(name)
    await until(client, name, Status.COMPLETED)
    await client.reset(name, from_start=True)
    await client.start(name)
    await until(client, name, Status.COMPLETED)
    await client.delete(name)


async def pushed(client: Client, name: str) -> None:
    """Waits for its first batch; takes one, and the same one again."""
    stored = {"name": name, "source": {"type": "push"}, "sinks": [{"type": "memory", "name": name}]}
    await client.create(PipelineSpec.model_validate(stored))
    await client.start(name)
    await asyncio.sleep(1)
    for _ in range(2):
        await client.ingest(name, [{"n": n} for n in range(10)], batch_id="b1")
    while memory.store(name).rows.height < 10:
        await asyncio.sleep(0.05)
    await client.stop(name)


async def rewound(client: Client, name: str) -> None:
    await client.create(spec(name))
    await client.start(name)
    await until(client, name, Status.COMPLETED)
    await client.rewind(name, 3)  # planned, nothing read
    await client.start(name)
    await until(client, name, Status.COMPLETED)


async def lanes_and_sinks(client: Client, name: str) -> None:
    sinks = [{"type": "memory", "name": f"{name}-{n}"} for n in range(2)]
    await client.create(spec(name, parallelism=2, sinks=sinks))
    await client.start(name)
    await until(client, name, Status.COMPLETED)


async def grows(client: Client, name: str) -> None:
    """A source that gets more splits while it is read: needs a Kafka, which `DATAFLOW_KAFKA_BROKERS` names."""
    brokers = os.environ["DATAFLOW_KAFKA_BROKERS"]
    topic = {"type": "kafka", "brokers": brokers, "topic": name}
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    await admin.create_topics([NewTopic(name, 2, 1)])
    source = {**topic, "format": "string"}
    sinks = [{"type": "memory", "name": name}]
    await client.create(PipelineSpec.model_validate({"name": name, "source": source, "sinks": sinks, "parallelism": 2}))
    await client.start(name)
    await until(client, name, Status.RUNNING)
    await admin.create_partitions({name: NewPartitions(3)})
    while (state := await client.state(name)).plan_number < 2:
        await asyncio.sleep(0.05)
    assert state.plan is not None
    assert sorted(split for lane in state.plan.lanes for split in lane.splits) == [f"{name}-{n}" for n in range(3)]
    await client.stop(name)
    await admin.delete_topics([name])
    await admin.close()


async def waits_for_a_slot(client: Client, name: str) -> None:
    await client.create(spec(f"{name}-first", rate=100, resources={"cpu_percent": 80}))
    await client.start(f"{name}-first")
    await client.create(spec(name))
    assert (await client.start(name)).queued_at
    await client.stop(name, "not today")
    assert (await client.start(name)).queued_at
    await client.stop(f"{name}-first")
    await until(client, name, Status.COMPLETED)


SCENARIOS: dict[str, Callable[[Client, str], Awaitable[None]]] = {
    "completes": completes,
    "paused-stopped-restarted": paused_stopped_restarted,
    "fails-and-is-reset": fails_and_is_reset,
    "again-and-deleted": again_and_deleted,
    "lanes-and-sinks": lanes_and_sinks,
    "waits-for-a-slot": waits_for_a_slot,
    "pushed": pushed,
    "rewound": rewound,
    "grows": grows,
}


def write(path: Path, history: str) -> None:
    """Without what tells of the machine it was recorded on: stack traces and process names, which replay ignores."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: "" if key in ("stackTrace", "identity") else bare(inner) for key, inner in value.items()}
        return [bare(inner) for inner in value] if isinstance(value, list) else value

    path.write_text(json.dumps(bare(json.loads(history)), indent=1) + "\n")


async def record(here: Platform, version: str, only: set[str]) -> None:
    client = here.client
    for scenario, play in SCENARIOS.items():
        if only and scenario not in only:
            continue
        name = f"{version.replace('.', '-')}-{scenario}"
        await play(client, name)
        history = await client.temporal.get_workflow_handle(workflow_id(name)).fetch_history()
        write(FOLDER / f"{version}-{scenario}.json", history.to_json())
        print(name, len(history.events), "events")
    coordinator = await client.temporal.get_workflow_handle(client.system.coordinator).fetch_history()
    write(FOLDER / f"{version}-coordinator.json", coordinator.to_json())
    print("coordinator", len(coordinator.events), "events")
    if only and "continued" not in only:
        return
    name = f"{version.replace('.', '-')}-continued"
    short = Client(
        client.temporal,
        task_queue=here.settings.task_queue,
        tuning=Tuning(segment_first=0.1, segment_longest=0.1, history_events=60),
    )
    await short.create(spec(name, rate=100, checkpoint={"interval": "20ms"}))
    first = await client.temporal.get_workflow_handle(workflow_id(name)).describe()
    await short.start(name)
    await until(client, name, Status.COMPLETED)
    history = await client.temporal.get_workflow_handle(workflow_id(name), run_id=first.run_id).fetch_history()
    write(FOLDER / f"{version}-continued.json", history.to_json())
    print(name, len(history.events), "events")


async def record_projector(here: Platform, version: str) -> None:
    """One run of it, up to its continuing as new. Needs a platform with the projector."""
    temporal, queue = here.client.temporal, here.settings.task_queue
    await temporal.get_workflow_handle(projector_id(queue)).terminate()  # the platform's own, with stints of minutes
    tuning = ProjectorTuning(stint=0.2, stints=3)
    handle = await temporal.start_workflow(PROJECTOR, tuning, id="short", task_queue=projector_queue(queue))
    first = (await handle.describe()).run_id
    while (await temporal.get_workflow_handle("short").describe()).run_id == first:
        await asyncio.sleep(0.05)
    history = await temporal.get_workflow_handle("short", run_id=first).fetch_history()
    write(FOLDER / f"{version}-projector.json", history.to_json())
    print("projector", len(history.events), "events")


async def main(version: str, only: set[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        async with platform(Settings.load(home=Path(home)), project=True, actor="recorder") as here:
            await record(here, version, only)
            if not only or "projector" in only:
                await record_projector(here, version)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], set(sys.argv[2:])))

"""A platform of its own for each test, on the one Temporal server of the run: own task queue, own journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from dataflow import registry
from dataflow.components import Component, Config, Kind
from dataflow.connectors import memory
from dataflow.domain.flow import Lane, Receipt
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import PipelineState, Status
from dataflow.embedded.temporal import Address
from dataflow.platform import Platform, platform
from dataflow.seams import Context
from dataflow.settings import Settings


@dataclass
class Faults:
    """What the `faulty` sink does wrong, next first: an error to raise, or seconds to hang before a commit."""

    commits: list[Exception | float] = field(default_factory=list)
    slow: float = 0.0
    completes: list[Exception] = field(default_factory=list)


class FaultyConfig(Config):
    store: str


class FaultyWriter(memory.MemoryWriter):
    def __init__(self, kept: memory.Store, lane: Lane, faults: Faults) -> None:
        super().__init__(kept, lane)
        self.faults = faults

    async def commit(self, receipt: Receipt) -> None:
        await asyncio.sleep(self.faults.slow)
        fault = self.faults.commits.pop(0) if self.faults.commits else None
        if isinstance(fault, Exception):
            raise fault
        if fault:
            await asyncio.sleep(fault)
        await super().commit(receipt)


class FaultySink(memory.MemorySink):
    def __init__(self, kept: memory.Store, faults: Faults) -> None:
        super().__init__(kept)
        self.faults = faults

    def open(self, lane: Lane, schema: pl.Schema) -> memory.MemoryWriter:
        return FaultyWriter(self._store, lane, self.faults)

    async def complete(self, lanes: Any) -> Any:
        if self.faults.completes:
            raise self.faults.completes.pop(0)
        return await super().complete(lanes)


@dataclass
class _Point:
    component: Component

    def load(self) -> Component:
        return self.component


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """A plug-in sink `faulty` that fails as the test wants."""
    script = Faults()

    def build(config: FaultyConfig, context: Context) -> FaultySink:
        return FaultySink(memory.store(config.store), script)

    point = _Point(Component(Kind.SINK, "faulty", FaultyConfig, build))
    monkeypatch.setattr(registry, "plug_ins", lambda kind: {"faulty": point} if kind is Kind.SINK else {})
    registry.component.cache_clear()
    yield script
    registry.component.cache_clear()


@dataclass
class World:
    """A platform and a table of numbers, with what tests keep asking."""

    platform: Platform
    rows: int = 1000

    def __post_init__(self) -> None:
        self.name = f"t-{uuid4().hex[:12]}"
        memory.provide(self.name, pl.DataFrame({"n": range(self.rows)}))

    def spec(self, sink: str = "memory", **more: Any) -> PipelineSpec:
        to = {"type": "faulty", "store": self.name} if sink == "faulty" else {"type": "memory", "name": self.name}
        return PipelineSpec.model_validate(
            {
                "name": self.name,
                "source": {"type": "memory", "name": self.name, "chunk_rows": 10},
                "sinks": [to],
                "checkpoint": {"max_rows": 10},
                **more,
            }
        )

    @property
    def numbers(self) -> list[int]:
        rows = memory.store(self.name).rows
        return rows["n"].to_list() if rows.width else []  # no columns before the sink is prepared

    async def state(self) -> PipelineState:
        return await self.platform.client.state(self.name)

    async def until(self, condition: Callable[[PipelineState], bool]) -> PipelineState:
        while not condition(state := await self.state()):
            await asyncio.sleep(0.05)
        return state

    async def reach(self, status: Status) -> PipelineState:
        return await self.until(lambda state: state.status is status)

    async def events(self) -> list[str]:
        return [record.type async for record in self.platform.journal.read(self.name)]


@pytest.fixture
async def new_world(temporal: Address, settings: Settings) -> AsyncIterator[Callable[..., Awaitable[World]]]:
    """Makes worlds; settings may be changed. All are shut down in the end."""
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:

        async def make(rows: int = 1000, **changes: Any) -> World:
            update = {"temporal_address": temporal.target, "task_queue": f"q-{uuid4().hex[:12]}", **changes}
            changed = settings.model_copy(update=update)
            return World(await stack.enter_async_context(platform(changed, actor="tester")), rows)

        yield make


@pytest.fixture
async def world(new_world: Callable[..., Awaitable[World]]) -> World:
    return await new_world()

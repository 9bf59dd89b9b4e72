"""Temporal's history and the journal tell the same, and a difference is found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from dataflow.comparison import compare
from dataflow.domain.events import MetricsReported, seal
from dataflow.domain.state import Status
from dataflow.errors import NotFound
from workflows.names import workflow_id


async def test_a_pipeline_that_ran_is_equal(new_world: Callable[..., Awaitable[object]]) -> None:
    world = await new_world()
    client, journal = world.platform.client, world.platform.journal
    await client.create(world.spec())
    await client.start(world.name)
    state = await world.reach(Status.COMPLETED)
    found = await compare(client.temporal, journal, workflow_id(world.name), world.name)
    assert (found.differences, found.runs, found.events, found.earlier) == ([], 1, state.version, 0)
    with pytest.raises(NotFound):
        await compare(client.temporal, journal, workflow_id("nobody"), "nobody")
    # Somebody else appends, well chained: the audit of hashes cannot see that, the history can.
    last = await journal.last(world.name)
    forged = seal(
        [MetricsReported(metrics={"lag": 0.0})],
        stream=world.name,
        after_sequence=last.sequence,
        previous_hash=last.hash,
        time=last.time,
        actor="mallory",
    )
    await journal.append(world.name, last.sequence, forged)
    found = await compare(client.temporal, journal, workflow_id(world.name), world.name)
    assert found.differences == [f"event {last.sequence + 1}: in the journal, but not in the history"]


async def test_events_that_were_changed_or_lost_are_found(new_world: Callable[..., Awaitable[object]]) -> None:
    world = await new_world()
    client, journal = world.platform.client, world.platform.journal
    await client.create(world.spec())
    await client.update(world.name, {"description": "other"}, partial=True)

    class Tampered:
        """The journal, with its second event told otherwise or not at all."""

        def __init__(self, lost: bool) -> None:
            self.lost = lost

        async def head(self, stream: str) -> object:
            return await journal.head(stream)

        async def read(self, stream: str, *, after: int = 0) -> object:
            async for record in journal.read(stream, after=after):
                if record.sequence != 2:
                    yield record
                elif not self.lost:
                    yield replace(record, actor="mallory", hash="0" * 64)

    for lost, told in (
        (False, "event 2: journal and history tell different things"),
        (True, "event 2: in the history as written, but not in the journal"),
    ):
        found = await compare(client.temporal, Tampered(lost), workflow_id(world.name), world.name)  # type: ignore[arg-type]
        assert found.differences == [told]

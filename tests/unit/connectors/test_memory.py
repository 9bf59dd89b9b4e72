"""The memory connectors keep the whole contract of the seams."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from dataflow.components import Kind
from dataflow.connectors import memory
from dataflow.connectors.memory import MemorySink, MemorySource, Store
from dataflow.domain.flow import Counters, Lane, Position, Receipt
from dataflow.errors import Corrupt, Fenced, NotFound
from dataflow.registry import component
from dataflow.seams import REJECTS, Context

ROWS = pl.DataFrame({"n": [1, 2, 3], "s": ["a", None, "c"]})
BAD = pl.DataFrame([["source", "BAD", "no", "x:1", "?"]], schema=REJECTS, orient="row")


def lane(generation: int = 1, number: int = 0) -> Lane:
    return Lane(pipeline="p", generation=generation, sink="sink", number=number, splits=("all",))


def receipt(epoch: int, of: Lane | None = None) -> Receipt:
    of = of or lane()
    return Receipt(
        pipeline=of.pipeline,
        generation=of.generation,
        lane=of.name,
        epoch=epoch,
        positions={"all": Position("x")},
        counters=Counters(read=epoch),
    )


@pytest.fixture
def kept() -> Store:
    return Store()


async def test_an_epoch_becomes_visible_in_one_act(kept: Store) -> None:
    sink = MemorySink(kept)
    await sink.prepare(ROWS.schema, [lane()])
    assert kept.rows.schema == ROWS.schema and kept.rejected.schema == REJECTS
    async with sink.open(lane(), ROWS.schema) as writer:
        assert await writer.last_receipt() is None
        await writer.write(ROWS)
        await writer.reject(BAD)
        assert kept.rows.height == kept.rejected.height == 0
        await writer.commit(receipt(1))
        assert_frame_equal(kept.rows, ROWS)
        assert_frame_equal(kept.rejected, BAD)
        assert await writer.last_receipt() == receipt(1)
        await writer.commit(receipt(2))
    assert kept.receipts == [receipt(2)]
    assert await sink.complete([lane()]) == {"rows": 3, "dead_letters": 1}


async def test_leaving_without_commit_discards_the_open_epoch(kept: Store) -> None:
    sink = MemorySink(kept)
    async with sink.open(lane(), ROWS.schema) as writer:
        await writer.write(ROWS)
        await writer.commit(receipt(1))
        await writer.write(ROWS)
    async with sink.open(lane(), ROWS.schema) as writer:
        assert await writer.last_receipt() == receipt(1)
        await writer.commit(receipt(2))
    assert kept.rows.height == ROWS.height


async def test_an_attempt_that_was_overtaken_is_fenced(kept: Store) -> None:
    sink = MemorySink(kept)
    async with sink.open(lane(), ROWS.schema) as late:
        await late.write(ROWS)
        async with sink.open(lane(), ROWS.schema):
            with pytest.raises(Fenced):
                await late.commit(receipt(1))
    assert kept.rows.height == 0 and kept.receipts == []


@pytest.mark.parametrize("epoch", [1, 3])
async def test_an_epoch_commits_only_on_its_predecessor(kept: Store, epoch: int) -> None:
    async with MemorySink(kept).open(lane(), ROWS.schema) as writer:
        await writer.commit(receipt(1))
        await writer.write(ROWS)
        with pytest.raises(Fenced):
            await writer.commit(receipt(epoch))
    assert kept.rows.height == 0


async def test_a_new_generation_replaces_the_old_one_and_fences_it(kept: Store) -> None:
    sink = MemorySink(kept)
    await sink.prepare(ROWS.schema, [lane()])
    async with sink.open(lane(), ROWS.schema) as old:
        await old.write(ROWS)
        await old.commit(receipt(1))
        await sink.prepare(ROWS.schema, [lane(2)])
        await sink.prepare(ROWS.schema, [lane(2)])
        assert kept.rows.height == 0
        with pytest.raises(Fenced):
            await old.commit(receipt(2))
    with pytest.raises(Fenced):
        await sink.prepare(ROWS.schema, [lane()])
    with pytest.raises(Fenced):
        async with sink.open(lane(), ROWS.schema):
            pass


async def test_lanes_are_independent(kept: Store) -> None:
    sink = MemorySink(kept)
    first, second = lane(number=0), lane(number=1)
    async with sink.open(first, ROWS.schema) as a, sink.open(second, ROWS.schema) as b:
        await a.write(ROWS.head(1))
        await b.write(ROWS.tail(1))
        await a.commit(receipt(1, first))
        await b.commit(receipt(1, second))
    assert kept.rows["n"].to_list() == [1, 3]


async def test_source_resumes_anywhere_and_leaves_columns_out() -> None:
    source = MemorySource({"a": ROWS, "b": ROWS.clear()}, chunk_rows=2)
    found = await source.discover()
    assert list(found.splits) == ["a", "b"] and found.total_rows == 3 and found.schema == ROWS.schema
    chunks = [chunk async for chunk in source.read("a", None, pin=found.pin)]
    assert [chunk.rows.height for chunk in chunks] == [2, 1]
    rest = [chunk.rows async for chunk in source.read("a", chunks[0].resume, pin=found.pin, columns=["s"])]
    assert_frame_equal(rest[0], ROWS.select("s").tail(1))
    assert [chunk async for chunk in source.read("b", None, pin=found.pin)] == []
    with pytest.raises(NotFound):
        await anext(source.read("c", None, pin=found.pin))
    with pytest.raises(Corrupt):
        await anext(source.read("a", Position('{"v":9}'), pin=found.pin))


@pytest.fixture
def name() -> Iterator[str]:
    yield "test-memory"
    memory.forget("test-memory")


async def test_by_name_from_the_registry(name: str) -> None:
    kinds = component(Kind.SOURCE, "memory"), component(Kind.SINK, "memory")
    source, sink = (kind.build(kind.config.model_validate({"name": name}), Context(pipeline="p")) for kind in kinds)
    with pytest.raises(NotFound):
        await source.discover()
    memory.provide(name, ROWS)
    assert (await source.discover()).splits == ["all"]
    async with sink.open(lane(), ROWS.schema) as writer:
        await writer.write(ROWS)
        await writer.commit(receipt(1))
    assert_frame_equal(memory.store(name).rows, ROWS)
    memory.forget(name)
    assert memory.store(name).rows.height == 0

"""The push source over an inbox: the kit, columns declared and inferred, records that do not fit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from dataflow.connectors.push.source import PushConfig, PushSource, position
from dataflow.domain.orders import Admission
from dataflow.errors import Corrupt, NothingYet, Rejected
from dataflow.inbox import Batch, Inbox
from dataflow.seams import Context, Ordered
from dataflow.testing.source_kit import exercise_source

Make = Callable[..., PushSource]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def source(chunk_rows: int | None = None, **config: Any) -> PushSource:
        return PushSource(PushConfig(**config), Context(pipeline="orders", home=tmp_path, chunk_rows=chunk_rows))

    return source


@pytest.fixture
def push(tmp_path: Path) -> Callable[[list[dict[str, Any]]], None]:
    """Push a batch into the inbox."""
    box = Inbox(f"sqlite:///{tmp_path / 'inbox.db'}")
    count = iter(range(10**6))

    def put(records: list[dict[str, Any]]) -> None:
        async def run() -> None:
            name = f"b{next(count)}"
            [token] = await box.stage("orders", [Batch.of(name, records)])
            assert await box.admit("orders", [(name, str(token))]) == [Admission.NEW]

        asyncio.run(run())

    return put


async def some(source: PushSource, rows: int, start: Any = None) -> tuple[pl.DataFrame, list[Any]]:
    """The first rows that are read, and the rejected ones among them."""
    found = await source.discover()
    frames, rejected, count = [found.schema.to_frame()], [], 0
    async with source, aclosing(source.read("inbox", start, pin=found.pin)) as chunks:
        while count < rows:
            chunk = await anext(chunks)
            frames.append(chunk.rows)
            count += chunk.rows.height
            if chunk.rejected is not None:
                rejected += chunk.rejected.rows()
                count += chunk.rejected.height
    return pl.concat(frames), rejected


@pytest.mark.parametrize("chunk_rows", [None, 7])
@pytest.mark.parametrize("declared", [True, False])
def test_it_keeps_what_sources_promise(make: Make, push: Any, chunk_rows: int | None, declared: bool) -> None:
    for n in range(0, 400, 4):
        push([{"n": i, "f": i / 4, "t": f"text {i}", "o": {"a": i, "l": [str(i)]}} for i in range(n, n + 4)])
        if n % 40 == 0:
            push([{"n": "no number", "f": 1, "t": "", "o": None}])
    columns = {"n": "bigint", "t": "text", "f": "double"}
    exercise_source(lambda: make(chunk_rows, **({"columns": columns} if declared else {})), limit=300, resumes=10)


def test_without_a_batch_there_is_nothing_to_infer_from(make: Make, tmp_path: Path) -> None:
    with pytest.raises(NothingYet, match="nothing was pushed to orders yet"):
        asyncio.run(make().discover())
    assert not (tmp_path / "inbox.db").exists(), "looking leaves nothing behind"
    found = asyncio.run(make(columns={"n": "bigint"}).discover())
    assert (list(found.splits), found.schema) == (["inbox"], pl.Schema({"n": pl.Int64()}))


def test_columns_are_inferred_from_the_first_batch(make: Make, push: Any) -> None:
    push([{"n": 1, "t": None}, {"n": 2.5, "o": {"a": [1]}}])
    push([{"other": True}])
    found = asyncio.run(make().discover())
    assert found.schema == pl.Schema({"n": pl.Float64(), "t": pl.String(), "o": pl.Struct({"a": pl.List(pl.Int64())})})


def test_records_that_tell_no_columns(make: Make, push: Any) -> None:
    push([{}])
    with pytest.raises(Rejected, match="have no fields"):
        asyncio.run(make().discover())


def test_what_does_not_fit_is_refused_with_its_place(make: Make, push: Any) -> None:
    push([{"n": 1, "o": {"a": 1}}])
    push([{"n": 2, "x": 1}, {"n": "three"}, {"n": 4, "o": {"a": 1, "b": 2}}, {"n": 5}])
    rows, rejected = asyncio.run(some(make(), 5))
    assert rows["n"].to_list() == [1, 5]
    assert [(stage, code, where) for stage, code, _, where, _ in rejected] == [
        ("source", "UNKNOWN_FIELD", "b1@1"),
        ("source", "BAD_VALUE", "b1@2"),
        ("source", "UNKNOWN_FIELD", "b1@3"),
    ]
    assert "the field o.b is not among the columns" in rejected[2][2]
    assert rejected[0][4] == '{"n":2,"x":1}'


def test_declared_columns_leave_out_the_others_on_purpose(make: Make, push: Any) -> None:
    push([{"n": 1, "x": [1, {"y": 2}], "at": "2026-01-31T10:00:00"}, {"at": None}])
    rows, rejected = asyncio.run(some(make(columns={"n": "bigint", "at": "timestamp"}), 2))
    assert (rows["n"].to_list(), rejected) == ([1, None], [])
    assert rows.schema["at"] == pl.Datetime("us")


def test_it_waits_for_what_comes_later(make: Make, push: Any, tmp_path: Path) -> None:
    push([{"n": 1}])

    async def run() -> list[int]:
        source = make(columns={"n": "bigint"})
        found = await source.discover()
        async with source, aclosing(source.read("inbox", position(1), pin=found.pin)) as chunks:
            coming = asyncio.ensure_future(anext(chunks))
            await asyncio.sleep(0)
            await asyncio.to_thread(push, [{"n": 2}])
            return list((await coming).rows["n"])

    assert asyncio.run(run()) == [2]


def test_a_new_generation_begins_with_what_is_still_there(make: Make, push: Any) -> None:
    for n in range(3):
        push([{"n": n}])
    source = make(columns={"n": "bigint"}, keep=0)
    assert isinstance(source, Ordered)
    assert source.precedes("inbox", position(7), position(30)) and not source.precedes(
        "inbox", position(7), position(7)
    )

    async def settled() -> None:
        await asyncio.sleep(0.005)  # older than nothing at all
        await source.settle("inbox", position(2))

    asyncio.run(settled())
    rows, _ = asyncio.run(some(source, 1))
    assert rows["n"].to_list() == [2]
    with pytest.raises(Rejected, match="no longer in the inbox"):
        asyncio.run(some(source, 1, position(1)))


@pytest.mark.parametrize("text", ["", "7", '{"v":2,"offset":1}', '{"v":1,"offset":-1}', '{"v":1,"offset":true}'])
def test_positions_of_another_source(make: Make, text: str) -> None:
    with pytest.raises(Corrupt):
        asyncio.run(make().settle("inbox", text))  # type: ignore[arg-type]


@pytest.mark.parametrize("config", [{"columns": {}}, {"columns": {"n": "biggint"}}, {"keep": "soon"}, {"port": 1}])
def test_options(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PushConfig(**config)

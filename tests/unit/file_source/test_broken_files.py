"""Broken data files: what can be read is read, what cannot is located by line and code. In pieces of any size."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

CORPUS = Path(__file__).parents[2] / "corpus" / "broken"
EXPECTED: dict[str, Any] = json.loads((CORPUS / "expected.json").read_text())


def test_every_file_of_the_corpus_is_expected() -> None:
    assert {path.name for path in CORPUS.iterdir()} - {"expected.json"} == set(EXPECTED)


@pytest.mark.parametrize("chunk_rows", [None, 1])
@pytest.mark.parametrize("name", EXPECTED)
async def test_located(name: str, chunk_rows: int | None, read: Callable[..., Awaitable[Any]]) -> None:
    wanted = EXPECTED[name]
    got = await read(name, base=CORPUS, chunk_rows=chunk_rows, **wanted["options"])
    assert got.refused == [tuple(place) for place in wanted["refused"]]
    assert got.rows.height == wanted["rows"]
    assert got.bytes_read == got.found.total_bytes
    assert set(got.rejected["stage"]) <= {"source"}


async def test_a_refused_record_is_kept_as_it_was(read: Callable[..., Awaitable[Any]]) -> None:
    got = await read("after_quote.csv", base=CORPUS)
    assert got.rejected["record"].to_list() == ['1,"ann"x', '2,"bob" ', '4,"a,"b",c"']
    got = await read("latin1.csv", base=CORPUS)
    assert got.rejected["record"].to_list() == ["1,Zo\\xeb"]


async def test_one_bad_record_in_many_costs_that_record_only(
    tmp_path: Path, read: Callable[..., Awaitable[Any]]
) -> None:
    lines = [f"{n},name {n}" for n in range(200_000)]
    lines[150_000] = "150000"
    lines[77] = '77,"x"y'
    (tmp_path / "t.csv").write_text("\n".join(["id,name", *lines]))
    got = await read("t.csv", base=tmp_path)
    assert got.refused == [("t.csv:79", "BAD_QUOTING"), ("t.csv:150002", "TOO_FEW_FIELDS")]
    assert got.rows["id"].sum() == sum(range(200_000)) - 150_000 - 77

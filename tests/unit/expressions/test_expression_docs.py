"""docs/expressions.md is true: its examples are run, and every function and type is in it."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path

import polars as pl
import pytest

from dataflow.expressions import TYPE_NAMES, Program, compile, type_named
from dataflow.expressions.functions import TABLE

PAGE = (Path(__file__).parents[3] / "docs" / "expressions.md").read_text()
EXAMPLES = [
    line for block in re.findall(r"```expressions\n(.*?)```", PAGE, re.S) for line in block.strip().splitlines()
]


@pytest.fixture(scope="module")
def record() -> pl.DataFrame:
    found = re.search(r"```json\n(.*?)```", PAGE, re.S)
    assert found is not None
    row = json.loads(found[1])
    row["at"], row["day"] = dt.datetime.fromisoformat(row["at"]), dt.date.fromisoformat(row["day"])
    return pl.DataFrame([row], schema_overrides={"note": pl.String})


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 50


@pytest.mark.parametrize("example", EXAMPLES)
def test_example(example: str, record: pl.DataFrame) -> None:
    text, _, expected = example.rpartition(" => ")
    done = Program({"r": compile(text, record.schema)}).run(record)
    assert done.failures is None
    found = done.rows["r"].item()
    assert (found.isoformat() if isinstance(found, dt.date) else found) == json.loads(expected)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_function_is_documented(name: str) -> None:
    assert re.search(rf"`{name.upper()}[`(]", PAGE), name


@pytest.mark.parametrize("name", TYPE_NAMES)
def test_type_is_documented(name: str) -> None:
    assert name in PAGE
    assert type_named(name) is not None

"""filter: what is kept, what is counted, and what becomes of a row whose condition cannot be computed."""

from __future__ import annotations

import json
import operator

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dataflow.chain import Chain, Stage
from dataflow.components import Kind
from dataflow.domain.flow import OnRecord
from dataflow.errors import BadRecord, InvalidSpec
from dataflow.registry import component
from dataflow.seams import REJECTS, Context
from dataflow.transforms.filter import FilterTransform

ROWS = pl.DataFrame({"n": [1, 2, 3, None], "s": ["1", "x", "3", None], "note": ["a"] * 4})


def make(where: str, rows: pl.DataFrame = ROWS) -> FilterTransform:
    kind = component(Kind.TRANSFORM, "filter")
    transform: FilterTransform = kind.build(kind.config(where=where), Context(pipeline="p"))
    assert transform.bind(rows.schema) == rows.schema
    return transform


def test_only_true_is_kept_and_null_is_filtered() -> None:
    applied = make("n > 1").apply(ROWS)
    assert applied.rows["n"].to_list() == [2, 3]
    assert (applied.filtered, applied.expanded, applied.rejected) == (2, 0, None)
    assert applied.rows.schema == ROWS.schema


@pytest.mark.parametrize(
    ("symbol", "test"),
    [
        ("=", operator.eq),
        ("==", operator.eq),
        ("!=", operator.ne),
        ("<>", operator.ne),
        (">", operator.gt),
        (">=", operator.ge),
        ("<", operator.lt),
        ("<=", operator.le),
    ],
)
def test_six_comparisons_of_numbers_and_text(symbol: str, test: object) -> None:
    assert callable(test)
    assert make(f"n {symbol} 2").apply(ROWS).rows["n"].to_list() == [n for n in (1, 2, 3) if test(n, 2)]
    assert make(f"s {symbol} '3'").apply(ROWS).rows["s"].to_list() == [s for s in ("1", "x", "3") if test(s, "3")]


@pytest.mark.parametrize(("where", "kept"), [("TRUE", 4), ("FALSE", 0), ("NULL", 0), ("1 = 1", 4)])
def test_a_condition_without_columns(where: str, kept: int) -> None:
    applied = make(where).apply(ROWS)
    assert (applied.rows.height, applied.filtered) == (kept, 4 - kept)


def test_a_bad_row_is_a_dead_letter_and_the_others_go_on() -> None:
    applied = make("CAST(s AS INT) > 1").apply(ROWS)
    assert applied.rows["n"].to_list() == [3]
    assert applied.filtered == 2
    assert applied.rejected is not None
    assert applied.rejected.schema == REJECTS
    (row,) = applied.rejected.rows(named=True)
    assert (row["code"], row["message"]) == ("CAST_FAILED", "'x' is not a BIGINT")
    assert json.loads(row["record"]) == {"n": 2, "s": "x", "note": "a"}


@pytest.mark.parametrize("pipeline", list(OnRecord))
@pytest.mark.parametrize("own", [None, *OnRecord])
def test_on_error_of_the_stage_comes_before_that_of_the_pipeline(pipeline: OnRecord, own: OnRecord | None) -> None:
    transform = make("CAST(s AS INT) > 1")
    transform.on_error = own
    chain = Chain([Stage("transforms[0]", transform)], pipeline)
    chain.bind(ROWS.schema)
    policy = own or pipeline
    if policy is OnRecord.FAIL:
        with pytest.raises(BadRecord, match=r"transforms\[0\]: 'x' is not a BIGINT"):
            chain.apply(ROWS)
        return
    passed = chain.apply(ROWS)
    counters = passed.counters
    assert (counters.read, counters.written, counters.filtered, counters.failed) == (4, 1, 2, 1)
    assert counters.dead_lettered == len(passed.dead) == (policy is OnRecord.DEAD_LETTER)


def test_needs_its_own_columns_too() -> None:
    assert make("n > 1 AND s = 'x'").needs(frozenset(["note"])) == {"n", "s", "note"}


def test_what_is_wrong_is_told_with_its_option() -> None:
    with pytest.raises(InvalidSpec) as caught:
        make("n > 1\nAND x = 2")
    (problem,) = caught.value.problems
    assert (problem.path, problem.line, problem.column) == ("where", 2, 5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"expression": "age >= 18"}, 'write where: "age >= 18"'),
        ({"where": "TRUE", "errorHandling": "deadletter"}, "write on_error: dead_letter"),
        ({}, "Field required"),
        ({"where": "TRUE", "wehre": "x"}, "Extra inputs"),
    ],
)
def test_options_are_complete_and_known(options: dict[str, str], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        component(Kind.TRANSFORM, "filter").config(**options)


@settings(max_examples=40, deadline=None)
@given(
    numbers=st.lists(st.none() | st.integers(-9, 9), max_size=20),
    texts=st.lists(st.sampled_from(["1", "-2", "x", None]), min_size=20, max_size=20),
    cut=st.integers(0, 20),
)
def test_batches_change_nothing_and_nothing_is_lost(numbers: list[int | None], texts: list[str], cut: int) -> None:
    rows = pl.DataFrame({"n": numbers, "s": texts[: len(numbers)]}, schema={"n": pl.Int64, "s": pl.String})
    transform = make("n > 0 OR CAST(s AS INT) > 0", rows)
    whole, *parts = (transform.apply(part) for part in (rows, rows.head(cut), rows.slice(cut)))
    failed = [0 if applied.rejected is None else applied.rejected.height for applied in (whole, *parts)]
    assert rows.height == whole.rows.height + whole.filtered + failed[0]
    assert pl.concat([part.rows for part in parts]).equals(whole.rows)
    assert sum(part.filtered for part in parts) == whole.filtered
    assert sum(failed[1:]) == failed[0]

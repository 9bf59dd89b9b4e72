"""Random expressions over random rows mean what they mean in DuckDB: three-valued logic, types, NULLs, functions."""

from __future__ import annotations

import math

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow.expressions import Program, compile

SCHEMA = {
    "a": pl.Int64,
    "b": pl.Int64,
    "f": pl.Float64,
    "s": pl.String,
    "u": pl.String,
    "p": pl.Boolean,
    "q": pl.Boolean,
}

small = st.integers(-20, 20)
texts = st.text("ab,%X é", max_size=6)
floats = st.integers(-40, 40).map(lambda n: n / 4)
row = st.fixed_dictionaries(
    {
        "a": st.none() | small,
        "b": st.none() | small,
        "f": st.none() | floats,
        "s": st.none() | texts,
        "u": st.none() | texts,
        "p": st.none() | st.booleans(),
        "q": st.none() | st.booleans(),
    }
)


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


ints = st.deferred(
    lambda: (
        st.sampled_from(["a", "b"])
        | small.map(lambda n: f"({n})")
        | st.builds("({} {} {})".format, ints, st.sampled_from("+-*"), ints)
        | st.builds(
            "({} {} {})".format, ints, st.sampled_from(["%", "//"]), st.sampled_from(["3", "(-7)", "NULLIF(b, 0)"])
        )
        | st.builds("(-{})".format, ints)
        | st.builds("{}({})".format, st.sampled_from(["abs", "sign"]), ints)
        | st.builds("length({})".format, strings)
        | st.builds("{}({}, {})".format, st.sampled_from(["coalesce", "greatest", "least", "nullif"]), ints, ints)
        | st.builds("CASE WHEN {} THEN {} ELSE {} END".format, conditions, ints, ints)
        | st.builds("CASE {} WHEN {} THEN {} END".format, ints, ints, ints)
    )
)
strings = st.deferred(
    lambda: (
        st.sampled_from(["s", "u"])
        | texts.map(quoted)
        | st.builds("{}({})".format, st.sampled_from(["upper", "lower", "trim", "ltrim", "rtrim", "reverse"]), strings)
        | st.builds("concat({}, {})".format, strings, strings)
        | st.builds("substr({}, {}, {})".format, strings, st.integers(-4, 4), st.integers(0, 4))
        | st.builds("replace({}, {}, {})".format, strings, st.sampled_from(["'a'", "'ab'"]), strings)
        | st.builds("lpad({}, {}, 'xy')".format, strings, st.integers(0, 8))
        | st.builds("rpad({}, {}, 'xy')".format, strings, st.integers(0, 8))
        | st.builds("split_part({}, ',', {})".format, strings, st.sampled_from([1, 2, 3, -1]))
        | st.builds("coalesce({}, {})".format, strings, strings)
        | st.builds("CAST({} AS VARCHAR)".format, ints)
    )
)
numbers = st.deferred(
    lambda: (
        ints
        | st.just("f")
        | st.builds("({} {} {})".format, numbers, st.sampled_from("+-*"), numbers)
        | st.builds("({} / {})".format, numbers, st.sampled_from(["2", "NULLIF(b, 0)", "4.0"]))
        | st.builds("{}({})".format, st.sampled_from(["floor", "ceil", "round", "abs"]), numbers)
    )
)
comparisons = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
conditions = st.deferred(
    lambda: (
        st.sampled_from(["p", "q", "TRUE", "FALSE"])
        | st.builds("({} {} {})".format, numbers, comparisons, numbers)
        | st.builds("({} {} {})".format, strings, comparisons, strings)
        | st.builds("({} {} {})".format, conditions, st.sampled_from(["AND", "OR"]), conditions)
        | st.builds("(NOT {})".format, conditions)
        | st.builds("({} IN ({}, {}, {}))".format, ints, ints, ints, ints | st.just("NULL"))
        | st.builds("({} NOT IN ('a', {}))".format, strings, strings | st.just("NULL"))
        | st.builds("({} BETWEEN {} AND {})".format, ints, ints, ints)
        | st.builds("({} {} {})".format, strings, st.sampled_from(["LIKE", "NOT LIKE", "ILIKE"]), like)
        | st.builds("({} IS {}NULL)".format, numbers | strings, st.sampled_from(["", "NOT "]))
        | st.builds("({} IS {}DISTINCT FROM {})".format, ints, st.sampled_from(["", "NOT "]), ints)
        | st.builds("{}({}, {})".format, st.sampled_from(["starts_with", "ends_with", "contains"]), strings, strings)
    )
)
conditions_, values_ = (s.filter(lambda text: len(text) < 160) for s in (conditions, numbers | strings))
like = st.text("ab%_,X", max_size=4).map(quoted)


@pytest.fixture(scope="module")
def oracle() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def same(ours: object, theirs: object) -> bool:
    if isinstance(ours, float) and isinstance(theirs, int | float):
        return math.isclose(ours, float(theirs), rel_tol=1e-9, abs_tol=1e-9) or (ours != ours and theirs != theirs)
    return ours == theirs and (ours is None) == (theirs is None)


def check(oracle: duckdb.DuckDBPyConnection, text: str, rows: list[dict[str, object]]) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA)
    done = Program({"r": compile(text, frame.schema)}).run(frame)
    assert done.failures is None
    oracle.register("t", frame.to_arrow())
    theirs = [value for (value,) in oracle.execute(f"SELECT {text} FROM t").fetchall()]
    ours = done.rows["r"].to_list()
    wrong = [(r, o, t) for r, o, t in zip(rows, ours, theirs, strict=True) if not same(o, t)]
    assert not wrong, f"{text}: row, ours, DuckDB's: {wrong[0]}"


@settings(max_examples=120, deadline=None)
@given(text=conditions_, rows=st.lists(row, min_size=1, max_size=8))
def test_conditions_are_duckdbs(oracle: duckdb.DuckDBPyConnection, text: str, rows: list[dict[str, object]]) -> None:
    check(oracle, text, rows)


@settings(max_examples=100, deadline=None)
@given(text=values_, rows=st.lists(row, min_size=1, max_size=8))
def test_values_are_duckdbs(oracle: duckdb.DuckDBPyConnection, text: str, rows: list[dict[str, object]]) -> None:
    check(oracle, text, rows)


@settings(max_examples=40, deadline=None)
@given(text=conditions_ | values_, rows=st.lists(row, min_size=2, max_size=10), cut=st.integers(0, 10))
def test_batches_change_nothing(text: str, rows: list[dict[str, object]], cut: int) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA)
    program = Program({"r": compile(text, frame.schema)})
    whole = program.run(frame).rows
    parts = pl.concat([program.run(frame.head(cut)).rows, program.run(frame.slice(cut)).rows])
    assert parts.equals(whole)

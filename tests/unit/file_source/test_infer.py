"""Types from a sample: the cheap way says what the close one does, or nothing."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataflow.connectors.file import infer

VALUES = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.integers(0, 1000).map("{:04}".format),
    st.floats(width=32).map(repr),
    st.decimals(-1000, 1000, places=2).map(str),
    st.sampled_from(["inf", "-Infinity", "NaN", "1e5", "+7", "-0", ".5", "5.", "1_000", "true", "x", "", " ", "٣"]),
    st.text("0123456789+-.eE infa\n", max_size=6),
)


def close(values: pl.Series) -> pl.DataType:
    return infer._close_type(values.filter(values.str.strip_chars().str.len_bytes() > 0))


@given(st.lists(VALUES, max_size=30) | VALUES.flatmap(lambda value: st.integers(1, 5).map(lambda n: [value] * n)))
@example(["1", "2", "99999999999999999999"])
@example(["1.5", "007"])
@example(["1.5", "1234567890123456"])
@example(["nan", "inf"])
@settings(max_examples=500)
def test_the_cheap_way_agrees_with_the_close_one(texts: list[str]) -> None:
    values = pl.Series("v", texts, pl.String())
    plain = infer._plain_type(values)
    assert plain is None or plain == close(values)


@pytest.mark.parametrize(
    ("texts", "dtype"),
    [
        (["1", "-2", "+3", "0"], pl.Int64()),
        (["1", "007"], pl.String()),
        (["1", "+01"], pl.String()),
        (["1.5", "2", "1e3", "nan"], pl.Float64()),
        (["1.5", "12345678901234567"], pl.String()),
        (["99999999999999999999"], pl.String()),
    ],
)
def test_what_is_plain_takes_the_cheap_way(texts: list[str], dtype: pl.DataType) -> None:
    assert infer._plain_type(pl.Series("v", texts)) == dtype


@pytest.mark.parametrize("texts", [[], ["x"], ["1", "x"], ["1", " "], [" 1"], ["true"], ["2024-01-01"]])
def test_what_is_not_plain_does_not(texts: list[str]) -> None:
    assert infer._plain_type(pl.Series("v", texts, pl.String())) is None

"""Types from a sample: narrow where nothing can be lost by it, text otherwise."""

from __future__ import annotations

from typing import Any, cast

import polars as pl

from dataflow.connectors.file.csv import temporal
from dataflow.schemas import merged_columns, merged_type, told_type

_FLOAT = r"^\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
_WHOLE = r"^\s*[+-]?\d+$"
_ODD = r"(?i)^[+-]?(nan|inf|infinity)$"
_NUMBER = rf"{_FLOAT}|{_ODD}"
_BOOL = r"(?i)^(true|false)$"
_FEW = 1000
_TIMES: tuple[pl.DataType, ...] = (pl.Date(), pl.Datetime("us"), pl.Datetime("us", "UTC"), pl.Time())


def text_types(sample: pl.DataFrame) -> pl.Schema:
    """Types for columns of text.

    Whole numbers of 64 bits are Int64; with a leading zero (`007`) or more digits they stay text, as a number would
    not be what was written. ISO dates, times and timestamps only. A column without any value is text. A type holds
    although a few values are not of it (a tenth, or a single one beside at least two): those are errors of their
    records when they are read."""
    return pl.Schema({name: _text_type(sample.get_column(name)) for name in sample.columns})


def _text_type(column: pl.Series) -> pl.DataType:
    values = column.drop_nulls()
    return _plain_type(values) or _close_type(values.filter(values.str.strip_chars().str.len_bytes() > 0))


def _plain_type(values: pl.Series) -> pl.DataType | None:
    """What `_close_type` would say, where Polars takes every value for a number: the usual case, and far cheaper than
    a regular expression. None elsewhere."""

    def all_are(dtype: type[pl.Int64 | pl.Float64]) -> bool:
        return all(some.cast(dtype, strict=False).null_count() == 0 for some in (values.head(_FEW), values))

    if not len(values):
        return None
    if all_are(pl.Int64):
        digits = values.str.strip_chars_start("+-")
        return pl.String() if (digits.str.starts_with("0") & (digits.str.len_bytes() > 1)).any() else pl.Int64()
    if all_are(pl.Float64):
        rest = values.filter(~values.str.contains(".", literal=True))
        return _number_type(rest, fractions=len(values) - len(rest))
    return None


def _close_type(values: pl.Series) -> pl.DataType:
    allowed = max(1, len(values) // 10) if len(values) >= 3 else 0
    few = values.head(_FEW)

    def fitting(pattern: str) -> int:
        """How many are like that; 0 where most of the first ones are not, without a look at the others."""
        if 2 * int(few.str.contains(pattern).sum()) < len(few):
            return 0
        return int(values.str.contains(pattern).sum())

    def mostly(count: int) -> bool:
        return count > 0 and len(values) - count <= allowed

    if mostly(fitting(_NUMBER)):
        return _number_type(values)
    if mostly(fitting(_BOOL)):
        return pl.Boolean()
    if mostly(fitting(r"^\d\d")):
        for dtype in _TIMES:
            times = values.to_frame("v").select(temporal(pl.col("v"), dtype)).to_series()
            if mostly(len(times) - times.null_count()):
                return dtype
    return pl.String()


def _number_type(values: pl.Series, *, fractions: int = 0) -> pl.DataType:
    """For values that are numbers but for a few; text where a number would lose what was written. Beside them there are
    so many `fractions`: numbers with a point."""
    whole = values.filter(values.str.contains(_WHOLE)).str.strip_chars()
    digits = whole.str.strip_chars_start("+-")
    odd = values.str.contains(_ODD)
    numbers = fractions + int((values.str.contains(_FLOAT) & ~odd).sum())
    if digits.str.contains("^0.").any() or not numbers:
        return pl.String()
    if len(whole) == numbers and not odd.any():
        fits = whole.str.strip_prefix("+").cast(pl.Int64, strict=False).null_count() == 0
        return pl.Int64() if fits else pl.String()
    return pl.Float64() if int(cast(int, digits.str.len_bytes().max() or 0)) <= 15 else pl.String()


def json_type(value: object) -> pl.DataType:
    """The type of a JSON value: whole numbers are Int64, objects are structs, null is Null."""
    if isinstance(value, bool):
        return pl.Boolean()
    if isinstance(value, int):
        return pl.Int64()
    if isinstance(value, float):
        return pl.Float64()
    if isinstance(value, str):
        return pl.String()
    if isinstance(value, dict):
        return pl.Struct({name: json_type(inner) for name, inner in value.items()})
    if isinstance(value, list):
        merged: pl.DataType = pl.Null()
        for inner in value:
            merged = merged_type(merged, json_type(inner))
        return pl.List(merged)
    return pl.Null()


def json_types(records: list[dict[str, Any]]) -> pl.Schema:
    """Columns and types of JSON objects, in the order in which they were first seen. What was only null is text."""
    found: dict[str, pl.DataType] = {}
    for record in records:
        found = merged_columns(found, {name: json_type(value) for name, value in record.items()})
    return pl.Schema({name: told_type(dtype) for name, dtype in found.items()})

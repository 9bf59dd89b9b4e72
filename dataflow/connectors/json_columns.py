"""Columns and types of JSON objects, from a sample: what every connector that is given JSON infers by."""

from __future__ import annotations

import json
from collections.abc import Iterable

import polars as pl

from dataflow.schemas import merged_columns, merged_type, told_type

_LARGEST = 2**63 - 1


def columns_of(messages: Iterable[bytes]) -> pl.Schema:
    """Columns in the order in which they were first seen. Messages that are no JSON objects say nothing.

    Whole numbers are Int64 (text, where one does not fit), and widen to Float64; objects are structs of all their
    fields; what was only null is text. Of types that cannot meet the first one stays: records with the other are
    refused when they are read."""
    found: dict[str, pl.DataType] = {}
    for message in messages:
        try:
            value = json.loads(message)  # exact where a whole number needs more than 64 bits, unlike orjson
        except ValueError:
            continue  # reading refuses it, with its place
        if isinstance(value, dict):
            found = merged_columns(found, {name: _type(inner) for name, inner in value.items()})
    return pl.Schema({name: told_type(dtype) for name, dtype in found.items()})


def _type(value: object) -> pl.DataType:
    match value:
        case bool():
            return pl.Boolean()
        case int():
            return pl.Int64() if -_LARGEST - 1 <= value <= _LARGEST else pl.String()
        case float():
            return pl.Float64()
        case str():
            return pl.String()
        case dict():
            return pl.Struct({name: _type(inner) for name, inner in value.items()}) if value else pl.Null()
        case list():
            merged: pl.DataType = pl.Null()
            for inner in value:
                merged = merged_type(merged, _type(inner))
            return pl.List(merged)
    return pl.Null()

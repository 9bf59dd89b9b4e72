"""Columns and types of JSON messages, from a sample."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import cast

import polars as pl

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
            found = _merged(found, {name: _type(inner) for name, inner in value.items()})
    return pl.Schema({name: _known(dtype) for name, dtype in found.items()})


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
                merged = _merge(merged, _type(inner))
            return pl.List(merged)
    return pl.Null()


def _merge(seen: pl.DataType, new: pl.DataType) -> pl.DataType:
    if seen == new or isinstance(new, pl.Null):
        return seen
    if isinstance(seen, pl.Null):
        return new
    if seen.is_numeric() and new.is_numeric():
        return pl.Float64()
    if isinstance(seen, pl.List) and isinstance(new, pl.List):
        return pl.List(_merge(cast(pl.DataType, seen.inner), cast(pl.DataType, new.inner)))
    if isinstance(seen, pl.Struct) and isinstance(new, pl.Struct):
        return pl.Struct(_merged(_fields(seen), _fields(new)))
    return seen


def _fields(dtype: pl.Struct) -> dict[str, pl.DataType]:
    return {part.name: cast(pl.DataType, part.dtype) for part in dtype.fields}


def _merged(seen: Mapping[str, pl.DataType], new: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
    both = dict(seen)
    for name, dtype in new.items():
        both[name] = _merge(both[name], dtype) if name in both else dtype
    return both


def _known(dtype: pl.DataType) -> pl.DataType:
    """Text for what no value told the type of."""
    if isinstance(dtype, pl.Null):
        return pl.String()
    if isinstance(dtype, pl.List):
        return pl.List(_known(cast(pl.DataType, dtype.inner)))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({name: _known(inner) for name, inner in _fields(dtype).items()})
    return dtype

"""Schemas as text: how column types are written in plans, messages and declared schemas.

int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 bool string binary date time null
datetime[us] datetime[us, Europe/Paris] duration[ms] decimal(38, 9) list<int64>
    struct<"a": int64, "b": list<string>>
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import polars as pl

from dataflow.errors import Corrupt

_PLAIN: dict[str, pl.DataType] = {
    "int8": pl.Int8(),
    "int16": pl.Int16(),
    "int32": pl.Int32(),
    "int64": pl.Int64(),
    "int128": pl.Int128(),
    "uint8": pl.UInt8(),
    "uint16": pl.UInt16(),
    "uint32": pl.UInt32(),
    "uint64": pl.UInt64(),
    "float32": pl.Float32(),
    "float64": pl.Float64(),
    "bool": pl.Boolean(),
    "string": pl.String(),
    "binary": pl.Binary(),
    "date": pl.Date(),
    "time": pl.Time(),
    "null": pl.Null(),
    "categorical": pl.Categorical(),
}
_NAMES = {type(kind): name for name, kind in _PLAIN.items()}
_WORD = re.compile(r"\s*([a-z0-9]+)")
_UNIT = re.compile(r"\[(ns|us|ms)(?:, ([^\]]+))?\]")
_DECIMAL = re.compile(r"\((\d+), (\d+)\)")


def format_type(kind: pl.DataType) -> str:
    """The text of a column type; `TypeError` for one that no source or transform here yields."""
    match kind:
        case pl.Datetime():
            return f"datetime[{kind.time_unit}{', ' + str(kind.time_zone) if kind.time_zone else ''}]"
        case pl.Duration():
            return f"duration[{kind.time_unit}]"
        case pl.Decimal():
            return f"decimal({kind.precision}, {kind.scale})"
        case pl.List():
            return f"list<{format_type(_instance(kind.inner))}>"
        case pl.Array():
            return f"list<{format_type(_instance(kind.inner))}>"
        case pl.Struct():
            names = [json.dumps(field.name, ensure_ascii=False) for field in kind.fields]
            kinds = [format_type(_instance(field.dtype)) for field in kind.fields]
            inner = (f"{name}: {text}" for name, text in zip(names, kinds, strict=True))
            return f"struct<{', '.join(inner)}>"
        case pl.Enum():
            return "string"
        case _ if type(kind) in _NAMES:
            return _NAMES[type(kind)]
    raise TypeError(f"no text for the column type {kind}")


def parse_type(text: str) -> pl.DataType:
    """The column type of a text that `format_type` wrote, or a person. `ValueError` where it is none."""
    kind, rest = _parse(text, 0)
    if text[rest:].strip():
        raise ValueError(f"{text!r} is not a column type: {text[rest:]!r} is left over")
    return kind


def format_schema(schema: pl.Schema) -> dict[str, str]:
    """Column to type, as text, in order."""
    return {name: format_type(kind) for name, kind in schema.items()}


def parse_schema(texts: Mapping[str, str]) -> pl.Schema:
    """The schema that `format_schema` wrote; `Corrupt` where it did not."""
    try:
        return pl.Schema({name: parse_type(text) for name, text in texts.items()})
    except ValueError as bad:
        raise Corrupt(f"a stored schema cannot be read: {bad}") from bad


def merged_type(seen: pl.DataType, new: pl.DataType) -> pl.DataType:
    """The type for both. Whole numbers widen to fractions, structs to all their fields, null to anything; of types that
    cannot meet, the first one seen stays, and records with the other are refused when they are read."""
    if seen == new or isinstance(new, pl.Null):
        return seen
    if isinstance(seen, pl.Null):
        return new
    if seen.is_numeric() and new.is_numeric():
        return pl.Float64()
    if isinstance(seen, pl.List) and isinstance(new, pl.List):
        return pl.List(merged_type(_instance(seen.inner), _instance(new.inner)))
    if isinstance(seen, pl.Struct) and isinstance(new, pl.Struct):
        return pl.Struct(merged_columns(_fields(seen), _fields(new)))
    return seen


def merged_columns(seen: Mapping[str, pl.DataType], new: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
    """All columns of both, in the order in which they were first seen."""
    both = dict(seen)
    for name, dtype in new.items():
        both[name] = merged_type(both[name], dtype) if name in both else dtype
    return both


def told_type(kind: pl.DataType) -> pl.DataType:
    """The type with text wherever no value told one."""
    if isinstance(kind, pl.Null):
        return pl.String()
    if isinstance(kind, pl.List):
        return pl.List(told_type(_instance(kind.inner)))
    if isinstance(kind, pl.Struct):
        return pl.Struct({name: told_type(inner) for name, inner in _fields(kind).items()})
    return kind


def _fields(kind: pl.Struct) -> dict[str, pl.DataType]:
    return {part.name: _instance(part.dtype) for part in kind.fields}


def _instance(kind: object) -> pl.DataType:
    return kind() if isinstance(kind, type) else kind  # type: ignore[return-value]


def _parse(text: str, at: int) -> tuple[pl.DataType, int]:
    word = _WORD.match(text, at)
    if not word:
        raise ValueError(f"{text!r} is not a column type")
    name, at = word[1], word.end()
    if name in ("datetime", "duration"):
        unit = _UNIT.match(text, at)
        zone = unit[2] if unit else None
        size = unit[1] if unit else "us"
        at = unit.end() if unit else at
        return (pl.Datetime(size, zone) if name == "datetime" else pl.Duration(size)), at  # type: ignore[arg-type]
    if name == "decimal":
        digits = _DECIMAL.match(text, at)
        if not digits:
            raise ValueError(f"{text!r}: decimal wants (precision, scale)")
        return pl.Decimal(int(digits[1]), int(digits[2])), digits.end()
    if name == "list":
        inner, at = _parse(text, _expect(text, at, "<"))
        return pl.List(inner), _expect(text, at, ">")
    if name == "struct":
        fields: dict[str, pl.DataType] = {}
        at = _expect(text, at, "<")
        while not text.startswith(">", at):
            key, at = json.JSONDecoder().raw_decode(text, at)
            fields[key], at = _parse(text, _expect(text, at, ":"))
            if text.startswith(", ", at):
                at += 2
        return pl.Struct(fields), at + 1
    if name not in _PLAIN:
        raise ValueError(f"{name!r} is not a column type; known: {', '.join(_PLAIN)}, datetime, duration, list, struct")
    return _PLAIN[name], at


def _expect(text: str, at: int, token: str) -> int:
    if not text.startswith(token, at):
        raise ValueError(f"{text!r}: {token!r} expected at {at + 1}")
    return at + len(token)

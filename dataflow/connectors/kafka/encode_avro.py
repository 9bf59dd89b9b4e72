"""Rows as Avro, whole columns at once; and the schema of rows that were given none."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import fastavro
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dataflow.connectors.kafka import binary as by
from dataflow.connectors.kafka.avro import PLAIN, AvroSchema, alternatives
from dataflow.connectors.kafka.binary import Columns, Lead, Mask, Parts, Writer
from dataflow.connectors.kafka.fit import Unfit, check_name, fields_of, instance, within
from dataflow.expressions import type_name

_ENDED = "make it in a map"


class AvroRows:
    """Compiled for the columns of rows. Raises `InvalidSpec` where they do not fit the schema: each of its fields is
    the column of that name, or has a default. Thread-safe."""

    def __init__(self, schema: AvroSchema, columns: pl.Schema) -> None:
        self._columns = list(columns)
        raw = schema.raw
        try:
            if isinstance(raw, dict) and raw["type"] == "record":
                self._write = _record(schema, raw, columns, "")
            elif len(columns) == 1:
                [(name, dtype)] = columns.items()
                write = _field(schema, raw, dtype, name)
                self._write = lambda found, there, lead: write(found[name], there, lead)
            else:
                raise Unfit(f"it is no record: it holds one column, the rows have {len(columns)}")
        except Unfit as unfit:
            raise unfit.problem() from unfit

    def encode(self, rows: pl.DataFrame, prefix: bytes) -> pa.LargeBinaryArray:
        """Of each row its value, behind the prefix. Raises `BadRecord` for rows that the schema cannot hold."""
        parts = self._write(by.columns_of(rows.select(self._columns)), np.ones(rows.height, np.bool_), ())
        return by.joined([pa.scalar(prefix, by.BINARY), *parts], rows.height)


def schema_of(columns: pl.Schema, name: str) -> str:
    """A schema of those columns: each may be NULL, with that as its default, so that columns can come and go. Raises
    `InvalidSpec` for a type or a name that Avro does not have."""
    try:
        return json.dumps(_derived_record(columns, name), separators=(",", ":"))
    except Unfit as unfit:
        raise unfit.problem("format") from unfit


# --- deriving ---------------------------------------------------------------------------------------------------------


def _derived_record(columns: Mapping[str, Any], name: str, inside: str = "") -> dict[str, Any]:
    fields = []
    for column, dtype in columns.items():
        path = f"{inside}{column}"
        check_name(column, path)
        kind = _derived(dtype, f"{name}_{column}", path)
        fields.append({"name": column, "type": ["null", kind] if kind != "null" else "null", "default": None})
    return {"type": "record", "name": name, "fields": fields}


def _derived(dtype: Any, name: str, path: str) -> Any:
    match dtype:
        case pl.Boolean():
            return "boolean"
        case pl.Int8() | pl.Int16() | pl.Int32() | pl.UInt8() | pl.UInt16():
            return "int"
        case pl.Int64() | pl.UInt32():
            return "long"
        case pl.UInt64():
            return {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 0}
        case pl.Float32():
            return "float"
        case pl.Float64():
            return "double"
        case pl.String() | pl.Categorical() | pl.Enum():
            return "string"
        case pl.Binary():
            return "bytes"
        case pl.Date():
            return {"type": "int", "logicalType": "date"}
        case pl.Time():
            return {"type": "long", "logicalType": "time-micros"}
        case pl.Datetime():
            unit = {"ms": "millis", "us": "micros", "ns": "nanos"}[dtype.time_unit]
            return {"type": "long", "logicalType": f"{'' if dtype.time_zone else 'local-'}timestamp-{unit}"}
        case pl.Decimal():
            return {"type": "bytes", "logicalType": "decimal", "precision": dtype.precision, "scale": dtype.scale}
        case pl.List() | pl.Array():
            items = _derived(instance(dtype.inner), name, f"{path}[]")
            return {"type": "array", "items": ["null", items] if items != "null" else "null"}
        case pl.Struct():
            return _derived_record(fields_of(dtype), name, f"{path}.")
        case pl.Null():
            return "null"
    raise Unfit(f"column {path!r}: Avro has no {type_name(dtype)}", "cast it in a map, or leave it out with exclude")


# --- writing ----------------------------------------------------------------------------------------------------------


def _record(
    schema: AvroSchema, record: Any, columns: Mapping[str, Any], where: str
) -> Callable[[Columns, Mask, Lead], Parts]:
    fields: list[tuple[str, Writer | bytes]] = []
    for field in record["fields"]:
        name = field["name"]
        path = within(where, name)
        if name in columns:
            fields.append((name, _field(schema, field["type"], instance(columns[name]), path)))
        elif "default" in field:
            fields.append((name, _default(field["type"], field["default"], path)))
        else:
            raise Unfit(f"there is no column {path!r}, and the schema has no default for it", _ENDED)
    known = {field["name"] for field in record["fields"]}
    for name in columns:
        if name not in known:
            path = within(where, name)
            raise Unfit(f"it has no field for the column {path!r}", "leave it out with exclude, or in a map")

    def write(found: Columns, there: Mask, lead: Lead) -> Parts:
        parts: Parts = by.numbers(lead)
        for name, one in fields:
            parts += [by.constant(one, there)] if isinstance(one, bytes) else one(found[name], there, ())
        return parts

    return write


def _field(schema: AvroSchema, wanted: Any, dtype: Any, where: str) -> Writer:
    """A writer that minds NULL."""
    write = _writer(schema, wanted, dtype, where)
    if isinstance(wanted, list) or wanted == "null":
        return write

    def checked(column: pa.Array, there: Mask, lead: Lead) -> Parts:
        if column.null_count and bool((there & ~by.valid(column)).any()):
            raise by.misfit(where, "it is NULL, and the schema does not allow that")
        return write(column, there, lead)

    return checked


def _default(wanted: Any, value: Any, path: str) -> bytes:
    """The bytes of a field's default."""
    if value is None:
        place = wanted.index("null") if isinstance(wanted, list) and "null" in wanted else 0
        return bytes([2 * place]) if isinstance(wanted, list) else b""
    plain = value.encode("latin-1") if wanted == "bytes" and isinstance(value, str) else value
    out = io.BytesIO()
    try:
        fastavro.schemaless_writer(out, wanted, plain)
    except Exception as error:
        raise Unfit(f"the default of {path} cannot be written: {error}", _ENDED) from error
    return out.getvalue()


def _writer(schema: AvroSchema, wanted: Any, dtype: Any, where: str) -> Writer:
    match wanted:
        case list():
            return _union(schema, wanted, dtype, where)
        case str() if wanted in schema.named:
            return _writer(schema, schema.named[wanted], dtype, where)
        case {"type": "record"} if isinstance(dtype, pl.Struct):
            parts = fields_of(dtype)
            return _nested(_record(schema, wanted, parts, where), list(parts))
        case {"type": "array", "items": inner} if isinstance(dtype, pl.List | pl.Array):
            return _blocks(_field(schema, inner, instance(dtype.inner), f"{where}[]"))
        case {"type": "map", "values": inner} if (pair := _pair(dtype)) is not None:
            key, value = (
                _field(schema, "string", pair[0], f"{where} key"),
                _field(schema, inner, pair[1], f"{where}{{}}"),
            )
            return _blocks(
                _nested(
                    lambda found, there, lead: [*key(found["key"], there, lead), *value(found["value"], there, ())],
                    ["key", "value"],
                )
            )
        case {"type": "enum", "symbols": symbols} if _is_text(dtype):
            return _enum(symbols, where)
        case {"logicalType": "decimal", "precision": precision} if isinstance(dtype, pl.Decimal) or dtype.is_integer():
            return _decimal(precision, wanted.get("scale", 0), wanted.get("size"), where)
        case {"type": "fixed", "size": size} if isinstance(dtype, pl.Binary) and "logicalType" not in wanted:
            return _sized(size, where)
        case {"type": str() as inner, "dataflow": str() as logical}:
            write = _logical(inner, logical, dtype, where)
        case {"type": str() as inner, "logicalType": str() as logical}:
            write = _logical(inner, logical, dtype, where)
        case {"type": str() | list() as inner} if inner not in ("record", "array", "map", "enum", "fixed"):
            return _writer(schema, inner, dtype, where)
        case str():
            write = _plain(wanted, dtype, where)
        case _:
            write = None
    if write is None:
        raise Unfit(f"column {where!r} is {type_name(dtype)}, the schema wants {_said(wanted)}", "cast it in a map")
    return write


def _union(schema: AvroSchema, branches: Sequence[Any], dtype: Any, where: str) -> Writer:
    null = next((place for place, branch in enumerate(branches) if branch == "null"), None)
    some = [(place, branch) for place, branch in enumerate(branches) if branch != "null"]
    named = dict(alternatives(branches, where))
    chosen: list[tuple[int, str | None, Writer]] = []
    if len(some) > 1 and isinstance(dtype, pl.Struct) and {f.name for f in dtype.fields} <= set(named):
        parts = fields_of(dtype)
        chosen = [
            (place, name, _writer(schema, branches[place], parts[name], f"{where}.{name}"))
            for name, place in named.items()
            if name in parts
        ]
    elif not isinstance(dtype, pl.Null):
        chosen = [_fitting(schema, some, dtype, where)]

    def write(column: pa.Array, there: Mask, lead: Lead) -> Parts:
        filled = there & by.valid(column)
        number = np.zeros(len(there), np.int64)
        written: list[tuple[pa.Array, Mask, Writer]] = []
        left = filled
        for place, name, one in chosen:
            inner = column if name is None else _part(column, name)
            mine = left & by.valid(inner)
            left = left & ~mine
            number[mine] = place
            written.append((inner, mine, one))
        absent = left | (there & ~filled)
        if bool(absent.any()):
            if null is None:
                raise by.misfit(where, "it is NULL, and the schema does not allow that")
            number[absent] = null
        parts, lead = [], (*lead, by.zigzag(number, there))
        for inner, mine, one in written:
            parts += one(inner, mine, lead)
            lead = ()
        return parts if written else by.numbers(lead)

    return write


def _fitting(schema: AvroSchema, some: Sequence[tuple[int, Any]], dtype: Any, where: str) -> tuple[int, None, Writer]:
    """The branch for a column of one type: the one that says just that, or the first that can hold it."""
    found: list[tuple[int, None, Writer]] = []
    why: Unfit | None = None
    for place, branch in some:
        try:
            one = (place, None, _writer(schema, branch, dtype, where))
        except Unfit as unfit:
            why = why or unfit
            continue
        if PLAIN.get(branch if isinstance(branch, str) else "") == dtype:
            return one
        found.append(one)
    if not found:
        raise why or Unfit(f"column {where!r} can only be NULL there", "leave it out with exclude")
    return found[0]


def _nested(write: Callable[[Columns, Mask, Lead], Parts], names: Sequence[str]) -> Writer:
    def nested(column: pa.Array, there: Mask, lead: Lead) -> Parts:
        found = dict(zip(names, column.flatten(), strict=True))  # their NULLs are those of the struct, too
        return write(found, there, lead)

    return nested


def _part(column: pa.Array, name: str) -> pa.Array:
    return column.flatten()[column.type.get_field_index(name)]


def _blocks(item: Writer) -> Writer:
    """Items of an array or a map: how many, they, and a zero."""

    def write(column: pa.Array, there: Mask, lead: Lead) -> Parts:
        each, counts = by.items(column, there)
        parts = item(each, np.ones(len(each), np.bool_), ())
        made = by.regrouped(by.joined(parts, len(each)), counts)
        return [*by.numbers((*lead, by.zigzag(counts, counts > 0))), made, *by.numbers((by.same(0, there),))]

    return write


def _pair(dtype: Any) -> tuple[Any, Any] | None:
    """Types of the keys and values of a column that holds maps."""
    if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct):
        parts = fields_of(dtype.inner)
        if list(parts) == ["key", "value"]:
            return parts["key"], parts["value"]
    return None


def _plain(wanted: str, dtype: Any, where: str) -> Writer | None:
    match wanted:
        case "null" if isinstance(dtype, pl.Null):
            return lambda column, there, lead: by.numbers(lead)
        case "boolean" if isinstance(dtype, pl.Boolean):
            return lambda column, there, lead: by.numbers((*lead, by.plain(by.whole(column, "uint8", where), there)))
        case "int" | "long" if dtype.is_integer():
            return _integer("int32" if wanted == "int" else "int64", where)
        case "float" | "double" if dtype.is_integer() or dtype.is_float():
            return _float(pa.float32() if wanted == "float" else pa.float64(), where)
        case "string" if _is_text(dtype):
            return _text
        case "bytes" if _is_text(dtype) or isinstance(dtype, pl.Binary):
            return _text
    return None


def _logical(inner: str, logical: str, dtype: Any, where: str) -> Writer | None:
    match logical.split("-"):
        case ["date"] if isinstance(dtype, pl.Date):
            return _integer("int32", where)
        case ["uuid"] if _is_text(dtype):
            return _text
        case ["time", unit] if isinstance(dtype, pl.Time):
            kind = pa.time32("ms") if unit == "millis" else pa.time64("us")
            return _ticks(kind, "int32" if unit == "millis" else "int64", where)
        case ["timestamp", unit] if isinstance(dtype, pl.Datetime):
            return _ticks(pa.timestamp(_TICKS[unit], "UTC"), "int64", where)
        case ["local", "timestamp", unit] if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
            return _ticks(pa.timestamp(_TICKS[unit]), "int64", where)
        case _ if logical not in _TIMES and "timestamp" not in logical:
            return _plain(inner, dtype, where)  # what nobody knows is as if it were not there
    return None


_TIMES = frozenset({"date", "uuid", "time-millis", "time-micros"})
_TICKS = {"millis": "ms", "micros": "us", "nanos": "ns"}


def _integer(kind: str, where: str) -> Writer:
    return lambda column, there, lead: by.numbers((*lead, by.zigzag(by.whole(column, kind, where), there)))


def _ticks(kind: pa.DataType, counted: str, where: str) -> Writer:
    """Times in the unit of the schema; what is finer is cut off."""

    def write(column: pa.Array, there: Mask, lead: Lead) -> Parts:
        if pa.types.is_timestamp(kind) and column.type.tz is None and kind.tz is not None:
            column = column.cast(pa.timestamp(column.type.unit, "UTC"))  # without a zone: it counts as UTC
        try:
            counts = pc.cast(column, options=pc.CastOptions(kind, allow_time_truncate=True))
        except pa.ArrowInvalid as error:
            raise by.misfit(where, str(error)) from error
        return by.numbers((*lead, by.zigzag(by.whole(counts.view(getattr(pa, counted)()), counted, where), there)))

    return write


def _float(kind: pa.DataType, where: str) -> Writer:
    def write(column: pa.Array, there: Mask, lead: Lead) -> Parts:
        found = by.cast_to(column, kind, where).fill_null(0).to_numpy(zero_copy_only=False)
        return [*by.numbers(lead), by.fixed(found, there)]

    return write


def _text(column: pa.Array, there: Mask, lead: Lead) -> Parts:
    made, sizes = by.texts(column, there)
    return [*by.numbers((*lead, by.zigzag(sizes, there))), made]


def _sized(size: int, where: str) -> Writer:
    def write(column: pa.Array, there: Mask, lead: Lead) -> Parts:
        made, sizes = by.texts(column, there)
        if bool((sizes[there] != size).any()):
            raise by.misfit(where, f"it is not {size} bytes long")
        return [*by.numbers(lead), made]

    return write


def _enum(symbols: Sequence[str], where: str) -> Writer:
    known = pa.array(symbols, by.BINARY)

    def write(column: pa.Array, there: Mask, lead: Lead) -> Parts:
        made, _ = by.texts(column, there)
        found = pc.index_in(made, known).fill_null(-1).to_numpy(zero_copy_only=False)
        if bool((found[there] < 0).any()):
            odd = made.filter(pa.array(there & (found < 0)))[0].as_py().decode("utf-8", "replace")
            raise by.misfit(where, f"{odd!r} is none of {', '.join(symbols)}")
        return by.numbers((*lead, by.zigzag(found.astype(np.int64), there)))

    return write


def _decimal(precision: int, scale: int, size: int | None, where: str) -> Writer:
    def write(column: pa.Array, there: Mask, lead: Lead) -> Parts:
        by.cast_to(column, pa.decimal128(min(precision, 38), scale), where)  # for what is too large
        made = by.decimals(column, scale, size, there, where)
        counted = () if size is not None else (by.zigzag(by.lengths(made), there),)
        return [*by.numbers((*lead, *counted)), made]

    return write


def _is_text(dtype: Any) -> bool:
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


def _said(wanted: Any) -> str:
    if isinstance(wanted, dict):
        return str(wanted.get("dataflow") or wanted.get("logicalType") or wanted["type"])
    return str(wanted)

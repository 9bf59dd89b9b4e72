"""Avro values: each is decoded by the schema that it was written with, and fitted to the one that was pinned."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, cast

import fastavro
import polars as pl
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException, UnknownType

from dataflow.connectors.kafka.decode import VALUE, Decoded, Refusal
from dataflow.connectors.kafka.registry import Registered, Registry, split_header
from dataflow.errors import NotFound, Rejected

_BAD = (EOFError, IndexError, KeyError, ValueError, TypeError, OverflowError, MemoryError, struct.error)
_RAW = frozenset({"date", "uuid"})
"""Logical types that are left as they are encoded, and cast in columns; beside all timestamps."""

PLAIN: Mapping[str, pl.DataType] = {
    "null": pl.String(),
    "boolean": pl.Boolean(),
    "int": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "bytes": pl.Binary(),
    "string": pl.String(),
}
_LOGICAL: Mapping[tuple[str, str], pl.DataType] = {
    ("int", "date"): pl.Date(),
    ("int", "time-millis"): pl.Time(),
    ("long", "time-micros"): pl.Time(),
    ("long", "timestamp-millis"): pl.Datetime("ms", "UTC"),
    ("long", "timestamp-micros"): pl.Datetime("us", "UTC"),
    ("long", "timestamp-nanos"): pl.Datetime("ns", "UTC"),
    ("long", "local-timestamp-millis"): pl.Datetime("ms"),
    ("long", "local-timestamp-micros"): pl.Datetime("us"),
    ("long", "local-timestamp-nanos"): pl.Datetime("ns"),
}


class AvroSchema:
    """A schema, parsed: what fastavro reads by, and the columns it gives. Raises `Rejected` (BAD_SCHEMA)."""

    def __init__(self, text: str, named: dict[str, Any] | None = None) -> None:
        self.named: dict[str, Any] = dict(named or {})
        try:
            self.raw = cast(dict[str, Any], fastavro.parse_schema(_bare(json.loads(text)), self.named))
        except (SchemaParseException, UnknownType, ValueError, KeyError, TypeError) as error:
            raise Rejected(f"not an Avro schema: {error}", code="BAD_SCHEMA") from error

    def columns(self) -> pl.Schema:
        """The columns of a record's fields; of anything else one column `value`."""
        if isinstance(self.raw, dict) and self.raw.get("type") == "record":
            if not self.raw["fields"]:
                raise Rejected(f"the record {self.raw['name']} has no fields", code="BAD_SCHEMA")
            return pl.Schema(
                {f["name"]: self._type(f["type"], f["name"], (self.raw["name"],)) for f in self.raw["fields"]}
            )
        return pl.Schema({VALUE: self._type(self.raw, VALUE, ())})

    def _type(self, schema: Any, where: str, inside: tuple[str, ...]) -> pl.DataType:
        match schema:
            case list():
                some = [branch for branch in schema if branch != "null"]
                if len(some) > 1:
                    raise Rejected(f"{where} may be of several types: {_names(some)}", code="BAD_SCHEMA")
                return self._type(some[0] if some else "null", where, inside)
            case str() if schema in PLAIN:
                return PLAIN[schema]
            case str():
                return self._type(self.named[schema], where, inside)
            case {"type": "record", "name": name, "fields": fields}:
                if name in inside:
                    raise Rejected(f"{where} holds itself: {name}", code="BAD_SCHEMA")
                deeper = (*inside, name)
                return pl.Struct({f["name"]: self._type(f["type"], f"{where}.{f['name']}", deeper) for f in fields})
            case {"type": "array", "items": items}:
                return pl.List(self._type(items, f"{where}[]", inside))
            case {"type": "map", "values": values}:
                inner = self._type(values, f"{where}{{}}", inside)
                return pl.List(pl.Struct({"key": pl.String(), "value": inner}))
            case {"type": "enum"}:
                return pl.String()
            case {"logicalType": "decimal", "precision": int(precision)}:
                return pl.Decimal(precision, schema.get("scale", 0))
            case {"type": "fixed"}:
                return pl.Binary()
            case {"type": inner, "dataflow": logical}:
                return _LOGICAL.get((inner, logical), PLAIN[inner])
            case {"type": inner, "logicalType": logical}:
                return _LOGICAL.get((inner, logical), PLAIN[inner])
            case {"type": inner}:
                return self._type(inner, where, inside)
        raise Rejected(f"{where}: {schema!r} is not known", code="BAD_SCHEMA")


class AvroDecoder:
    """Values with a registry's header (`writers` knows the schemas), or bare ones of the pinned schema itself."""

    def __init__(self, schema: AvroSchema, columns: pl.Schema, writers: Callable[[int], AvroSchema] | None) -> None:
        self.schema = columns
        self._reader, self._writers = schema, writers
        self._record = isinstance(schema.raw, dict) and schema.raw.get("type") == "record"
        self._wire = pl.Schema({name: _wire(dtype) for name, dtype in columns.items()})
        self._cast = {name: dtype for name, dtype in columns.items() if self._wire[name] != dtype}
        self._fit = {name: fit for name, dtype in columns.items() if (fit := _fitting(dtype)) is not None}

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        rows: list[dict[str, Any]] = []
        kept: list[int] = []
        refused: list[Refusal] = []
        for index, value in enumerate(values):
            try:
                row = {} if value is None else self._one(value)
            except NotFound as unknown:
                refused.append(Refusal(index, "UNKNOWN_SCHEMA", str(unknown)))
                continue
            except (SchemaResolutionError, *_BAD) as error:
                refused.append(Refusal(index, "BAD_AVRO", f"not Avro of that schema: {type(error).__name__} {error}"))
                continue
            for name, fit in self._fit.items():
                if name in row:
                    row[name] = fit(row[name])
            rows.append(row)
            kept.append(index)
        frame = pl.DataFrame(rows, schema=self._wire) if rows else self._wire.to_frame()
        frame = frame.with_columns(pl.col(name).cast(dtype) for name, dtype in self._cast.items())
        return Decoded(frame, kept if refused else None, refused)

    def _one(self, value: bytes) -> dict[str, Any]:
        writer, body = self._reader, memoryview(value)
        if self._writers is not None:
            framed = split_header(value)
            if framed is None:
                raise ValueError("it does not begin with a zero and the id of a schema")
            writer, body = self._writers(framed[0]), framed[1]
        source = io.BytesIO(body)
        reader = None if writer is self._reader else self._reader.raw
        found = fastavro.schemaless_reader(source, writer.raw, reader)
        if source.tell() != len(body):
            raise ValueError(f"{len(body) - source.tell()} bytes are left over")
        return cast(dict[str, Any], found) if self._record else {VALUE: found}


def registered(registry: Registry, found: Registered) -> AvroSchema:
    """A schema of a registry, with those it refers to. Raises `Rejected` where it is no Avro."""
    if found.kind != "AVRO":
        raise Rejected(f"schema {found.id} is {found.kind}, not Avro", code="BAD_SCHEMA", hint="look at format")
    named: dict[str, Any] = {}
    for reference in found.references:
        named.update(registered(registry, registry.version(reference)).named)
    return AvroSchema(found.text, named)


def writers_of(registry: Registry) -> Callable[[int], AvroSchema]:
    """Schemas by id, each parsed once."""

    @cache
    def writer(number: int) -> AvroSchema:
        return registered(registry, registry.by_id(number))

    return writer


def whole(registry: Registry, found: Registered) -> str:
    """The text of a schema with all that it refers to put in where it is first used."""
    parts: dict[str, Any] = {}

    def collect(one: Registered) -> None:
        for reference in one.references:
            other = registry.version(reference)
            collect(other)
            parts[reference.name] = json.loads(other.text)

    collect(found)
    used: set[str] = set()

    def put(schema: Any) -> Any:
        match schema:
            case str() if schema in parts and schema not in used:
                used.add(schema)
                return put(parts[schema])
            case list():
                return [put(branch) for branch in schema]
            case dict():
                return {key: put(value) if key in _NESTED else value for key, value in schema.items()}
        return schema

    return json.dumps(put(json.loads(found.text)))


_NESTED = ("type", "items", "values", "fields")


def _bare(schema: Any) -> Any:
    """Without the logical types that cost an object for each value: they stay as a note, and become casts."""
    match schema:
        case list():
            return [_bare(branch) for branch in schema]
        case {"logicalType": str(logical), **rest} if logical in _RAW or "timestamp" in logical:
            return {**{key: _bare(value) for key, value in rest.items()}, "dataflow": logical}
        case dict():
            return {key: _bare(value) if key in _NESTED else value for key, value in schema.items()}
    return schema


def _wire(dtype: Any) -> pl.DataType:
    """The type that decoded values have before the cast."""
    match dtype:
        case pl.Date():
            return pl.Int32()
        case pl.Datetime():
            return pl.Int64()
        case pl.List():
            return pl.List(_wire(dtype.inner))
        case pl.Struct():
            return pl.Struct({field.name: _wire(field.dtype) for field in dtype.fields})
    return cast(pl.DataType, dtype)


def _fitting(dtype: Any) -> Callable[[Any], Any] | None:
    """How a value with maps inside becomes one with lists of pairs; None where there are no maps."""
    match dtype:
        case pl.List() if isinstance(dtype.inner, pl.Struct) and [f.name for f in dtype.inner.fields] == [
            "key",
            "value",
        ]:
            inner = _fitting(dtype.inner.fields[1].dtype) or (lambda value: value)
            return lambda value: (
                [{"key": key, "value": inner(some)} for key, some in value.items()]
                if isinstance(value, dict)
                else value
            )
        case pl.List():
            fit = _fitting(dtype.inner)
            return None if fit is None else lambda value: None if value is None else [fit(some) for some in value]
        case pl.Struct():
            fits = {f.name: fit for f in dtype.fields if (fit := _fitting(f.dtype)) is not None}
            if not fits:
                return None
            return lambda value: (
                None
                if value is None
                else {name: fits[name](some) if name in fits else some for name, some in value.items()}
            )
    return None


def _names(branches: Sequence[Any]) -> str:
    return ", ".join(str(b.get("name") or b.get("type")) if isinstance(b, dict) else str(b) for b in branches)


def branch_name(branch: Any) -> str:
    """What an alternative of a union is called: its type, or its own name where it has one, without the namespace."""
    if isinstance(branch, str):
        return branch.rpartition(".")[2]
    return str(branch.get("name") or branch["type"]).rpartition(".")[2]

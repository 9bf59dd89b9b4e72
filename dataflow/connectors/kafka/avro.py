"""Avro values: each is decoded by the schema that it was written with, and fitted to the one that was pinned."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import time
from decimal import Decimal
from functools import cache, cached_property
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

    @cached_property
    def mixed(self) -> bool:
        """Whether some value may be of several types. Then those that have a name come with it."""
        return any(map(_is_mixed, [self.raw, *self.named.values()]))

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
                some = alternatives(schema, where)
                if len(some) > 1:
                    return pl.Struct({name: self._type(schema[at], f"{where}.{name}", inside) for name, at in some})
                return self._type(schema[some[0][1]] if some else "null", where, inside)
            case str() if schema in PLAIN:
                return PLAIN[schema]
            case str():
                return self._type(self.named[schema], where, inside)
            case {"type": "record", "name": name, "fields": fields}:
                if name in inside:
                    told = f"{where} holds itself ({name}): columns have an end"
                    raise Rejected(told, code="BAD_SCHEMA", hint="give a schema without that field")
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
        self._fit: Callable[[Any], Any] = _fitting(schema, schema.raw) or _same

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
        found = fastavro.schemaless_reader(source, writer.raw, reader, return_named_type=self._reader.mixed)
        if source.tell() != len(body):
            raise ValueError(f"{len(body) - source.tell()} bytes are left over")
        fitted = self._fit(found)
        return cast(dict[str, Any], fitted) if self._record else {VALUE: fitted}


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


def _is_mixed(schema: Any) -> bool:
    match schema:
        case list():
            return len([branch for branch in schema if branch != "null"]) > 1 or any(map(_is_mixed, schema))
        case dict():
            below = [field["type"] for field in schema.get("fields", ())]
            below += [schema[key] for key in ("type", "items", "values") if key in schema]
            return any(map(_is_mixed, below))
    return False


def _fitting(schema: AvroSchema, wanted: Any) -> Callable[[Any], Any] | None:
    """How a value as fastavro gives it becomes one of its column: maps as lists of pairs, values of several types as
    structs, named ones without their names. None where it is one already."""
    match wanted:
        case list():
            some = alternatives(wanted, "")
            if len(some) > 1:
                return _chosen(schema, {name: wanted[at] for name, at in some})
            return _fitting(schema, wanted[some[0][1]]) if some else None
        case str() if wanted in schema.named:
            return _fitting(schema, schema.named[wanted])
        case {"type": "record", "fields": fields}:
            fits = {f["name"]: fit for f in fields if (fit := _fitting(schema, f["type"])) is not None}
            return _named(lambda value: value | {name: fit(value[name]) for name, fit in fits.items()}, schema, fits)
        case {"type": "enum" | "fixed"}:
            return _named(_same, schema, ())
        case {"type": "map", "values": values}:
            one = _fitting(schema, values) or _same
            return _unless_null(lambda value: [{"key": key, "value": one(some)} for key, some in value.items()])
        case {"type": "array", "items": items} if (each := _fitting(schema, items)) is not None:
            return _unless_null(lambda value: [each(some) for some in value])
        case {"type": list() | dict() as inner}:
            return _fitting(schema, inner)
    return None


def _named(fit: Callable[[Any], Any], schema: AvroSchema, needed: Collection[Any]) -> Callable[[Any], Any] | None:
    if schema.mixed:
        return _unless_null(lambda value: fit(value[1] if isinstance(value, tuple) else value))
    return _unless_null(fit) if needed else None


def _unless_null(fit: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else fit(value)


def _same(value: Any) -> Any:
    return value


def _chosen(schema: AvroSchema, some: Mapping[str, Any]) -> Callable[[Any], Any]:
    fits = {name: _fitting(schema, branch) or _same for name, branch in some.items()}
    full = {_full_name(branch): name for name, branch in some.items()}
    by_type: dict[type, str] = {}
    for name, branch in some.items():
        by_type.setdefault(_python_type(branch), name)

    def choose(value: Any) -> dict[str, Any]:
        name = full[value[0]] if isinstance(value, tuple) else by_type[type(value)]
        return {name: fits[name](value)}

    return _unless_null(choose)


def _full_name(branch: Any) -> str:
    return str(branch["name"] if isinstance(branch, dict) and "name" in branch else branch)


def _python_type(branch: Any) -> type:
    """As which fastavro gives a value of that branch."""
    kind = branch["type"] if isinstance(branch, dict) else branch
    if isinstance(branch, dict) and (logical := branch.get("logicalType", "")) in ("decimal", *_TIMES):
        return Decimal if logical == "decimal" else time
    return _TYPES.get(kind, tuple)


_TIMES = ("time-millis", "time-micros")
_TYPES: Mapping[str, type] = {
    "boolean": bool, "int": int, "long": int, "float": float, "double": float,
    "bytes": bytes, "string": str, "array": list, "map": dict,
}  # fmt: skip


def alternatives(union: Sequence[Any], where: str) -> list[tuple[str, int]]:
    """The types that a value may have, beside NULL: what each is called, and its place in the union. Of whole numbers,
    and of real ones, the wider type stands for both. Raises `Rejected` for types whose values cannot be told apart."""
    places = {at: branch_name(branch) for at, branch in enumerate(union) if branch != "null"}
    names = list(places.values())
    for narrow, wide in (("int", "long"), ("float", "double")):
        if narrow in names and wide in names:
            if not {narrow, wide} <= {branch for branch in union if isinstance(branch, str)}:
                told = f"{where} may be {narrow} or {wide}, which cannot be told apart"
                raise Rejected(told, code="BAD_SCHEMA", hint="give a schema that says one of them")
            del places[next(at for at, name in places.items() if name == narrow)]
    return [(_full_name(union[at]) if names.count(name) > 1 else name, at) for at, name in places.items()]


def branch_name(branch: Any) -> str:
    """What an alternative of a union is called: its type, or its own name where it has one, without the namespace."""
    if isinstance(branch, str):
        return branch.rpartition(".")[2]
    return str(branch.get("name") or branch["type"]).rpartition(".")[2]

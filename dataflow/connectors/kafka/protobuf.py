"""Protobuf values: messages of one type, as columns."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import polars as pl
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError, Message

from dataflow.connectors.kafka.decode import Decoded, Refusal
from dataflow.connectors.kafka.proto_text import parse_proto
from dataflow.connectors.kafka.registry import Registered, Registry, split_header
from dataflow.errors import NotFound, Rejected

_KNOWN = {
    module.DESCRIPTOR.name: module.DESCRIPTOR
    for module in (
        any_pb2, descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
    )
}  # fmt: skip
"""What every `protoc` brings along."""

TIMESTAMP, DURATION = "google.protobuf.Timestamp", "google.protobuf.Duration"
WRAPPERS = frozenset(f"google.protobuf.{name}" for name in wrappers_pb2.DESCRIPTOR.message_types_by_name)
_TYPES: Mapping[int, pl.DataType] = {
    FieldDescriptor.CPPTYPE_INT32: pl.Int32(),
    FieldDescriptor.CPPTYPE_INT64: pl.Int64(),
    FieldDescriptor.CPPTYPE_UINT32: pl.UInt32(),
    FieldDescriptor.CPPTYPE_UINT64: pl.UInt64(),
    FieldDescriptor.CPPTYPE_DOUBLE: pl.Float64(),
    FieldDescriptor.CPPTYPE_FLOAT: pl.Float32(),
    FieldDescriptor.CPPTYPE_BOOL: pl.Boolean(),
    FieldDescriptor.CPPTYPE_ENUM: pl.String(),
}


class ProtoFile:
    """Descriptors of one schema and what it imports. Raises `Rejected` (BAD_SCHEMA)."""

    def __init__(self, files: FileDescriptorSet) -> None:
        pool = descriptor_pool.DescriptorPool()
        wanted = {file.name: file for file in files.file}
        for name, known in _KNOWN.items():
            if name not in wanted:
                copy = FileDescriptorProto()
                known.CopyToProto(copy)
                wanted[name] = copy
        try:
            for name in _in_order(wanted):
                pool.Add(wanted[name])
            self.main: FileDescriptor = pool.FindFileByName(files.file[-1].name)
        except (TypeError, KeyError, IndexError) as error:
            raise Rejected(f"not a Protobuf schema: {error}", code="BAD_SCHEMA") from error
        self.text = base64.b64encode(files.SerializeToString(deterministic=True)).decode()
        self._pool = pool

    @classmethod
    def parse(cls, data: bytes) -> ProtoFile:
        """From a descriptor set, as `protoc --descriptor_set_out --include_imports` writes it."""
        try:
            files = FileDescriptorSet.FromString(data)
        except DecodeError as error:
            raise Rejected(
                "not a descriptor set",
                code="BAD_SCHEMA",
                hint="protoc --include_imports --descriptor_set_out=FILE makes one",
            ) from error
        return cls(files)

    @classmethod
    def of_text(cls, text: str, name: str, imported: Callable[[str], str]) -> ProtoFile:
        """From the text of a `.proto` file; `imported` gives those that it imports, by the names it has for them."""
        files: dict[str, FileDescriptorProto] = {}

        def add(written: str, called: str) -> None:
            files[called] = parse_proto(written, called)
            for other in files[called].dependency:
                if other not in files and other not in _KNOWN:
                    add(imported(other), other)

        add(text, name)
        ordered = FileDescriptorSet(file=[files[one] for one in _in_order(files)])
        return cls(ordered)

    @property
    def imported(self) -> list[str]:
        """Files that the main one imports, beside those that everybody has."""
        return [file.name for file in self.main.dependencies if file.name not in _KNOWN]

    @property
    def main_text(self) -> str:
        """The main file as registries take it beside text: its descriptor, in base64."""
        return base64.b64encode(self.main.serialized_pb).decode()

    def message(self, name: str | None) -> Descriptor:
        """The type of that full name; without one, the first of the main file."""
        if name is None:
            types = list(self.main.message_types_by_name.values())
            if not types:
                raise Rejected("the schema has no message", code="BAD_SCHEMA")
            return types[0]
        try:
            return self._pool.FindMessageTypeByName(name)
        except KeyError:
            known = ", ".join(type.full_name for type in self.main.message_types_by_name.values())
            raise Rejected(f"there is no message {name}", code="BAD_SCHEMA", hint=f"known: {known}") from None

    def at(self, indices: Sequence[int]) -> Descriptor:
        """The type that message indices lead to. Raises IndexError."""
        types = list(self.main.message_types_by_name.values())
        found = types[indices[0]]
        for index in indices[1:]:
            found = found.nested_types[index]
        return found


class ProtobufDecoder:
    """Values with a registry's header (`writers` knows the schemas), or bare messages."""

    def __init__(self, message: Descriptor, writers: Callable[[int], ProtoFile] | None) -> None:
        self._columns = _fields(message, ())
        self.schema = pl.Schema({name: column.dtype for name, column in self._columns.items()})
        self._parse = message_factory.GetMessageClass(message).FromString
        self._name, self._writers = message.full_name, writers

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        messages: list[Message | None] = []
        kept: list[int] = []
        refused: list[Refusal] = []
        for index, value in enumerate(values):
            try:
                messages.append(None if value is None else self._parse(self._body(value)))
            except NotFound as unknown:
                refused.append(Refusal(index, "UNKNOWN_SCHEMA", str(unknown)))
                continue
            except (DecodeError, ValueError, IndexError) as error:
                refused.append(Refusal(index, "BAD_PROTOBUF", f"not a {self._name}: {error}"))
                continue
            kept.append(index)
        columns = [
            pl.Series(name, [None if m is None else column.get(m) for m in messages], dtype=column.wire).cast(
                column.dtype
            )
            for name, column in self._columns.items()
        ]
        return Decoded(pl.DataFrame(columns), kept if refused else None, refused)

    def _body(self, value: bytes) -> bytes:
        if self._writers is None:
            return value
        framed = split_header(value)
        if framed is None:
            raise ValueError("it does not begin with a zero and the id of a schema")
        indices, rest = _indices(framed[1])
        found = self._writers(framed[0]).at(indices).full_name
        if found != self._name:
            raise ValueError(f"it is a {found}")
        return bytes(rest)


def registered(registry: Registry, found: Registered) -> ProtoFile:
    """A schema of a registry, with what it imports. Raises `Rejected` where it is no Protobuf."""
    files = FileDescriptorSet()
    seen: set[str] = set()

    def add(one: Registered, name: str) -> None:
        if one.kind != "PROTOBUF":
            raise Rejected(f"schema {one.id} is {one.kind}, not Protobuf", code="BAD_SCHEMA", hint="look at format")
        for reference in one.references:
            if reference.name not in seen:
                seen.add(reference.name)
                add(registry.version(reference, serialized=True), reference.name)
        try:
            file = FileDescriptorProto.FromString(base64.b64decode(one.text, validate=True))
        except (DecodeError, ValueError):  # not every registry knows format=serialized
            file = parse_proto(one.text, f"schema {one.id}")
        file.name = name
        files.file.append(file)

    add(found, f"schema-{found.id}.proto")
    return ProtoFile(files)


def writers_of(registry: Registry) -> Callable[[int], ProtoFile]:
    """Schemas by id, each parsed once."""

    @cache
    def writer(number: int) -> ProtoFile:
        return registered(registry, registry.by_id(number, serialized=True))

    return writer


class _Column:
    """`get` takes a value of the type `wire` out of a message, `dtype` is what it is cast to."""

    def __init__(self, get: Callable[[Any], Any], wire: pl.DataType, dtype: pl.DataType | None = None) -> None:
        self.get, self.wire, self.dtype = get, wire, dtype or wire


def _fields(message: Descriptor, inside: tuple[str, ...]) -> dict[str, _Column]:
    if message.full_name in inside:
        raise Rejected(f"the message {message.full_name} holds itself", code="BAD_SCHEMA")
    return {field.name: _field(field, (*inside, message.full_name)) for field in message.fields}


def _field(field: FieldDescriptor, inside: tuple[str, ...]) -> _Column:
    name = field.name
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        keys, values = (field.message_type.fields_by_name[part] for part in ("key", "value"))
        key, value = _value(keys, inside), _value(values, inside)
        return _Column(
            lambda m: [{"key": key.get(k), "value": value.get(v)} for k, v in getattr(m, name).items()],
            pl.List(pl.Struct({"key": key.wire, "value": value.wire})),
            pl.List(pl.Struct({"key": key.dtype, "value": value.dtype})),
        )
    one = _value(field, inside)
    if field.is_repeated:
        return _Column(lambda m: [one.get(v) for v in getattr(m, name)], pl.List(one.wire), pl.List(one.dtype))
    if field.has_presence:
        return _Column(lambda m: one.get(getattr(m, name)) if m.HasField(name) else None, one.wire, one.dtype)
    return _Column(lambda m: one.get(getattr(m, name)), one.wire, one.dtype)


def _value(field: FieldDescriptor, inside: tuple[str, ...]) -> _Column:
    """How a value of the field, not the field of a message, is taken."""
    kind = field.message_type
    if kind is None:
        if field.enum_type is not None:
            names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
            return _Column(lambda v: names.get(v, str(v)), pl.String())
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return _Column(_same, pl.Binary() if field.type == FieldDescriptor.TYPE_BYTES else pl.String())
        return _Column(_same, _TYPES[field.cpp_type])
    if kind.full_name == TIMESTAMP:
        return _Column(_nanoseconds, pl.Int64(), pl.Datetime("ns", "UTC"))
    if kind.full_name == DURATION:
        return _Column(_nanoseconds, pl.Int64(), pl.Duration("ns"))
    if kind.full_name in WRAPPERS:
        inner = _value(kind.fields_by_name["value"], inside)
        return _Column(lambda v: inner.get(v.value), inner.wire, inner.dtype)
    parts = _fields(kind, inside)
    if not parts:
        raise Rejected(f"the message {kind.full_name} has no fields", code="BAD_SCHEMA")
    return _Column(
        lambda v: {name: part.get(v) for name, part in parts.items()},
        pl.Struct({name: part.wire for name, part in parts.items()}),
        pl.Struct({name: part.dtype for name, part in parts.items()}),
    )


def _same(value: Any) -> Any:
    return value


def _nanoseconds(value: Any) -> int:
    return int(value.seconds * 1_000_000_000 + value.nanos)


def _indices(body: memoryview) -> tuple[list[int], memoryview]:
    """Which message of its schema it is: a count and so many indices, zigzag; a single zero stands for the first."""
    count, at = _varint(body, 0)
    if count == 0:
        return [0], body[at:]
    if not 0 < count <= 100:
        raise ValueError("its message indices make no sense")
    found = []
    for _ in range(count):
        index, at = _varint(body, at)
        if index < 0:
            raise ValueError("its message indices make no sense")
        found.append(index)
    return found, body[at:]


def _varint(body: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        byte = body[at]  # IndexError where it ends too soon
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1), at
    raise ValueError("its message indices make no sense")


def _in_order(files: Mapping[str, FileDescriptorProto]) -> list[str]:
    """Names, each after those that it imports."""
    found: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in found or name not in files:
            return
        for imported in files[name].dependency:
            visit(imported)
        found[name] = None

    for name in files:
        visit(name)
    return list(found)

"""Protobuf to columns: types, presence, evolution, what cannot be read."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as F
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st

from dataflow.connectors.kafka.protobuf import ProtobufDecoder, ProtoFile, registered, writers_of
from dataflow.connectors.kafka.registry import HEADER, Registry, RegistryConfig
from dataflow.errors import Rejected
from tests.registry_server import RegistryServer, serving

TYPES = {
    "double": F.TYPE_DOUBLE,
    "float": F.TYPE_FLOAT,
    "int64": F.TYPE_INT64,
    "uint64": F.TYPE_UINT64,
    "sint32": F.TYPE_SINT32,
    "fixed32": F.TYPE_FIXED32,
    "bool": F.TYPE_BOOL,
    "string": F.TYPE_STRING,
    "bytes": F.TYPE_BYTES,
}


def file(name: str = "orders.proto") -> FileDescriptorProto:
    return FileDescriptorProto(name=name, package="shop", syntax="proto3")


def add(message: Any, name: str, kind: str, *, label: int = F.LABEL_OPTIONAL, presence: bool = False) -> None:
    field = message.field.add(name=name, number=len(message.field) + 1, label=label)
    if kind in TYPES:
        field.type = TYPES[kind]
    else:
        field.type_name = kind
        field.type = F.TYPE_ENUM if kind.endswith("Color") else F.TYPE_MESSAGE
    if presence:
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")


def orders() -> FileDescriptorProto:
    written = file()
    written.dependency.extend(f"google/protobuf/{name}.proto" for name in ("timestamp", "duration", "wrappers"))
    color = written.enum_type.add(name="Color")
    color.value.add(name="RED", number=0)
    color.value.add(name="BLUE", number=1)
    place = written.message_type.add(name="Place")
    add(place, "city", "string")
    order = written.message_type.add(name="Order")
    for kind in TYPES:
        add(order, f"a_{kind}", kind)
    add(order, "maybe", "int64", presence=True)
    add(order, "color", ".shop.Color")
    add(order, "place", ".shop.Place")
    add(order, "places", ".shop.Place", label=F.LABEL_REPEATED)
    add(order, "numbers", "sint32", label=F.LABEL_REPEATED)
    add(order, "at", ".google.protobuf.Timestamp")
    add(order, "took", ".google.protobuf.Duration")
    add(order, "wrapped", ".google.protobuf.StringValue")
    entry = order.nested_type.add(name="CountsEntry")
    add(entry, "key", "string")
    add(entry, "value", ".shop.Place")
    entry.options.map_entry = True
    add(order, "counts", ".shop.Order.CountsEntry", label=F.LABEL_REPEATED)
    nested = order.nested_type.add(name="Line")
    add(nested, "n", "int64")
    return written


def parsed(*files: FileDescriptorProto) -> ProtoFile:
    return ProtoFile.parse(FileDescriptorSet(file=files).SerializeToString())


def make(schema: ProtoFile, name: str, **values: Any) -> bytes:
    message: bytes = message_factory.GetMessageClass(schema.message(name))(**values).SerializeToString()
    return message


def test_every_type() -> None:
    schema = parsed(orders())
    decoder = ProtobufDecoder(schema.message("shop.Order"), None)
    whole = make(
        schema,
        "shop.Order",
        a_double=0.1,
        a_float=1.5,
        a_int64=-(2**62),
        a_uint64=2**64 - 1,
        a_sint32=-5,
        a_fixed32=2**32 - 1,
        a_bool=True,
        a_string="é",
        a_bytes=b"\xff",
        maybe=0,
        color=1,
        place={"city": "Oslo"},
        places=[{"city": "Rome"}, {}],
        numbers=[1, 2],
        at={"seconds": 1, "nanos": 5},
        took={"seconds": 2},
        wrapped={"value": ""},
        counts={"x": {"city": "Bonn"}},
    )
    found = decoder.decode([whole, make(schema, "shop.Order", color=7), None])
    assert not found.refused
    first, bare, none = found.rows.rows(named=True)
    assert first == {
        "a_double": 0.1,
        "a_float": 1.5,
        "a_int64": -(2**62),
        "a_uint64": 2**64 - 1,
        "a_sint32": -5,
        "a_fixed32": 2**32 - 1,
        "a_bool": True,
        "a_string": "é",
        "a_bytes": b"\xff",
        "maybe": 0,
        "color": "BLUE",
        "place": {"city": "Oslo"},
        "places": [{"city": "Rome"}, {"city": ""}],
        "numbers": [1, 2],
        "at": dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC),
        "took": dt.timedelta(seconds=2),
        "wrapped": "",
        "counts": [{"key": "x", "value": {"city": "Bonn"}}],
    }
    assert [bare[name] for name in ("a_int64", "maybe", "color", "place", "places", "at", "wrapped")] == [
        0, None, "7", None, [], None, None,
    ]  # fmt: skip
    assert set(none.values()) == {None}
    assert found.rows.schema["a_uint64"] == pl.UInt64
    assert found.rows["at"].dt.nanosecond()[0] == 5


@given(st.binary(max_size=60))
def test_noise_never_raises(noise: bytes) -> None:
    schema = parsed(orders())
    decoder = ProtobufDecoder(schema.message("shop.Order"), None)
    found = decoder.decode([noise, make(schema, "shop.Order", a_string="x")])
    assert found.rows.height + len(found.refused) == 2
    assert all((bad.index, bad.code) == (0, "BAD_PROTOBUF") for bad in found.refused)


def test_what_is_no_schema() -> None:
    recursive = file()
    add(recursive.message_type.add(name="Tree"), "left", ".shop.Tree")
    with pytest.raises(Rejected, match="holds itself"):
        ProtobufDecoder(parsed(recursive).message(None), None)
    with pytest.raises(Rejected, match="no message shop"):
        parsed(orders()).message("shop.Nothing")
    with pytest.raises(Rejected, match="has no message"):
        parsed(file()).message(None)
    missing = file()
    missing.dependency.append("nowhere.proto")
    for broken in (b"\xff\xff", FileDescriptorSet(file=[missing]).SerializeToString(), b""):
        with pytest.raises(Rejected) as refused:
            ProtoFile.parse(broken)
        assert refused.value.code == "BAD_SCHEMA"


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with serving(RegistryServer()) as running:
        yield running


def test_values_of_a_registry(server: RegistryServer) -> None:
    def put(subject: str, written: FileDescriptorProto, references: Any = ()) -> int:
        text = base64.b64encode(written.SerializeToString()).decode()
        return server.register(subject, f"// {written.name}", "PROTOBUF", references, text)

    shared = file("shared.proto")
    add(shared.message_type.add(name="Place"), "city", "string")
    put("shared", shared)
    older, newer = file("default"), file("default")
    for written in (older, newer):
        written.dependency.append("shared.proto")
        order = written.message_type.add(name="Order")
        add(order, "n", "int64")
        add(order, "place", ".shop.Place")
        add(written.message_type.add(name="Other"), "n", "int64")
    add(newer.message_type[0], "more", "string")
    references = [{"name": "shared.proto", "subject": "shared", "version": 1}]
    first, second = (put("orders-value", written, references) for written in (older, newer))
    registry = Registry(RegistryConfig(url=server.url), Path(), 5)
    schema = registered(registry, registry.newest("orders-value", serialized=True))
    again = ProtoFile.parse(base64.b64decode(schema.text))  # as it is pinned
    decoder = ProtobufDecoder(again.message(None), writers_of(registry))
    old = registered(registry, registry.by_id(first, serialized=True))
    body, other = make(old, "shop.Order", n=1, place={"city": "Oslo"}), make(old, "shop.Other", n=3)
    late = make(schema, "shop.Order", n=2, more="x")
    values = [
        HEADER.pack(0, first) + b"\0" + body,
        HEADER.pack(0, second) + b"\2\0" + late,  # one index, written out
        HEADER.pack(0, first) + b"\2\2" + other,
        HEADER.pack(0, first) + b"\2\x20" + other,
        HEADER.pack(0, 99) + b"\0" + body,
        HEADER.pack(0, first),
        b"\1bare!",
    ]
    found = decoder.decode(values)
    assert found.rows.rows() == [(1, {"city": "Oslo"}, ""), (2, None, "x")]
    assert [(bad.index, bad.code) for bad in found.refused] == [
        (2, "BAD_PROTOBUF"),
        (3, "BAD_PROTOBUF"),
        (4, "UNKNOWN_SCHEMA"),
        (5, "BAD_PROTOBUF"),
        (6, "BAD_PROTOBUF"),
    ]
    assert "it is a shop.Other" in found.refused[0].message

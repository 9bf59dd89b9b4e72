"""`.proto` text: what protoc makes of it, and what is none."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st

from dataflow.connectors.kafka.given import protobuf_given
from dataflow.connectors.kafka.proto_text import parse_proto
from dataflow.connectors.kafka.protobuf import ProtoFile
from dataflow.errors import NotFound, Rejected

GOLDEN = Path(__file__).parent / "golden"


def nowhere(name: str) -> str:
    raise AssertionError(name)


def shapes(types: Any) -> Iterator[Any]:
    """Everything that decides about the bytes, as the pool understands it."""
    for one in types:
        yield (
            one.full_name,
            [
                (
                    field.name,
                    field.number,
                    field.type,
                    field.is_repeated,
                    field.is_packed,
                    field.has_presence,
                    field.json_name,
                    field.message_type and field.message_type.full_name,
                    field.enum_type and field.enum_type.full_name,
                    field.containing_oneof and field.containing_oneof.name,
                )
                for field in one.fields
            ],
        )
        for enum in one.enum_types:
            yield enum.full_name, [(value.name, value.number) for value in enum.values]
        yield from shapes(one.nested_types)


def kept(file: FileDescriptorProto) -> Iterator[Any]:
    """What no pool tells: which numbers and names are never to be used again."""

    def of(holder: DescriptorProto | EnumDescriptorProto) -> Any:
        return [(part.start, part.end) for part in holder.reserved_range], list(holder.reserved_name)

    for message in file.message_type:
        yield of(message)
        yield from (of(enum) for enum in message.enum_type)
        yield [choice.name for choice in message.oneof_decl]


def test_it_is_what_protoc_makes_of_it() -> None:
    written = (GOLDEN / "everything.proto").read_text()
    files = FileDescriptorSet.FromString((GOLDEN / "everything.desc").read_bytes())
    ours, theirs = ProtoFile.of_text(written, "everything.proto", nowhere), ProtoFile(files)
    types: list[list[Descriptor]] = [list(file.main.message_types_by_name.values()) for file in (ours, theirs)]
    assert list(shapes(types[0])) == list(shapes(types[1]))
    mine = parse_proto(written, "everything.proto")
    assert list(kept(mine)) == list(kept(files.file[0]))
    assert (mine.package, list(mine.dependency), list(mine.public_dependency)) == (
        files.file[0].package,
        list(files.file[0].dependency),
        list(files.file[0].public_dependency),
    )


def test_files_that_import_files(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/order.proto").write_text(
        'syntax = "proto3"; import "place.proto"; import "shop/color.proto";'
        "message Order { Place p = 1; optional Color c = 2; }"
    )
    (tmp_path / "shop/place.proto").write_text('syntax = "proto3"; message Place { string city = 1; }')
    (tmp_path / "shop/color.proto").write_text('syntax = "proto3"; enum Color { RED = 0; }')
    file, _ = protobuf_given("shop/order.proto", tmp_path)
    assert [field.name for field in file.message("Place").fields] == ["city"]
    assert file.imported == ["place.proto", "shop/color.proto"]
    again = ProtoFile.parse(FileDescriptorSet.FromString(base64.b64decode(file.text)).SerializeToString())
    assert again.message(None).full_name == "Order"  # as it is pinned
    (tmp_path / "shop/place.proto").unlink()
    with pytest.raises(NotFound, match=r"place\.proto"):
        protobuf_given("shop/order.proto", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('syntax = "proto3"; message A { int32 x = ; }', "line 1: ';' is not expected"),
        ('syntax = "proto3";\nmessage A {\n int32 x 1; }', "line 3: '=' is missing"),
        ("message A {", "ends too soon"),
        ("message A { int32 x = 1; }", "proto2 begins with optional"),
        ("message A { required group G = 1 {} }", "groups"),
        ('syntax = "proto3"; message A { Nowhere x = 1; }', "not a Protobuf schema"),
        ('syntax = "proto3"; message A { int32 x = 1; int32 y = 1; }', "not a Protobuf schema"),
        ('edition = "2023";', "editions"),
        ("§", "'§' is not expected"),
        ('syntax = "proto3"; message A { int32 x = 99999999999; }', "cannot be the number"),
    ],
)
def test_what_is_no_proto_file(text: str, message: str) -> None:
    with pytest.raises(Rejected, match=message) as refused:
        ProtoFile.of_text(text, "orders.proto", nowhere)
    assert refused.value.code == "BAD_SCHEMA"


@given(st.text(alphabet="message A{}int32 x=1;\"'/*-.<>,[]()\n", max_size=80))
def test_noise_is_refused_and_never_raises(text: str) -> None:
    try:
        parse_proto(text, "noise.proto")
    except Rejected:
        return

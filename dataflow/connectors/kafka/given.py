"""Schemas that a definition holds, or names the file of."""

from __future__ import annotations

from pathlib import Path

from dataflow.connectors.kafka.protobuf import ProtoFile
from dataflow.errors import NotFound


def avro_given(schema: str, base: Path) -> str:
    """The text of an Avro schema. Raises `NotFound` for a file that cannot be read."""
    if schema.lstrip()[:1] in ("{", "[", '"'):
        return schema
    return _read(base / schema, schema).decode("utf-8", "replace")


def protobuf_given(schema: str, base: Path) -> tuple[ProtoFile, str]:
    """A Protobuf schema, and its text where it came as such ("": as a descriptor set). What a `.proto` file imports is
    looked for beside it, and where the definition is. Raises `NotFound` for a file that cannot be read, `Rejected`
    (BAD_SCHEMA) for what is none."""
    if "{" in schema:
        return ProtoFile.of_text(schema, "schema.proto", lambda name: _imported(name, [base])), schema
    data = _read(base / schema, schema)
    if not schema.endswith(".proto"):
        return ProtoFile.parse(data), ""
    text, places = data.decode("utf-8", "replace"), [(base / schema).parent, base]
    return ProtoFile.of_text(text, Path(schema).name, lambda name: _imported(name, places)), text


def _imported(name: str, places: list[Path]) -> str:
    for place in places:
        if (place / name).is_file():
            return _read(place / name, name).decode("utf-8", "replace")
    raise NotFound(f"{name}, which the schema imports, is not there", hint="put it beside the schema")


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"the schema {name} cannot be read: {error.strerror}", hint="a path, or the schema") from error

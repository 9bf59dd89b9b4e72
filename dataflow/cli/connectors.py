"""`connectors`: what a pipeline file can name, with the options of each type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from dataflow.cli.result import DONE, JSON, emit, perform, say, table

if TYPE_CHECKING:
    from dataflow.components import Component

_TYPE = typer.Argument("", help="Only this type, with all its options.", show_default=False)


def connectors(type: str = _TYPE, as_json: bool = JSON) -> None:
    """List the types of sources, transforms and sinks.

    With a type, its options; with --json their JSON schemas."""
    perform(_connectors(type, as_json), as_json=as_json)


async def _connectors(name: str, as_json: bool) -> int:
    from dataflow.components import Kind
    from dataflow.errors import NotFound
    from dataflow.registry import component, names
    from dataflow.specfile.phrases import nearest

    every = {kind: names(kind) for kind in Kind}
    if name and not any(name in known for known in every.values()):
        known = sorted({one for some in every.values() for one in some})
        raise NotFound(f"there is no type {name!r}", hint=nearest(name, known, "known"))
    found = [component(kind, one) for kind, some in every.items() for one in some if name in ("", one)]
    if as_json:
        emit({"connectors": [_described(one) for one in found]})
    elif name:
        for one in found:
            _options(one)
    else:
        table(("KIND", "TYPE", "WHAT"), [(str(one.kind), one.name, one.summary) for one in found])
    return DONE


def _described(one: Component) -> dict[str, Any]:
    schema = one.config.model_json_schema()
    return {"kind": str(one.kind), "type": one.name, "summary": one.summary, "schema": schema}


def _options(one: Component) -> None:
    say(f"{one.kind} {one.name}: {one.summary}")
    schema = one.config.model_json_schema()
    required = schema.get("required", [])
    rows = []
    for key, field in schema.get("properties", {}).items():
        default = "required" if key in required else _literal(field.get("default"))
        rows.append((f"  {key}", _kind(field, schema), default, field.get("description", "")))
    if rows:
        table(("  KEY", "TYPE", "DEFAULT", "WHAT"), rows)


def _kind(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """The type of an option in one word or two."""
    if reference := field.get("$ref"):
        return _kind(schema["$defs"][reference.rpartition("/")[2]], schema)
    if choices := field.get("enum"):
        return " | ".join(str(choice) for choice in choices)
    if "const" in field:
        return str(field["const"])
    if several := field.get("anyOf"):
        return " | ".join(_kind(one, schema) for one in several if one.get("type") != "null")
    names = {"object": "mapping", "array": "list", "string": "text"}
    return names.get(str(field.get("type", "any")), str(field.get("type", "any")))


def _literal(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


COMMANDS = (connectors,)

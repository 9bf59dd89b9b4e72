"""Functions of lists, structs and JSON text."""

from __future__ import annotations

import polars as pl

from dataflow.expressions import types
from dataflow.expressions.functions.table import Call, function
from dataflow.expressions.values import Value


@function("list_contains array_contains", "list", "any")
def list_contains(call: Call) -> pl.Expr:
    return _list(call).list.contains(call[1], nulls_equal=False)


@function("array_to_string list_join", "list", "text")
def array_to_string(call: Call) -> pl.Expr:
    inner = call.args[0].dtype
    held = inner.inner if isinstance(inner, pl.List | pl.Array) else None
    if isinstance(held, pl.List | pl.Array | pl.Struct):
        raise call.fail(f"ARRAY_TO_STRING needs a list of plain values, this is {types.name(inner)}", 0)
    return _list(call).cast(pl.List(pl.String)).list.join(call[1])


@function("to_json", "any")
def to_json(call: Call) -> pl.Expr:
    if not isinstance(call.args[0].dtype, pl.Struct):
        raise call.fail(f"TO_JSON needs a struct, this is {types.name(call.args[0].dtype)}", 0)
    return pl.when(call[0].is_not_null()).then(call[0].struct.json_encode())


@function("json_extract_string json_value", "text", "text")
def json_extract_string(call: Call) -> Value:
    """A value inside JSON text, as text; NULL where the path leads nowhere or the text is no JSON."""
    path = call.constant(1, "the path")
    if not path.startswith("$"):
        raise call.fail("a path begins with $", 1, hint="such as '$.user.age'")
    return call.value(call[0].str.json_path_match(path), pl.String())


def _list(call: Call) -> pl.Expr:
    return call[0].arr.to_list() if isinstance(call.args[0].dtype, pl.Array) else call[0]

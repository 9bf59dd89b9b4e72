"""Columns as people declare them in `columns:`, by the names that SQL has for types."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import polars as pl

from dataflow.expressions import type_name, type_named
from dataflow.expressions.types import NAMES


def declared_schema(columns: Mapping[str, str]) -> pl.Schema:
    """The schema of `name: type`. Raises ValueError as `declared_type` does, and where nothing is declared."""
    if not columns:
        raise ValueError("name at least one column, or leave columns out")
    return pl.Schema({name: declared_type(name, kind) for name, kind in columns.items()})


def declared_type(column: str, text: str) -> pl.DataType:
    """The type of that SQL name; a trailing `[]` makes a list of it. Raises ValueError with the nearest name."""
    if text.endswith("[]"):
        return pl.List(declared_type(column, text[:-2]))
    found = type_named(text)
    if found is None:
        near = difflib.get_close_matches(text.upper(), NAMES, n=1)
        hint = f"did you mean {near[0]}?" if near else "known: " + ", ".join(NAMES)
        raise ValueError(f"column {column!r} has the unknown type {text!r}: {hint}")
    if isinstance(found, pl.Binary):
        raise ValueError(f"column {column!r}: {type_name(found)} cannot be read from JSON; declare text")
    return found

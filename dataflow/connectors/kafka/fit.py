"""Whether columns and a schema go together: what the writers of Avro and Protobuf ask of both."""

from __future__ import annotations

import re
from typing import Any

import polars as pl

from dataflow.errors import InvalidSpec, Problem

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Unfit(Exception):
    """Columns and a schema do not go together."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self._hint = hint

    def problem(self, path: str = "schema") -> InvalidSpec:
        return InvalidSpec([Problem(path, str(self), hint=self._hint)])


def check_name(column: str, path: str) -> None:
    """Raises `Unfit` for a column whose name no schema can have for a field."""
    if not _NAME.fullmatch(column):
        raise Unfit(f"{path!r} cannot be the name of a field: letters, digits and _", "rename it in a map")


def within(where: str, name: str) -> str:
    """The path of a field inside of what is at `where` ("": the row itself)."""
    return f"{where}.{name}" if where else name


def instance(dtype: Any) -> Any:
    """A data type, which Polars lets one write as its class, too."""
    return dtype() if isinstance(dtype, type) else dtype


def fields_of(struct: pl.Struct) -> dict[str, Any]:
    """Name -> data type."""
    return {field.name: instance(field.dtype) for field in struct.fields}

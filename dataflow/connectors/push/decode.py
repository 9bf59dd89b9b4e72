"""Pushed records to columns, whole batches at once; where one does not fit, they are looked at one by one.

A field that the columns do not know is an error of its record: nothing that a caller pushed is dropped in silence.
Only where the definition declares columns are the others left out, on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import polars as pl

from dataflow.errors import Rejected
from dataflow.expressions import type_name


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that could not be read: which of them, a stable code, and why."""

    index: int
    code: str
    message: str


class Decoder:
    """Lines of one JSON object each, as rows of `schema`. Raises `Rejected` for columns that JSON cannot hold."""

    def __init__(self, schema: pl.Schema, *, others: bool) -> None:
        """`others`: fields outside of the schema are left out."""
        self.schema = schema
        self._others = others
        self._wire = {name: _wire(name, dtype) for name, dtype in schema.items()}
        self._cast = {name: schema[name] for name, dtype in self._wire.items() if dtype != schema[name]}

    def decode(self, lines: Sequence[bytes]) -> tuple[pl.DataFrame, list[Refusal]]:
        """Rows of the records that fit, in order, and the others."""
        rows, _ = self._parse(lines)
        if rows is not None and (self._others or not _more(_inferred(lines), self.schema)):
            return rows, []
        known: list[tuple[int, bytes]] = []
        refused: list[Refusal] = []
        for index, line in enumerate(lines):
            strange = "" if self._others else _strange(orjson.loads(line), self.schema, "")
            if strange:
                message = f"the field {strange} is not among the columns that were found in the first batch"
                refused.append(Refusal(index, "UNKNOWN_FIELD", message))
            else:
                known.append((index, line))
        rows, unfit = self._fitting(known)
        return rows, sorted([*refused, *unfit], key=lambda bad: bad.index)

    def _parse(self, lines: Sequence[bytes]) -> tuple[pl.DataFrame | None, str]:
        """The rows, where all of the lines fit; otherwise None, and what Polars said."""
        if not lines:
            return self.schema.to_frame(), ""
        try:
            rows = pl.read_ndjson(b"\n".join(lines), schema=self._wire)
            rows = rows.with_columns(pl.col(name).cast(dtype) for name, dtype in self._cast.items())
        except pl.exceptions.PolarsError as error:
            return None, str(error).partition("\n")[0]
        return (rows, "") if rows.height == len(lines) else (None, "")

    def _fitting(self, lines: list[tuple[int, bytes]]) -> tuple[pl.DataFrame, list[Refusal]]:
        """Halves what Polars refuses until each misfit stands alone."""
        rows, why = self._parse([line for _, line in lines])
        if rows is not None:
            return rows, []
        if len(lines) == 1:
            message = why or "the record does not fit the columns"
            return self.schema.to_frame(), [Refusal(lines[0][0], "BAD_VALUE", message)]
        half = len(lines) // 2
        (above, bad), (below, worse) = self._fitting(lines[:half]), self._fitting(lines[half:])
        return pl.concat([above, below]), bad + worse


def _inferred(lines: Sequence[bytes]) -> pl.Schema | None:
    """All fields of the records, however deep, without a look at each from here; None where that cannot be had."""
    if not lines:
        return pl.Schema()
    try:
        return pl.read_ndjson(b"\n".join(lines), infer_schema_length=None).schema
    except pl.exceptions.PolarsError:
        return None


def _more(found: Mapping[str, Any] | None, known: Mapping[str, Any]) -> bool:
    """Whether there are fields (or may be) that the schema does not know."""
    if found is None:
        return True
    return any(name not in known or _deeper(dtype, known[name]) for name, dtype in found.items())


def _deeper(found: Any, known: Any) -> bool:
    if isinstance(found, pl.List) and isinstance(known, pl.List):
        return _deeper(found.inner, known.inner)
    if isinstance(found, pl.Struct) and isinstance(known, pl.Struct):
        return _more({f.name: f.dtype for f in found.fields}, {f.name: f.dtype for f in known.fields})
    return False  # a value of another type is found by reading it


def _strange(value: object, known: Any, path: str) -> str:
    """The first field of the value that the type does not know; empty where there is none."""
    if isinstance(value, dict) and isinstance(known, pl.Schema | pl.Struct):
        parts = dict(known) if isinstance(known, pl.Schema) else {f.name: f.dtype for f in known.fields}
        for name, inner in value.items():
            place = f"{path}.{name}" if path else name
            if name not in parts:
                return place
            if found := _strange(inner, parts[name], place):
                return found
    if isinstance(value, list) and isinstance(known, pl.List):
        return next(filter(None, (_strange(one, known.inner, f"{path}[{n}]") for n, one in enumerate(value))), "")
    return ""


def _wire(column: str, dtype: Any) -> Any:
    """How Polars is to read a type from JSON, before it is cast. Numbers that a float cannot hold are read as text."""
    match dtype:
        case pl.Boolean() | pl.Int64() | pl.Float64() | pl.String() | pl.Date() | pl.Datetime():
            return dtype
        case pl.Int8() | pl.Int16() | pl.Int32() | pl.UInt8() | pl.UInt16() | pl.UInt32():
            return pl.Int64()
        case pl.Float32():
            return pl.Float64()
        case pl.UInt64() | pl.Int128() | pl.Decimal() | pl.Time():
            return pl.String()
        case pl.List():
            return pl.List(_wire(column, _instance(dtype.inner)))
        case pl.Struct():
            return pl.Struct({f.name: _wire(column, _instance(f.dtype)) for f in dtype.fields})
    raise Rejected(f"column {column!r}: {type_name(dtype)} cannot be read from JSON", code="BAD_SCHEMA")


def _instance(dtype: Any) -> Any:
    return dtype() if isinstance(dtype, type) else dtype

"""JSON lines: one object on each line, read by Arrow under the pinned types, nested values included.

A field that the pinned types do not know, a value of another type, and a number that does not fit are errors of their
record: Arrow refuses them, and nothing is dropped or bent. Arrow 26 itself must never see a bare `null` where an object
is expected (it crashes) nor invalid UTF-8 (it does not look), so the bytes are looked at first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import orjson
import polars as pl
import pyarrow as pa
from pyarrow import json as arrow_json

from dataflow.connectors.file import marks
from dataflow.connectors.file.csv import is_temporal, temporal
from dataflow.connectors.file.lines import Line, LineParser
from dataflow.connectors.file.rejects import Refusal
from dataflow.errors import Corrupt, Rejected
from dataflow.expressions import type_name

_BLOCK = 4 << 20  # Arrow parses so many bytes in one thread


def arrow_type(dtype: pl.DataType) -> Any:
    """How Arrow's JSON reader is to read a type; dates and times as text first."""
    if isinstance(dtype, pl.List):
        return pa.list_(arrow_type(cast(pl.DataType, dtype.inner)))
    if isinstance(dtype, pl.Struct):
        return pa.struct([(part.name, arrow_type(cast(pl.DataType, part.dtype))) for part in dtype.fields])
    if isinstance(dtype, pl.String | pl.Null) or is_temporal(dtype):
        return pa.string()
    if isinstance(dtype, pl.Decimal):
        return pa.decimal128(dtype.precision, dtype.scale)
    return pl.Series(dtype=dtype).to_arrow().type


class JsonlParser(LineParser):
    def __init__(
        self, schema: pl.Schema, wanted: Sequence[str], max_record: int, *, extra: bool = False, line_end: bytes = b"\n"
    ) -> None:
        """`extra`: fields outside the schema are left out on purpose, because the definition chose columns."""
        super().__init__(max_record, line_end)
        self._schema = schema
        self._wanted = tuple(wanted)
        self._extra = extra
        if any(_nested_temporal(dtype) for dtype in schema.dtypes()):
            raise Rejected("dates and times inside lists or structs of JSON cannot be declared", code="BAD_SCHEMA")
        self._options = arrow_json.ParseOptions(
            explicit_schema=pa.schema([(name, arrow_type(dtype)) for name, dtype in schema.items()]),
            unexpected_field_behavior="ignore" if extra else "error",
        )
        self._temporal = {name: dtype for name, dtype in schema.items() if is_temporal(dtype) and name in self._wanted}

    def rows(self, data: bytes, lines: int) -> pl.DataFrame | None:
        if not self._one_object_a_line(data):
            return None
        rows = self._table(data, len(data) if not marks.lines_within(data, self.line_end, _BLOCK // 2) else _BLOCK)
        if rows is None or rows.height != lines:
            return None
        return self._finished(rows)

    def _one_object_a_line(self, data: bytes) -> bool:
        """Whether each line begins with `{` and nothing but the rest of its value follows any `}`."""
        column = marks.view(data)
        end = self.line_end
        starts = marks.followers(column, end[0])
        return (
            data[:1] == b"{" and marks.only(starts, b"{") and marks.only(marks.followers(column, 125), b",]}\r" + end)
        )

    def _table(self, data: bytes, block: int) -> pl.DataFrame | None:
        """What Arrow makes of lines of one object each; None where it refuses any of them."""
        try:
            table = arrow_json.read_json(
                pa.BufferReader(data),
                read_options=arrow_json.ReadOptions(block_size=block),
                parse_options=self._options,
            )
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
        if not self._schema:
            return pl.DataFrame(height=table.num_rows)
        return cast(pl.DataFrame, pl.from_arrow(table.select(list(self._schema))))

    def _finished(self, rows: pl.DataFrame) -> pl.DataFrame | None:
        rows = rows.select(self._wanted)
        if not self._temporal:
            return rows
        done = rows.with_columns(temporal(pl.col(name), dtype).alias(name) for name, dtype in self._temporal.items())
        same = all(done.get_column(name).null_count() == rows.get_column(name).null_count() for name in self._temporal)
        return done if same else None

    def values(self, lines: Sequence[Line]) -> tuple[pl.DataFrame, list[Refusal]]:
        good: list[tuple[Line, dict[str, Any]]] = []
        refused: list[Refusal] = []
        for line in lines:
            if not line.text.strip():
                continue
            try:
                value = orjson.loads(line.text)
            except orjson.JSONDecodeError as error:
                refused.append(Refusal("BAD_JSON", f"not JSON: {error}", line.line, line.text))
                continue
            if isinstance(value, dict):
                good.append((line, value))
            else:
                refused.append(Refusal("BAD_JSON", "not a JSON object", line.line, line.text))
        rows, bad = self._checked(good)
        return rows, refused + bad

    def _checked(self, good: list[tuple[Line, dict[str, Any]]]) -> tuple[pl.DataFrame, list[Refusal]]:
        """Arrow decides about records; why it refuses one is found out here."""
        if not good:
            return pl.Schema({name: self._schema[name] for name in self._wanted}).to_frame(), []
        rows = self._objects([line for line, _ in good])
        if rows is not None:
            return rows, []
        if len(good) == 1:
            line, value = good[0]
            code, why = self._misfit(value)
            return self._checked([])[0], [Refusal(code, why, line.line, line.text)]
        half = len(good) // 2
        (above, first), (below, second) = self._checked(good[:half]), self._checked(good[half:])
        return pl.concat([above, below]), first + second

    def _objects(self, lines: Sequence[Line]) -> pl.DataFrame | None:
        data = b"".join(line.text + b"\n" for line in lines)
        rows = self._table(data, len(data) + 1)
        if rows is not None and rows.height != len(lines):
            raise Corrupt(f"{len(lines)} JSON records were read as {rows.height}")
        return None if rows is None else self._finished(rows)

    def _misfit(self, value: dict[str, Any]) -> tuple[str, str]:
        whole = pl.Struct(dict(self._schema))
        return misfit(value, whole, "", extra=self._extra) or ("BAD_VALUE", "the record does not fit the pinned types")


def _nested_temporal(dtype: Any, *, inside: bool = False) -> bool:
    if isinstance(dtype, pl.List):
        return _nested_temporal(dtype.inner, inside=True)
    if isinstance(dtype, pl.Struct):
        return any(_nested_temporal(part.dtype, inside=True) for part in dtype.fields)
    return inside and is_temporal(dtype)


def misfit(value: object, dtype: Any, path: str, *, extra: bool = False) -> tuple[str, str] | None:
    """Code and message of the first place where a JSON value is not of its type; None where it is."""
    if value is None:
        return None
    if isinstance(dtype, pl.Struct) and isinstance(value, dict):
        parts = {part.name: part.dtype for part in dtype.fields}
        for name, inner in value.items():
            place = f"{path}.{name}" if path else name
            if name not in parts:
                if extra:
                    continue
                return "UNKNOWN_FIELD", f"the field {place} is not among the columns that were found or declared"
            if found := misfit(inner, parts[name], place, extra=extra):
                return found
        return None
    if isinstance(dtype, pl.List) and isinstance(value, list):
        all_inner = (misfit(inner, dtype.inner, f"{path}[{at}]", extra=extra) for at, inner in enumerate(value))
        return next((bad for bad in all_inner if bad), None)
    if _is_of(value, dtype):
        return None
    return "BAD_VALUE", f"{path} is not {type_name(dtype)}: {orjson.dumps(value).decode()[:80]}"


def _is_of(value: object, dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.Boolean):
        return isinstance(value, bool)
    if dtype.is_integer():
        return isinstance(value, int) and not isinstance(value, bool) and _fits(value, dtype)
    if dtype.is_float():
        return isinstance(value, int | float) and not isinstance(value, bool)
    if is_temporal(dtype):
        text = pl.Series("v", [value if isinstance(value, str) else None], dtype=pl.String).to_frame()
        return text.select(temporal(pl.col("v"), dtype)).item() is not None
    return isinstance(value, str) if isinstance(dtype, pl.String) else not isinstance(value, dict | list)


def _fits(value: int, dtype: pl.DataType) -> bool:
    try:
        pl.Series([value], dtype=dtype)
    except (OverflowError, TypeError):
        return False
    return True

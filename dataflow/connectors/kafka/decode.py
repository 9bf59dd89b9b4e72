"""Values of messages to columns, whole batches at once. Where one of them is bad, they are looked at one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, cast

import orjson
import polars as pl

from dataflow.connectors.kafka.records import Buffer, Values
from dataflow.errors import Rejected
from dataflow.expressions import type_name

VALUE = "value"
"""The column of formats that have only one."""


class Format(StrEnum):
    JSON = "json"
    STRING = "string"
    BYTES = "bytes"
    AVRO = "avro"
    PROTOBUF = "protobuf"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that could not be read: which of the batch, a stable code, and why."""

    index: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows of the messages `kept` (indices; None: all of them), and why the others are not among them."""

    rows: pl.DataFrame
    kept: list[int] | None = None
    refused: Sequence[Refusal] = ()


class Decoder(Protocol):
    schema: pl.Schema

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Rows in the order of the messages. A message without a value (a tombstone) is a row of NULLs."""


class BytesDecoder:
    schema = pl.Schema({VALUE: pl.Binary()})

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        return Decoded(pl.DataFrame({VALUE: _column(values)}))


class StringDecoder:
    schema = pl.Schema({VALUE: pl.String()})

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        text, bad = utf8(_column(values))
        if not bad:
            return Decoded(text.to_frame())
        unreadable = set(bad)
        kept = [index for index in range(len(values)) if index not in unreadable]
        refused = [Refusal(index, "BAD_TEXT", "the value is not UTF-8") for index in bad]
        return Decoded(text.gather(kept).to_frame(), kept, refused)


class JsonDecoder:
    """One JSON object a message. Fields outside the schema are left out, missing ones are NULL; a value that is not of
    its column's type refuses the message, but a text column takes any value as its JSON text."""

    def __init__(self, schema: pl.Schema) -> None:
        for name, dtype in schema.items():
            if _wire(dtype) is None:
                raise Rejected(f"column {name!r}: {type_name(dtype)} cannot be read from JSON", code="BAD_SCHEMA")
        self.schema = schema
        self._wire = {name: cast(pl.DataType, _wire(dtype)) for name, dtype in schema.items()}
        self._cast = {name: schema[name] for name, dtype in self._wire.items() if dtype != schema[name]}

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        if isinstance(values, Values) and (text := values.lines()) is not None:
            rows, _ = self._read(text, len(values))
            if rows is not None:
                return Decoded(rows)
        lines = [b"{}" if value is None else value for value in values]
        rows, _ = self._parse(lines)
        return Decoded(rows) if rows is not None else self._one_by_one(lines)

    def _parse(self, lines: Sequence[bytes]) -> tuple[pl.DataFrame | None, str]:
        """The rows of messages that all hold one object of the schema; otherwise None, and what Polars said."""
        if not lines:
            return self.schema.to_frame(), ""
        text = b"\n".join(lines)
        if text.count(b"\n") != len(lines) - 1:
            return None, ""  # a line break inside a message would make two of it
        return self._read(text, len(lines))

    def _read(self, text: bytes | Buffer, count: int) -> tuple[pl.DataFrame | None, str]:
        """The same of so many lines."""
        if not count:
            return self.schema.to_frame(), ""
        try:
            # As bytes: of each file object that Polars 2.1 is given it keeps some memory for ever.
            rows = pl.read_ndjson(text if isinstance(text, bytes) else text.tobytes(), schema=self._wire)
            if self._cast:
                rows = rows.with_columns(pl.col(name).cast(dtype) for name, dtype in self._cast.items())
        except pl.exceptions.PolarsError as error:
            return None, str(error).partition("\n")[0]
        return (rows, "") if rows.height == count else (None, "")

    def _one_by_one(self, lines: Sequence[bytes]) -> Decoded:
        objects: list[tuple[int, bytes]] = []
        refused: list[Refusal] = []
        for index, line in enumerate(lines):
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                refused.append(Refusal(index, "BAD_JSON", f"not JSON: {error}"))
                continue
            if isinstance(value, dict):
                objects.append((index, line.replace(b"\n", b" ")))  # outside of strings only: JSON escapes those
            else:
                refused.append(Refusal(index, "BAD_JSON", "not a JSON object"))
        rows, kept, unfit = self._fitting(objects)
        return Decoded(rows, kept, sorted([*refused, *unfit], key=lambda bad: bad.index))

    def _fitting(self, objects: list[tuple[int, bytes]]) -> tuple[pl.DataFrame, list[int], list[Refusal]]:
        """Halves what Polars refuses until each misfit stands alone."""
        rows, why = self._parse([line for _, line in objects])
        if rows is not None:
            return rows, [index for index, _ in objects], []
        if len(objects) == 1:
            message = why or "the message does not fit the columns"
            return self.schema.to_frame(), [], [Refusal(objects[0][0], "BAD_VALUE", message)]
        half = len(objects) // 2
        above, first, bad = self._fitting(objects[:half])
        below, second, worse = self._fitting(objects[half:])
        return pl.concat([above, below]), first + second, bad + worse


def make_decoder(kind: Format, columns: pl.Schema) -> Decoder:
    """The decoder of a format. Raises `Rejected` (BAD_SCHEMA) for columns that it cannot read."""
    if kind is Format.JSON:
        return JsonDecoder(columns)
    return StringDecoder() if kind is Format.STRING else BytesDecoder()


def utf8(column: pl.Series) -> tuple[pl.Series, list[int]]:
    """Bytes as text, and the indices of those that are not UTF-8 (their text is NULL)."""
    try:
        return column.cast(pl.String), []
    except pl.exceptions.ComputeError:  # some are not: which, is only found by looking at each
        values = column.to_list()
        bad = [index for index, value in enumerate(values) if value is not None and not _is_text(value)]
        for index in bad:
            values[index] = None
        return pl.Series(column.name, values, dtype=pl.Binary).cast(pl.String), bad


def _column(values: Sequence[bytes | None]) -> pl.Series:
    column = values.series() if isinstance(values, Values) else pl.Series(values, dtype=pl.Binary)
    return column.alias(VALUE)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _wire(dtype: Any) -> pl.DataType | None:
    """How Polars is to read a type from JSON before it is cast; None for what it cannot. Numbers that a float cannot
    hold are read as their text."""
    match dtype:
        case pl.Boolean() | pl.Int64() | pl.Float64() | pl.String() | pl.Date() | pl.Datetime():
            return cast(pl.DataType, dtype)
        case pl.Int8() | pl.Int16() | pl.Int32() | pl.UInt8() | pl.UInt16() | pl.UInt32():
            return pl.Int64()
        case pl.Float32():
            return pl.Float64()
        case pl.UInt64() | pl.Int128() | pl.Decimal() | pl.Time():
            return pl.String()
        case pl.List():
            inner = _wire(_instance(dtype.inner))
            return None if inner is None else pl.List(inner)
        case pl.Struct():
            parts = {part.name: _wire(_instance(part.dtype)) for part in dtype.fields}
            if any(part is None for part in parts.values()):
                return None
            return pl.Struct({name: cast(pl.DataType, part) for name, part in parts.items()})
    return None


def _instance(dtype: Any) -> pl.DataType:
    return dtype() if isinstance(dtype, type) else cast(pl.DataType, dtype)

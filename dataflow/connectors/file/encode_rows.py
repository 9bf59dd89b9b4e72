"""Rows as text: CSV, JSON lines, a JSON array, plain lines. Each format is three functions of whole batches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

import polars as pl

from dataflow.connectors.file.formats import FileFormat
from dataflow.connectors.file.sink_config import FileSinkConfig
from dataflow.connectors.in_memory import in_memory
from dataflow.errors import Rejected

_MARKED = {"utf-8-sig": "utf-8", "utf-16": f"utf-16-{sys.byteorder[0]}e", "utf-32": f"utf-32-{sys.byteorder[0]}e"}
"""Encodings that begin with a byte order mark, and how the text goes on after it."""


class RowFormat(Protocol):
    def start(self) -> bytes:
        """What every file begins with."""

    def rows(self, rows: pl.DataFrame, first: bool) -> bytes | memoryview:
        """These rows; `first` where none came before them in the file."""

    def end(self, empty: bool) -> bytes:
        """What every file ends with."""


def _inner(dtype: Any) -> Iterator[Any]:
    """The type and the types inside it; those inside may be classes rather than instances."""
    yield dtype
    if isinstance(dtype, pl.List | pl.Array):
        yield from _inner(dtype.inner)
    elif isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            yield from _inner(field.dtype)


def _check(schema: pl.Schema, kind: FileFormat) -> None:
    for name, dtype in schema.items():
        parts = list(_inner(dtype))
        if pl.Object in parts:
            raise Rejected(f"column {name!r} holds Python objects, which no file can", code="UNSUPPORTED_TYPE")
        if pl.Binary in parts[1:]:
            raise Rejected(
                f"column {name!r}: bytes inside a {dtype} cannot be written as {kind}",
                code="UNSUPPORTED_TYPE",
                hint="decode them in a map, or write parquet",
            )


def _json_ready(name: str, dtype: pl.DataType) -> pl.Expr:
    """Text where JSON has no type: ISO 8601 with a T, base64. NaN and infinities are null: JSON has no others."""
    if isinstance(dtype, pl.Datetime):
        return pl.col(name).dt.to_string("iso:strict")
    if isinstance(dtype, pl.Binary):
        return pl.col(name).bin.encode("base64")
    return pl.col(name)


def _csv_ready(name: str, dtype: pl.DataType) -> pl.Expr:
    """One field: ISO 8601, base64, and JSON for what is nested."""
    if isinstance(dtype, pl.Datetime):
        return pl.col(name).dt.to_string("iso:strict")
    if isinstance(dtype, pl.Duration):
        return pl.col(name).dt.to_string("iso")
    if isinstance(dtype, pl.Binary):
        return pl.col(name).bin.encode("base64")
    if isinstance(dtype, pl.Struct):
        return pl.when(pl.col(name).is_not_null()).then(pl.col(name).struct.json_encode()).alias(name)
    if isinstance(dtype, pl.List | pl.Array):
        wrapped = pl.struct(pl.col(name).alias("v")).struct.json_encode()  # {"v":[...]}: only structs encode
        return pl.when(pl.col(name).is_not_null()).then(wrapped.str.slice(5).str.head(-1)).alias(name)
    return pl.col(name)


class JsonLines:
    def __init__(self, schema: pl.Schema) -> None:
        self._ready = [_json_ready(name, dtype) for name, dtype in schema.items()]

    def start(self) -> bytes:
        return b""

    def rows(self, rows: pl.DataFrame, first: bool) -> bytes | memoryview:
        return in_memory(rows.select(self._ready).write_ndjson)

    def end(self, empty: bool) -> bytes:
        return b""


class JsonArray(JsonLines):
    """One array, a record a line. A line break inside a string is always escaped, so each one ends a record."""

    def start(self) -> bytes:
        return b"["

    def rows(self, rows: pl.DataFrame, first: bool) -> bytes | memoryview:
        body = bytes(in_memory(rows.select(self._ready).write_ndjson)[:-1]).replace(b"\n", b",\n")
        return b"\n" + body if first else b",\n" + body

    def end(self, empty: bool) -> bytes:
        return b"]\n" if empty else b"\n]\n"


class _Encoded:
    """Text in any encoding, with the byte order mark once where the encoding has one."""

    def __init__(self, config: FileSinkConfig) -> None:
        self._encoding = config.encoding
        self._header = config.header and config.file_format is FileFormat.CSV

    def _begin(self, text: bytes) -> bytes:
        if self._encoding == "utf-8":
            return text
        return text.decode().encode(self._encoding)

    def _bytes(self, text: memoryview) -> bytes | memoryview:
        if self._encoding == "utf-8":
            return text
        try:
            return bytes(text).decode().encode(_MARKED.get(self._encoding, self._encoding))
        except UnicodeEncodeError as error:
            bad = error.object[error.start : error.end]
            raise Rejected(
                f"{bad!r} cannot be written in {self._encoding}", code="ENCODING", hint="use encoding: utf-8"
            ) from error

    def end(self, empty: bool) -> bytes:
        return b""


class Csv(_Encoded):
    """RFC 4180. NULL is an empty field and the empty string `""`, except in a file of one column, where an empty
    line would be no record at all: there both are `""`."""

    def __init__(self, schema: pl.Schema, config: FileSinkConfig) -> None:
        super().__init__(config)
        self._ready = [_csv_ready(name, dtype) for name, dtype in schema.items()]
        if len(schema) == 1:
            self._ready = [self._ready[0].cast(pl.String).fill_null("")]
        self._empty = schema.to_frame()
        self._delimiter = config.delimiter
        self._newline = "\r\n" if config.line_ending == "crlf" else "\n"

    def start(self) -> bytes:
        if not self._header:
            return self._begin(b"")
        return self._begin(bytes(self._csv(self._empty.select(self._ready), header=True)))

    def rows(self, rows: pl.DataFrame, first: bool) -> bytes | memoryview:
        return self._bytes(self._csv(rows.select(self._ready), header=False))

    def _csv(self, rows: pl.DataFrame, *, header: bool) -> memoryview:
        return in_memory(
            partial(rows.write_csv, include_header=header, separator=self._delimiter, line_terminator=self._newline)
        )


class Lines(_Encoded):
    """One column, a line for each row; NULL is an empty line. A value with a line break is refused: as two lines it
    would be two records."""

    def __init__(self, schema: pl.Schema, config: FileSinkConfig) -> None:
        super().__init__(config)
        if len(schema) != 1:
            raise Rejected(
                f"text has one column, the rows have {len(schema)}: {', '.join(schema)}",
                code="UNSUPPORTED_TYPE",
                hint="name one with columns, or write csv or jsonl",
            )
        [(name, dtype)] = schema.items()
        self._ready = _csv_ready(name, dtype).cast(pl.String).fill_null("").alias("line")
        self._newline = "\r\n" if config.line_ending == "crlf" else "\n"

    def start(self) -> bytes:
        return self._begin(b"")

    def rows(self, rows: pl.DataFrame, first: bool) -> bytes | memoryview:
        lines = rows.select(self._ready)
        if lines.get_column("line").str.contains("\n", literal=True).any():
            raise Rejected("a value with a line break is not one line of text", code="BAD_RECORD", hint="use jsonl")
        write = partial(lines.write_csv, include_header=False, quote_style="never", line_terminator=self._newline)
        return self._bytes(in_memory(write))


def make_format(schema: pl.Schema, config: FileSinkConfig) -> RowFormat:
    """The format of these columns. Raises `Rejected` (UNSUPPORTED_TYPE) for what it cannot hold."""
    kind = config.file_format
    _check(schema, kind)
    if kind is FileFormat.CSV:
        return Csv(schema, config)
    if kind is FileFormat.TEXT:
        return Lines(schema, config)
    return JsonArray(schema) if kind is FileFormat.JSON else JsonLines(schema)

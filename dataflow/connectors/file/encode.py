"""Frames to the bytes of one file, stopping at any epoch and going on in any process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import polars as pl

from dataflow.connectors.file.encode_codec import make_codec
from dataflow.connectors.file.encode_parquet import ParquetEncoder
from dataflow.connectors.file.encode_rows import make_format
from dataflow.connectors.file.formats import FileFormat
from dataflow.connectors.file.sink_config import FileSinkConfig


class Encoder(Protocol):
    """The concatenation of all that its methods return is the file."""

    def add(self, rows: pl.DataFrame) -> list[bytes | memoryview]:
        """Some bytes; rows may be held back for larger blocks."""

    def flush(self) -> list[bytes | memoryview]:
        """The rest of all rows added: the file can be continued or finished by another encoder from `state()`."""

    def state(self) -> dict[str, Any]:
        """JSON, right after a flush."""

    def finish(self, read: Callable[[int, int], bytes]) -> list[bytes | memoryview]:
        """What makes the bytes so far a valid file. `read(length, offset)` reads back what was written."""


class RowEncoder:
    """A row format under a codec."""

    def __init__(self, schema: pl.Schema, config: FileSinkConfig, state: Mapping[str, Any] | None) -> None:
        self._format = make_format(schema, config)
        self._codec = make_codec(config.codec, config.compression_level, state["codec"] if state else None)
        self._rows: int = state["rows"] if state else 0
        self._begun = state is not None and bool(state["begun"])

    def _begin(self) -> list[bytes | memoryview]:
        if self._begun:
            return []
        self._begun = True
        start = self._format.start()
        return self._codec.add(start) if start else []

    def add(self, rows: pl.DataFrame) -> list[bytes | memoryview]:
        if rows.is_empty():
            return []
        out = self._begin()
        out += self._codec.add(self._format.rows(rows, first=self._rows == 0))
        self._rows += rows.height
        return out

    def flush(self) -> list[bytes | memoryview]:
        return self._codec.flush()

    def state(self) -> dict[str, Any]:
        return {"rows": self._rows, "begun": self._begun, "codec": self._codec.state()}

    def finish(self, read: Callable[[int, int], bytes]) -> list[bytes | memoryview]:
        out = self._begin()
        if end := self._format.end(empty=self._rows == 0):
            out += self._codec.add(end)
        return out + self._codec.finish()


def make_encoder(schema: pl.Schema, config: FileSinkConfig, state: Mapping[str, Any] | None = None) -> Encoder:
    """The encoder of these columns, from the start of a file or from the `state()` of an earlier one.

    Raises `Rejected` (UNSUPPORTED_TYPE) where the format cannot hold a column.
    """
    if config.file_format is FileFormat.PARQUET:
        return ParquetEncoder(schema, config, state)
    return RowEncoder(schema, config, state)

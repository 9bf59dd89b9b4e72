"""What was found when the run was planned, as the JSON text that the whole generation is read under."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import cast

import polars as pl
import pyarrow as pa

from dataflow.connectors.file.formats import FileFormat
from dataflow.errors import Corrupt


@dataclass(frozen=True, slots=True)
class Pin:
    """`schema` is what is read; `row_bytes` the bytes of input behind one row, about."""

    format: FileFormat
    schema: pl.Schema
    row_bytes: int

    def text(self) -> str:
        types = base64.b64encode(self.schema.to_frame().to_arrow().schema.serialize()).decode()
        return json.dumps({"v": 1, "format": self.format, "schema": types, "row_bytes": self.row_bytes})


def pinned(text: str) -> Pin:
    try:
        fields = json.loads(text)
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(fields["schema"])))
        frame = cast(pl.DataFrame, pl.from_arrow(schema.empty_table()))
        return Pin(FileFormat(fields["format"]), frame.schema, int(fields["row_bytes"]))
    except (ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise Corrupt(f"not the pin of a file source: {text[:200]!r}") from error

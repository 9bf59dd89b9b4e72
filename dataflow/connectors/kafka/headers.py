"""Headers of messages that were read, passed on to those that are written."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from dataflow.connectors.kafka.pack import BINARY
from dataflow.errors import InvalidSpec, Problem


def checked_headers(column: str | None, schema: pl.Schema) -> str | None:
    """The column, where it holds headers as the source's metadata does. Raises `InvalidSpec` (path `headers_from`)."""
    if column is None:
        return None
    if column not in schema:
        hint = "metadata: [headers] of the kafka source gives _headers"
        raise InvalidSpec([Problem("headers_from", f"there is no column {column!r}", hint=hint)])
    match schema[column]:
        case pl.List(inner=pl.Struct() as pair) if {field.name for field in pair.fields} == {"name", "value"}:
            return column
    raise InvalidSpec([Problem("headers_from", f"the column {column!r} holds no headers: a list of name and value")])


def passed_on(headers: pl.Series, but: Sequence[str] = ()) -> list[tuple[str, pa.LargeBinaryArray]]:
    """A column of values for each header (NULL where a message has it not), in the order of their first appearance.
    A name that comes twice in a message has two columns. Left out: those called like `but`, and headers of no value."""
    flat = (
        pl.DataFrame({"row": pl.int_range(len(headers), eager=True), "header": headers})
        .explode("header")
        .drop_nulls("header")
        .unnest("header")
        .filter(pl.col("value").is_not_null() & ~pl.col("name").is_in(list(but)))
        .with_columns(pl.col("value").cast(pl.Binary), time=pl.int_range(pl.len()).over("row", "name"))
    )
    every = pl.DataFrame({"row": pl.int_range(len(headers), eager=True)})
    found = []
    for one in flat.partition_by("name", "time", maintain_order=True):
        column = every.join(one.select("row", "value"), on="row", how="left", maintain_order="left")["value"]
        found.append((str(one["name"][0]), column.to_arrow().cast(BINARY)))
    return found

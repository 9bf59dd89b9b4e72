"""What a message carries beside its value, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import accumulate, chain
from typing import cast

import polars as pl
import pyarrow as pa

from dataflow.connectors.kafka.decode import Refusal, utf8
from dataflow.connectors.kafka.records import Records


class MetadataField(StrEnum):
    KEY = "key"
    TOPIC = "topic"
    PARTITION = "partition"
    OFFSET = "offset"
    TIMESTAMP = "timestamp"
    HEADERS = "headers"


DEFAULT_NAMES: Mapping[MetadataField, str] = {field: f"_{field}" for field in MetadataField}


class Metadata:
    """Columns of some fields under some names. Keys and header values are text or bytes; timestamps UTC, by
    milliseconds; headers a list of structs `name`, `value`, in order, as a name may come twice."""

    def __init__(self, names: Mapping[MetadataField, str], *, text: bool) -> None:
        self._names = dict(names)
        self._text = text
        content: pl.DataType = pl.String() if text else pl.Binary()
        kinds: dict[MetadataField, pl.DataType] = {
            MetadataField.KEY: content,
            MetadataField.TOPIC: pl.String(),
            MetadataField.PARTITION: pl.Int32(),
            MetadataField.OFFSET: pl.Int64(),
            MetadataField.TIMESTAMP: pl.Datetime("ms", "UTC"),
            MetadataField.HEADERS: pl.List(pl.Struct({"name": pl.String(), "value": content})),
        }
        self.schema = pl.Schema({name: kinds[field] for field, name in self._names.items()})

    def columns(self, topic: str, partition: int, messages: Records) -> tuple[list[pl.Series], list[Refusal]]:
        """One column for each field, of messages of one partition; and which cannot be text as they should."""
        made: list[pl.Series] = []
        refused: dict[int, Refusal] = {}
        for field, name in self._names.items():
            if field is MetadataField.TOPIC:
                column, bad = pl.repeat(topic, len(messages), dtype=pl.String, eager=True), list[int]()
            elif field is MetadataField.PARTITION:
                column, bad = pl.repeat(partition, len(messages), dtype=pl.Int32, eager=True), []
            else:
                column, bad = self._column(field, messages)
            made.append(column.alias(name))
            for index in bad:
                code = "BAD_KEY" if field is MetadataField.KEY else "BAD_HEADER"
                refused.setdefault(index, Refusal(index, code, f"the message's {field} cannot be read as text (UTF-8)"))
        return made, list(refused.values())

    def _column(self, field: MetadataField, messages: Records) -> tuple[pl.Series, list[int]]:
        match field:
            case MetadataField.KEY:
                return utf8(messages.keys) if self._text else (messages.keys, [])
            case MetadataField.OFFSET:
                return pl.Series(messages.offsets), []
            case MetadataField.TIMESTAMP:
                times = pl.Series(messages.timestamps)
                known = times.to_frame("t").select(pl.when(pl.col("t") >= 0).then(pl.col("t")))  # -1: none was given
                return known.to_series().cast(pl.Datetime("ms", "UTC")), []
            case _:
                return self._headers(messages.headers())

    def _headers(self, headers: Sequence[Sequence[tuple[str, bytes | None]]]) -> tuple[pl.Series, list[int]]:
        flat = list(chain.from_iterable(headers))
        values = pl.Series([value for _, value in flat], dtype=pl.Binary)
        ends = [0, *accumulate(len(some) for some in headers)]
        bad: list[int] = []
        if self._text:
            values, unreadable = utf8(values)
            rows = pl.Series(ends[1:], dtype=pl.Int64).search_sorted(pl.Series(unreadable, dtype=pl.Int64), "right")
            bad = rows.unique().to_list()
        names = pl.Series([name for name, _ in flat], dtype=pl.String)
        pairs = pl.DataFrame({"name": names, "value": values}).to_struct().to_arrow()
        listed = pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), pairs)
        return cast(pl.Series, pl.from_arrow(listed)), bad

"""What was found when the run was planned, as the JSON text that the whole generation is read under."""

from __future__ import annotations

import json
from dataclasses import dataclass

import polars as pl

from dataflow.errors import Corrupt
from dataflow.schemas import format_schema, parse_schema


@dataclass(frozen=True, slots=True)
class Pin:
    """First offset of each partition, the offset after its last one (None: endless), and the value's columns."""

    starts: tuple[int, ...]
    ends: tuple[int, ...] | None
    columns: pl.Schema

    def text(self) -> str:
        found = {"v": 1, "start": self.starts, "end": self.ends, "columns": format_schema(self.columns)}
        return json.dumps(found, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def parse(cls, text: str) -> Pin:
        """Raises `Corrupt` where `text` is not the pin of a Kafka source."""
        try:
            match json.loads(text):
                case {"v": 1, "start": list(starts), "end": list() | None as ends, "columns": dict(columns)}:
                    return cls(tuple(starts), None if ends is None else tuple(ends), parse_schema(columns))
        except ValueError as error:
            raise Corrupt(f"not the pin of a Kafka source: {text[:200]!r}") from error
        raise Corrupt(f"not the pin of a Kafka source: {text[:200]!r}")

    def range(self, partition: int) -> tuple[int, int | None]:
        """Where that partition begins and ends. Raises `Corrupt` for one that was not there."""
        if partition >= len(self.starts):
            raise Corrupt(f"partition {partition} is not among the {len(self.starts)} that were found")
        return self.starts[partition], None if self.ends is None else self.ends[partition]

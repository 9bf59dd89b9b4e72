"""What was found when the run was planned, as the JSON text that the whole generation is read under."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from dataflow.errors import Corrupt
from dataflow.schemas import format_schema, parse_schema


@dataclass(frozen=True, slots=True)
class PinnedTopic:
    """First offset of each partition, and the offset after its last one (None: endless). `id` as in `Topic`."""

    id: str
    starts: tuple[int, ...]
    ends: tuple[int, ...] | None

    def range(self, partition: int) -> tuple[int, int | None]:
        """Where that partition begins and ends. Raises `Corrupt` for one that was not there."""
        if partition >= len(self.starts):
            raise Corrupt(f"partition {partition} is not among the {len(self.starts)} that were found")
        return self.starts[partition], None if self.ends is None else self.ends[partition]


@dataclass(frozen=True, slots=True)
class Pin:
    """`columns` are those of the value; `extra` is what its format remembers (a schema of a registry)."""

    topics: Mapping[str, PinnedTopic]
    columns: pl.Schema
    extra: str = ""

    def text(self) -> str:
        topics = {
            name: {"id": topic.id, "start": topic.starts, "end": topic.ends} for name, topic in self.topics.items()
        }
        found: dict[str, Any] = {"v": 2, "topics": topics, "columns": format_schema(self.columns)}
        if self.extra:
            found["extra"] = self.extra
        return json.dumps(found, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def parse(cls, text: str, topic: str = "") -> Pin:
        """Raises `Corrupt` where `text` is not the pin of a Kafka source. Pins of version 1 do not name their one
        topic, which is `topic`."""
        try:
            match json.loads(text):
                case {"v": 2, "topics": dict(topics), "columns": dict(columns), **rest}:
                    return cls(
                        {name: _topic(written) for name, written in topics.items()},
                        parse_schema(columns),
                        str(rest.get("extra", "")),
                    )
                case {"v": 1, "start": list(), "end": list() | None, "columns": dict(columns)} as written:
                    return cls({topic: _topic({"id": "", **written})}, parse_schema(columns))
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"not the pin of a Kafka source: {text[:200]!r}") from error
        raise Corrupt(f"not the pin of a Kafka source: {text[:200]!r}")

    def of(self, topic: str) -> PinnedTopic:
        """Raises `Corrupt` for a topic that was not there."""
        if topic not in self.topics:
            raise Corrupt(f"the topic {topic!r} is not among those that were planned")
        return self.topics[topic]


def _topic(written: Mapping[str, Any]) -> PinnedTopic:
    ends = written["end"]
    return PinnedTopic(str(written["id"]), tuple(written["start"]), None if ends is None else tuple(ends))

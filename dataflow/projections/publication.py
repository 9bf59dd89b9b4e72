"""Projection: every event as a message on a Kafka topic, for others, each exactly once.

It is a lane like those of pipelines: the journal is its split, a batch of events its epoch, and the receipt, written in
the same transaction, says up to which position it has come. Another projector that takes over fences this one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import polars as pl

from dataflow.connectors.kafka.cluster import Cluster
from dataflow.connectors.kafka.receipts import Receipts
from dataflow.connectors.kafka.sink import KafkaSink
from dataflow.connectors.kafka.sink_config import KafkaSinkConfig
from dataflow.connectors.kafka.writer import KafkaWriter
from dataflow.domain.flow import Counters, Lane, Position, Receipt
from dataflow.domain.record import EventRecord
from dataflow.errors import Corrupt
from dataflow.journal.base import Entry
from dataflow.journal.sql_statements import time_text
from dataflow.projections.base import following
from dataflow.seams import Context

SPLIT: Final = "journal"
SCHEMA: Final = pl.Schema({"stream": pl.String, "type": pl.String, "value": pl.String})
PARTITIONS: Final = 3
"""Of a topic that is made; an event's key is its stream, so each pipeline's events stay in order."""

PEEK: Final = 5.0
"""Seconds that a look at the position waits: for the brokers, and for a transaction under way."""


class Publication:
    """`Projection` to `topic` at `brokers`; the topic is made where there is none. Readers ask for `read_committed`."""

    name: Final = "publication"

    def __init__(self, brokers: str, topic: str) -> None:
        self._config = config = KafkaSinkConfig(
            brokers=brokers,
            topic=topic,
            format="string",
            key="stream",
            value="value",
            headers={"type": "type"},
            preset="production",
            partitions=PARTITIONS,
            receipts_topic=f"{topic}.position",
        )
        name = f"publication of {topic}"  # no pipeline has such a name
        self._lane = Lane(pipeline=name, generation=1, sink=topic, number=0, splits=(SPLIT,))
        self._sink = KafkaSink(config, Context(pipeline=name, base=Path()))
        self._writer: KafkaWriter | None = None

    @property
    def topics(self) -> Sequence[str]:
        """The topic, and the one of its positions."""
        return (str(self._config.topic), self._config.receipts_topic)

    async def missing(self) -> Sequence[str]:
        """Those of the topics that are not there."""
        there = await Cluster(self._config, Path()).partitions(*self.topics)
        return [topic for topic in self.topics if topic not in there]

    async def prepare(self) -> None:
        """Make what is missing. Repeatable; a projector at work is left alone."""
        await self._sink.prepare(SCHEMA, [self._lane])

    async def __aenter__(self) -> Self:
        await self.prepare()
        self._writer = await self._sink.open(self._lane, SCHEMA).__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._writer is not None:
            await self._writer.__aexit__(*exc)
            self._writer = None

    async def position(self) -> int:
        receipt = await self._open.last_receipt()
        return int(receipt.positions[SPLIT]) if receipt else 0

    async def peek(self) -> int:
        """See `Peeking`: entering would fence the projector that publishes."""
        cluster = Cluster(self._config.model_copy(update={"timeout": PEEK}), Path())
        if self._config.receipts_topic not in await cluster.partitions(self._config.receipts_topic):
            return 0
        receipt = await Receipts(cluster, self._config.receipts_topic).last(self._lane, PEEK)
        return int(receipt.positions[SPLIT]) if receipt else 0

    async def apply(self, entries: Sequence[Entry]) -> None:
        writer = self._open
        last = await writer.last_receipt()
        new = following(entries, int(last.positions[SPLIT]) if last else 0)
        if not new:
            return
        values = [{"stream": entry.record.stream, "type": entry.record.type, "value": message(entry)} for entry in new]
        await writer.write(pl.DataFrame(values, schema=SCHEMA))
        count = (last.counters.read if last else 0) + len(new)
        await writer.commit(
            Receipt(
                pipeline=self._lane.pipeline,
                generation=1,
                lane=self._lane.name,
                epoch=(last.epoch if last else 0) + 1,
                positions={SPLIT: Position(str(new[-1].position))},
                counters=Counters(read=count, written=count),
            )
        )

    @property
    def _open(self) -> KafkaWriter:
        if self._writer is None:
            raise Corrupt("the publication is not open: use it inside `async with`")
        return self._writer


def message(entry: Entry) -> str:
    """The event as one JSON object: its position, and its record as it is stored."""
    record = entry.record
    told: dict[str, Any] = {name: getattr(record, name) for name in EventRecord.__slots__}
    told |= {"position": entry.position, "time": time_text(record.time), "tags": list(record.tags)}
    return json.dumps(told, separators=(",", ":"))

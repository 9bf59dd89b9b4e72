"""The source: partitions as splits, read committed, each from the offset that its sink's receipt says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Self

import polars as pl
from aiokafka import TopicPartition

from dataflow.components import Component, Kind
from dataflow.connectors.kafka import offsets, planning
from dataflow.connectors.kafka.cluster import Cluster
from dataflow.connectors.kafka.codec import Codec
from dataflow.connectors.kafka.decode import Decoder, Refusal
from dataflow.connectors.kafka.errors import translated
from dataflow.connectors.kafka.lag import Ends
from dataflow.connectors.kafka.metadata import Metadata
from dataflow.connectors.kafka.pin import Pin, PinnedTopic
from dataflow.connectors.kafka.position import split_name, split_of
from dataflow.connectors.kafka.reader import Batch, read_partition
from dataflow.connectors.kafka.source_config import KafkaSourceConfig
from dataflow.connectors.kafka.topology import Topic, check_same, check_there, planned_topics
from dataflow.connectors.numbered import offset_of, position
from dataflow.domain.flow import Position
from dataflow.errors import Rejected
from dataflow.seams import REJECTS, Chunk, Context, Discovery

CHUNK_ROWS = 50_000
"""Messages of one chunk at most: about what a fetch brings of small ones."""


class KafkaSource:
    """Splits are `<topic>-<partition>`, positions the offset to read next. Where reading begins, and ends, and which
    columns there are is decided by `discover` and pinned, and so is the identity of the topics."""

    def __init__(self, config: KafkaSourceConfig, context: Context) -> None:
        self.bounded = config.until == "end"
        self._config = config
        self._cluster = Cluster(config, context.base, context.timeout)
        self._metadata = Metadata(config.metadata_names, text=config.metadata_format == "string")
        self._topics: dict[str, Topic | None] = {}
        self._asking = asyncio.Lock()
        self._codec = Codec(config, self._cluster, context.base)
        self._ends = Ends(self._cluster)
        self._entered = False
        self._chunk_rows = min(CHUNK_ROWS, context.chunk_rows or CHUNK_ROWS)

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._ends.close()

    def lag(self, positions: Mapping[str, Position]) -> Mapping[str, int]:
        """See `Lagging`: in offsets. Transaction markers and compacted messages count as if they were there."""
        return self._ends.lag(positions)

    async def discover(self) -> Discovery:
        """See the seam. Raises `NotFound` where there is no such topic, `Rejected` (EMPTY) where columns are to be
        inferred from topics without messages, and what `offsets.starts` raises."""
        topics = await planning.selected(self._cluster, self._config)
        bounds = await planning.bounds_of(self._cluster, topics)
        found = await planning.pinned(self._cluster, self._config, topics, bounds)
        return self._discovery(Pin(found, *await self._codec.found(list(topics), bounds)))

    async def probe(self) -> str:
        """See `Probing`: the topics must be there."""
        topics = await planning.selected(self._cluster, self._config)
        await planning.bounds_of(self._cluster, topics)
        partitions = sum(topic.partitions for topic in topics.values())
        return f"{self._cluster.brokers} answers: {len(topics)} topics, {partitions} partitions"

    async def grown(self, pin: str) -> Discovery | None:
        """See `Growing`. Raises `Rejected` (TOPIC_RECREATED) and `NotFound` for what was planned and is gone."""
        if self.bounded:
            return None
        found = await planning.grown(self._cluster, self._config, self._parse(pin))
        return None if found is None else self._discovery(found)

    async def read(
        self, split: str, start: Position | None, *, pin: str, columns: Sequence[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """See the seam. Raises what `reader.read_partition` raises, and `Corrupt` for positions of another source."""
        pinned = self._parse(pin)
        topic, number = split_of(split)
        begin, end = pinned.of(topic).range(number)
        await self._check(topic, pinned.of(topic))
        at = begin if start is None else offset_of(start)
        decoder = self._codec.decoder(pinned)
        wanted = [name for name in self._schema(pinned.columns) if columns is None or name in columns]
        if self._entered:
            self._ends.watch(TopicPartition(topic, number), at)
        batches = read_partition(self._cluster, topic, number, at, end, self._chunk_rows)
        async with aclosing(batches) as found:
            async for batch in found:
                yield await asyncio.to_thread(self._chunk, batch, decoder, wanted)

    def precedes(self, split: str, one: Position, other: Position) -> bool:
        return offset_of(one) < offset_of(other)

    async def locate(self, split: str, place: int | datetime, *, pin: str) -> Position:
        """See `Locating`: an offset, or the first message at or after a time. Raises what `offsets.starts` raises."""
        topic, number = split_of(split)
        self._parse(pin).of(topic).range(number)
        part = TopicPartition(topic, number)
        wanted = place if isinstance(place, datetime) else {number: place}
        async with self._cluster.consumer({}) as consumer, translated(f"topic {topic!r}", self._cluster.timeout):
            first, ends = await consumer.beginning_offsets([part]), await consumer.end_offsets([part])
            found = await offsets.starts(consumer, topic, wanted, {number: first[part]}, {number: ends[part]})
        return position(found[number])

    async def settle(self, split: str, upto: Position) -> None:
        """Tells the consumer group, where one is named. Nothing is ever read back from it."""
        if self._config.group is None:
            return
        part = TopicPartition(*split_of(split))
        at = offset_of(upto)
        async with (
            self._cluster.consumer({part: at}, group_id=self._config.group) as consumer,
            translated(f"consumer group {self._config.group!r}", self._cluster.timeout),
        ):
            await consumer.commit({part: at})

    def _schema(self, columns: pl.Schema) -> pl.Schema:
        if twice := [name for name in self._metadata.schema if name in columns]:
            raise Rejected(
                f"the messages have a column {twice[0]!r} of their own", code="BAD_SCHEMA", hint="rename it in metadata"
            )
        return pl.Schema({**columns, **self._metadata.schema})

    def _parse(self, pin: str) -> Pin:
        return Pin.parse(pin, self._config.topic if isinstance(self._config.topic, str) else "")

    def _discovery(self, pin: Pin) -> Discovery:
        splits = [split_name(name, number) for name, topic in pin.topics.items() for number in range(len(topic.starts))]
        return Discovery(splits, self._schema(pin.columns), pin.text())

    async def _check(self, name: str, pinned: PinnedTopic) -> None:
        """That the topic is the one that was planned. Asked once for all its partitions."""
        async with self._asking:
            if name not in self._topics:
                planned = {name: len(pinned.starts)}
                self._topics[name] = (await planned_topics(self._cluster, [name], planned)).get(name)
        check_there(name, self._topics[name], len(pinned.starts), self._cluster.brokers)
        if (found := self._topics[name]) is not None:
            check_same(pinned.id, found)

    def _chunk(self, batch: Batch, decoder: Decoder, wanted: Sequence[str]) -> Chunk:
        messages = batch.messages
        values = messages.values
        decoded = decoder.decode(values)
        extra, unreadable = self._metadata.columns(batch.topic, batch.partition, messages)
        rows = decoded.rows
        kept, refused = decoded.kept, list(decoded.refused)
        if unreadable:
            rows, kept, refused = _without(rows, kept, refused, unreadable, len(messages))
        if extra:
            rows = rows.with_columns(column if kept is None else column.gather(kept) for column in extra)
        return Chunk(
            rows if rows.columns == wanted else rows.select(wanted),
            position(batch.next),
            rejected=_rejects(batch, refused) if refused else None,
            bytes_read=values.total,
            caught_up=batch.caught_up,
        )


def _without(
    rows: pl.DataFrame, kept: list[int] | None, refused: list[Refusal], more: list[Refusal], count: int
) -> tuple[pl.DataFrame, list[int], list[Refusal]]:
    """The same without the messages that are refused for another reason; the first reason counts."""
    bad = {refusal.index for refusal in more}
    before = list(range(count)) if kept is None else kept
    stay = [place for place, index in enumerate(before) if index not in bad]
    known = {refusal.index for refusal in refused}
    both = sorted([*refused, *(m for m in more if m.index not in known)], key=lambda refusal: refusal.index)
    return rows[stay], [before[place] for place in stay], both


def _rejects(batch: Batch, refused: Sequence[Refusal]) -> pl.DataFrame:
    """Located as `topic[partition]@offset`; bytes that are not UTF-8 are shown as `\\xff`."""
    rows = []
    for bad in refused:
        where = f"{batch.topic}[{batch.partition}]@{batch.messages.offsets[bad.index]}"
        value = batch.messages.values[bad.index] or b""
        rows.append(("source", bad.code, bad.message, where, value.decode("utf-8", "backslashreplace")))
    return pl.DataFrame(rows, schema=REJECTS, orient="row")


SOURCE = Component(
    Kind.SOURCE,
    "kafka",
    KafkaSourceConfig,
    KafkaSource,
    "Messages of Kafka topics, only those of committed transactions.",
)

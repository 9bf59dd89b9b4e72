"""The source: partitions as splits, read committed, each from the offset that its sink's receipt says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from itertools import chain
from typing import Self

import polars as pl
from aiokafka import TopicPartition

from dataflow.components import Component, Kind
from dataflow.connectors.kafka import offsets
from dataflow.connectors.kafka.cluster import Cluster
from dataflow.connectors.kafka.decode import Decoder, Format, Refusal, make_decoder
from dataflow.connectors.kafka.errors import translated
from dataflow.connectors.kafka.infer import columns_of
from dataflow.connectors.kafka.metadata import Metadata
from dataflow.connectors.kafka.pin import Pin
from dataflow.connectors.kafka.position import offset_of, partition_of, position, split_name
from dataflow.connectors.kafka.reader import Batch, read_partition
from dataflow.connectors.kafka.source_config import KafkaSourceConfig
from dataflow.domain.flow import Position
from dataflow.errors import Rejected
from dataflow.seams import REJECTS, Chunk, Context, Discovery

CHUNK_ROWS = 20_000
"""Messages of one chunk at most: aiokafka makes an object of each, and the event loop waits for that."""

_SAMPLE = 20_000  # messages over all partitions


class KafkaSource:
    """Splits are `<topic>-<partition>`, positions the offset to read next. Where reading begins, and ends, and which
    columns there are is decided by `discover` and pinned. Partitions that are added later belong to the next
    generation."""

    def __init__(self, config: KafkaSourceConfig, context: Context) -> None:
        self.bounded = config.until == "end"
        self._config = config
        self._cluster = Cluster(config, context.base)
        self._metadata = Metadata(config.metadata_names, text=config.metadata_format == "string")
        self._chunk_rows = min(CHUNK_ROWS, context.chunk_rows or CHUNK_ROWS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def discover(self) -> Discovery:
        """See the seam. Raises `Rejected` (EMPTY) where columns are to be inferred from a topic without messages, and
        what `offsets.starts` raises."""
        topic = self._config.topic
        count = await self._cluster.partition_count(topic)
        parts = [TopicPartition(topic, number) for number in range(count)]
        async with self._cluster.consumer({}) as consumer, translated(f"topic {topic!r}", self._cluster.timeout):
            first = {part.partition: at for part, at in (await consumer.beginning_offsets(parts)).items()}
            ends = {part.partition: at for part, at in (await consumer.end_offsets(parts)).items()}
            begin = await offsets.starts(consumer, topic, self._config.start, first, ends)
        columns = await self._columns(first, ends)
        numbers = range(count)
        pin = Pin(
            starts=tuple(begin[number] for number in numbers),
            ends=tuple(max(begin[number], ends[number]) for number in numbers) if self.bounded else None,
            columns=columns,
        )
        return Discovery([split_name(topic, number) for number in numbers], self._schema(columns), pin.text())

    async def read(
        self, split: str, start: Position | None, *, pin: str, columns: Sequence[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """See the seam. Raises what `reader.read_partition` raises, and `Corrupt` for positions of another source."""
        pinned = Pin.parse(pin)
        number = partition_of(split, self._config.topic)
        begin, end = pinned.range(number)
        at = begin if start is None else offset_of(start)
        decoder = make_decoder(self._config.format, pinned.columns)
        wanted = [name for name in self._schema(pinned.columns) if columns is None or name in columns]
        batches = read_partition(self._cluster, self._config.topic, number, at, end, self._chunk_rows)
        async with aclosing(batches) as found:
            async for batch in found:
                yield await asyncio.to_thread(self._chunk, batch, decoder, wanted)

    async def settle(self, split: str, upto: Position) -> None:
        """Tells the consumer group, where one is named. Nothing is ever read back from it."""
        if self._config.group is None:
            return
        part = TopicPartition(self._config.topic, partition_of(split, self._config.topic))
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

    async def _columns(self, first: Mapping[int, int], ends: Mapping[int, int]) -> pl.Schema:
        """The columns of the value: the format's own, declared, or inferred from the first and last messages."""
        if self._config.format is not Format.JSON:
            return make_decoder(self._config.format, pl.Schema()).schema
        if (declared := self._config.declared) is not None:
            return make_decoder(Format.JSON, declared).schema
        each = max(2, min(self._config.sample, _SAMPLE // max(1, len(first))) // 2)
        filled = [number for number in first if ends[number] > first[number]]
        heads = {number: (first[number], ends[number]) for number in filled}
        tails = {n: (ends[n] - each, ends[n]) for n in filled if ends[n] - each > first[n] + each}
        seen = await self._sample(heads, each) + await self._sample(tails, each)
        found = await asyncio.to_thread(columns_of, seen)
        if not found:
            raise Rejected(
                f"the columns of {self._config.topic!r} cannot be told from {len(seen)} messages",
                code="EMPTY",
                hint="declare them with columns: {name: type}",
            )
        return found

    async def _sample(self, ranges: Mapping[int, tuple[int, int]], each: int) -> list[bytes]:
        """At most `each` values from the beginning of every range, in the order of partitions."""
        topic = self._config.topic
        left = {TopicPartition(topic, number): end for number, (_, end) in ranges.items()}
        seen: dict[TopicPartition, list[bytes]] = {part: [] for part in left}
        starts = {part: ranges[part.partition][0] for part in left}
        async with self._cluster.consumer(starts) as consumer, translated(f"topic {topic!r}", self._cluster.timeout):
            while left:
                for part, messages in (await consumer.getmany(*left, timeout_ms=100, max_records=each)).items():
                    seen[part] += [message.value for message in messages if message.value is not None]
                left = {
                    part: end
                    for part, end in left.items()
                    if len(seen[part]) < each and await consumer.position(part) < end
                }
        return list(chain.from_iterable(values[:each] for values in seen.values()))

    def _chunk(self, batch: Batch, decoder: Decoder, wanted: Sequence[str]) -> Chunk:
        messages = batch.messages
        values = [message.value for message in messages]
        decoded = decoder.decode(values)
        extra, unreadable = self._metadata.columns(batch.topic, batch.partition, messages)
        rows = decoded.rows
        kept, refused = decoded.kept, list(decoded.refused)
        if unreadable:
            rows, kept, refused = _without(rows, kept, refused, unreadable, len(messages))
        if extra:
            rows = rows.with_columns(column if kept is None else column.gather(kept) for column in extra)
        return Chunk(
            rows.select(wanted),
            position(batch.next),
            rejected=_rejects(batch, refused) if refused else None,
            bytes_read=sum(map(len, filter(None, values))),
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
        message = batch.messages[bad.index]
        where = f"{batch.topic}[{batch.partition}]@{message.offset}"
        rows.append(
            ("source", bad.code, bad.message, where, (message.value or b"").decode("utf-8", "backslashreplace"))
        )
    return pl.DataFrame(rows, schema=REJECTS, orient="row")


SOURCE = Component(
    Kind.SOURCE,
    "kafka",
    KafkaSourceConfig,
    KafkaSource,
    "Messages of a Kafka topic, only those of committed transactions.",
)

"""One partition, read in order from an offset on, as batches of messages."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from dataflow.connectors.kafka.cluster import Cluster
from dataflow.connectors.kafka.errors import translate, translated
from dataflow.connectors.kafka.offsets import cut_off, lost
from dataflow.errors import DataFlowError, Retryable

FETCH_BYTES = 4 * 2**20
"""What the broker sends of a partition at once, about. A larger message still comes, alone."""

_POLL_MS = 250


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages as aiokafka gives them, and the offset after them."""

    messages: list[Any]
    next: int


async def read_partition(
    cluster: Cluster, topic: str, partition: int, begin: int, end: int | None, most: int
) -> AsyncGenerator[Batch, None]:
    """Messages with offsets from `begin` to before `end` (None: for ever), at most `most` in a batch; the last batch of
    a bounded read ends at `end`, and may be empty.

    Raises `Rejected` (LOST_OFFSETS) where `begin` is not there any more, `Retryable` (CONNECTION_FAILED) where no
    broker has answered for the cluster's timeout, `NotFound` where the topic is gone by then."""
    part = TopicPartition(topic, partition)
    what = f"{topic}[{partition}]"
    at = begin
    if end is not None and at >= end:
        return
    async with cluster.consumer({part: begin}, max_partition_fetch_bytes=FETCH_BYTES) as consumer:
        watch = _Watch(cluster, consumer, part)
        while end is None or at < end:
            async with translated(what):
                try:
                    found = (await consumer.getmany(part, timeout_ms=_POLL_MS, max_records=most)).get(part, [])
                except OffsetOutOfRangeError as error:
                    raise await _out_of_range(consumer, part, at, cluster.timeout) from error
                position = await consumer.position(part)
            if end is not None and position >= end:
                yield Batch([message for message in found if message.offset < end], end)
                return
            if found:
                at = found[-1].offset + 1
                watch.alive()
                yield Batch(found, at)
                watch.alive()
            elif position > at:
                at = position  # markers and what was aborted: nobody need know
            else:
                await watch.check()


class _Watch:
    """aiokafka tries for ever to reach a broker that is gone, and says nothing: this notices."""

    def __init__(self, cluster: Cluster, consumer: AIOKafkaConsumer, part: TopicPartition) -> None:
        self._cluster, self._consumer, self._part = cluster, consumer, part
        self._polled: int | None = None
        self._since = time.monotonic()

    def alive(self) -> None:
        self._since = time.monotonic()

    async def check(self) -> None:
        polled = self._consumer.last_poll_timestamp(self._part)
        if polled != self._polled:
            self._polled = polled
            self.alive()
        elif time.monotonic() - self._since > self._cluster.timeout:
            await self._cluster.partition_count(self._part.topic)
            raise Retryable(
                f"{self._part.topic}[{self._part.partition}]: the broker has not answered a fetch for "
                f"{self._cluster.timeout:g} s",
                code="CONNECTION_FAILED",
            )


async def _out_of_range(consumer: AIOKafkaConsumer, part: TopicPartition, at: int, timeout: float) -> DataFlowError:
    try:
        async with translated(part.topic, timeout):
            first = (await consumer.beginning_offsets([part]))[part]
            if at < first:
                return lost(part.topic, part.partition, at, first)
            return cut_off(part.topic, part.partition, at, (await consumer.end_offsets([part]))[part])
    except KafkaError as error:
        return translate(error, part.topic)

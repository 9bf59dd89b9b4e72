"""One partition, read in order from an offset on, as batches of messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from dataflow.connectors.kafka.cluster import Cluster, check_met
from dataflow.connectors.kafka.errors import translate, translated
from dataflow.connectors.kafka.fetch import Fetched, Fetcher
from dataflow.connectors.kafka.offsets import cut_off, lost
from dataflow.connectors.kafka.records import Records
from dataflow.errors import DataFlowError


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one partition, and the offset after them. `caught_up`: there were no more when they were fetched."""

    topic: str
    partition: int
    messages: Records
    next: int
    caught_up: bool = False


async def read_partition(
    cluster: Cluster, topic: str, partition: int, begin: int, end: int | None, most: int
) -> AsyncGenerator[Batch, None]:
    """Messages with offsets from `begin` to before `end` (None: for ever), at most `most` in a batch; the last batch of
    a bounded read ends at `end`, and may be empty. The next fetch is under way while a batch is worked on; not at the
    end of the log, where it would bring the first message that comes, and no other.

    Raises `Rejected` (LOST_OFFSETS) where `begin` is not there any more, `Retryable` (CONNECTION_FAILED) where no
    broker has answered for the cluster's timeout, `NotFound` where the topic is gone by then."""
    part = TopicPartition(topic, partition)
    at = begin
    if end is not None and at >= end:
        return
    async with _client(cluster, topic) as client:
        fetcher = Fetcher(client, part, cluster.timeout)
        coming = asyncio.ensure_future(fetcher.fetch(at))
        try:
            while True:
                found = await _received(cluster, part, at, coming)
                at = found.next
                if end is not None and at >= end:
                    messages = found.records.within(0, end)
                    at = end
                else:
                    messages = found.records
                    if not found.last:
                        coming = asyncio.ensure_future(fetcher.fetch(at))
                for start in range(0, len(messages), most):
                    some = messages.slice(start, start + most)
                    whole = start + most >= len(messages)
                    yield Batch(
                        topic, partition, some, at if whole else int(some.offsets[-1]) + 1, whole and found.last
                    )
                if end is not None and at >= end:
                    if not len(messages):
                        yield Batch(topic, partition, messages, end)
                    return
                if found.last:
                    coming = asyncio.ensure_future(fetcher.fetch(at))
        finally:
            coming.cancel()
            await asyncio.wait({coming})
            if not coming.cancelled():
                coming.exception()


@asynccontextmanager
async def _client(cluster: Cluster, topic: str) -> AsyncIterator[AIOKafkaClient]:
    client = AIOKafkaClient(**cluster.options())
    try:
        async with cluster.reaching():
            await client.bootstrap()
            check_met(client)
            await asyncio.sleep(0)  # let its task begin: one that is cancelled before that breaks `close`
            await client.set_topics([topic])
        yield client
    finally:
        await client.close()


async def _received(cluster: Cluster, part: TopicPartition, at: int, coming: asyncio.Future[Fetched]) -> Fetched:
    what = f"{part.topic}[{part.partition}]"
    try:
        return await coming
    except OffsetOutOfRangeError as error:
        raise await _out_of_range(cluster, part, at) from error
    except KafkaError as error:
        if error.retriable:
            await cluster.partition_count(part.topic)  # it may be the topic that is gone
        raise translate(error, what) from error


async def _out_of_range(cluster: Cluster, part: TopicPartition, at: int) -> DataFlowError:
    async with cluster.consumer({}) as consumer, translated(part.topic, cluster.timeout):
        first = (await consumer.beginning_offsets([part]))[part]
        if at < first:
            return lost(part.topic, part.partition, at, first)
        return cut_off(part.topic, part.partition, at, (await consumer.end_offsets([part]))[part])

"""A partition's log as the broker keeps it: whole batches with their producers, aborted ones and markers among them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords

from dataflow.connectors.kafka.cluster import Cluster, check_met
from dataflow.connectors.kafka.errors import translate, translated
from dataflow.errors import Corrupt

_BYTES = 4 * 2**20
_WAIT_MS = 250
_PAUSE = 0.05
_EVERYTHING = 0  # read_uncommitted: what was aborted is in the log, too


@dataclass(frozen=True, slots=True)
class Batch:
    """Some records of one producer. `producer`: -1 outside of transactions. `marker`: a transaction ends here,
    committed (True) or aborted (False). `records`: (key, value), only where they were asked for."""

    offset: int
    producer: int
    count: int
    marker: bool | None = None
    records: Sequence[tuple[bytes | None, bytes | None]] = ()


@asynccontextmanager
async def log_client(cluster: Cluster, topics: Sequence[str]) -> AsyncGenerator[AIOKafkaClient, None]:
    """A client that knows who leads the partitions of these topics."""
    client = AIOKafkaClient(**cluster.options())
    try:
        async with translated(f"Kafka at {cluster.brokers}", cluster.timeout):
            await client.bootstrap()
            check_met(client)
            await asyncio.sleep(0)  # let its task begin: one that is cancelled before that breaks `close`
            await client.set_topics(list(topics))
        yield client
    finally:
        await client.close()


async def read_log(
    client: AIOKafkaClient, part: TopicPartition, begin: int, end: int, timeout: float, *, records: bool = False
) -> AsyncGenerator[Batch, None]:
    """Batches from `begin` to before `end`. Raises `Corrupt` for one whose checksum is wrong, `Retryable` where no
    broker answers for `timeout` seconds."""
    at, what = begin, f"{part.topic}[{part.partition}]"
    while at < end:
        data = await _fetched(client, part, at, timeout, what)
        found = await asyncio.to_thread(_parsed, data, at, end, records, what)
        for batch, after in found:
            yield batch
            at = after
        if not found:
            return  # the rest of what was there is gone, or compacted away


async def _fetched(client: AIOKafkaClient, part: TopicPartition, at: int, timeout: float, what: str) -> bytes:
    clock = asyncio.get_running_loop().time
    deadline = clock() + timeout
    while True:
        try:
            leader = client.cluster.leader_for_partition(part)
            if leader is None or leader == -1:
                raise kafka.LeaderNotAvailableError(f"{what} has no leader")
            wanted = [(part.topic, [(part.partition, at, _BYTES)])]
            response = await client.send(leader, FetchRequest(_WAIT_MS, 1, _BYTES, _EVERYTHING, wanted))
            [(_, [(_, code, _, *rest)])] = response.topics
            if code:
                raise kafka.for_code(code)()
            return bytes(rest[-1])
        except kafka.KafkaError as error:
            if not error.retriable or clock() > deadline:
                raise translate(error, what) from error
            await asyncio.sleep(_PAUSE)
            client.force_metadata_update()


def _parsed(data: bytes, begin: int, end: int, records: bool, what: str) -> list[tuple[Batch, int]]:
    """For a thread. A fetch begins with the whole batch that holds its offset, and ends with a part of one."""
    found: list[tuple[Batch, int]] = []
    batches = MemoryRecords(data)
    while batches.has_next():
        batch: Any = batches.next_batch()
        if batch.next_offset <= begin:
            continue
        if batch.base_offset >= end:
            break
        if not batch.validate_crc():
            raise Corrupt(f"the checksum of the batch at offset {batch.base_offset} is wrong", where=what)
        marker, pairs = None, []
        if batch.is_control_batch:
            control = [ControlRecord.parse(record.key) for record in batch]
            marker = control[0] != ABORT_MARKER
        elif records:
            pairs = [(record.key, record.value) for record in batch]
        # Counted by offsets, without taking the records apart: right wherever the log is not compacted.
        count = 0 if batch.is_control_batch else batch.next_offset - batch.base_offset
        producer = batch.producer_id if batch.is_transactional else -1
        found.append((Batch(batch.base_offset, producer, count, marker, pairs), batch.next_offset))
    return found

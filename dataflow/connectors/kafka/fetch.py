"""Fetches of one partition, one after the other: what aiokafka's consumer does, without an object for each record
(`batches`, `records`), and without its silence when a broker is gone."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.protocol.fetch import FetchRequest

from dataflow.connectors.kafka.batches import committed
from dataflow.connectors.kafka.records import Records, parsed

FETCH_BYTES = 4 * 2**20
"""What the broker sends of a partition at once, about. A larger message still comes, alone."""

_WAIT_MS = 250  # the broker answers then though there is nothing new
_PAUSE = 0.05  # seconds before a fetch that failed is tried again


@dataclass(frozen=True, slots=True)
class Fetched:
    """Committed records in order, and the offset after all that was looked at. `last`: there is no more behind it."""

    records: Records
    next: int
    last: bool


@dataclass(frozen=True, slots=True)
class _Answer:
    """Record batches, the transactions among them that were aborted (producer, first offset), and where the partition's
    decided part ends (the last stable offset)."""

    data: bytes
    aborted: list[tuple[int, int]]
    stable: int


class Fetcher:
    """Talks to the partition's leader, wherever it moves. Not for two tasks at once."""

    def __init__(self, client: AIOKafkaClient, part: TopicPartition, timeout: float) -> None:
        self._client, self._part, self._timeout = client, part, timeout

    async def fetch(self, offset: int) -> Fetched:
        """What follows `offset`: perhaps nothing, after a moment. Retries what may pass, for the timeout at most.

        Raises what the broker refuses (OffsetOutOfRangeError, ...), or the last error when the time is up."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return await asyncio.to_thread(self._parse, offset, await self._ask(offset))
            except kafka.KafkaError as error:
                if not error.retriable or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_PAUSE)
                self._client.force_metadata_update()

    async def _ask(self, offset: int) -> _Answer:
        leader = self._client.cluster.leader_for_partition(self._part)
        if leader is None or leader == -1:
            raise kafka.LeaderNotAvailableError(f"{self._part.topic}[{self._part.partition}] has no leader")
        wanted = [(self._part.topic, [(self._part.partition, offset, FETCH_BYTES)])]
        request = FetchRequest(_WAIT_MS, 1, FETCH_BYTES, READ_COMMITTED, wanted)
        response = await self._client.send(leader, request)
        [(_, [(_, code, _, *rest)])] = response.topics
        if code:
            raise kafka.for_code(code)()
        aborted = rest[2] if response.API_VERSION >= 11 else rest[-2]
        return _Answer(rest[-1], aborted or [], rest[0])

    def _parse(self, offset: int, answer: _Answer) -> Fetched:
        """For a thread: the checksums and the records' fields are taken apart here."""
        found = committed(answer.data, offset, answer.aborted)
        if found is None:
            if answer.data:
                raise kafka.RecordTooLargeError(f"a batch at offset {offset} is larger than {FETCH_BYTES} bytes")
            found = parsed([], [], [], []), offset
        return Fetched(*found, last=found[1] >= answer.stable)

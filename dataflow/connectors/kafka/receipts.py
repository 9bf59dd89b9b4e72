"""Receipts on a compacted topic: one record a lane, written in the transaction of its rows.

Not as offsets of a consumer group: those are forgotten when nobody has used the group for a week, and hold 4 kB.
A lane's partition follows from its key and a fixed count, so that adding partitions to the topic moves nothing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from dataflow.connectors.kafka.cluster import Cluster, partitions_of
from dataflow.connectors.kafka.errors import translated
from dataflow.connectors.kafka.partitioner import partition_of_key
from dataflow.connectors.kafka.topics import ensure_topic
from dataflow.domain.flow import Counters, Lane, Position, Receipt
from dataflow.errors import Corrupt, Rejected

Bounds = Mapping[TopicPartition, tuple[int, int]]

PARTITIONS = 16
_WINDOW = 1000  # offsets from the end that are looked at first: the lane has most likely been active of late
_SETTINGS = {
    "cleanup.policy": "compact",
    "segment.bytes": str(8 * 2**20),  # the active segment is never compacted: small ones keep reading short
    "segment.ms": str(3_600_000),
    "min.cleanable.dirty.ratio": "0.1",
}


def key_of(lane: Lane) -> bytes:
    return f"{lane.pipeline}/{lane.generation}/{lane.name}".encode()


def parse_key(key: bytes) -> tuple[str, int, str]:
    """Pipeline, generation and lane. Raises `Corrupt` where the key is none of ours."""
    parts = key.decode("utf-8", "backslashreplace").split("/")
    if len(parts) != 3 or not parts[1].isdigit():
        raise Corrupt(f"{key!r} is not the key of a receipt", hint="something else writes to the receipts topic")
    return parts[0], int(parts[1]), parts[2]


def encode(receipt: Receipt) -> bytes:
    return json.dumps({"v": 1, **asdict(receipt)}, separators=(",", ":"), ensure_ascii=False).encode()


def decode(text: bytes) -> Receipt:
    """Raises `Corrupt` for what `encode` did not write. Counters that are added later count from 0."""
    try:
        found = json.loads(text)
        if found.pop("v") != 1:
            raise ValueError("another version")
        positions = {str(split): Position(at) for split, at in found.pop("positions").items()}
        return Receipt(**{**found, "positions": positions, "counters": Counters(**found["counters"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Corrupt(f"not a receipt: {text[:200]!r}", hint="does something else write to that topic?") from error


class Receipts:
    """The receipts topic of one cluster."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self.topic = topic
        self._cluster = cluster

    def partition(self, lane: Lane) -> int:
        return partition_of_key(key_of(lane), PARTITIONS)

    async def ensure(self, admin: AIOKafkaAdminClient, replication: int | None) -> None:
        """Make the topic unless it is there. Raises `Rejected` where it has too few partitions."""
        await ensure_topic(admin, self.topic, PARTITIONS, replication, _SETTINGS)
        count = (await partitions_of(admin, [self.topic])).get(self.topic, PARTITIONS)
        if count < PARTITIONS:
            raise Rejected(
                f"{self.topic} has {count} partitions, {PARTITIONS} are needed",
                code="BAD_RECEIPTS_TOPIC",
                hint="add partitions, or name another receipts_topic",
            )

    async def last(self, lane: Lane, within: float) -> Receipt | None:
        """The newest committed receipt of the lane. Only right after the lane has been fenced: then all its
        transactions are decided, and what stands below the high watermark is all there will be.

        Waits, at most `within` seconds, for other lanes' transactions that hold the partition's stable end back:
        such are short, as receipts are their last record. Raises `Retryable` (TIMEOUT) after that."""
        part = TopicPartition(self.topic, self.partition(lane))
        key = key_of(lane)
        async with translated(f"reading {self.topic}", within):
            first, upto = (await self._bounds([part], committed=False))[part]
            for begin in (max(upto - _WINDOW, first), first):
                newest = None
                async with aclosing(self._scan({part: (begin, upto)})) as messages:
                    async for message in messages:
                        newest = message if message.key == key else newest
                if newest is not None:
                    return None if newest.value is None else decode(newest.value)
                upto = begin
        return None

    async def of_pipeline(self, pipeline: str) -> dict[tuple[int, str], bytes]:
        """The receipts of every generation and lane of the pipeline that are not retired, as they are stored."""
        found: dict[tuple[int, str], bytes] = {}
        prefix = f"{pipeline}/".encode()
        parts = [TopicPartition(self.topic, number) for number in range(PARTITIONS)]
        async with translated(f"reading {self.topic}", self._cluster.timeout):
            bounds = await self._bounds(parts, committed=True)
            async with aclosing(self._scan(bounds)) as messages:
                async for message in messages:
                    if message.key and message.key.startswith(prefix):
                        _, generation, lane = parse_key(message.key)
                        found.pop((generation, lane), None)
                        if message.value is not None:
                            found[generation, lane] = message.value
        return found

    async def _bounds(self, parts: Sequence[TopicPartition], *, committed: bool) -> Bounds:
        """Where the partitions begin, and end: before the first undecided transaction, or (not committed) after all."""
        async with self._cluster.consumer({}, committed=committed) as consumer:
            first = await consumer.beginning_offsets(parts)
            ends = await consumer.end_offsets(parts)
            return {part: (first[part], ends[part]) for part in parts}

    async def _scan(self, bounds: Bounds) -> AsyncGenerator[Any, None]:
        """Every committed message within the bounds, those of a partition in order."""
        left = {part: (begin, upto) for part, (begin, upto) in bounds.items() if begin < upto}
        if not left:
            return
        starts = {part: begin for part, (begin, _) in left.items()}
        async with self._cluster.consumer(starts, fetch_max_wait_ms=20) as consumer:
            while left:
                for part, messages in (await consumer.getmany(*left, timeout_ms=20)).items():
                    for message in messages:
                        if message.offset < left[part][1]:
                            yield message
                left = {part: (at, upto) for part, (at, upto) in left.items() if await consumer.position(part) < upto}

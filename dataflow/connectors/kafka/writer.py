"""One attempt at one lane: an epoch is a transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Self
from uuid import uuid4

import polars as pl

from dataflow.connectors.dead_letters import as_jsonl, stamped
from dataflow.connectors.kafka import receipts
from dataflow.connectors.kafka.cluster import Cluster
from dataflow.connectors.kafka.encode import Encoder
from dataflow.connectors.kafka.pack import Messages, Packed
from dataflow.connectors.kafka.partitioner import partition_of_key
from dataflow.connectors.kafka.producer import LaneProducer
from dataflow.connectors.kafka.receipts import Receipts
from dataflow.connectors.kafka.sink_config import KafkaSinkConfig, Mode
from dataflow.connectors.kafka.topics import ensure_topic
from dataflow.domain.flow import Lane, Receipt
from dataflow.errors import Fenced


def transactional_id(config: KafkaSinkConfig, pipeline: str, generation: int, lane: str) -> str:
    """The same for every attempt at a lane of a generation: that is what fences them."""
    return f"{config.receipts_topic}/{pipeline}/{generation}/{lane}"


class KafkaWriter:
    """Fences earlier attempts when it is entered, and reads the receipt only then: a read right after a commit may be
    stale, but the broker finishes pending transactions before it hands the id over."""

    _encoder: Encoder  # from when it is entered on

    def __init__(
        self, cluster: Cluster, config: KafkaSinkConfig, lane: Lane, encoder: Callable[[], Awaitable[Encoder]]
    ) -> None:
        self._cluster, self._config, self._lane, self._made = cluster, config, lane, encoder
        self._producer = LaneProducer(
            cluster, config, transactional_id(config, lane.pipeline, lane.generation, lane.name)
        )
        # Receipts are fenced in both modes: rows may be there twice where that was chosen, but none is ever left out.
        self._rows = self._producer if config.mode is Mode.TRANSACTIONAL else LaneProducer(cluster, config, None)
        self._receipts = Receipts(cluster, config.receipts_topic)
        self._place = receipts.key_of(lane), self._receipts.partition(lane)
        self._attempt = uuid4().hex[:12]
        self._last: Receipt | None = None
        self._known = False  # the last receipt is
        self._partitions: dict[str, int] = {}
        self._turn = 0

    async def __aenter__(self) -> Self:
        self._encoder = await self._made()
        try:
            await self._producer.fence()
            if self._rows is not self._producer:
                await self._rows.fence()
            if self._config.one_topic is not None:
                self._partitions[self._config.one_topic] = await self._rows.partition_count(self._config.one_topic)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._rows is not self._producer:
            await self._rows.close()
        await self._producer.close()

    async def last_receipt(self) -> Receipt | None:
        """See the seam. Raises `Retryable` (TIMEOUT) where other lanes' transactions block the receipts for longer
        than a transaction may last."""
        if not self._known:
            within = self._config.transaction_timeout + self._cluster.timeout
            self._last = await self._receipts.last(self._lane, within)
            self._known = True
        return self._last

    async def write(self, rows: pl.DataFrame) -> None:
        """See the seam. Raises `BadRecord` where a row's key, value, headers, topic or partition cannot be computed,
        and `NotFound` for a topic of a row that is not there and not to be made."""
        if not rows.height:
            return
        if (topic := self._config.one_topic) is not None:
            batches = await asyncio.to_thread(self._batches, rows, self._partitions[topic])
            await self._rows.send(topic, batches)
            return
        for topic, made in await asyncio.to_thread(self._encoder.make, rows):
            count = await self._count(topic, self._config.partitions)
            await self._rows.send(topic, await asyncio.to_thread(self._placed, made, count))

    async def reject(self, rejected: pl.DataFrame) -> None:
        """Dead letters go to their own topic as JSON, in the same transaction; those of a lane to one partition."""
        if not rejected.height:
            return
        topic = self._config.dead_topic
        count = await self._count(topic, 1)
        last = await self.last_receipt()
        letters = stamped(rejected, self._lane, (last.epoch if last else 0) + 1, self._attempt)
        place = partition_of_key(self._lane.name.encode(), count)
        lines = bytes(as_jsonl(letters)).splitlines()
        batches = await asyncio.to_thread(self._rows.batches, Messages.of(place, lines), _now())
        await self._rows.send(topic, batches)

    async def commit(self, receipt: Receipt) -> None:
        """See the seam."""
        last = await self.last_receipt()
        if (last.epoch if last else 0) != receipt.epoch - 1:  # Invariant 2: an epoch commits only on its predecessor
            raise Fenced(f"{self._lane.name} is at epoch {last.epoch if last else 0}: {receipt.epoch} does not follow")
        # Rows and dead letters first: the receipt's partition is shared, and blocked from its record to the commit.
        await self._rows.flush(self._config.one_topic or "the topics of rows")
        key, place = self._place
        proof = self._producer.message(place, key, receipts.encode(receipt), _now())
        await self._producer.send(self._receipts.topic, [proof])
        await self._producer.flush(self._receipts.topic)
        await self._producer.commit()  # Invariant 1: rows, dead letters and receipt become visible together
        self._last = receipt

    async def _count(self, topic: str, partitions: int | None) -> int:
        """How many partitions the topic has; it is made with `partitions` where there is none."""
        if topic not in self._partitions:
            if partitions is not None:
                async with self._cluster.admin() as admin:
                    await ensure_topic(admin, topic, partitions, self._config.replication)
            else:
                await self._cluster.partition_count(topic)  # asked so, no broker makes it by the way
            self._partitions[topic] = await self._rows.partition_count(topic)
        return self._partitions[topic]

    def _batches(self, rows: pl.DataFrame, count: int) -> list[tuple[int, Packed]]:
        [(_, made)] = self._encoder.make(rows)
        return self._placed(made, count)

    def _placed(self, made: pl.DataFrame, count: int) -> list[tuple[int, Packed]]:
        messages = self._encoder.place(made, count, self._turn)
        self._turn += made.height
        return self._rows.batches(messages, _now())


def _now() -> int:
    return time.time_ns() // 1_000_000

"""Topics of their own for each test, and a reader that shares no code with the connector."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.errors import InvalidReplicationFactorError

from dataflow.connectors.kafka.sink import KafkaSink
from dataflow.connectors.kafka.sink_config import KafkaSinkConfig
from dataflow.connectors.kafka.source import KafkaSource
from dataflow.connectors.kafka.source_config import KafkaSourceConfig
from dataflow.seams import Context

NO_BROKER = InvalidReplicationFactorError.errno
"""What the controller says of a new topic while all brokers are fenced."""


@dataclass(frozen=True)
class Message:
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Broker:
    """The broker as any other client sees it."""

    def __init__(self, address: str) -> None:
        self.address = address

    def source(self, topic: Any, chunk_rows: int | None = None, **options: Any) -> KafkaSource:
        options = {"brokers": self.address, "topic": topic, "until": "end", **options}
        return KafkaSource(KafkaSourceConfig(**options), Context(pipeline="test", chunk_rows=chunk_rows))

    def sink(self, topic: Any, base: Path | None = None, *, begins: bool = False, **options: Any) -> KafkaSink:
        options = {"brokers": self.address, "topic": topic, **options}
        return KafkaSink(KafkaSinkConfig(**options), Context(pipeline="test", base=base or Path(), begins=begins))

    async def topic(self, partitions: int = 1, **settings: str) -> str:
        name = f"t-{uuid4().hex[:10]}"
        await self.create(name, partitions, **settings)
        return name

    async def create(self, name: str, partitions: int = 1, **settings: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            config = {key.replace("_", "."): value for key, value in settings.items()}
            while admin._client.cluster.controller is None:  # so may a broker that was frozen begin
                await admin._client.force_metadata_update()
            code = NO_BROKER
            while code == NO_BROKER:  # so it may be for a moment, too
                response = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
                [(_, code, *_)] = response.topic_errors
                await asyncio.sleep(0.1)
            assert not code, response
            while name not in await admin.list_topics():  # a broker that was frozen learns of it late
                await asyncio.sleep(0.02)
        finally:
            await admin.close()

    async def delete(self, name: str) -> None:
        """Returns when the topic is gone."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            await admin.delete_topics([name])
            while name in await admin.list_topics():
                await asyncio.sleep(0.02)
        finally:
            await admin.close()

    async def add_partitions(self, name: str, total: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            await admin.create_partitions({name: NewPartitions(total)})
        finally:
            await admin.close()

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=offset)})
        finally:
            await admin.close()

    async def put(
        self,
        topic: str,
        values: Sequence[bytes | None],
        *,
        partition: int = 0,
        keys: Sequence[bytes | None] | None = None,
        headers: Mapping[str, bytes] | None = None,
        timestamps: Sequence[int] | None = None,
    ) -> None:
        carried = list((headers or {}).items())
        producer = AIOKafkaProducer(bootstrap_servers=self.address, linger_ms=5, enable_idempotence=True)
        await producer.start()
        try:
            sent = [
                await producer.send(
                    topic,
                    value,
                    key=keys[n] if keys else None,
                    partition=partition,
                    headers=carried,
                    timestamp_ms=timestamps[n] if timestamps else None,
                )
                for n, value in enumerate(values)
            ]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    async def get(self, topic: str) -> list[Message]:
        """All committed messages, partition by partition. Up to the end with undecided transactions included: these
        are waited for, as the broker shows a commit some milliseconds after it has answered."""
        every = AIOKafkaConsumer(bootstrap_servers=self.address)
        await every.start()
        try:
            await every._client._wait_on_metadata(topic)
            parts = [TopicPartition(topic, number) for number in sorted(every.partitions_for_topic(topic) or ())]
            ends = await every.end_offsets(parts)
            first = await every.beginning_offsets(parts)
        finally:
            await every.stop()
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.address,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
            fetch_max_wait_ms=20,
        )
        await consumer.start()
        try:
            consumer.assign(parts)
            for part in parts:
                consumer.seek(part, first[part])
            await asyncio.sleep(0)  # its tasks begin: one that is cancelled before that breaks `stop`
            found: list[Message] = []
            while [part for part in parts if await consumer.position(part) < ends[part]]:
                for records in (await consumer.getmany(timeout_ms=50)).values():
                    found += [Message(r.partition, r.offset, r.key, r.value, r.headers) for r in records]
            return sorted(found, key=lambda message: (message.partition, message.offset))
        finally:
            await consumer.stop()

    def now(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """The result of a coroutine, also where a loop is running already."""

        async def run() -> Any:
            return await call()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, run()).result()


@pytest.fixture
def broker(kafka: Any) -> Broker:
    return Broker(f"127.0.0.1:{kafka.port}")

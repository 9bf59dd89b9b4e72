"""Readers of what was published, apart from our own code."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiokafka import AIOKafkaConsumer


async def published(brokers: str, topic: str, count: int) -> list[dict[str, Any]]:
    """All that a reader of committed messages sees, once it has seen `count`."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=brokers, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    found: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(60):
            while len(found) < count:
                for messages in (await consumer.getmany(timeout_ms=500)).values():
                    for message in messages:
                        value = json.loads(message.value)
                        assert message.key == value["stream"].encode()
                        assert dict(message.headers)["type"] == value["type"].encode()
                        found.append(value)
        extra = await consumer.getmany(timeout_ms=500)
        assert not extra, "more than there is"
    finally:
        await consumer.stop()
    return found

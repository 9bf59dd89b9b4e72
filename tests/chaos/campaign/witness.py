"""Every committed message of a topic as a line of JSON: `witness.py BROKERS TOPIC FILE`. Imports nothing of DataFlow.

Reads with `isolation.level=read_committed` up to the end as readers of everything see it, so a transaction that nobody
ever decided is no way to a quick end: it is waited for, two minutes at most.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

LIMIT = 120.0


def text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "backslashreplace")


async def edges(brokers: str, topic: str) -> tuple[dict[Any, int], dict[Any, int]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers)
    await consumer.start()
    try:
        await consumer._client._wait_on_metadata(topic)
        parts = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        return await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
    finally:
        await consumer.stop()


async def read(brokers: str, topic: str, path: str) -> int:
    first, ends = await edges(brokers, topic)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=4 * 2**20,
    )
    await consumer.start()
    count = 0
    try:
        consumer.assign(list(first))
        for part, offset in first.items():
            consumer.seek(part, offset)
        await asyncio.sleep(0)
        with Path(path).open("w", encoding="utf-8") as out:
            async with asyncio.timeout(LIMIT) as limit:
                while [part for part in first if await consumer.position(part) < ends[part]]:
                    for part, messages in (await consumer.getmany(timeout_ms=200, max_records=5000)).items():
                        limit.reschedule(asyncio.get_running_loop().time() + LIMIT)
                        for m in messages:
                            line = {"partition": part.partition, "offset": m.offset, "key": text(m.key)}
                            out.write(json.dumps({**line, "value": text(m.value)}, ensure_ascii=False) + "\n")
                        count += len(messages)
    finally:
        await consumer.stop()
    return count


if __name__ == "__main__":
    print(asyncio.run(read(*sys.argv[1:4])))

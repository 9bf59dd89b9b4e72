"""How far the sink is, while brokers come and go: a number that rises with what is committed."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError


class TopicGauge:
    """The sum of a topic's committed ends, looked at by a thread. Control records count, too: a little too high."""

    def __init__(self, brokers: str, topic: str) -> None:
        self.value = 0
        self._brokers, self._topic = brokers, topic
        self._leave = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._look()), name="gauge", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._leave.set()
        self._thread.join(30)

    async def _look(self) -> None:
        while not self._leave.is_set():
            with suppress(KafkaError, OSError, AssertionError):
                await self._follow()
            await asyncio.sleep(0.2)

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers, isolation_level="read_committed", request_timeout_ms=5000
        )
        await consumer.start()
        try:
            await consumer._client._wait_on_metadata(self._topic)
            parts = [TopicPartition(self._topic, number) for number in consumer.partitions_for_topic(self._topic) or ()]
            while not self._leave.is_set():
                async with asyncio.timeout(5):
                    self.value = max(self.value, sum((await consumer.end_offsets(parts)).values()))
                await asyncio.sleep(0.03)
        finally:
            await consumer.stop()


class FolderGauge:
    """Rows read, as the newest commit records of a folder of parts say."""

    def __init__(self, out: Path, pipeline: str) -> None:
        self._lanes = out.parent / f".{out.name}.dataflow" / pipeline / "g1"

    @property
    def value(self) -> int:
        found = 0
        for lane in self._lanes.glob("sink-*"):
            with suppress(FileNotFoundError, ValueError):  # pruned while we look: the next look sees the newer one
                newest = max((lane / "records").glob("*.json"))
                receipt = json.loads(newest.read_bytes())["receipt"]
                found += receipt["counters"]["read"] if receipt else 0
        return found

    def close(self) -> None:
        """Nothing is held."""

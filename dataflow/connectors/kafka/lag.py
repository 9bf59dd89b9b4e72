"""Where the partitions end, looked at every now and then while they are read: what is left to read is the lag."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress

from aiokafka import TopicPartition

from dataflow.connectors.kafka.cluster import Cluster
from dataflow.connectors.kafka.errors import translated
from dataflow.connectors.kafka.position import split_of
from dataflow.connectors.numbered import offset_of
from dataflow.domain.flow import Position
from dataflow.errors import DataFlowError

_EVERY = 1.0  # seconds
_AGAIN = 5.0  # seconds before brokers that did not answer are asked again

logger = logging.getLogger(__name__)


class Ends:
    """Not the ends that come with fetches: a slow sink stops fetching, and it is then that the lag matters."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._ends: dict[TopicPartition, int] = {}
        self._begins: dict[TopicPartition, int] = {}
        self._watching: asyncio.Task[None] | None = None

    def watch(self, part: TopicPartition, begin: int) -> None:
        """From now on, look at this partition too. `begin`: where it is read from while nothing is committed."""
        self._begins[part] = begin
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None

    def lag(self, positions: Mapping[str, Position]) -> dict[str, int]:
        """Offsets from each position to its partition's end (the high watermark, as Kafka's own tools count: a
        transaction that stays open shows), of those partitions whose end is known."""
        at = dict(self._begins)
        at.update((TopicPartition(*split_of(split)), offset_of(position)) for split, position in positions.items())
        return {
            f"{part.topic}-{part.partition}": max(0, self._ends[part] - offset)
            for part, offset in sorted(at.items())
            if part in self._ends
        }

    async def _watch(self) -> None:
        while True:
            try:
                async with self._cluster.consumer({}, committed=False) as consumer:
                    while True:
                        async with translated("the ends of partitions", self._cluster.timeout):
                            self._ends = dict(await consumer.end_offsets(list(self._begins)))
                        await asyncio.sleep(_EVERY)
            except DataFlowError as error:  # whoever reads finds out, and says so
                logger.debug("the lag is not known: %s", error)
                self._ends = {}
                await asyncio.sleep(_AGAIN)

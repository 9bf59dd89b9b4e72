"""What an earlier generation of a pipeline left behind: attempts that may still wake, and receipts."""

from __future__ import annotations

from collections.abc import Sequence

from dataflow.connectors.kafka.cluster import Cluster
from dataflow.connectors.kafka.pack import Messages
from dataflow.connectors.kafka.partitioner import partition_of_key
from dataflow.connectors.kafka.producer import LaneProducer
from dataflow.connectors.kafka.receipts import PARTITIONS, Receipts
from dataflow.connectors.kafka.sink_config import KafkaSinkConfig
from dataflow.connectors.kafka.writer import transactional_id
from dataflow.domain.flow import Lane
from dataflow.errors import Fenced


async def retire_older(cluster: Cluster, config: KafkaSinkConfig, lanes: Sequence[Lane]) -> None:
    """Fence every lane of older generations, which aborts what they had open, and forget their receipts. The rows they
    committed stay: a topic is only added to.

    Lanes that never committed left no receipt to know them by; those of the generation before are taken to be called
    as the lanes are now. Raises `Fenced` where a later generation has begun."""
    for pipeline, generation in {(lane.pipeline, lane.generation) for lane in lanes}:
        known = await Receipts(cluster, config.receipts_topic).of_pipeline(pipeline)
        if known and (newest := max(number for number, _ in known)) > generation:
            raise Fenced(f"generation {generation} of {pipeline} is over: {newest} has begun")
        sinks = {lane.sink for lane in lanes}
        old = {(number, name) for number, name in known if number < generation and name.rpartition("-")[0] in sinks}
        silent = {(generation - 1, lane.name) for lane in lanes} if generation > 1 else set()
        for number, name in sorted(old | silent):
            await _retire(cluster, config, f"{pipeline}/{number}/{name}", (number, name) in old)


async def _retire(cluster: Cluster, config: KafkaSinkConfig, key: str, receipt: bool) -> None:
    pipeline, number, name = key.split("/")
    producer = LaneProducer(cluster, config, transactional_id(config, pipeline, int(number), name))
    try:
        await producer.fence()
        if receipt:
            place = partition_of_key(key.encode(), PARTITIONS)
            await producer.send(
                config.receipts_topic, producer.batches([Messages.of(place, [None], [key.encode()])], 0)
            )
            await producer.flush(config.receipts_topic)
            await producer.commit()
    finally:
        await producer.close()

"""What an earlier generation of a pipeline left behind: attempts that may still wake, and receipts."""

from __future__ import annotations

from collections.abc import Sequence

from dataflow.connectors.kafka.cluster import Cluster
from dataflow.connectors.kafka.partitioner import partition_of_key
from dataflow.connectors.kafka.producer import LaneProducer
from dataflow.connectors.kafka.receipts import PARTITIONS, Receipts
from dataflow.connectors.kafka.sink_config import KafkaSinkConfig
from dataflow.connectors.kafka.transactions import transactional_ids
from dataflow.connectors.kafka.writer import transactional_id
from dataflow.domain.flow import Lane
from dataflow.errors import Fenced, another_journals


async def retire_older(
    cluster: Cluster, config: KafkaSinkConfig, lanes: Sequence[Lane], *, begins: bool = False
) -> None:
    """Fence every lane of older generations, and of this one those that are not among `lanes` any more: that aborts
    what they had open. Forget the receipts of the older ones; the rows they committed stay: a topic is only added to.

    Lanes that never committed left no receipt: the cluster is asked for their transactional ids, and where it does not
    tell, those of the generation before are taken to be called as the lanes are now. Raises `Fenced` where a later
    generation has begun, `Conflict` where there are receipts of a generation that only now `begins`."""
    for pipeline, generation in {(lane.pipeline, lane.generation) for lane in lanes}:
        known = await Receipts(cluster, config.receipts_topic).of_pipeline(pipeline)
        if known and (newest := max(number for number, _ in known)) > generation:
            raise Fenced(f"generation {generation} of {pipeline} is over: {newest} has begun")
        sinks = {lane.sink for lane in lanes}
        if begins and any(number == generation and name.rpartition("-")[0] in sinks for number, name in known):
            anew = "name another receipts_topic"
            raise another_journals(pipeline, f"receipts in {config.receipts_topic} at {cluster.brokers}", anew)
        old = {(number, name) for number, name in known if number < generation and name.rpartition("-")[0] in sinks}
        silent = {(generation - 1, lane.name) for lane in lanes} if generation > 1 else set()
        current = {(generation, lane.name) for lane in lanes}
        for number, name in await _lanes_of_ids(cluster, config, pipeline):
            if number <= generation and name.rpartition("-")[0] in sinks and (number, name) not in current:
                silent.add((number, name))
        for number, name in sorted(old | silent):
            await _retire(cluster, config, f"{pipeline}/{number}/{name}", (number, name) in old)


async def _lanes_of_ids(cluster: Cluster, config: KafkaSinkConfig, pipeline: str) -> set[tuple[int, str]]:
    """Generation and lane of every attempt that the brokers remember, without regard to what it did."""
    found = set()
    for name in await transactional_ids(cluster, f"{config.receipts_topic}/{pipeline}/"):
        _, _, number, lane = name.rsplit("/", 3)
        if number.isdigit():
            found.add((int(number), lane))
    return found


async def _retire(cluster: Cluster, config: KafkaSinkConfig, key: str, receipt: bool) -> None:
    pipeline, number, name = key.split("/")
    producer = LaneProducer(cluster, config, transactional_id(config, pipeline, int(number), name))
    try:
        await producer.fence()
        if receipt:
            place = partition_of_key(key.encode(), PARTITIONS)
            await producer.send(config.receipts_topic, [producer.message(place, key.encode(), None, 0)])
            await producer.flush(config.receipts_topic)
            await producer.commit()
    finally:
        await producer.close()

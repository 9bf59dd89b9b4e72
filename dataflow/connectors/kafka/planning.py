"""What a source finds when a run is planned, and what has been added since."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain

from aiokafka import TopicPartition

from dataflow.connectors.kafka import offsets
from dataflow.connectors.kafka.cluster import Cluster
from dataflow.connectors.kafka.errors import translated
from dataflow.connectors.kafka.pin import Pin, PinnedTopic
from dataflow.connectors.kafka.source_config import KafkaSourceConfig, Pattern
from dataflow.connectors.kafka.topology import Topic, check_same, check_there, planned_topics, topics_of
from dataflow.errors import NotFound

_SAMPLE = 20_000  # messages over all partitions

Bounds = Mapping[TopicPartition, tuple[int, int]]


async def selected(cluster: Cluster, config: KafkaSourceConfig) -> dict[str, Topic]:
    """The topics that the definition asks for, by name, in a stable order. Raises `NotFound` for a named one that does
    not exist, and for a pattern that no topic matches."""
    found = await topics_of(cluster, config.names)
    if isinstance(config.topic, Pattern):
        matches = re.compile(config.topic.pattern).fullmatch
        found = {name: found[name] for name in sorted(found) if matches(name)}
        if not found:
            raise NotFound(f"no topic at {cluster.brokers} matches {config.written}", hint="check pattern and brokers")
        return found
    for name in config.names or ():
        if name not in found:
            raise NotFound(
                f"there is no topic {name!r} at {cluster.brokers}", hint="check topic and brokers, or create it"
            )
    return {name: found[name] for name in config.names or ()}


async def bounds_of(cluster: Cluster, topics: Mapping[str, Topic]) -> Bounds:
    """The first offset of every partition, and the one after its last committed message."""
    parts = [TopicPartition(topic.name, number) for topic in topics.values() for number in range(topic.partitions)]
    if not parts:
        return {}
    async with cluster.consumer({}) as consumer, translated(f"Kafka at {cluster.brokers}", cluster.timeout):
        first = await consumer.beginning_offsets(parts)
        ends = await consumer.end_offsets(parts)
    return {part: (first[part], ends[part]) for part in parts}


async def pinned(
    cluster: Cluster, config: KafkaSourceConfig, topics: Mapping[str, Topic], bounds: Bounds
) -> dict[str, PinnedTopic]:
    """Where each partition begins, and (bounded) ends. Raises what `offsets.starts` raises."""
    if isinstance(config.start, dict) and config.names is None:
        for name in config.start:
            if name not in topics:
                raise NotFound(f"start names the topic {name!r}, which {config.written} does not find")
    found = {}
    async with cluster.consumer({}) as consumer, translated(f"Kafka at {cluster.brokers}", cluster.timeout):
        for name, topic in topics.items():
            numbers = range(topic.partitions)
            first = {number: bounds[TopicPartition(name, number)][0] for number in numbers}
            ends = {number: bounds[TopicPartition(name, number)][1] for number in numbers}
            begin = await offsets.starts(consumer, name, config.start_of(name), first, ends)
            upto = tuple(max(begin[number], ends[number]) for number in numbers) if config.until == "end" else None
            found[name] = PinnedTopic(topic.id, tuple(begin[number] for number in numbers), upto)
    return found


async def grown(cluster: Cluster, config: KafkaSourceConfig, pin: Pin) -> Pin | None:
    """The same pin with partitions and topics that have been added since; None where there are none.

    What is added is read from its first message on, whatever `start` says: nobody had seen it when the run was planned.
    Raises `Rejected` (TOPIC_RECREATED) and `NotFound` where what was planned is not there any more."""
    names = None if config.names is None else {*config.names, *pin.topics}
    planned = {name: len(known.starts) for name, known in pin.topics.items()}
    found = await planned_topics(cluster, names, planned)
    for name, known in pin.topics.items():
        check_there(name, found.get(name), len(known.starts), cluster.brokers)
        check_same(known.id, found[name])
    wanted = await selected(cluster, config)
    fresh = {name: topic for name, topic in wanted.items() if name not in pin.topics}
    after = {
        name: replace(known, starts=(*known.starts, *[0] * (found[name].partitions - len(known.starts))))
        for name, known in pin.topics.items()
    }
    if fresh:
        bounds = await bounds_of(cluster, fresh)
        for name, topic in fresh.items():
            starts = tuple(bounds[TopicPartition(name, number)][0] for number in range(topic.partitions))
            after[name] = PinnedTopic(topic.id, starts, None)
    return replace(pin, topics=after) if after != dict(pin.topics) else None


async def sample(cluster: Cluster, bounds: Bounds, most: int) -> list[bytes]:
    """Values from the beginning and the end of every partition, at most `most` of each."""
    each = max(2, min(most, _SAMPLE // max(1, len(bounds))) // 2)
    heads = {part: (first, end) for part, (first, end) in bounds.items() if end > first}
    tails = {part: (end - each, end) for part, (first, end) in heads.items() if end - each > first + each}
    return await _values(cluster, heads, each) + await _values(cluster, tails, each)


async def _values(cluster: Cluster, ranges: Bounds, each: int) -> list[bytes]:
    """At most `each` values from the beginning of every range, in the order of partitions."""
    left = {part: end for part, (_, end) in ranges.items()}
    seen: dict[TopicPartition, list[bytes]] = {part: [] for part in left}
    starts = {part: begin for part, (begin, _) in ranges.items()}
    async with cluster.consumer(starts) as consumer, translated(f"Kafka at {cluster.brokers}", cluster.timeout):
        while left:
            for part, messages in (await consumer.getmany(*left, timeout_ms=100, max_records=each)).items():
                seen[part] += [message.value for message in messages if message.value is not None]
            left = {
                part: end
                for part, end in left.items()
                if len(seen[part]) < each and await consumer.position(part) < end
            }
    return list(chain.from_iterable(values[:each] for values in seen.values()))

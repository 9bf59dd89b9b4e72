"""Where reading begins and ends: offsets of every partition, decided once when the run is planned."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition

from dataflow.errors import Rejected

Start = str | datetime | Mapping[int, int]


async def starts(
    consumer: AIOKafkaConsumer, topic: str, start: Start, first: Mapping[int, int], ends: Mapping[int, int]
) -> dict[int, int]:
    """The offset each partition is read from. `first` and `ends` are what the partitions hold now.

    Raises `Rejected`: LOST_OFFSETS for an explicit offset that is no longer there, OUT_OF_RANGE for one that is not
    there yet, NOT_FOUND for a partition that does not exist."""
    if start == "earliest":
        return dict(first)
    if start == "latest":
        return dict(ends)
    if isinstance(start, datetime):
        moment = round(start.timestamp() * 1000)
        found = await consumer.offsets_for_times({TopicPartition(topic, number): moment for number in first})
        # No message that late: from the next one on.
        return {part.partition: at.offset if at else ends[part.partition] for part, at in found.items()}
    assert isinstance(start, Mapping)
    for number, offset in start.items():
        if number not in first:
            raise Rejected(f"{topic} has no partition {number}", code="NOT_FOUND", hint=f"it has {len(first)}, from 0")
        if offset < first[number]:
            raise lost(topic, number, offset, first[number])
        if offset > ends[number]:
            raise Rejected(
                f"{topic}[{number}] ends at {ends[number]}: there is no offset {offset} yet", code="OUT_OF_RANGE"
            )
    return {**first, **start}


def lost(topic: str, partition: int, offset: int, first: int) -> Rejected:
    """The records from `offset` on are gone: nobody but a person may decide to go on without them."""
    return Rejected(
        f"{topic}[{partition}]@{offset} is lost: the topic now begins at {first}, {first - offset} offsets later",
        code="LOST_OFFSETS",
        hint="restore the topic, or reset the pipeline to start again from earliest, latest, a time or offsets; "
        "a longer retention prevents it",
    )


def cut_off(topic: str, partition: int, offset: int, end: int) -> Rejected:
    """The topic is shorter than it was: it is not the one that was read before."""
    return Rejected(
        f"{topic}[{partition}]@{offset} is beyond the end, which is now {end}",
        code="LOST_OFFSETS",
        hint="the topic was deleted and made again, or a broker lost data: reset the pipeline to read it anew",
    )
